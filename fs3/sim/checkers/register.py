"""Linearizability of one chunk: is there an order of its operations that respects real time and explains every answer?

The search is `fs3.sim.checkers.order_search`. An update whose end its client was not told may take effect at any time after it
began, or never. Written values are unique, which keeps the search short.

A PUT is write-once: OK says that there was nothing before, EXISTS that there was something, which stays.

Many updates of unknown end on one chunk make the number of orders explode. So the search first leaves out those that no read
shows anything of: an order without them explains the answers as well, and only when there is none are they tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fs3.base.status import Code
from fs3.model.chunk import Tag, UpdateKind, apply_update
from fs3.sim.checkers.history import ENDLESS, Operation
from fs3.sim.checkers.order_search import search_order

mark_bytes = 4
"""First bytes of a written value by which a read that shows it is told. Only what is tried first depends on it."""


def explain(history: Sequence[Operation], hint: Mapping[Tag, int] | None = None) -> str:
    """ "" when the history of one chunk is linearizable, else what the longest order that was found could not place.

    `hint` says in which order updates seem to have been committed. It only decides what is tried first.
    """
    likely = hint if hint is not None else {}
    operations = sorted((operation for operation in history if _is_relevant(operation)), key=lambda operation: operation.invoked)
    read = [operation.data for operation in operations if operation.kind is None and operation.data]
    visible = [operation for operation in operations if operation.code is not None or _is_visible(operation, read)]
    if len(visible) < len(operations) and not _search(visible, likely):
        return ""
    return _search(operations, likely)


def _search(operations: Sequence[Operation], likely: Mapping[Tag, int]) -> str:
    """`explain` of operations in the order in which they began."""
    required = sum(1 << index for index, operation in enumerate(operations) if operation.code is not None)

    def describe_rest(placed: int) -> list[str]:
        return [operation.describe() for index, operation in enumerate(operations) if not placed >> index & 1]

    def next_states(placed: int, content: bytes | None) -> list[tuple[int, bytes | None]]:
        return _next_states(operations, placed, content, likely)

    return search_order(len(operations), required, None, next_states, describe_rest)


def _fits(read: Operation, content: bytes | None) -> bool:
    if read.only_presence:
        return (content is not None) == (read.code is Code.OK)
    return content == _content_read(read)


def _next_states(
    operations: Sequence[Operation], placed: int, content: bytes | None, likely: Mapping[Tag, int]
) -> list[tuple[int, bytes | None]]:
    """The states one operation on, the likeliest last.

    A read that fits is placed at once and alone: it changes nothing, so putting it off cannot make anything else possible.
    """
    updates = []
    for index in _candidates(operations, placed):
        operation = operations[index]
        if operation.kind is not None:
            updates.append(index)
        elif _fits(operation, content):
            return [(placed | 1 << index, content)]
    updates.sort(key=lambda index: (likely.get(operations[index].tag, ENDLESS), operations[index].returned), reverse=True)
    states = []
    for index in updates:
        operation = operations[index]
        assert operation.kind is not None
        after = apply_update(operation.kind, operation.offset, operation.data, content)
        if operation.kind is UpdateKind.PUT and content is not None:
            if operation.code is Code.OK:
                continue
            after = content
        elif operation.code is Code.EXISTS:
            continue
        states.append((placed | 1 << index, after))
    return states


def _content_read(operation: Operation) -> bytes | None:
    return None if operation.code is Code.NOT_FOUND else operation.data


def _is_visible(operation: Operation, read: Sequence[bytes]) -> bool:
    """Whether some answered read has bytes of this write; its own first ones are taken for its mark."""
    mark = operation.data[:mark_bytes]
    return bool(mark) and any(mark in data for data in read)


def _is_relevant(operation: Operation) -> bool:
    """Reads that were not answered say nothing; updates that were never sent, or refused for want of room, did nothing."""
    if operation.code is Code.NO_SPACE:
        return False
    return operation.code is not None or (operation.kind is not None and operation.attempts > 0)


def _candidates(operations: Sequence[Operation], placed: int) -> list[int]:
    """What may come next: operations that began before every operation not yet placed had ended."""
    earliest_end = 1 << 63
    candidates = []
    for index, operation in enumerate(operations):
        if placed >> index & 1:
            continue
        if operation.invoked > earliest_end:
            break
        candidates.append(index)
        earliest_end = min(earliest_end, operation.returned)
    return [index for index in candidates if operations[index].invoked < earliest_end]

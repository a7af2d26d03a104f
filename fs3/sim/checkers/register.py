"""Linearizability of one chunk: is there an order of its operations that respects real time and explains every answer?

Depth-first search over orders, remembering (set of operations placed, content) pairs that led nowhere: Wing and Gong, "Testing
and Verifying Concurrent Objects", 1993, with the memory of Lowe, "Testing for linearizability", 2017. An update whose end
nobody knows may take effect at any time after it began, or never. Written values are unique, which keeps the search short.
"""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.status import Code
from fs3.sim.chunk_view import applied
from fs3.sim.client_model import Operation

states_max = 200_000
"""States after which the search is given up. A run's histories need a few hundred."""


def explain(history: Sequence[Operation]) -> str:
    """ "" when the history of one chunk is linearizable, else what the longest order that was found could not place."""
    operations = sorted((operation for operation in history if _matters(operation)), key=lambda operation: operation.invoked)
    required = sum(1 << index for index, operation in enumerate(operations) if operation.code is not None)
    seen: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[int, bytes | None]] = [(0, None)]
    best = 0
    while stack:
        placed, content = stack.pop()
        if placed & required == required:
            return ""
        if (placed & required).bit_count() > (best & required).bit_count():
            best = placed
        if len(seen) > states_max:
            return f"gave up after {states_max} states of {len(operations)} operations"
        for index in _candidates(operations, placed):
            after = _effect(operations[index], content)
            if isinstance(after, Impossible):
                continue
            state = (placed | 1 << index, after)
            if state not in seen:
                seen.add(state)
                stack.append(state)
    rest = [operation.describe() for index, operation in enumerate(operations) if not best >> index & 1]
    lines = "\n  ".join(rest[:6])
    return f"no order explains these {len(rest)} of {len(operations)} operations:\n  {lines}"


def _matters(operation: Operation) -> bool:
    """Reads that were not answered say nothing, updates that were never sent did nothing."""
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


class Impossible:
    """No content: the answer contradicts what was there before."""


def _effect(operation: Operation, content: bytes | None) -> bytes | Impossible | None:
    """The content after an operation."""
    if operation.kind is None:
        seen = None if operation.code is Code.NOT_FOUND else operation.data
        return content if seen == content else Impossible()
    return applied(operation.kind, operation.offset, operation.data, content)

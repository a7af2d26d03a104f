"""Files that several clients change and read as a whole: is there an order of what they did that respects real time and explains
every read?

Each operation takes effect at once, at some moment between its beginning and its end; one whose client was not told, at any time
after it began, or never. The search is `fs3.sim.checkers.order_search`, over the bytes of a whole
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from fs3.base.units import NEVER
from fs3.sim.checkers.order_search import search_order


class WholeFileStep(Enum):
    """What an operation does to the bytes of a file."""

    PUT = "put"
    """They are these."""
    APPEND = "append"
    PATCH = "patch"
    """The first of them are these; there are as many."""
    CUT = "cut"
    """There are `length` of them, of at least as many."""
    READ = "read"
    """They were seen to be these."""


@dataclass
class WholeFileOperation:
    """One of them."""

    step: WholeFileStep
    begun: int
    data: bytes = b""
    length: int = 0
    ended: int = NEVER

    @property
    def is_told(self) -> bool:
        """Its client knows that it has happened."""
        return self.ended != NEVER

    def apply(self, content: bytes) -> bytes | None:
        """The bytes afterwards. None: it cannot have happened here."""
        match self.step:
            case WholeFileStep.PUT:
                return self.data
            case WholeFileStep.APPEND:
                return content + self.data
            case WholeFileStep.PATCH:
                return self.data + content[len(self.data) :]
            case WholeFileStep.CUT:
                return content[: self.length]
            case WholeFileStep.READ:
                return content if content == self.data else None


def explain(operations: Sequence[WholeFileOperation], content: bytes = b"") -> str:
    """ "" when there is such an order, beginning with `content`; else what the longest one that was found could not place."""
    shown = [one.data for one in operations if one.step is WholeFileStep.READ and one.is_told]
    likely = [one for one in operations if one.is_told or (one.step is not WholeFileStep.READ and _is_visible(one, shown))]
    # Those whose end nobody knows and that no read shows are tried only when it does not work without them.
    problem = _search(likely, content)
    everything = [one for one in operations if one.is_told or one.step is not WholeFileStep.READ]
    return problem if not problem or len(everything) == len(likely) else _search(everything, content)


def _is_visible(operation: WholeFileOperation, shown: Sequence[bytes]) -> bool:
    return bool(operation.data) and any(operation.data in read for read in shown)


def _search(unordered: Sequence[WholeFileOperation], content: bytes) -> str:
    operations = sorted(unordered, key=lambda operation: operation.begun)
    required = sum(1 << index for index, operation in enumerate(operations) if operation.is_told)

    def describe_rest(placed: int) -> list[str]:
        rest = [one for index, one in enumerate(operations) if not placed >> index & 1 and one.is_told]
        return [f"{one.step.value} of {len(one.data)} bytes {one.data[:24]!r}, {one.begun} to {one.ended}" for one in rest]

    def next_states(placed: int, content: bytes) -> list[tuple[int, bytes]]:
        return _next_states(operations, placed, content)

    return search_order(len(operations), required, content, next_states, describe_rest)


def _next_states(operations: Sequence[WholeFileOperation], placed: int, content: bytes) -> list[tuple[int, bytes]]:
    """The states one operation on, the one that ended first last. A read that fits is placed at once and alone: it changes
    nothing."""
    earliest_end = NEVER
    candidates = []
    for index, operation in enumerate(operations):
        if placed >> index & 1:
            continue
        if operation.begun > earliest_end:
            break
        candidates.append(index)
        earliest_end = min(earliest_end, operation.ended)
    states = []
    for index in sorted(candidates, key=lambda index: operations[index].ended, reverse=True):
        operation = operations[index]
        after = operation.apply(content)
        if operation.begun > earliest_end or after is None:
            continue
        if operation.step is WholeFileStep.READ:
            return [(placed | 1 << index, content)]
        states.append((placed | 1 << index, after))
    return states

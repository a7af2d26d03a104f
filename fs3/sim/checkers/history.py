"""What clients asked and were told, for the checkers of rings 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.model.chunk import Tag, UpdateKind

ENDLESS = 1 << 62
"""Return time of an operation whose end is not known."""


@dataclass(slots=True)
class Operation:
    """One entry of the history. Times are positions in the order of all events of the run, so no two are equal."""

    client: int
    chunk: ChunkId
    kind: UpdateKind | None
    """None: a read."""
    offset: int
    data: bytes
    """What was written; for a read that was answered, what was read."""
    tag: Tag
    invoked: int
    returned: int = ENDLESS
    code: Code | None = None
    """None: never answered. For a read OK or NOT_FOUND."""
    attempts: int = 0
    only_presence: bool = False
    """A read that says whether there is something, and not what."""

    def describe(self) -> str:
        """One line."""
        what = "read" if self.kind is None else f"{self.kind.name.lower()} at {self.offset}"
        end = "…" if self.returned == ENDLESS else str(self.returned)
        code = self.code.name if self.code is not None else "unknown"
        return (
            f"[{self.invoked}, {end}] client {self.client} {what} {self.chunk.hex()[-4:]} {self.data!r}: {code} x{self.attempts}"
        )

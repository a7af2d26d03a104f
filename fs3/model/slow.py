"""What took long in one process: single operations, and moments in which its event loop stood still."""

from __future__ import annotations

from typing import NamedTuple

from fs3.base.status import Code


class Span(NamedTuple):
    """A part of an operation's time."""

    name: str
    elapsed_ns: int


class SlowOperation(NamedTuple):
    """One request that was answered late."""

    wall_ns: int
    """When it ended, since the epoch."""
    elapsed_ns: int
    """From when its request began to arrive."""
    verb: str
    """"Storage.Update"."""
    code: Code
    peer: str
    """The client."""
    request_id: int
    """On its connection; 0: unknown."""
    spans: tuple[Span, ...]
    """Where the time went, in order."""


class LoopStall(NamedTuple):
    """A time in which the loop did nothing else."""

    wall_ns: int
    """When it was noticed, since the epoch."""
    elapsed_ns: int
    """How long it lasted, as far as it was seen."""
    stack: tuple[str, ...]
    """What the loop was in, the innermost call last: "file:line function"."""


class SlowReport(NamedTuple):
    """What one process tells."""

    operations: tuple[SlowOperation, ...]
    """The slowest first."""
    stalls: tuple[LoopStall, ...]
    """The newest first."""

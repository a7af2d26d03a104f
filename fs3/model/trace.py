"""Traces: the parts of one operation's time, on whatever processes took part in it.

Ids are those of W3C Trace Context: 16 bytes for the trace, 8 for each span. Only what is sampled has spans at all: the client
decides, services follow.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import msgspec

from fs3.base.status import Code

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8

Attribute = str | int

COMMIT = "commit"
"""Part: from when a change was handed to the store of the metadata until it was durable."""
RETRY_WAIT = "wait before asking again"
"""Part: between two attempts."""
TURN_WAIT = "wait for the turn"
"""Part: a request for a lock, or to append, was kept until its turn had come."""


class SpanContext(msgspec.Struct, frozen=True, gc=False):
    """Names one span, of a trace that is sampled."""

    trace_id: bytes
    span_id: bytes


class SpanKind(IntEnum):
    """What a span is."""

    OPERATION = 1
    """What a program asked the client for."""
    CALL = 2
    """One request, as the side that sent it sees it: the network and the other side's waiting included."""
    SERVED = 3
    """The same request, as the side that answered it sees it."""
    PART = 4
    """A part of one of those: waiting, a disk, a commit."""


class TraceSpan(msgspec.Struct, frozen=True, gc=False):
    """A span that has ended. (Thousands are kept: the garbage collector must not go through them.)"""

    context: SpanContext
    parent_id: bytes
    """b"": it is the root."""
    name: str
    kind: SpanKind
    began_ns: int
    """Since the epoch, by the clock of its process."""
    elapsed_ns: int
    code: Code
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def get(self, name: str) -> Attribute | None:
        """An attribute, None when it has none of that name."""
        return dict(self.attributes).get(name)


class CallSpan(Protocol):
    """The span of a request that is being served."""

    def now(self) -> int:
        """The process's clock, monotonic nanoseconds."""
        ...

    def part(self, name: str, began_at: int, ended_at: int) -> None:
        """A part of its time, between two moments of the process's clock."""
        ...


class UpdateTrace(Protocol):
    """What the store of a target tells of an update whose operation is traced."""

    def on_staging(self) -> None:
        """The store has been given the update."""
        ...

    def on_stored(self, began_at: int, ended_at: int) -> None:
        """The disk was at work on it between these moments, monotonic nanoseconds."""
        ...

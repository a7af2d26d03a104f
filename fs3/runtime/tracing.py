"""Spans while they are under way, and which of them the running code belongs to.

Nothing here costs anything while nothing is traced: there is no span then, and code that could have one asks whether it is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from fs3.base.status import Code
from fs3.model.trace import SPAN_ID_BYTES, Attribute, CallSpan, SpanContext, SpanKind, TraceSpan
from fs3.ports.clock import Clock

span_parts_max = 64
"""Parts of one span; what is more is left out."""


class SpanSink(Protocol):
    """Where spans go that have ended."""

    def add(self, span: TraceSpan) -> None:
        """Keep it, or send it, later: this must not wait."""
        ...


RandomBytes = Callable[[int], bytes]
"""So many of them."""


class Tracer:
    """Makes the spans of one process, or of one client."""

    def __init__(self, clock: Clock, draw: RandomBytes, *sinks: SpanSink) -> None:
        self.now = clock.now
        self._clock = clock
        self._draw = draw
        self.sinks: list[SpanSink] = list(sinks)

    def new_id(self, count: int = SPAN_ID_BYTES) -> bytes:
        """A random id that is not all zeros."""
        found = b""
        while not any(found):
            found = self._draw(count)
        return found

    def begin(self, name: str, kind: SpanKind, parents: Sequence[SpanContext], began_at: int = 0) -> OpenSpan:
        """A span below others, one of each trace. `began_at`: monotonic nanoseconds; 0: now."""
        return OpenSpan(self, name, kind, parents, began_at or self.now())

    def finish(self, span: OpenSpan, code: int, ended_at: int) -> None:
        """A span has ended."""
        began_ns, elapsed_ns = self._clock.wall() - (self.now() - span.began_at), ended_at - span.began_at
        attributes, outcome = tuple(span.attributes.items()), Code.from_wire(code)
        for parent, context in zip(span.parents, span.contexts, strict=True):
            made = TraceSpan(context, parent.span_id, span.name, span.kind, began_ns, elapsed_ns, outcome, attributes)
            for sink in self.sinks:
                sink.add(made)


class OpenSpan:
    """A span under way. It has one parent in each trace it is of: a request to the next replica is of several."""

    __slots__ = ("_parts", "attributes", "began_at", "contexts", "is_ended", "kind", "name", "parents", "tracer")

    def __init__(self, tracer: Tracer, name: str, kind: SpanKind, parents: Sequence[SpanContext], began_at: int) -> None:
        """Use `Tracer.begin`."""
        self.tracer = tracer
        self.name = name
        self.kind = kind
        self.parents = parents
        self.contexts = tuple(SpanContext(parent.trace_id, tracer.new_id()) for parent in parents)
        self.began_at = began_at
        self.attributes: dict[str, Attribute] = {}
        self.is_ended = False
        self._parts: set[tuple[str, int]] | None = None

    def now(self) -> int:
        """See `CallSpan`."""
        return self.tracer.now()

    def child(self, name: str, kind: SpanKind, began_at: int = 0) -> OpenSpan:
        """A span below this one."""
        return self.tracer.begin(name, kind, self.contexts, began_at)

    def part(self, name: str, began_at: int, ended_at: int) -> None:
        """A part of this span's time, which has ended. The same one may be told again, by updates that share it."""
        if self._parts is None:
            self._parts = set()
        if (name, began_at) in self._parts or len(self._parts) >= span_parts_max:
            return
        self._parts.add((name, began_at))
        self.child(name, SpanKind.PART, began_at).end(Code.OK, ended_at)

    def end(self, code: int = Code.OK, ended_at: int = 0) -> None:
        """It has ended, now or at another moment. Only the first end counts."""
        if not self.is_ended:
            self.is_ended = True
            self.tracer.finish(self, code, ended_at or self.tracer.now())


current_span: ContextVar[OpenSpan | None] = ContextVar("current_span", default=None)
"""What the running code is part of: calls that it makes are below it."""
_attempt: ContextVar[int] = ContextVar("attempt", default=1)
"""How often what the running code asks for was asked for, this time included."""


@contextmanager
def within(span: OpenSpan) -> Iterator[None]:
    """Calls of the block are below this span."""
    token = current_span.set(span)
    try:
        yield
    finally:
        current_span.reset(token)


@contextmanager
def within_request(span: CallSpan | None) -> Iterator[None]:
    """Calls of the block are below the span of the request that they are made for, and of no other: None for one of no trace."""
    token = current_span.set(span if isinstance(span, OpenSpan) else None)
    try:
        yield
    finally:
        current_span.reset(token)


@contextmanager
def within_all(spans: Sequence[OpenSpan]) -> Iterator[None]:
    """Calls of the block are below each of these spans, which are of one process."""
    first = spans[0]
    if len(spans) == 1:
        joint = first
    else:
        joint = OpenSpan(first.tracer, first.name, first.kind, (), first.began_at)
        joint.contexts = tuple(dict.fromkeys(context for span in spans for context in span.contexts))
    with within(joint):
        yield


@contextmanager
def timed_part(name: str) -> Iterator[None]:
    """The block is a part of what the running code belongs to, if that is traced."""
    span = current_span.get()
    if span is None or span.is_ended:
        yield
        return
    began_at = span.now()
    try:
        yield
    finally:
        span.part(name, began_at, span.now())


@contextmanager
def attempting(number: int) -> Iterator[None]:
    """Calls of the block repeat what was asked before: this is the attempt of this number, from 2 on."""
    if current_span.get() is None:
        yield
        return
    token = _attempt.set(number)
    try:
        yield
    finally:
        _attempt.reset(token)


def begin_call(parent: OpenSpan, method: str, endpoint: str) -> OpenSpan:
    """The span of a call that the running code makes."""
    span = parent.child(method, SpanKind.CALL)
    span.attributes["peer"] = endpoint
    if (number := _attempt.get()) > 1:
        span.attributes["attempt"] = number
    return span

"""The spans of one process, kept in memory for a while, so that a trace can be asked for soon after it."""

from __future__ import annotations

import threading
from collections import deque

from fs3.base.units import MINUTE
from fs3.model.trace import TraceSpan
from fs3.ports.clock import Clock

spans_kept_max = 8192
"""Of one process; then the oldest goes."""
spans_kept_ns = 10 * MINUTE
"""So long a span is kept."""


class SpanStore:
    """A `SpanSink`. May be added to and read on any thread."""

    def __init__(self, clock: Clock, *, count_max: int = spans_kept_max) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._spans: deque[tuple[int, TraceSpan]] = deque(maxlen=count_max)

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: TraceSpan) -> None:
        """See `SpanSink`."""
        now = self._clock.now()
        with self._lock:
            spans = self._spans
            while spans and spans[0][0] <= now - spans_kept_ns:
                spans.popleft()
            spans.append((now, span))

    def find(self, trace_id: bytes) -> tuple[TraceSpan, ...]:
        """The spans of a trace that are here, in the order in which they ended."""
        oldest = self._clock.now() - spans_kept_ns
        with self._lock:
            return tuple(span for at, span in self._spans if at > oldest and span.context.trace_id == trace_id)

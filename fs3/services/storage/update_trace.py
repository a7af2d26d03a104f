"""What becomes of the updates of a request whose operation is traced."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fs3.model.chunk import Update
from fs3.runtime.tracing import OpenSpan


class UpdateSpan:
    """The `UpdateTrace` of the updates of one request."""

    __slots__ = ("_given_at", "span")

    def __init__(self, span: OpenSpan) -> None:
        self.span = span
        self._given_at = 0

    def on_staging(self) -> None:
        """See `UpdateTrace`."""
        self._given_at = self.span.tracer.now()

    def on_stored(self, began_at: int, ended_at: int) -> None:
        """See `UpdateTrace`."""
        if self._given_at and began_at > self._given_at:
            self.span.part("wait for the disk", self._given_at, began_at)
        self.span.part("disk", began_at, ended_at)


def trace_updates(updates: Sequence[Update], span: OpenSpan) -> list[Update]:
    """The updates of a request that has this span."""
    trace = UpdateSpan(span)
    return [msgspec.structs.replace(update, trace=trace) for update in updates]


def span_of(update: Update) -> OpenSpan | None:
    """The span of the request that brought an update, if it has one."""
    return update.trace.span if isinstance(update.trace, UpdateSpan) else None

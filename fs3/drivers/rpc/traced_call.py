"""Requests that belong to a trace, on the side that serves them: what they do more than others."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.drivers.rpc.server_call import ServerCall
from fs3.model.trace import SpanContext, SpanKind
from fs3.ports.rpc import Handler
from fs3.runtime.tracing import OpenSpan, Tracer

PAYLOAD = "bytes"
"""Attribute: how long the payload of the request is."""


class TracedServerCall(ServerCall):
    """What a wire mixes into its calls. It sets their `span`, made by `begin_served`, before anything else."""

    __slots__ = ()

    span: OpenSpan

    def _mark_ended(self, code: int) -> None:
        if not self._ended:
            span, begun_at = self.span, self._begun_at
            if self.arrived_at and begun_at > self.arrived_at:
                span.part("waiting", self.arrived_at, begun_at)
            if self._released_at:
                span.part("storing", begun_at, self._released_at)
                span.part("next replicas", self._released_at, span.tracer.now())
            span.end(code)
        super()._mark_ended(code)

    def dispatch(self, handler: Handler) -> None:
        """See `ServerCall.dispatch`."""
        if self.payload is not None:
            self.span.attributes[PAYLOAD] = len(self.payload)
        super().dispatch(handler)


def begin_served(call: ServerCall, tracer: Tracer, parents: Sequence[SpanContext], began_at: int) -> OpenSpan:
    """The span of a request, below these of its client."""
    span = tracer.begin(call.method.full_name, SpanKind.SERVED, parents, began_at)
    span.attributes["peer"] = call.peer
    return span

"""What service processes are asked about traces, on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.status import Code
from fs3.model.trace import SPAN_ID_BYTES, TRACE_ID_BYTES, Attribute, SpanContext, SpanKind, TraceSpan
from fs3.wire.malformed import malformed
from fs3.wire.pb import process_pb2 as pb

spans_per_reply_max = 4096
"""Of one trace; further ones are left out."""

_KINDS = frozenset(kind.value for kind in SpanKind)


def spans_request_to_pb(trace_id: bytes) -> pb.GetSpansRequest:
    """GetSpans."""
    return pb.GetSpansRequest(trace_id=trace_id)


def trace_id_from_pb(message: pb.GetSpansRequest) -> bytes:
    """What GetSpans asks for. Raises InvalidArgument."""
    if len(message.trace_id) != TRACE_ID_BYTES:
        raise malformed("trace_id", f"{len(message.trace_id)} bytes, not {TRACE_ID_BYTES}")
    return message.trace_id


def spans_to_pb(spans: Sequence[TraceSpan]) -> pb.GetSpansReply:
    """The answer to GetSpans."""
    return pb.GetSpansReply(
        spans=[
            pb.TraceSpan(
                span_id=span.context.span_id,
                parent_id=span.parent_id,
                name=span.name,
                kind=span.kind,
                began_ns=span.began_ns,
                elapsed_ns=max(0, span.elapsed_ns),
                code=span.code,
                attributes=[_attribute_to_pb(name, value) for name, value in span.attributes],
            )
            for span in spans[:spans_per_reply_max]
        ]
    )


def spans_from_pb(message: pb.GetSpansReply, trace_id: bytes) -> list[TraceSpan]:
    """The answer to GetSpans. Raises InvalidArgument naming what is malformed."""
    return [_span_from_pb(each, trace_id) for each in message.spans]


def _span_from_pb(message: pb.TraceSpan, trace_id: bytes) -> TraceSpan:
    if len(message.span_id) != SPAN_ID_BYTES:
        raise malformed("spans.span_id", f"{len(message.span_id)} bytes, not {SPAN_ID_BYTES}")
    # A kind of a newer process is a part as well.
    kind = SpanKind(message.kind) if message.kind in _KINDS else SpanKind.PART
    attributes = tuple((each.name, _value_of(each)) for each in message.attributes)
    context = SpanContext(trace_id, message.span_id)
    code = Code.from_wire(message.code)
    return TraceSpan(context, message.parent_id, message.name, kind, message.began_ns, message.elapsed_ns, code, attributes)


def _attribute_to_pb(name: str, value: Attribute) -> pb.SpanAttribute:
    return pb.SpanAttribute(name=name, text=value) if isinstance(value, str) else pb.SpanAttribute(name=name, number=value)


def _value_of(message: pb.SpanAttribute) -> Attribute:
    return message.number if message.WhichOneof("value") == "number" else message.text

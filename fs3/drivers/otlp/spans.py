"""Spans as OpenTelemetry's exporter takes them. Importing this needs the extra `fs3[trace]`."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fs3.base.status import Code
from fs3.model import trace

_KINDS = {trace.SpanKind.CALL: SpanKind.CLIENT, trace.SpanKind.SERVED: SpanKind.SERVER}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def open_exporter(timeout_s: float) -> OTLPSpanExporter:
    """OpenTelemetry's own, as its environment variables say."""
    return OTLPSpanExporter(timeout=timeout_s)


def span_converter(role: str, name: str, version: str) -> Callable[[trace.TraceSpan], ReadableSpan]:
    """What makes spans of this process into those of OpenTelemetry. OTEL_SERVICE_NAME, where it is set, names the service."""
    default = Resource({"service.name": f"fs3-{role}", "service.instance.id": name, "service.version": version})
    resource = default.merge(Resource.create({}) if _is_named() else Resource({}))
    scope = InstrumentationScope("fs3", version)

    def convert(span: trace.TraceSpan) -> ReadableSpan:
        trace_id = int.from_bytes(span.context.trace_id, "big")
        status = Status(StatusCode.OK) if span.code is Code.OK else Status(StatusCode.ERROR, span.code.name)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int.from_bytes(span.context.span_id, "big"), is_remote=False, trace_flags=_SAMPLED),
            parent=SpanContext(trace_id, int.from_bytes(span.parent_id, "big"), is_remote=True, trace_flags=_SAMPLED)
            if span.parent_id
            else None,
            resource=resource,
            attributes={f"fs3.{key}": value for key, value in span.attributes},
            kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
            status=status,
            start_time=span.began_ns,
            end_time=span.began_ns + span.elapsed_ns,
            instrumentation_scope=scope,
        )

    return convert


def _is_named() -> bool:
    attributes = Resource.create({}).attributes
    return not str(attributes.get("service.name", "unknown_service")).startswith("unknown_service")

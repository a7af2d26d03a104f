"""Spans as OpenTelemetry's exporter takes them. Its library is an extra, `fs3[trace]`, and is imported when something is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fs3.base.status import Code
from fs3.model.trace import SpanContext, SpanKind, TraceSpan


def open_exporter(timeout_s: float) -> Any:
    """OpenTelemetry's own `SpanExporter`, as its environment variables say. Raises ImportError without the library."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(timeout=timeout_s)


def span_converter(role: str, name: str, version: str) -> Callable[[TraceSpan], Any]:
    """What makes spans of this process into those of OpenTelemetry. OTEL_SERVICE_NAME, where it is set, names the service. Raises
    ImportError without the library."""
    from opentelemetry import trace as otel
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    kinds = {SpanKind.CALL: otel.SpanKind.CLIENT, SpanKind.SERVED: otel.SpanKind.SERVER}
    resource = Resource({"service.name": f"fs3-{role}", "service.instance.id": name, "service.version": version})
    of_environment = Resource.create({})
    if not str(of_environment.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(of_environment)
    scope = InstrumentationScope("fs3", version)
    sampled = otel.TraceFlags(otel.TraceFlags.SAMPLED)

    def context_of(context: SpanContext, *, is_remote: bool) -> Any:
        ids = int.from_bytes(context.trace_id, "big"), int.from_bytes(context.span_id, "big")
        return otel.SpanContext(*ids, is_remote=is_remote, trace_flags=sampled)

    def convert(span: TraceSpan) -> Any:
        parent = SpanContext(span.context.trace_id, span.parent_id)
        well = span.code is Code.OK
        return ReadableSpan(
            name=span.name,
            context=context_of(span.context, is_remote=False),
            parent=context_of(parent, is_remote=True) if span.parent_id else None,
            resource=resource,
            attributes={f"fs3.{key}": value for key, value in span.attributes},
            kind=kinds.get(span.kind, otel.SpanKind.INTERNAL),
            status=otel.Status(otel.StatusCode.OK) if well else otel.Status(otel.StatusCode.ERROR, span.code.name),
            start_time=span.began_ns,
            end_time=span.began_ns + span.elapsed_ns,
            instrumentation_scope=scope,
        )

    return convert

"""Spans on their way to a collector: bounded, and nothing waits for one that is away."""

from __future__ import annotations

import http.server
import logging
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fs3.base.status import Code
from fs3.drivers.otlp import exporter
from fs3.drivers.otlp.exporter import SpanExporter
from fs3.model.metrics import catalogue
from fs3.model.trace import SpanContext, SpanKind, TraceSpan


def span(number: int, parent: bytes = b"", **about: Any) -> TraceSpan:
    made = TraceSpan(SpanContext(b"t" * 16, bytes([number]) * 8), parent, f"span {number}", SpanKind.CALL, 10**18, 5_000, Code.OK)
    return msgspec.structs.replace(made, **about)


class Collector:
    """Stands for the library's exporter: takes spans, refuses them, or does not answer."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.answers = True
        self.may_answer = threading.Event()
        self.may_answer.set()

    def export(self, spans: list[Any]) -> Any:
        self.may_answer.wait()
        if self.answers:
            self.taken += spans
        return SimpleNamespace(name="SUCCESS" if self.answers else "FAILURE")

    def shutdown(self) -> None:
        self.may_answer.set()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Collector, SpanExporter]]:
    monkeypatch.setattr(exporter, "export_interval_ns", 10**6)
    monkeypatch.setattr(exporter, "span_queue_max", 100)
    collector = Collector()
    sender = SpanExporter(collector, lambda each: each)
    yield collector, sender
    sender.close()


def counts(sender: SpanExporter) -> tuple[Any, Any]:
    found = {sample.metric: sample.value for sample in sender.samples()}
    return found[catalogue.SPANS_EXPORTED], found[catalogue.SPANS_DROPPED]


def test_what_is_queued_is_sent_before_the_end(made: Any) -> None:
    collector, sender = made
    for number in range(50):
        sender.add(span(number))
    sender.close()
    assert [each.name for each in collector.taken] == [f"span {number}" for number in range(50)]
    assert counts(sender) == (50, 0)


def test_a_collector_that_is_away_harms_nobody_and_is_said_once(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    collector, sender = made
    collector.may_answer.clear()
    collector.answers = False
    sender.add(span(0))
    for number in range(1000):
        sender.add(span(number % 250))
    assert len(sender._queue) <= 100
    collector.shutdown()
    sender.close()
    exported, dropped = counts(sender)
    assert (exported, dropped) == (0, 1001)
    assert len([record for record in caplog.records if "are dropped" in record.message]) == 1


def test_a_forked_child_sends_its_own(made: Any) -> None:
    collector, sender = made
    sender.close()
    sender.add(span(1))
    child = os.fork()
    if not child:
        sender.add(span(2))
        sender.close()
        os._exit(0 if [each.name for each in collector.taken if each.name == "span 2"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert SpanExporter.of_environment("meta", "meta") is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert SpanExporter.of_environment("meta", "meta") is None


class Received(http.server.BaseHTTPRequestHandler):
    """A collector, as far as the exporter can tell."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.external
def test_the_library_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Received)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        sender = SpanExporter.of_environment("storage", "storage-1")
        assert sender is not None
        root = span(1, attributes=(("path", "/a"), ("bytes", 7)), kind=SpanKind.OPERATION)
        sender.add(root)
        sender.add(span(2, root.context.span_id, code=Code.BUSY))
        sender.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    ((path, body),) = server.bodies  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("fs3-storage", "storage-1")
    first, second = resource.scope_spans[0].spans
    assert (first.trace_id, first.span_id, first.parent_span_id) == (b"t" * 16, b"\x01" * 8, b"")
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (10**18, 10**18 + 5000)
    assert {each.key for each in first.attributes} == {"fs3.path", "fs3.bytes"}
    assert (second.parent_span_id, second.status.message) == (b"\x01" * 8, "BUSY")


@pytest.mark.external
def test_a_collector_that_does_not_listen_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(exporter, "export_timeout_ns", 2 * 10**8)
    caplog.set_level(logging.WARNING)
    sender = SpanExporter.of_environment("storage", "storage-1")
    assert sender is not None
    sender.add(span(1))
    sender.close()
    assert [record.name for record in caplog.records] == ["fs3.trace"]

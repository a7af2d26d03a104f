"""Sends spans to a collector of traces, by OpenTelemetry's own exporter (OTLP over HTTP), from a thread of its own.

Nothing waits for the collector. What it does not take soon enough is dropped and counted, and that is said once, until it works
again. It is configured by OpenTelemetry's own environment variables, as any other program.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any, Self

from fs3.base.units import SECOND
from fs3.base.version import __version__
from fs3.drivers.otlp.spans import open_exporter, span_converter
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.trace import TraceSpan

log = logging.getLogger("fs3.trace")

span_queue_max = 4096
"""Spans that wait to be sent; further ones are dropped."""
spans_per_export_max = 512
export_interval_ns = 1 * SECOND
"""Spans wait so long for others to be sent with them."""
export_timeout_ns = 5 * SECOND
"""The collector may take so long for one request, repetitions included."""
export_close_ns = 2 * SECOND
"""What is left when the process ends is sent within so long."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@cache
def _tell_missing(what: str) -> None:
    """Once, however many services a process has."""
    log.warning("traces are not sent to a collector: %s; install fs3[trace]", what)


class SpanExporter:
    """A `SpanSink`. May be added to on any thread."""

    def __init__(self, send: Any, convert: Any) -> None:
        """Use `of_environment`. `send`: an OpenTelemetry `SpanExporter`; `convert`: makes of a span what that takes."""
        self._send = send
        self._convert = convert
        self._exported = 0
        self._dropped = 0
        self._is_away = False
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[TraceSpan] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fs3-otlp", daemon=True)
        self._thread.start()

    @classmethod
    def of_environment(cls, role: str, name: str) -> Self | None:
        """What the environment says; None: spans are sent nowhere. `role`, `name`: of this process."""
        if not any(os.environ.get(variable) for variable in _ENDPOINTS):
            return None
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        try:
            send, convert = open_exporter(export_timeout_ns / SECOND), span_converter(role, name, __version__)
        except ImportError as missing:
            _tell_missing(str(missing))
            return None
        return cls(send, convert)

    def add(self, span: TraceSpan) -> None:
        """See `SpanSink`."""
        if self._pid != os.getpid():  # a forked child has neither the thread nor a right to what was queued
            self._start()
        if len(self._queue) >= span_queue_max:
            self._drop(1, "they come faster than it takes them")
        else:
            self._queue.append(span)

    def samples(self) -> Iterator[Sample]:
        """As readings."""
        yield Sample(catalogue.SPANS_EXPORTED, (), self._exported)
        yield Sample(catalogue.SPANS_DROPPED, (), self._dropped)

    def close(self) -> None:
        """Send what is left, within `export_close_ns`."""
        if self._pid != os.getpid():
            return
        self._stopping.set()
        self._thread.join(export_close_ns / SECOND)
        self._send.shutdown()

    def _drop(self, count: int, why: str) -> None:
        self._dropped += count
        if not self._is_away:
            self._is_away = True
            log.warning("spans for the collector of traces are dropped: %s", why)

    # --- on the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        _silence_thread()
        while not self._stopping.wait(export_interval_ns / SECOND):
            self._export_all()
        self._export_all()

    def _export_all(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), spans_per_export_max))]
            try:
                taken = self._send.export([self._convert(span) for span in batch]).name == "SUCCESS"
                why = "it does not answer, or refuses them"
            except Exception as failure:  # of the library: a trace is worth no failure
                taken, why = False, repr(failure)
            if taken:
                self._exported += len(batch)
                if self._is_away:
                    self._is_away = False
                    log.warning("the collector of traces takes spans again; %d were dropped", self._dropped)
            else:
                self._drop(len(batch), why)


def _silence_thread() -> None:
    """The library says each failure, several times; this module says it once."""
    own = threading.get_ident()
    for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(lambda record: record.thread != own)

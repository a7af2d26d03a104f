"""What is kept of the calls of one service: how many of each, the slowest, and the spans of those that belong to a trace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack

from fs3.base.errors import FS3Error
from fs3.drivers.otlp.exporter import SpanExporter
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.slow import LoopStall, SlowReport
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call
from fs3.runtime.alarm import Alarm
from fs3.runtime.slow_operations import SlowOperations, slow_window_ns
from fs3.runtime.span_store import SpanStore
from fs3.runtime.tracing import Tracer
from fs3.wire.methods import PROCESS
from fs3.wire.process import slow_to_pb
from fs3.wire.process_spans import spans_to_pb, trace_id_from_pb


class CallObserver:
    """Of one process, or of one of the services that are embedded in one. `counts` is None when nothing is to be counted."""

    def __init__(self, role: str, name: str, clock: Clock, stalls: Iterable[LoopStall] = (), *, counting: bool = True) -> None:
        """`stalls`: what held the event loop lately, the newest last."""
        self.slow = SlowOperations(clock)
        self.spans = SpanStore(clock)
        self._exporter = SpanExporter.of_environment(role, name) if counting else None
        sinks = (self.spans,) if self._exporter is None else (self.spans, self._exporter)
        self.counts = RpcCounts(clock, self.slow, Tracer(clock, os.urandom, *sinks)) if counting else None
        self._clock = clock
        self._stalls = stalls
        self._alarm = Alarm(self._begin_window)

    def start(self, stack: AsyncExitStack) -> None:
        """Begin on the running loop; `stack` ends it."""
        if self.counts is None:
            return
        self._set_alarm()
        stack.callback(self._alarm.cancel)
        if self._exporter is not None:
            stack.push_async_callback(asyncio.to_thread, self._exporter.close)

    def bindings(self) -> Bindings:
        """What is answered about them."""
        return {PROCESS.GetSlow: self._get_slow, PROCESS.GetSpans: self._get_spans}

    def samples(self) -> Iterator[Sample]:
        """Readings of the spans."""
        yield Sample(catalogue.SPANS_KEPT, (), len(self.spans))
        if self._exporter is not None:
            yield from self._exporter.samples()

    def _get_slow(self, call: Call) -> None:
        call.reply(slow_to_pb(SlowReport(self.slow.read(), tuple(self._stalls)[::-1])))

    def _get_spans(self, call: Call) -> None:
        try:
            trace_id = trace_id_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return
        call.reply(spans_to_pb(self.spans.find(trace_id)))

    def _begin_window(self) -> None:
        self.slow.begin_window()
        self._set_alarm()

    def _set_alarm(self) -> None:
        now = self._clock.now()
        self._alarm.set(now + slow_window_ns, now)

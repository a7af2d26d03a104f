"""The calls of one process, or of one client: what its transports count, by method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fs3.base.counting import OTHER_CODE, CallCounts, Histogram
from fs3.base.status import Code
from fs3.drivers.rpc.open_connections import OpenConnections
from fs3.model.method import Method, PayloadSide
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Metric, Sample
from fs3.ports.clock import Clock
from fs3.runtime.slow_operations import SlowOperations
from fs3.runtime.tracing import Tracer


class RpcCounts:
    """Transports that are given the same one count together. Added to by one loop, read from any thread."""

    def __init__(self, clock: Clock, slow: SlowOperations | None = None, tracer: Tracer | None = None) -> None:
        """`slow`: where requests that are answered late are kept; None: nowhere. `tracer`: makes the spans of requests that are
        served and belong to a trace; None: they have none."""
        self.slow = slow
        self.tracer = tracer
        self.now = clock.now
        self._served: dict[Method, CallCounts] = {}
        self.called: dict[Method, CallCounts] = {}
        """Of the methods that were asked of others; `of_called` makes what is missing."""
        self.refused: dict[Code, int] = {}
        """Requests that did not reach a handler."""
        self.connections = 0
        """Of clients, open now."""
        self.open = OpenConnections()
        """On the framed wire, of clients and to servers."""

    def of_served(self, method: Method) -> CallCounts:
        """The counts of a method that is served here."""
        found = self._served.get(method)
        if found is None:
            found = self._served[method] = CallCounts(self.now)
            if method.is_forwardable:
                found.forwarded = CallCounts(self.now)
        return found

    def find_served(self, method: Method) -> CallCounts | None:
        """The same, where the method is served: without those calls that other services have passed on."""
        return self._served.get(method)

    def of_called(self, method: Method) -> CallCounts:
        """The counts of a method that is asked of others."""
        return self.called.get(method) or self.called.setdefault(method, CallCounts(self.now))

    def count_refused(self, code: Code) -> None:
        """A request was refused."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """Everything, as readings; of methods that were used."""
        for method, counts in list(self._served.items()):
            parts = [counts] if counts.forwarded is None else [counts, counts.forwarded]
            if any(part.begun for part in parts):
                yield from _samples_of(method, parts, _SERVED)
                if counts.waited.count:
                    labels = (method.service.rpartition(".")[2], method.name)
                    yield Sample(catalogue.SERVED_WAIT, labels, HistogramReading.of(counts.waited))
        for method, counts in list(self.called.items()):
            if counts.begun:
                yield from _samples_of(method, [counts], _CALLED)
        for code, count in list(self.refused.items()):
            yield Sample(catalogue.REFUSED, (code.name,), count)
        yield Sample(catalogue.CONNECTIONS, (), self.connections)


_Side = tuple[Metric, Metric, Metric, Metric]
_SERVED: _Side = (
    catalogue.SERVED_SECONDS,
    catalogue.SERVED_IN_FLIGHT,
    catalogue.SERVED_RECEIVED,
    catalogue.SERVED_SENT,
)
_CALLED: _Side = (
    catalogue.CALLED_SECONDS,
    catalogue.CALLED_IN_FLIGHT,
    catalogue.CALLED_RECEIVED,
    catalogue.CALLED_SENT,
)


def _samples_of(method: Method, parts: Sequence[CallCounts], side: _Side) -> Iterator[Sample]:
    seconds, in_flight, received, sent = side
    verb = (method.service.rpartition(".")[2], method.name)
    yield Sample(in_flight, verb, sum(part.in_flight for part in parts))
    if method.payload is not PayloadSide.NONE:
        if (method.payload is PayloadSide.REPLY) == (side is _SERVED):
            yield Sample(sent, verb, sum(part.sent_bytes for part in parts))
        else:
            yield Sample(received, verb, sum(part.received_bytes for part in parts))
    yield Sample(seconds, (*verb, Code.OK.name), _add_up([part.answered for part in parts]))
    failed: dict[int, list[Histogram]] = {}
    for part in parts:
        for number, histogram in list(part.failed.items()):
            failed.setdefault(number, []).append(histogram)
    for number, histograms in failed.items():
        name = "OTHER" if number == OTHER_CODE else Code.from_wire(number).name
        yield Sample(seconds, (*verb, name), _add_up(histograms))


def _add_up(histograms: Sequence[Histogram]) -> HistogramReading:
    readings = [HistogramReading.of(histogram) for histogram in histograms]
    if len(readings) == 1:
        return readings[0]
    counts = [sum(places) for places in zip(*(reading.counts for reading in readings), strict=True)]
    return HistogramReading(counts, sum(reading.sum_seconds for reading in readings))

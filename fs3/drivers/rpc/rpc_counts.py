"""The calls of one process, or of one client: what its transports count, by method."""

from __future__ import annotations

from collections.abc import Iterator

from fs3.base.counting import OTHER_CODE, CallCounts
from fs3.base.status import Code
from fs3.drivers.rpc.open_connections import OpenConnections
from fs3.model.method import Method, PayloadSide
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Metric, Sample
from fs3.ports.clock import Clock
from fs3.runtime.slow_operations import SlowOperations


class RpcCounts:
    """Transports that are given the same one count together. Added to by one loop, read from any thread."""

    def __init__(self, clock: Clock, slow: SlowOperations | None = None) -> None:
        """`slow`: where requests that are answered late are kept; None: nowhere."""
        self.slow = slow
        self._now = clock.now
        self._served: dict[Method, CallCounts] = {}
        self._called: dict[Method, CallCounts] = {}
        self.refused: dict[Code, int] = {}
        """Requests that did not reach a handler."""
        self.connections = 0
        """Of clients, open now."""
        self.open = OpenConnections()
        """On the framed wire, of clients and to servers."""

    def of_served(self, method: Method) -> CallCounts:
        """The counts of a method that is served here."""
        return self._served.get(method) or self._served.setdefault(method, CallCounts(self._now))

    def of_called(self, method: Method) -> CallCounts:
        """The counts of a method that is asked of others."""
        return self._called.get(method) or self._called.setdefault(method, CallCounts(self._now))

    def count_refused(self, code: Code) -> None:
        """A request was refused."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """Everything, as readings; of methods that were used."""
        for method, counts in list(self._served.items()):
            if counts.begun:
                yield from _samples_of(method, counts, _SERVED)
                if counts.waited.count:
                    labels = (method.service.rpartition(".")[2], method.name)
                    yield Sample(catalogue.SERVED_WAIT, labels, HistogramReading.of(counts.waited))
        for method, counts in list(self._called.items()):
            if counts.begun:
                yield from _samples_of(method, counts, _CALLED)
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


def _samples_of(method: Method, counts: CallCounts, side: _Side) -> Iterator[Sample]:
    seconds, in_flight, received, sent = side
    verb = (method.service.rpartition(".")[2], method.name)
    yield Sample(in_flight, verb, counts.in_flight)
    if method.payload is not PayloadSide.NONE:
        sends = (method.payload is PayloadSide.REPLY) == (side is _SERVED)
        yield Sample(sent, verb, counts.sent_bytes) if sends else Sample(received, verb, counts.received_bytes)
    yield Sample(seconds, (*verb, Code.OK.name), HistogramReading.of(counts.answered))
    for number, histogram in list(counts.failed.items()):
        name = "OTHER" if number == OTHER_CODE else Code.from_wire(number).name
        yield Sample(seconds, (*verb, name), HistogramReading.of(histogram))

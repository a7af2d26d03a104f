"""What is counted in one service process, and who may look: its metrics, its event loop, the port they are served on."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from fs3.base.status import Code
from fs3.cli.call_observer import CallObserver
from fs3.cli.directory import host_port
from fs3.cli.metrics_door import MetricsDoor
from fs3.cli.options import ServeOptions, parse_metrics_port
from fs3.core.security.state import SecurityState
from fs3.drivers.http.http_messages import is_loopback
from fs3.drivers.http.metrics_server import MetricsServer, Site
from fs3.drivers.rpc.receive_pool import pool_of
from fs3.drivers.rpc.reply_budget import reply_budget_of
from fs3.model.cluster import DiskSpace
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Call
from fs3.runtime.audit import AuditLog
from fs3.runtime.loop_monitor import LoopMonitor
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.process_metrics import ProcessMetrics
from fs3.runtime.worker_threads import WorkerThreads
from fs3.wire.exposition import text_of
from fs3.wire.methods import PROCESS
from fs3.wire.process import connections_to_pb, metrics_to_pb

log = logging.getLogger("fs3.metrics")

DiskMeter = Callable[[], Sequence[DiskSpace]]
"""Says how much room the disks of a process have."""


class ProcessObserver:
    """Of one process. `counts` is None when nothing is to be counted."""

    def __init__(self, options: ServeOptions, clock: Clock) -> None:
        self.sources = MetricSources()
        self.monitor = LoopMonitor()
        self.calls = CallObserver(options.role, options.name, clock, self.monitor.stalls, counting=options.counting)
        self.counts = self.calls.counts
        self.audit = AuditLog(options.data_dir / "audit.log", clock)
        """Who did what in it, and what was refused."""
        self._options = options
        self._clock = clock
        self._door: MetricsDoor | None = None
        """Of the port; None: only this machine reaches it, or there is none."""
        self._reader = WorkerThreads(1, "fs3-metrics-reader")
        self._asking: list[Call] = []
        """Calls that wait for the reading under way."""
        if self.counts is not None:
            self.sources.add("process", ProcessMetrics(options.role, options.name).samples)
            self.sources.add("event loop", self.monitor.samples)
            self.sources.add("calls", self.counts.samples)
            self.sources.add("spans", self.calls.samples)
            self.sources.add("memory of calls", _budgets_of(asyncio.get_running_loop()))

    def start(self, stack: AsyncExitStack) -> None:
        """Watch the running loop; `stack` ends that."""
        stack.callback(self._reader.shutdown)
        stack.callback(self.audit.close)
        if self.counts is None:
            return
        self.monitor.start()
        stack.push_async_callback(self.monitor.stop)
        self.calls.start(stack)

    def serve(self, stack: AsyncExitStack, site: Site | None = None) -> str:
        """Serve the metrics, and `site` beside them, if a port was given; `stack` ends it. Where others reach it, as
        "http://host:port"; "" when nothing is served. FS3Error: it cannot listen."""
        if self.counts is None or not self._options.metrics:
            return ""
        host, port = parse_metrics_port(self._options.metrics)
        tls = None
        if not is_loopback(host_port(host, port)):
            tls = self._options.tls
            self._door = MetricsDoor(self._clock, tls)
        server = MetricsServer(self.sources.samples, site, self._door, tls)
        host, port = server.start(host, port)
        stack.callback(server.close)
        scheme = "http" if tls is None else "https"
        log.info("%s serves metrics at %s://%s/metrics", self._options.name, scheme, host_port(host, port))
        if host in ("0.0.0.0", "::"):
            host = self._options.advertise or socket.gethostname()
        return f"{scheme}://{host_port(host, port)}"

    def admit_readers(self, security: SecurityState, managers: Sequence[str]) -> None:
        """From now on the process knows whether the cluster has security. `managers`: their endpoints, which know the tokens of
        those that read the port."""
        if self._door is not None:
            self._door.admit_readers(security, managers)

    def site_names(self) -> list[str]:
        """Host names by which the port may be asked, beside addresses and localhost."""
        own = socket.gethostname()
        return [name for name in (self._options.advertise, own, own.partition(".")[0]) if name]

    def bindings(self) -> Bindings:
        """What every process answers about itself, beside what it is for."""
        return {
            PROCESS.GetMetrics: self._get_metrics,
            PROCESS.GetConnections: self._get_connections,
            **self.calls.bindings(),
        }

    def _get_metrics(self, call: Call) -> None:
        """Read on a thread: a manager of a large cluster looks at many targets. Calls that come meanwhile share the reading."""
        self._asking.append(call)
        if len(self._asking) > 1:
            return
        text = ""

        def read() -> None:
            nonlocal text
            text = text_of(self.sources.samples())

        def answer(problem: BaseException | None) -> None:
            asking, self._asking = self._asking, []
            for each in asking:
                if problem is None:
                    each.reply(metrics_to_pb(text))
                else:
                    each.fail(Code.INTERNAL, f"the metrics cannot be read: {problem}")

        self._reader.run(read, answer)

    def _get_connections(self, call: Call) -> None:
        if self.counts is None:
            call.fail(Code.UNSUPPORTED, f"{self._options.name} counts nothing, its connections neither (--no-counting)")
        else:
            call.reply(connections_to_pb(self.counts.open.report()))

    def add_disks(self, measure: DiskMeter) -> None:
        """The file systems the process keeps its data on."""
        self.sources.add("disks", lambda: _of_disks(measure))


def _of_disks(measure: DiskMeter) -> Iterator[Sample]:
    for disk in measure():
        yield Sample(catalogue.DISK_TOTAL, (disk.path,), disk.total_bytes)
        yield Sample(catalogue.DISK_FREE, (disk.path,), disk.free_bytes)


def _budgets_of(loop: asyncio.AbstractEventLoop) -> Callable[[], Iterator[Sample]]:
    """The budgets that all listeners of a loop share."""
    pool, replies = pool_of(loop), reply_budget_of(loop)

    def samples() -> Iterator[Sample]:
        yield Sample(catalogue.MEMORY, ("requests",), pool.held_bytes)
        yield Sample(catalogue.MEMORY, ("replies",), replies.held_bytes)
        yield Sample(catalogue.MEMORY_MAX, ("replies",), replies.bytes_max)

    return samples

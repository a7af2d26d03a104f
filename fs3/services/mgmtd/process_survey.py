"""What only the processes of a cluster know: their slowest operations and KVCaches. Some at a time are asked while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from fs3.base.errors import FS3Error
from fs3.base.limits import usage_rows_max
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.core.dashboard.caches import NamespaceSearch, NodeCaches, caches_document
from fs3.core.dashboard.page import slow_document, slow_shown_max, stalls_shown_max
from fs3.model.cluster import ClusterStatus
from fs3.model.method import Method
from fs3.model.page_usage import NamespaceUsage
from fs3.model.routing import Role
from fs3.model.slow import SlowReport
from fs3.ports.clock import Clock
from fs3.wire.methods import PROCESS, STORAGE
from fs3.wire.process import slow_from_pb, slow_request_to_pb
from fs3.wire.storage_pages import usage_reply_from_pb, usage_request_to_pb

asked_at_once_max = 16
"""Processes that are asked together; the next ones have their turn the next time."""
ask_interval_ns = 3 * SECOND
ask_timeout_ns = 2 * SECOND
usage_pages_max = 4
"""Pages of `usage_rows_max` namespaces that are read of one node."""


class OpenConnector(Protocol):
    """Makes the connections of one event loop."""

    def __call__(self) -> Connector:
        """For the running loop."""
        ...


class RenewedTickets(Protocol):
    """What connections prove themselves with."""

    def renew(self) -> None:
        """Have a fresh one where the last one ends soon."""
        ...


class _Process(NamedTuple):
    name: str
    endpoints: tuple[str, ...]
    has_caches: bool


class ProcessSurvey:
    """Remembers what each process has said last. Belongs to one loop."""

    def __init__(self, clock: Clock, open_connector: OpenConnector, tickets: RenewedTickets | None = None) -> None:
        """`tickets`: of the connections; None: they prove nothing."""
        self._clock = clock
        self._tickets = tickets
        self._open_connector = open_connector
        self._connector: Connector | None = None
        self._processes: list[_Process] = []
        self._next = 0
        self._asked_at = -ask_interval_ns
        self._slow: dict[str, SlowReport] = {}
        self._caches: dict[str, NodeCaches] = {}

    async def ask_some(self, status: ClusterStatus) -> None:
        """Ask the next ones, if it is time."""
        now = self._clock.now()
        if now - self._asked_at < ask_interval_ns:
            return
        self._asked_at = now
        if self._tickets is not None:
            self._tickets.renew()
        if self._connector is None:
            self._connector = self._open_connector()
        self._processes = [_Process(each.name, each.endpoints, False) for each in status.managers] + [
            _Process(node.name, node.endpoints, node.role is Role.STORAGE) for node in status.routing.nodes.values() if node.alive
        ]
        self._retain({process.name for process in self._processes})
        self._next %= max(1, len(self._processes))
        due = (self._processes[self._next :] + self._processes[: self._next])[:asked_at_once_max]
        self._next += len(due)
        await asyncio.gather(*(self._ask(process) for process in due))

    def slow(self) -> dict[str, Any]:
        """The section of the slowest operations."""
        reports = list(self._slow.items())
        return slow_document(
            ((name, each) for name, report in reports for each in report.operations),
            ((name, each) for name, report in reports for each in report.stalls),
            len(reports),
            len(self._processes),
        )

    def caches(self, find: NamespaceSearch, count: int) -> dict[str, Any]:
        """The section of the KVCaches. `count`: how many namespaces there are."""
        asked = sum(process.has_caches for process in self._processes)
        return caches_document(list(self._caches.values()), find, count, asked)

    async def close(self) -> None:
        """Close the connections."""
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    def _retain(self, names: set[str]) -> None:
        for known in (self._slow, self._caches):
            for name in known.keys() - names:
                del known[name]

    async def _ask(self, process: _Process) -> None:
        if (answer := await self._call(process, PROCESS.GetSlow, slow_request_to_pb())) is not None:
            report = slow_from_pb(answer)
            self._slow[process.name] = SlowReport(report.operations[:slow_shown_max], report.stalls[:stalls_shown_max])
        if process.has_caches and (rows := await self._read_usage(process)) is not None:
            self._caches[process.name] = NodeCaches.of(rows, self._clock.now(), self._caches.get(process.name))

    async def _read_usage(self, process: _Process) -> Sequence[NamespaceUsage] | None:
        rows: list[NamespaceUsage] = []
        while len(rows) < usage_pages_max * usage_rows_max:
            after = rows[-1].namespace_id if rows else 0
            if (answer := await self._call(process, STORAGE.CacheUsage, usage_request_to_pb(0, after))) is None:
                return None
            page = usage_reply_from_pb(answer)
            rows += page.namespaces
            if not page.more or not page.namespaces:
                break
        return rows

    async def _call(self, process: _Process, method: Method, request: Any) -> Any:
        """The answer, None when there is none."""
        assert self._connector is not None
        try:
            reply = await self._connector.channel(process.endpoints).call(method, request, timeout_ns=ask_timeout_ns)
        except FS3Error:
            return None
        return reply.message

"""What the lookups of a handle found, told to the cluster: only a client knows how long a prefix was.

Keys are spread over the chains, so no storage node sees more than some of those of a lookup. The client counts, and every few
seconds tells one node what has come since; never within a lookup, which costs what it did. Nodes add it up like what they count
themselves. None of it decides anything: what a client that dies has not told is missing, and a report whose answer is lost is not
sent again, so nothing counts twice.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from fs3.base.errors import FS3Error
from fs3.base.limits import reported_lookups_max
from fs3.base.status import Retry
from fs3.base.units import SECOND
from fs3.model.page_usage import LookupCounters
from fs3.runtime.tasks import start_background

report_interval_ns = 5 * SECOND
"""How long what was found waits for what comes to it: so much of its counts a client that dies takes with it."""
report_timeout_ns = 1 * SECOND
"""How long a report may take, also one that `close` waits for."""


class ReportsLookups(Protocol):
    """`StorageClient`."""

    async def report_lookups(self, namespace_id: int, found: LookupCounters, *, timeout_ns: int = 0) -> None:
        """Tell one storage node. Raises FS3Error."""
        ...


class LookupReporter:
    """What one handle has found and not reported. Belongs to one event loop.

    A timer runs only while there is something to report, and a report that fails is left to the next lookup, so a handle that is
    not used, or whose cluster has gone, does nothing.
    """

    def __init__(self, storage: ReportsLookups) -> None:
        self._storage = storage
        self._loop = asyncio.get_running_loop()
        self._namespace_id = 0
        self._unreported = LookupCounters()
        self._timer: asyncio.TimerHandle | None = None
        self._report: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    def add(self, namespace_id: int, found: LookupCounters) -> None:
        """Report this, too, within a few seconds. What was found under another id, which the namespace had before it was cleared,
        is of no use to the cluster."""
        if namespace_id != self._namespace_id or self._unreported.keys_asked + found.keys_asked > reported_lookups_max:
            self._namespace_id, self._unreported = namespace_id, LookupCounters()
        self._unreported.add(found)
        if self._timer is None:
            self._timer = self._loop.call_later(report_interval_ns / SECOND, self._begin_report)

    async def flush(self, timeout_ns: int = report_timeout_ns) -> None:
        """Report everything now. Does not raise for what happens at the storage nodes."""
        async with self._sending:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            found, namespace_id = self._unreported, self._namespace_id
            if not found.lookups:
                return
            self._unreported = LookupCounters()
            try:
                await self._storage.report_lookups(namespace_id, found, timeout_ns=min(timeout_ns, report_timeout_ns))
            except FS3Error as failure:
                if failure.code.retry in (Retry.BACKOFF, Retry.REFRESH) and namespace_id == self._namespace_id:
                    self._unreported.add(found)  # no node has counted it

    async def close(self) -> None:
        """Report the rest, and no more. On another loop than the handle's, which may have ended, the rest is dropped."""
        if asyncio.get_running_loop() is self._loop:
            await self.flush()
        elif self._timer is not None:
            self._timer.cancel()

    def _begin_report(self) -> None:
        self._timer = None
        self._report = start_background(self.flush())

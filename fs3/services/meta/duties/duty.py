"""A task that does a little at a time, for as long as the service runs."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.meta.errors import MetaError
from fs3.services.meta.duties.lease import DutyLease

log = logging.getLogger("fs3.meta")

_PAUSE_AFTER_ERROR_MAX_NS = 60 * SECOND


class Duty(ABC):
    """Calls `step` until there is nothing to do, then pauses. An error is logged and tried again, more and more slowly."""

    name: str

    def __init__(self, lease: DutyLease | None, interval_ms: int, first_pause_ns: int = 0) -> None:
        """`lease`: held by the one process on this store that does the duty; None when each process does its own.

        `interval_ms`: pause when there was nothing to do. `first_pause_ns`: before the first step, so that the duties of
        several processes on one store do not walk in step.
        """
        self._lease = lease
        self._interval_ns = interval_ms * MILLISECOND
        self._first_pause_ns = first_pause_ns
        self._task: asyncio.Task[None] | None = None
        self.errors = 0
        """Steps that failed since the start."""

    @abstractmethod
    async def step(self) -> bool:
        """Do a bounded piece of work. True when there may be more of it now."""

    def may_work(self) -> bool:
        """It is for this process to do it now."""
        return self._lease is None or self._lease.is_held

    def set_interval(self, interval_ms: int) -> None:
        """The pause when there was nothing to do, from the next one on."""
        self._interval_ns = interval_ms * MILLISECOND

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"fs3-meta-{self.name}")

    async def stop(self) -> None:
        """End, wherever the work is: every step may be cut short and is begun again by the next process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        await asyncio.sleep(self._first_pause_ns / SECOND)
        backoff = Backoff(self._interval_ns, max(self._interval_ns, _PAUSE_AFTER_ERROR_MAX_NS))
        while True:
            pause_ns = self._interval_ns
            try:
                busy = self.may_work() and await self.step()
                backoff.reset()
            except Exception as why:
                self.errors += 1
                busy, pause_ns = False, backoff.next_ns()
                expected = isinstance(why, (FS3Error, MetaError))
                log.warning("%s: %s", self.name, why, exc_info=None if expected else why)
            # Even a busy duty lets the requests of clients have a turn.
            await asyncio.sleep(0 if busy else pause_ns / SECOND)

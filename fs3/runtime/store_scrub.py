"""Reads a key-value store back, slowly and for ever, so that damage is found before it is met."""

from __future__ import annotations

import asyncio
import logging

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import KIB, MINUTE, SECOND
from fs3.model.health import ENGINE_PROBLEM
from fs3.ports.clock import Clock
from fs3.ports.kv import ScrubbedKV

log = logging.getLogger("fs3.scrub")

store_scrub_bytes_per_second = 256 * KIB
"""Read back of one store: a hundredth of a core, and a gigabyte in little more than an hour."""
store_scrub_pass_ns_min = 10 * MINUTE
"""From the beginning of one pass over a store to that of the next, at least."""
store_scrub_damaged_pass_ns_min = 10 * SECOND
"""The same while damage is known: another process on the store may have repaired it."""
_PAUSE_AFTER_ERROR_NS = 1 * MINUTE


class StoreScrub:
    """Scrubs one store from `start` to `stop`, and says what is known to be wrong with it."""

    def __init__(self, kv: ScrubbedKV, clock: Clock) -> None:
        """The store belongs to the caller, who closes it after `stop`."""
        self._kv = kv
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.passes = 0
        """Over the whole store, since the start."""

    def start(self) -> None:
        """Begin at the first row."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="fs3-store-scrub")

    async def stop(self) -> None:
        """End, wherever it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def describe_problem(self) -> str:
        """What a person has to know of the store; empty when nothing is wrong with it."""
        failure, rows, problem = self._kv.failure, self._kv.damaged_rows, self._kv.problem
        if failure is not None:
            return f"its store accepts nothing more: {failure.strerror}"
        if rows:
            others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            return f"its store has damaged rows: {rows[0]!r}{others}; see `fs3 admin fsck` and docs/metadata-recovery.md"
        if problem:
            return f"{ENGINE_PROBLEM}{problem}; see docs/metadata-engines.md"
        return ""

    async def _run(self) -> None:
        while True:
            began_at = self._clock.now()
            following: bytes | None = b""
            while following is not None:
                try:
                    step = await self._kv.scrub(following)
                except FS3Error as why:
                    log.error("%s", why)
                    if why.code in (Code.DATA_LOSS, Code.SHUTTING_DOWN):
                        return
                    await asyncio.sleep(_PAUSE_AFTER_ERROR_NS / SECOND)
                    continue
                following = step.next
                await asyncio.sleep(step.bytes / store_scrub_bytes_per_second)
            self.passes += 1
            pass_ns_min = store_scrub_damaged_pass_ns_min if self._kv.damaged_rows else store_scrub_pass_ns_min
            rest_ns = began_at + pass_ns_min - self._clock.now()
            await asyncio.sleep(max(rest_ns, 0) / SECOND)

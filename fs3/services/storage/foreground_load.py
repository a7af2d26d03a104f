"""Whether somebody waits for this node right now, and how fast work may go on that nobody waits for."""

from __future__ import annotations

import asyncio

from fs3.base.limits import background_wait_ns_max, throttle_burst_ns
from fs3.base.units import MILLISECOND, SECOND
from fs3.ports.clock import Clock

background_rest_ns = 20 * MILLISECOND

foreground_recent_ns = 20 * MILLISECOND
"""Background work goes slowly while a request has arrived so recently."""


class ForegroundLoad:
    """Notes when the node last worked for somebody who waits: reads, and updates that are not part of a resync."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._last_ns = 0

    def touch(self) -> None:
        """A request has arrived."""
        self._last_ns = self._now()

    @property
    def is_busy(self) -> bool:
        """There was one a moment ago, so there will be another one soon."""
        return bool(self._last_ns) and self._now() - self._last_ns < foreground_recent_ns

    async def wait_idle(self) -> None:
        """Let others go first; but not for ever, since work that never gets its turn is never done."""
        deadline = self._now() + background_wait_ns_max
        while self.is_busy and self._now() < deadline:  # noqa: ASYNC110 - that nobody asks for anything is no event
            await asyncio.sleep(background_rest_ns / SECOND)


class Throttle:
    """A token bucket: bytes per second, with a little ahead."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._free_at = 0
        """When everything that was taken so far is paid for."""

    async def take(self, count: int, bytes_per_second: int) -> None:
        """Wait until `count` more bytes may be moved. A count larger than the burst is paid for afterwards."""
        now = self._now()
        self._free_at = max(self._free_at, now - throttle_burst_ns)
        while self._free_at > now:
            await asyncio.sleep((self._free_at - now) / SECOND)
            now = self._now()
        self._free_at += count * SECOND // bytes_per_second

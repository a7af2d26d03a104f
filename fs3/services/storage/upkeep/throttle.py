"""How fast background work may go on."""

from __future__ import annotations

import asyncio

from fs3.base.limits import throttle_burst_ns
from fs3.base.units import SECOND
from fs3.ports.clock import Clock


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

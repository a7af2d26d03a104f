"""Whether clients wait for this node right now."""

from __future__ import annotations

import asyncio

from fs3.base.limits import background_wait_ns_max
from fs3.base.units import MILLISECOND, SECOND
from fs3.ports.clock import Clock

background_rest_ns = 20 * MILLISECOND
"""How often background work that lets clients go first asks whether they are done."""

foreground_recent_ns = 20 * MILLISECOND
"""Background work goes slowly while a request has arrived so recently."""


class ForegroundLoad:
    """Notes when the node last worked for a client that waits: reads, and updates that are not part of a resync."""

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
        """Let clients go first; but not for ever, since work that never gets its turn is never done."""
        deadline = self._now() + background_wait_ns_max
        while self.is_busy and self._now() < deadline:  # noqa: ASYNC110 - that no client asks for anything is no event
            await asyncio.sleep(background_rest_ns / SECOND)

"""Telling the metadata services that a client with open write sessions or locks lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fs3.base.errors import FS3Error
from fs3.base.ids import SessionId
from fs3.base.limits import session_keepalive_ns
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.runtime.tasks import start_background

log = logging.getLogger("fs3.client")

OnReturn = Callable[[], object]
"""A service has heard of this client again."""

_SILENT_INTERVALS = 2
"""A client that was not heard of for so many intervals asks what has become of its sessions."""


class SessionKeepAlive:
    """Sends one tiny request per client, not per file, and only when nothing else has told of the client for a while."""

    def __init__(self, clock: Clock, send: Callable[[], Awaitable[object]], interval_ns: int = session_keepalive_ns) -> None:
        """`send` tells; what it raises is only logged: there is a next time."""
        self._clock = clock
        self._send = send
        self._interval_ns = interval_ns
        self._open: set[SessionId] = set()
        self._holds_locks = False
        self._acknowledged_at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.on_return: OnReturn = lambda: None
        """Called when a service knows again that this client lives, and may have taken it for dead before."""

    def on_acknowledged(self) -> None:
        """A change was answered: a service knows that this client lives."""
        now = self._clock.now()
        silence_ns, self._acknowledged_at = now - self._acknowledged_at, now
        if self._is_needed and silence_ns > _SILENT_INTERVALS * self._interval_ns and not self._stopped:
            self.on_return()

    def on_open(self, session: SessionId) -> None:
        """A write session has begun."""
        self._open.add(session)
        self._begin()

    def on_close(self, session: SessionId) -> None:
        """A session has ended."""
        self._open.discard(session)

    def hold_locks(self, held: bool) -> None:
        """The client holds or wants locks, or no longer does."""
        self._holds_locks = held
        if held:
            self._begin()

    @property
    def _is_needed(self) -> bool:
        return self._holds_locks or bool(self._open)

    def _begin(self) -> None:
        if self._timer is None and self._task is None and not self._stopped:
            self._arm(self._interval_ns)

    async def stop(self) -> None:
        """Tell nothing any more. Sessions that are still open are ended by the services after a while."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _arm(self, wait_ns: int) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_ns / SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_needed:
            return
        rest_ns = self._acknowledged_at + self._interval_ns - self._clock.now()
        if rest_ns > 0:
            self._arm(rest_ns)
        else:
            self._task = start_background(self._send_keepalive())

    async def _send_keepalive(self) -> None:
        try:
            await self._send()
            self.on_acknowledged()
        except FS3Error as why:
            log.info("no metadata service was told that this client lives: %s", why)
        finally:
            self._task = None
        if self._is_needed and not self._stopped:
            self._arm(self._interval_ns)

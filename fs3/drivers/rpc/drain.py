"""Closing a listener in good order: the calls under way get a grace, then the connections end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from fs3.base.units import SECOND


class DrainOwner(Protocol):
    """A listener that closes."""

    @property
    def is_idle(self) -> bool:
        """No call is under way, and no answer is left to send."""
        ...


class Drain:
    """Waits until a listener is idle. The listener tells it of every step towards that by `on_progress`."""

    __slots__ = ("_idle", "_owner")

    def __init__(self, owner: DrainOwner) -> None:
        self._owner = owner
        self._idle: asyncio.Event | None = None  # set when the owner is idle, made when that is waited for

    def on_progress(self) -> None:
        """A call has ended or something was sent: that may have been the last."""
        if self._idle is not None and self._owner.is_idle:
            self._idle.set()

    async def wait(self, grace_ns: int, linger_ns: int = 0) -> None:
        """Until the owner is idle and `linger_ns` after that, `grace_ns` at most in all."""
        if grace_ns <= 0 or (self._owner.is_idle and not linger_ns):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_ns / SECOND):
                if not self._owner.is_idle:
                    if self._idle is None:
                        self._idle = asyncio.Event()
                    self._idle.clear()
                    await self._idle.wait()
                if linger_ns:
                    await asyncio.sleep(linger_ns / SECOND)

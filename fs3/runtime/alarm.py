"""One timer for a machine's next deadline.

Intuition: a machine says when it wants to be stepped next (`next_deadline()`), and that time changes with every step. Arming a
timer anew each time would cost more than the step; firing a little too often costs nothing, because a machine that is stepped
before its deadline has nothing to do.

Algorithm: a timer that is armed for earlier than needed is left alone. When it fires, its owner steps the machine and sets the
alarm to the deadline that follows. An event loop that counts whole milliseconds, as uvloop does from the beginning of a turn, may
fire up to one early, and wake a process at rest twice for each deadline: what is further off is waited for a little longer.

Limits: it belongs to one event loop and one owner, who cancels it when it closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fs3.base.units import MILLISECOND, NEVER, SECOND

__all__ = ["NEVER", "Alarm"]

_LOOP_TICK_NS = MILLISECOND
"""The coarsest an event loop counts."""
_FAR_NS = 20 * _LOOP_TICK_NS
"""A deadline that is further off than this is waited for one tick longer; those that a caller waits for are nearer."""


class Alarm:
    """Calls its owner back at the earliest time it was set to. Times are monotonic nanoseconds of the owner's clock."""

    __slots__ = ("_on_fire", "_timer", "due_ns")

    def __init__(self, on_fire: Callable[[], None]) -> None:
        """`on_fire` is called from the event loop; the alarm is off by then, and may be set again."""
        self._on_fire = on_fire
        self._timer: asyncio.TimerHandle | None = None
        self.due_ns = NEVER
        """When it fires; `NEVER` while it is off."""

    def set(self, due_ns: int | None, now: int) -> None:
        """Fire at `due_ns`, or earlier when it was set to earlier already; None asks for nothing."""
        if due_ns is not None and due_ns < self.due_ns:
            self._arm(due_ns, now)

    def reset(self, due_ns: int | None, now: int) -> None:
        """Fire at `due_ns` and not before, whatever it was set to; None turns it off."""
        self.cancel()
        if due_ns is not None and due_ns < NEVER:
            self._arm(due_ns, now)

    def cancel(self) -> None:
        """Turn it off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.due_ns = NEVER

    def _arm(self, due_ns: int, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.due_ns = due_ns
        wait_ns = max(0, due_ns - now)
        if wait_ns > _FAR_NS:
            wait_ns += _LOOP_TICK_NS
        self._timer = asyncio.get_running_loop().call_later(wait_ns / SECOND, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.due_ns = NEVER
        self._on_fire()

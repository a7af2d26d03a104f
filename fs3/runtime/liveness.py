"""Whether anything arrives at all from the peers that something is waited for.

Intuition: what counts is that nothing arrives, not that an answer is late. A peer that sends anything, to any caller of this
process, is busy; one that sends nothing is gone, or the way to it is.

Algorithm: while anything is waited for, one timer ticks. At each tick the activity of every subject, a number that rises whenever
something arrives, is compared with what it was at the tick before: it has risen, or the subject has been idle for one more tick.

Limits: time is counted in ticks of this process's own loop, so that a process that stood still itself does not blame its peers.
What is noticed is noticed up to one tick late. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from fs3.base.units import SECOND


class Watched(Protocol):
    """Something that is waited for. `LivenessMonitor` calls the methods and keeps the two numbers."""

    last_activity: int
    """Its activity at the last tick."""
    idle_ticks: int
    """Ticks in a row at which its activity had not risen."""

    @property
    def activity(self) -> int:
        """A number that rises whenever anything arrives from the peer."""
        ...

    def on_active(self) -> None:
        """Something has arrived since the last tick; `idle_ticks` is 0."""
        ...

    def on_idle(self) -> None:
        """Nothing has arrived for `idle_ticks` ticks."""
        ...


W = TypeVar("W", bound=Watched)


class LivenessMonitor(Generic[W]):
    """Watches subjects for as long as they are waited for. One timer for all of them, armed while there are any."""

    def __init__(self, tick_ns: int) -> None:
        self._tick_s = tick_ns / SECOND
        self._subjects: dict[W, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, subject: W) -> bool:
        return subject in self._subjects

    def begin(self, subject: W) -> None:
        """It is waited for from now on. Not for one that is being watched already."""
        subject.last_activity = subject.activity
        subject.idle_ticks = 0
        self._subjects[subject] = None
        if self._timer is None:
            self._arm()

    def end(self, subject: W) -> None:
        """It is not waited for any more; harmless when it was not."""
        self._subjects.pop(subject, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._subjects.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for subject in list(self._subjects):
            activity = subject.activity
            if activity != subject.last_activity:
                subject.last_activity = activity
                subject.idle_ticks = 0
                subject.on_active()
            else:
                subject.idle_ticks += 1
                subject.on_idle()
        if self._subjects and self._timer is None:
            self._arm()

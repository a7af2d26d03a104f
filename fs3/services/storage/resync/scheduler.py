"""Which resyncs of a node may go on now, and how fast: a few at a time, and gently while clients ask for something."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.core.craq.resync.steps import Pace, Progress, ResyncPhase
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.node_context import NodeContext

resync_rate_ns = 3 * SECOND
"""What the rate of a resync, as people see it, is measured over."""

resync_pace_ns = 100 * MILLISECOND
"""How often the pace of resyncs is set anew."""

resync_background_bytes_max = 4 * MIB
"""Bytes of fills under way at once while the node is asked for other things: one chunk of the usual size at a time, or some small
ones, which share the successor's barrier. Then the source rests."""

resync_background_fills_max = 16
"""Fills under way at once while the node is asked for other things."""

resync_targets_max = 4
"""Targets of one process that bring their successors up to date at the same time; the others wait their turn."""

PAUSED = Pace(0, 0)
"""Nothing is asked and nothing is sent."""


class ScheduledResync(Protocol):
    """One resync, as the scheduler sees it."""

    @property
    def phase(self) -> ResyncPhase:
        """What it is at."""
        ...

    @property
    def progress(self) -> Progress:
        """How far it is."""
        ...

    def set_pace(self, pace: Pace, *, background: bool = False) -> None:
        """How much it may do from now on. `background`: after some fills and each answer it rests three times as long as that
        took, so that the clients have the machine most of the time, however fast the machine is."""
        ...


class ResyncScheduler:
    """Sets the pace of the resyncs of one node, in the order they began. One timer, only while there is a resync."""

    def __init__(self, context: NodeContext, foreground: ForegroundLoad) -> None:
        self._context = context
        self._foreground = foreground
        self._sources: dict[ScheduledResync, deque[tuple[int, int]]] = {}
        """Those with a successor to bring up to date, oldest first, with (when, bytes moved so far) of the last moments."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_rescheduling = False

    def add(self, source: ScheduledResync) -> None:
        """The successor of this source syncs."""
        self._sources.setdefault(source, deque())
        self.reschedule()

    def remove(self, source: ScheduledResync) -> None:
        """It does not any more."""
        if self._sources.pop(source, None) is not None:
            self.reschedule()

    def measure_rate(self, source: ScheduledResync) -> int:
        """Bytes per second of the last moments."""
        samples = self._sources.get(source)
        if not samples or samples[-1][0] <= samples[0][0]:
            return 0
        return (samples[-1][1] - samples[0][1]) * SECOND // (samples[-1][0] - samples[0][0])

    def reschedule(self) -> None:
        """Set the pace of each."""
        if self._is_rescheduling:
            return  # a source that was told its pace has gone on to its next phase
        self._is_rescheduling = True
        try:
            self._set_paces()
        finally:
            self._is_rescheduling = False
        if self._sources and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(resync_pace_ns / SECOND, self._on_timer)

    def close(self) -> None:
        """The node stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sources.clear()

    def _on_timer(self) -> None:
        self._timer = None
        now = self._context.clock.now()
        for source, samples in list(self._sources.items()):
            if source.phase is ResyncPhase.IDLE:
                del self._sources[source]
                continue
            progress = source.progress
            if samples and progress.bytes_moved < samples[-1][1]:
                samples.clear()  # it has begun anew
            samples.append((now, progress.bytes_moved))
            while samples[0][0] < now - resync_rate_ns:
                samples.popleft()
        self.reschedule()

    def _set_paces(self) -> None:
        config = self._context.config
        background = self._foreground.is_busy
        rate = config.resync_bytes_per_second
        full = Pace(config.resync_fills_max, rate)
        if background:
            full = Pace(min(config.resync_fills_max, resync_background_fills_max), rate, resync_background_bytes_max)
        places = 1 if background else resync_targets_max
        for source in list(self._sources):
            if source.phase is ResyncPhase.FINISHING:
                source.set_pace(Pace(1, rate))
                continue
            if places > 0:
                source.set_pace(full, background=background)
            else:
                source.set_pace(PAUSED)
            places -= 1

"""Ticks, activity, and what a monitor tells its subjects."""

from __future__ import annotations

import asyncio

from fs3.base.units import MILLISECOND
from fs3.runtime.liveness import LivenessMonitor


class Subject:
    def __init__(self) -> None:
        self.activity = 7
        self.last_activity = 0
        self.idle_ticks = 99
        self.told: list[str] = []
        self.ended_by: LivenessMonitor[Subject] | None = None

    def on_active(self) -> None:
        self.told.append("active")
        if self.ended_by is not None:
            self.ended_by.end(self)

    def on_idle(self) -> None:
        self.told.append(f"idle {self.idle_ticks}")


async def ticks(monitor: LivenessMonitor[Subject], count: int) -> None:
    """Let it tick so often."""
    for _ in range(count):
        timer = monitor._timer
        assert timer is not None
        while monitor._timer is timer:  # noqa: ASYNC110 - a timer has no event
            await asyncio.sleep(0)


async def test_idle_ticks_are_counted_until_something_arrives() -> None:
    monitor = LivenessMonitor[Subject](MILLISECOND)
    subject, other = Subject(), Subject()
    monitor.begin(subject)
    monitor.begin(other)
    assert len(monitor) == 2
    assert (subject.last_activity, subject.idle_ticks) == (7, 0)
    await ticks(monitor, 2)
    subject.activity += 1
    await ticks(monitor, 2)
    assert subject.told == ["idle 1", "idle 2", "active", "idle 1"]
    assert other.told == ["idle 1", "idle 2", "idle 3", "idle 4"]
    monitor.close()
    assert not monitor


async def test_the_timer_ends_with_the_last_subject() -> None:
    monitor = LivenessMonitor[Subject](MILLISECOND)
    subject = Subject()
    subject.ended_by = monitor
    monitor.begin(subject)
    subject.activity += 1
    await ticks(monitor, 1)
    assert subject.told == ["active"]
    assert subject not in monitor
    assert monitor._timer is None
    monitor.end(subject)
    monitor.begin(subject)
    assert subject.idle_ticks == 0
    await ticks(monitor, 1)
    assert subject.told == ["active", "idle 1"]
    monitor.close()
    assert monitor._timer is None

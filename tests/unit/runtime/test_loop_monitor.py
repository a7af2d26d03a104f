"""A loop that stands still is seen, with what held it."""

from __future__ import annotations

import asyncio
import threading
import time

from fs3.model.metrics import catalogue
from fs3.runtime import loop_monitor
from fs3.runtime.loop_monitor import LoopMonitor


def hold_the_loop(monitor: LoopMonitor, seconds: float) -> None:
    """Until the monitor has looked, which it does while this runs."""
    looked = threading.Event()
    read = monitor._read_stack

    def read_and_tell() -> tuple[str, ...]:
        try:
            return read()
        finally:
            looked.set()

    monitor._read_stack = read_and_tell  # type: ignore[method-assign]
    assert looked.wait(60)
    time.sleep(seconds)


def wait_until(condition) -> None:
    while not condition():
        time.sleep(0.001)


async def test_a_stall_is_noted_with_the_stack_that_held_the_loop(monkeypatch) -> None:
    monkeypatch.setattr(loop_monitor, "loop_idle_interval_ns", loop_monitor.loop_stall_ns)
    monitor = LoopMonitor()
    monitor.start()
    try:
        hold_the_loop(monitor, 0.01)
        await asyncio.to_thread(wait_until, lambda: monitor.stall_count)
    finally:
        await monitor.stop()
    (stall, *_) = monitor.stalls
    assert stall.elapsed_ns >= loop_monitor.loop_stall_ns
    assert any(call.endswith(" hold_the_loop") for call in stall.stack), stall.stack
    readings = {sample.metric: sample.value for sample in monitor.samples()}
    assert readings[catalogue.LOOP_STALLS] >= 1
    assert sum(readings[catalogue.LOOP_LAG].counts) >= 1


async def test_a_loop_that_turns_is_only_measured(monkeypatch) -> None:
    monkeypatch.setattr(loop_monitor, "loop_idle_interval_ns", loop_monitor.loop_stall_ns)
    monkeypatch.setattr(loop_monitor, "loop_stall_ns", 10**7)
    monitor = LoopMonitor()
    monitor.start()
    await asyncio.to_thread(wait_until, lambda: monitor.lag.count)
    await monitor.stop()
    count = monitor.lag.count
    await asyncio.sleep(0)
    assert monitor.lag.count == count

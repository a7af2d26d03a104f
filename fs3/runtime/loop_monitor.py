"""Does the event loop turn? A thread asks it to answer, and takes down the stack of what keeps it from doing so.

To ask costs a wake-up of the thread and one of the loop. So a loop that has little to do is asked once a second, and one that is
busy, by the processor time of its thread, twenty times a second: then no stall of 100 ms is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator

from fs3.base.counting import Histogram
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Sample
from fs3.model.slow import LoopStall

loop_stall_ns = 50 * MILLISECOND
"""A loop that stands still for so long is worth a note."""
loop_idle_interval_ns = 1 * SECOND
"""From one question to the next while the loop has little to do."""
loop_busy_percent = 25
"""So much of a processor its thread uses when it is busy."""
loop_stalls_max = 64
"""Notes that are kept; then the oldest goes."""
loop_stall_frames_max = 24
"""Calls of the stack in a note, the innermost ones."""


class LoopMonitor:
    """Watches one event loop from beside it."""

    def __init__(self) -> None:
        self.lag = Histogram()
        self.stalls: deque[LoopStall] = deque(maxlen=loop_stalls_max)
        self.stall_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._cpu_clock = 0
        self._answered_at = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop, whose thread this is."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._cpu_clock = time.pthread_getcpuclockid(self._thread_id)
        self._thread = threading.Thread(target=self._watch, name="fs3-loop-monitor", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def samples(self) -> Iterator[Sample]:
        """See `MetricSource`."""
        yield Sample(catalogue.LOOP_LAG, (), HistogramReading.of(self.lag))
        yield Sample(catalogue.LOOP_STALLS, (), self.stall_count)

    def _answer(self) -> None:
        self._answered_at = time.monotonic_ns()

    def _watch(self) -> None:
        """On the thread: ask, wait, look."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed
            while True:
                asked_at, used_before = time.monotonic_ns(), time.clock_gettime_ns(self._cpu_clock)
                self._answered_at = 0
                self._loop.call_soon_threadsafe(self._answer)
                if self._stopping.wait(loop_stall_ns / SECOND):
                    return
                if not self._answered_at and not self._follow_stall(asked_at):
                    return
                self.lag.add(max(0, self._answered_at - asked_at))
                elapsed_ns = time.monotonic_ns() - asked_at
                used_ns = time.clock_gettime_ns(self._cpu_clock) - used_before
                if used_ns * 100 < elapsed_ns * loop_busy_percent and self._stopping.wait(
                    (loop_idle_interval_ns - loop_stall_ns) / SECOND
                ):
                    return

    def _follow_stall(self, asked_at: int) -> bool:
        """The loop has not answered: its stack now, and how long it takes. False: there is nothing to watch any more."""
        wall_ns, stack = time.time_ns(), self._read_stack()
        while not self._answered_at:
            if self._stopping.wait(loop_stall_ns / SECOND / 5):
                return False
        self.stall_count += 1
        self.stalls.append(LoopStall(wall_ns, self._answered_at - asked_at, stack))
        return True

    def _read_stack(self) -> tuple[str, ...]:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None:
            return ()
        calls = traceback.extract_stack(frame)[-loop_stall_frames_max:]
        return tuple(f"{call.filename}:{call.lineno} {call.name}" for call in calls)

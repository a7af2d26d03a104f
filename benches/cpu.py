"""What processes have run, by the scheduler's own account: finer than clock ticks, and steadier than elapsed time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def cpu_ns(processes: Iterable[int]) -> int:
    """Nanoseconds that these processes have run, all threads there are now."""
    total = 0
    for process in processes:
        for schedstat in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(schedstat.read_text().split()[0])
            except OSError:  # the thread has ended
                continue
    return total

"""The slowest operations of the last hour in one process, so many and no more."""

from __future__ import annotations

import heapq
from collections import deque

from fs3.base.units import MILLISECOND, MINUTE
from fs3.model.slow import SlowOperation
from fs3.ports.clock import Clock

slow_operation_ns_min = 10 * MILLISECOND
"""What takes less is not slow, whatever the others take."""
slow_window_ns = 5 * MINUTE
slow_windows_max = 12
"""An hour."""
slow_operations_per_window_max = 16
"""The slowest ones of each window are kept, so that a bad minute does not hide what happens later."""

Window = list[tuple[int, int, SlowOperation]]
"""A heap: (elapsed time, number, operation)."""


class SlowOperations:
    """Of one process. Belongs to its loop; `read` may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self.threshold_ns = slow_operation_ns_min
        """What took less is not to be added. The one comparison that every operation costs."""
        self._clock = clock
        self._window: Window = []
        self._windows: deque[Window] = deque([self._window], maxlen=slow_windows_max)
        self._number = 0

    def add(self, operation: SlowOperation) -> None:
        """An operation that took `threshold_ns` or longer."""
        self._number += 1
        entry = (operation.elapsed_ns, self._number, operation)
        if len(self._window) < slow_operations_per_window_max:
            heapq.heappush(self._window, entry)
        else:
            heapq.heappushpop(self._window, entry)
        if len(self._window) == slow_operations_per_window_max:
            self.threshold_ns = max(slow_operation_ns_min, self._window[0][0])

    def begin_window(self) -> None:
        """The next `slow_window_ns` begin."""
        self._window = []
        self._windows.append(self._window)
        self.threshold_ns = slow_operation_ns_min

    def wall(self) -> int:
        """Time of day, for what is added."""
        return self._clock.wall()

    def read(self) -> tuple[SlowOperation, ...]:
        """Those that are kept, the slowest first."""
        entries = [entry for window in list(self._windows) for entry in list(window)]
        return tuple(operation for _, _, operation in sorted(entries, reverse=True))

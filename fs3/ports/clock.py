"""Time, as an argument."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Monotonic nanoseconds; decides everything."""
        ...

    def wall(self) -> int:
        """Nanoseconds since the epoch; written into inodes, decides nothing."""
        ...

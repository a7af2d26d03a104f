"""The time of the cluster: milliseconds since it was made, counted by the primary manager (`TimeKeeper`), estimated by all others
(`ClusterTime`). What is signed expires by it; no wall clock decides anything.

The manager counts by its monotonic clock and stores a bound ahead of what it has said, which is where the next primary goes on.
So the time never goes back, and jumps ahead by `cluster_time_ahead_ms` at most when the primary changes. It does not count while
no manager runs.

Others are told with answers of the manager and go on counting by their own monotonic clocks. What was told is true when it is
sent; between asking and hearing it the true time has moved on, by as much as that took at most. So an estimate is late by no more
than the question and its answer took, `cluster_time_late_ms` at most, and never ahead but for the drift of a clock since then.
"""

from __future__ import annotations

from fs3.base.limits import cluster_time_ahead_ms, cluster_time_late_ms, security_silence_ns
from fs3.base.units import MILLISECOND


class ClusterTime:
    """The time as one process estimates it. `monotonic_ns` is always its own clock's."""

    def __init__(self, silence_ns: int = security_silence_ns) -> None:
        """`silence_ns`: without hearing anything for so long, the process does not know the time."""
        self._silence_ns = silence_ns
        self._told_ms: int | None = None
        self._told_at = 0

    def now_ms(self, monotonic_ns: int) -> int:
        """The time; 0 when none was ever told. Ask `is_known` first where something is decided by it."""
        if self._told_ms is None:
            return 0
        return self._told_ms + (monotonic_ns - self._told_at) // MILLISECOND

    def is_known(self, monotonic_ns: int) -> bool:
        """It was told not long ago. What cannot be checked against the time is refused."""
        return self._told_ms is not None and monotonic_ns - self._told_at < self._silence_ns

    def learn(self, told_ms: int, monotonic_ns: int, asked_ns: int | None = None) -> None:
        """The manager has said `told_ms`, heard now; it was asked at `asked_ns`, None: not longer ago than
        `cluster_time_late_ms`."""
        taken = (monotonic_ns - asked_ns) // MILLISECOND if asked_ns is not None else cluster_time_late_ms
        if self._told_ms is not None:
            # What was known before still holds where both can be true, so that a slow answer does not set the clock back.
            told_ms = max(told_ms, min(self.now_ms(monotonic_ns), told_ms + taken))
        self._told_ms = told_ms
        self._told_at = monotonic_ns


class TimeKeeper:
    """The primary's own count. Never says more than is stored, so that no later primary says less."""

    def __init__(self, stored_ms: int, monotonic_ns: int) -> None:
        """`stored_ms`: the bound that the former primary has left."""
        self._began_ms = stored_ms
        self._began_at = monotonic_ns
        self._bound_ms = stored_ms
        """Durable."""

    def now_ms(self, monotonic_ns: int) -> int:
        """The time. It stands still at the bound while the store cannot be written."""
        return min(self._bound_ms, self._began_ms + (monotonic_ns - self._began_at) // MILLISECOND)

    def next_bound(self, monotonic_ns: int) -> int | None:
        """What to store before the time reaches the stored bound; None: not yet."""
        now_ms = self.now_ms(monotonic_ns)
        if self._bound_ms - now_ms > cluster_time_ahead_ms // 2:
            return None
        return now_ms + cluster_time_ahead_ms

    def on_stored(self, bound_ms: int, monotonic_ns: int) -> None:
        """A bound is durable. Time that stood still goes on from where it stood."""
        stood_ms = self.now_ms(monotonic_ns)
        if stood_ms == self._bound_ms:
            self._began_ms, self._began_at = stood_ms, monotonic_ns
        self._bound_ms = max(self._bound_ms, bound_ms)

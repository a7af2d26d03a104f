"""Numbers that a process counts while it works: plain integers that its loop adds to, and that any thread may read.

Nothing is locked and no object is made per operation. What is read while it is added to may be one operation behind in one
number and not yet in another, which makes no difference to rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["CALL_CODES_MAX", "OTHER_CODE", "SHIFT", "CallCounts", "Histogram", "bucket_bounds_ns"]

SHIFT = 14
"""Times are counted by how many bits they have without the lowest ones, of this number."""
BUCKETS = 21
"""The first holds what took less than 2^14 ns (16 µs), each other one twice as much as the one before; the last is open."""
CALL_CODES_MAX = 16
"""Codes other than OK that one method is counted by; further ones are counted together, under `OTHER_CODE`."""
OTHER_CODE = -1

PLACES = 64 - SHIFT + 1
"""One for each number of bits that a time can have: adding needs no comparison."""

Now = Callable[[], int]
"""The time in nanoseconds."""


class SlowThreshold(Protocol):
    """Knows which operations are slow."""

    threshold_ns: int
    """Those that take so long or longer."""


def bucket_bounds_ns() -> list[int]:
    """The upper bounds of all buckets but the last, in nanoseconds."""
    return [1 << (SHIFT + index) for index in range(BUCKETS - 1)]


class Histogram:
    """How long something took, as often as it was done."""

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * PLACES
        self.total_ns = 0

    def add(self, elapsed_ns: int) -> None:
        """It took so long, which is not negative."""
        self.counts[(elapsed_ns >> SHIFT).bit_length()] += 1
        self.total_ns += elapsed_ns

    def read(self) -> list[int]:
        """How often by bucket."""
        counts = self.counts
        return [*counts[: BUCKETS - 1], sum(counts[BUCKETS - 1 :])]

    @property
    def count(self) -> int:
        """How often."""
        return sum(self.counts)


class CallCounts:
    """The calls of one method, as the side that answers counts them, or the side that asks."""

    __slots__ = ("begun", "failed", "forwarded", "now", "places", "received_bytes", "sent_bytes", "total_ns", "waited")

    def __init__(self, now: Now) -> None:
        self.now = now
        self.begun = 0
        self.places = [0] * PLACES
        """Of those that ended with OK, as in a histogram. The wires add to it and to `total_ns` themselves: nearly every call
        comes to that, and a method for it would cost as much again."""
        self.total_ns = 0
        self.failed: dict[int, Histogram] = {}
        """Of the others, by code."""
        self.waited = Histogram()
        """Served: how long a call waited for its payload and for memory before its handler began, where it had to."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self.forwarded: CallCounts | None = None
        """Served, of a method that services pass on among themselves: those calls, which are not counted here then."""

    @property
    def answered(self) -> Histogram:
        """Of those that ended with OK, until now."""
        found = Histogram()
        found.counts, found.total_ns = self.places.copy(), self.total_ns
        return found

    @property
    def ended(self) -> int:
        """As often as a call has."""
        return sum(self.places) + sum(histogram.count for histogram in list(self.failed.values()))

    @property
    def in_flight(self) -> int:
        """Begun and not ended."""
        return max(0, self.begun - self.ended)

    def end(self, code: int, begun_at: int) -> int:
        """A call has ended, that began at `begun_at` on the clock of `now`. How long it took."""
        elapsed_ns = self.now() - begun_at
        if code:
            self.end_failed(code, elapsed_ns)
        else:
            self.places[(elapsed_ns >> SHIFT).bit_length()] += 1
            self.total_ns += elapsed_ns
        return elapsed_ns

    def end_failed(self, code: int, elapsed_ns: int) -> None:
        """A call has ended with another code than OK."""
        failed = self.failed
        histogram = failed.get(code)
        if histogram is None:
            if len(failed) >= CALL_CODES_MAX:
                code = OTHER_CODE
                histogram = failed.get(code)
            if histogram is None:
                histogram = failed[code] = Histogram()
        histogram.add(elapsed_ns)

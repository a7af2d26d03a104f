"""When a file is being read from front to back, what to fetch before it is asked for."""

from __future__ import annotations

from fs3.base.units import MIB

WINDOW_BYTES_MIN = 1 * MIB
WINDOW_BYTES_MAX = 32 * MIB
SEQUENTIAL_READS_MIN = 2
"""Reads that must follow each other before anything is fetched ahead: a header read costs nothing extra."""


class Readahead:
    """Sequential detection for one open file. The window doubles while reads stay sequential and closes when one jumps."""

    def __init__(self, window_bytes_min: int = WINDOW_BYTES_MIN, window_bytes_max: int = WINDOW_BYTES_MAX) -> None:
        assert 0 < window_bytes_min <= window_bytes_max
        self._min = window_bytes_min
        self._max = window_bytes_max
        self._expected = 0
        """Where the next read begins when the file is read in order."""
        self._run = 0
        self._window = 0
        self._fetched = 0
        """End of what was asked to be fetched."""

    @property
    def window(self) -> int:
        """Bytes kept ahead of the reader; 0 while it does not read in order."""
        return self._window

    def on_read(self, offset: int, length: int, file_length: int) -> tuple[int, int] | None:
        """Called for each read of [offset, offset + length): the range (offset, length) to fetch now, or None.

        A new range starts where the last one ended and is asked for when less than half of the window is left, so that requests
        are few and large.
        """
        end = min(offset + length, file_length)
        # A reader that skips a little (alignment, a small header) still counts as sequential.
        if self._expected <= offset <= self._expected + self._min // 4:
            self._run += 1
        else:
            self._run = 1 if offset == 0 else 0
            self._window = 0
            self._fetched = 0
        self._expected = end
        if self._run < SEQUENTIAL_READS_MIN:
            return None
        self._fetched = max(self._fetched, end)
        ahead = self._fetched - end
        if self._window and 2 * ahead > self._window:
            return None
        self._window = min(self._max, max(self._min, 2 * self._window))
        start = self._fetched
        stop = min(file_length, end + self._window)
        if stop <= start:
            return None
        self._fetched = stop
        return start, stop - start

    def on_refused(self, fetched: int) -> None:
        """There was no memory for all of the range: it was fetched up to here. The window shrinks, and grows again from there."""
        self._fetched = fetched
        self._window = max(self._min, self._window // 2)

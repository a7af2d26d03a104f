"""Reading a file from a thread that is not the event loop's: what will be needed next is fetched while the caller works."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections import deque
from typing import Protocol

from fs3.api.io.blocking import run_on, start_on
from fs3.api.io.buffer_budget import BufferBudget, buffer_budget
from fs3.api.io.buffers import ReadBuffer, buffer_pool
from fs3.base.units import KIB, MIB
from fs3.core.files.readahead import WINDOW_BYTES_MIN, Readahead

file_ahead_bytes_max = 32 * MIB
"""Fetched ahead of a sequential reader, per open file."""

READ_AROUND_BYTES = 128 * KIB
"""A small read that continues the one before, or begins the file, brings so much along: headers are read in small steps."""
SEGMENT_BYTES = 4 * MIB
"""A range fetched ahead is cut into parts of this size, so that its beginning can be used while the rest arrives."""
SEGMENT_BYTES_MIN = 256 * KIB
"""When the budget is nearly spent, parts are smaller; below this, nothing is fetched ahead."""


class RangeSource(Protocol):
    """The bytes of one open file, fetched on an event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where `fetch` runs. Asked anew each time, since a forked process has another."""
        ...

    async def fetch(self, offset: int, view: memoryview) -> int:
        """Fill a buffer from `offset`; how many bytes there were. Raises OSError."""
        ...

    def fetch_directly(self, offset: int, view: memoryview) -> bool:
        """Fill all of a buffer on the thread that calls, without the loop. False: not done; `fetch` will."""
        return False


class _Segment:
    """Bytes [start, end) that have been fetched ahead, or are on their way."""

    __slots__ = ("buffer", "end", "fetching", "start")

    def __init__(self, start: int, end: int, buffer: bytearray, arriving: concurrent.futures.Future[int] | None) -> None:
        self.start = start
        self.end = end
        self.buffer = buffer
        self.fetching = arriving


class ReadAheadReader:
    """Reads of one open file of a known length. For one thread at a time, as any file object.

    What it fetches ahead comes out of a budget that all files of the process share; when that is spent, it reads in place.
    """

    def __init__(self, source: RangeSource, length: int, ahead: bool = True, *, budget: BufferBudget = buffer_budget) -> None:
        """`length`: of the file, in bytes. `ahead`: fetch ahead at all."""
        self._share = budget.open_share()
        self._source = source
        self._length = length
        self._ahead = Readahead(WINDOW_BYTES_MIN, file_ahead_bytes_max) if ahead else None
        self._segments: deque[_Segment] = deque()
        self._next = 0
        """Where a read in order would begin."""
        self._pid = os.getpid()

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer at the end of the file."""
        count = min(length, self._length - offset)
        if count <= 0:
            self.close()  # at its end, whether or not it is closed soon
            return b""
        if not self._advance(offset, count):
            buffer = ReadBuffer(count)
            return buffer.take(self._fetch(offset, buffer.view))
        segment = self._segment_at(offset)
        if segment is not None and offset + count <= segment.end and self._wait_segment(segment):
            at = offset - segment.start
            return bytes(memoryview(segment.buffer)[at : at + count])
        buffer = ReadBuffer(count)
        return buffer.take(self._collect(offset, buffer.view))

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill a buffer, in place where nothing was fetched ahead; how many bytes, fewer at the end of the file."""
        count = min(len(view), self._length - offset)
        if count <= 0:
            self.close()
            return 0
        if not self._advance(offset, count):
            return self._fetch(offset, view[:count])
        return self._collect(offset, view[:count])

    def close(self) -> None:
        """Forget what was fetched."""
        self._drop_before(self._length)

    # --- deciding what to fetch --------------------------------------------------------------------------------------

    def _advance(self, offset: int, count: int) -> bool:
        """A read is about to happen: begin to fetch what follows it. False when the caller should just read it in place."""
        if self._ahead is None:
            return False
        if self._pid != os.getpid():
            self._segments.clear()  # the parent's loop would have filled them
            self._pid = os.getpid()
        in_order = offset == self._next
        self._next = offset + count
        if not in_order and self._segment_at(offset) is None:
            self._drop_before(self._length)
        else:
            self._drop_before(offset)
        wanted = self._ahead.on_read(offset, count, self._length)
        if wanted is not None:
            start = max(wanted[0], self._segments[-1].end if self._segments else 0)
            end = wanted[0] + wanted[1]
            fetched = self._prefetch(start, end)
            if fetched < end:
                self._ahead.on_refused(fetched)
        elif in_order and count < READ_AROUND_BYTES and not self._segments:
            self._prefetch(offset, min(self._length, offset + READ_AROUND_BYTES))
        return bool(self._segments)

    def _prefetch(self, start: int, end: int) -> int:
        """Begin to fetch a range; where that ended, because it is all or the budget is spent."""
        loop = self._source.loop
        while start < end:
            stop = min(start + SEGMENT_BYTES, end)
            size = SEGMENT_BYTES if stop - start > READ_AROUND_BYTES else stop - start
            while size // 2 >= max(stop - start, SEGMENT_BYTES_MIN):
                size //= 2
            while not self._share.try_take(size):
                size //= 2
                if size < SEGMENT_BYTES_MIN:
                    return start
            stop = min(stop, start + size)
            buffer = buffer_pool.take(size)
            arriving = start_on(loop, self._source.fetch(start, memoryview(buffer)[: stop - start]))
            self._segments.append(_Segment(start, stop, buffer, arriving))
            start = stop
        return start

    def _drop_before(self, before: int) -> None:
        """Forget what lies before a position. What is still on its way arrives in a buffer that is not looked at."""
        segments = self._segments
        while segments and segments[0].end <= before:
            gone = segments.popleft()
            self._share.give(len(gone.buffer))
            if gone.fetching is not None:
                gone.fetching.cancel()
            else:
                buffer_pool.give(gone.buffer)

    # --- taking what there is ----------------------------------------------------------------------------------------

    def _fetch(self, offset: int, view: memoryview) -> int:
        """In place: waits for it."""
        if self._source.fetch_directly(offset, view):
            return len(view)
        return run_on(self._source.loop, self._source.fetch(offset, view))

    def _segment_at(self, offset: int) -> _Segment | None:
        return next((segment for segment in self._segments if segment.start <= offset < segment.end), None)

    def _wait_segment(self, segment: _Segment) -> bool:
        """Waits for a segment. False when it could not be fetched; then nothing fetched ahead is trusted."""
        if segment.fetching is None:
            return True
        try:
            got = segment.fetching.result()
        except (OSError, concurrent.futures.CancelledError):
            got = -1  # reading the range itself tells whether, and why, it fails
        if got != segment.end - segment.start:
            self._drop_before(self._length)
            return False
        segment.fetching = None
        return True

    def _collect(self, offset: int, view: memoryview) -> int:
        """From segments where there are any, directly for the rest."""
        at = 0
        while at < len(view):
            here = offset + at
            segment = self._segment_at(here)
            if segment is not None:
                if self._wait_segment(segment):
                    start = here - segment.start
                    count = min(len(view) - at, segment.end - here)
                    view[at : at + count] = memoryview(segment.buffer)[start : start + count]
                    at += count
                continue
            stop = min((one.start for one in self._segments if one.start > here), default=offset + len(view))
            wanted = min(len(view) - at, stop - here)
            got = self._fetch(here, view[at : at + wanted])
            at += got
            if got < wanted:
                break
        return at

"""Keys of pages for listeners, read from what stands in front of the pages: no get, put or removal waits for it.

A page that is removed is pinned before the removal is committed, so its block is not free before its key was read. What that
costs is bounded: `page_keys_waiting_max` pages of `page_key_bytes_held_max` together wait, one thread of the store reads a few of
them at a time, and an event waits for its key no longer than `page_key_patience_ns`. Beyond that it is told without its key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.limits import page_header_bytes, page_key_bytes_max, small_read_bytes
from fs3.base.units import GIB, SECOND
from fs3.core.kvcache.events import EventLogs, UnreadEvent
from fs3.core.kvcache.pages import parse_header
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.storage")

page_keys_waiting_max = 4096
"""Pages of one target whose keys are to be read; of further ones they are not told."""
page_key_bytes_held_max = 4 * GIB
"""Bytes of these pages, in blocks that are not free meanwhile; one page may pass it."""
page_keys_per_read = 32
"""Of them, how many are read in one go of one thread."""
page_key_patience_ns = 2 * SECOND
"""How long an event waits for its key at most, when the disk is slow."""

assert page_header_bytes + page_key_bytes_max < small_read_bytes

ReportRead: TypeAlias = "Callable[[], None]"
"""Called when there is more to tell to listeners."""


class _Wanted(NamedTuple):
    """A page whose key is to be read."""

    event: UnreadEvent
    pin: int
    length: int
    """Bytes of the page's chunk, which are not free meanwhile."""
    since: int


def key_of(front: bytes) -> bytes:
    """The key in what stands in front of a page; b"" when that is none of a page."""
    header = parse_header(front)
    if header is None:
        return b""
    key = front[page_header_bytes : page_header_bytes + header.key_bytes]
    return key if len(key) == header.key_bytes else b""


class PageKeyReader:
    """Reads the keys of one target's pages. Belongs to one event loop."""

    def __init__(self, store: ChunkStore, events: EventLogs, clock: Clock, report: ReportRead) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._report = report
        self._waiting: deque[_Wanted] = deque()
        self._reading: list[_Wanted] = []
        self._held_bytes = 0
        """Of all these pages."""
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pages whose keys are wanted."""
        return len(self._waiting) + len(self._reading)

    def pin(self, chunk: ChunkId) -> int:
        """Keep the page as it is now, for `read` or `unpin`. 0: it is not here, or too much waits. Raises StoreDamaged."""
        if self.waiting >= page_keys_waiting_max or self._held_bytes >= page_key_bytes_held_max:
            return 0
        return self._store.pin_version(chunk)

    def unpin(self, pin: int) -> None:
        """Its key is not wanted after all."""
        self._store.unpin((pin,))

    def read(self, event: UnreadEvent, pin: int, length: int) -> None:
        """Read the key of a page that was pinned, and complete its event. `length`: bytes of the page's chunk."""
        self._waiting.append(_Wanted(event, pin, length, self._clock.now()))
        self._held_bytes += length
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read_all())

    def give_up_old(self, now: int) -> None:
        """Every now and then: events that have waited too long are told as they are."""
        late = now - page_key_patience_ns
        given_up = [wanted for wanted in self._reading if wanted.since <= late]
        while self._waiting and self._waiting[0].since <= late:
            given_up.append(self._waiting.popleft())
            self._drop(given_up[-1])
        self._complete(given_up, [None] * len(given_up))

    def clear(self) -> None:
        """The target is not the head any more: there are no listeners."""
        while self._waiting:
            self._drop(self._waiting.popleft())

    async def stop(self) -> None:
        """Before the store is closed."""
        self.clear()
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), page_keys_per_read)
                reading = self._reading = [self._waiting.popleft() for _ in range(count)]
                length = page_header_bytes + page_key_bytes_max
                fronts: list[bytes | None] = [None] * count
                try:
                    fronts = list(await self._store.read_pinned([wanted.pin for wanted in reading], length))
                except FS3Error as failure:
                    log.warning("the keys of %d pages cannot be read: %s", count, failure)
                except Exception:  # whatever it is, the events are told
                    log.exception("the keys of %d pages cannot be read", count)
                self._end_reading()
                self._complete(reading, fronts)
        finally:
            self._end_reading()
            self._task = None

    def _end_reading(self) -> None:
        """The store has unpinned them."""
        self._held_bytes -= sum(wanted.length for wanted in self._reading)
        self._reading = []

    def _drop(self, wanted: _Wanted) -> None:
        self.unpin(wanted.pin)
        self._held_bytes -= wanted.length

    def _complete(self, wanted: list[_Wanted], fronts: list[bytes | None]) -> None:
        more = False
        for each, front in zip(wanted, fronts, strict=True):
            more |= self._events.complete(each.event, key_of(front) if front is not None else b"")
        if more:
            self._report()

"""What a target remembers of its pages while it is the head of its chain: pins, and what happened, for those who listen."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

from fs3.base.ids import ChunkId, page_namespace
from fs3.core.kvcache.budget.seams import EvictionCause
from fs3.core.kvcache.events import Cursor, EventBatch, EventLogs, PageChange
from fs3.core.kvcache.pages import parse_header
from fs3.core.kvcache.pins import Pins
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.model.chunk import Update, UpdateKind
from fs3.ports.clock import Clock

put_keys_max = 4096
"""Keys of puts under way that one target remembers for its listeners."""
_EPOCH = struct.Struct(">IQQQ")
_CHANGES = {
    None: PageChange.REMOVED,
    EvictionCause.BUDGET: PageChange.EVICTED,
    EvictionCause.ROOM: PageChange.EVICTED,
    EvictionCause.EXPIRED: PageChange.EXPIRED,
    EvictionCause.DELETED: PageChange.REMOVED,
    EvictionCause.LOST: PageChange.LOST,
}

WakeListener: TypeAlias = "Callable[[], None]"
"""Called when something has happened to a page."""


class HeadRecords:
    """Of one target, for as long as it is the head without a break; then all of it is forgotten. A `PageListener`."""

    def __init__(self, target: int, incarnation: int, clock: Clock, statistics: CacheStatistics) -> None:
        """`incarnation` rises with every start of the target. `statistics`: of the node."""
        self.pins = Pins()
        self.events = EventLogs()
        self._identity = target, incarnation
        self._clock = clock
        self._statistics = statistics
        self._is_head = False
        self._terms = 0
        """How often it has become the head."""
        self._put_keys: dict[ChunkId, bytes] = {}
        """Keys of puts under way that have listeners, oldest first; also of some that came to nothing."""
        self._waiters: dict[WakeListener, None] = {}

    def on_position_changed(self, *, is_head: bool) -> None:
        """The chain has changed."""
        if is_head == self._is_head:
            return
        self._is_head = is_head
        self._terms += is_head
        self.pins.clear()
        self.events.clear()
        self._put_keys.clear()
        self._wake()

    def on_put(self, update: Update) -> None:
        """A client's put arrives; its bytes are here now, and not when it is committed."""
        if self.events.is_idle or update.kind is not UpdateKind.PUT or not self.events.is_listened(page_namespace(update.chunk)):
            return
        data = update.data
        header = parse_header(data) if data is not None else None
        if data is None or header is None:
            return
        begin = header.chunk_bytes - header.page_bytes - header.key_bytes
        self._put_keys.pop(update.chunk, None)
        self._put_keys[update.chunk] = bytes(data[begin : begin + header.key_bytes])
        if len(self._put_keys) > put_keys_max:
            del self._put_keys[next(iter(self._put_keys))]

    def on_page_stored(self, chunk: ChunkId, length: int) -> None:
        """See `PageListener`."""
        if not self._is_head:
            return
        counters = self._statistics.of(page_namespace(chunk))
        counters.puts += 1
        counters.put_bytes += length
        if not self.events.is_idle and self.events.record(PageChange.STORED, chunk, length, self._put_keys.pop(chunk, b"")):
            self._wake()

    def on_page_removed(self, chunk: ChunkId, length: int, cause: EvictionCause | None) -> None:
        """See `PageListener`."""
        if not self._is_head:
            return
        change = _CHANGES[cause]
        counters = self._statistics.of(page_namespace(chunk))
        if change is PageChange.EVICTED:
            counters.evicted += 1
        elif change is PageChange.EXPIRED:
            counters.expired += 1
        elif change is PageChange.LOST:
            counters.lost += 1
        else:
            counters.removed += 1
        if self.pins.count:
            self.pins.unpin(chunk)
        if not self.events.is_idle and self.events.record(change, chunk, 0):
            self._wake()

    def forget_old(self, now: int) -> None:
        """Every now and then: drop pins that have ended, and record no more for listeners that have gone."""
        self.pins.expire(now)
        self.events.drop_idle(now)

    def read(self, namespace_id: int, cursor: Cursor, limit: int) -> EventBatch:
        """What a listener has not had yet; see `EventLogs.read`."""
        return self.events.read(namespace_id, cursor, limit, self._clock.now(), self._make_epoch)

    def add_waiter(self, waiter: WakeListener) -> None:
        """Have it called when something happens, until it is removed."""
        self._waiters[waiter] = None

    def remove_waiter(self, waiter: WakeListener) -> None:
        """Harmless when it is none."""
        self._waiters.pop(waiter, None)

    def _wake(self) -> None:
        for waiter in list(self._waiters):
            waiter()

    def _make_epoch(self) -> bytes:
        target, incarnation = self._identity
        return _EPOCH.pack(target, incarnation, self._terms, self._clock.now())

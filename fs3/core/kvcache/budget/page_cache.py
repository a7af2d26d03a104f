"""The KVCache pages of one target: what they take, by namespace, and what is under way to it.

Every replica keeps one, fed by the commits of its own store, so the next head of the chain knows what is there. It is exact, not
an estimate: a page counts from its commit until the commit of its removal, with the bytes of its whole chunk (page, key and
header). At opening the pages that are there are counted in steps (`count`), while commits go on; each page counts once however
the two meet, since a page is a row in a table and not an increment.

The head also counts what it has admitted and is not committed yet (`reserve`), by chunk: ranks that put the same page at once
take its room once. A reservation lasts as long as a client waits for the update or the update is under way (`settle`), whichever
is longer, so a client that was told DEADLINE leaves no gap through which its page could pass the budget.

A page that the head has begun to evict *is leaving*: it still takes its room, but it is not there for a client that asks for a
lease, and a put of its key needs room anew.

Times are the target's own monotonic clock. A restart does not count the time for which the node was away, and takes a page whose
age was not written down for one that was stored then: it may make a page stay longer, never shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from typing import NamedTuple

import msgspec

from fs3.base.ids import ChunkId, page_namespace
from fs3.core.kvcache.budget.seams import EvictionCause, Holds, Preference
from fs3.core.kvcache.recency.recency import Recency


class NamespaceUse(msgspec.Struct, frozen=True):
    """What the pages of one namespace take on one target, and what went since the process began."""

    namespace_id: int
    bytes: int = 0
    """Of committed pages."""
    pages: int = 0
    under_way_bytes: int = 0
    """Admitted by the head, and not committed yet."""
    evicted_pages: tuple[int, ...] = (0,) * len(EvictionCause)
    """By `EvictionCause`."""
    evicted_bytes: tuple[int, ...] = (0,) * len(EvictionCause)


class RemovedPage(NamedTuple):
    """A page that is there no more."""

    length: int
    """Bytes of its chunk."""
    cause: EvictionCause | None
    """Why it was evicted; None when a client removed it."""


class NamespacePages:
    """The pages of one namespace on one target. Only `PageCache` changes it."""

    __slots__ = (
        "evicted_bytes", "evicted_pages", "id", "last_used_ns", "leaving_bytes", "passed_over", "recency", "under_way_bytes",
    )  # fmt: skip

    def __init__(self, namespace_id: int, now: int) -> None:
        self.id = namespace_id
        self.recency = Recency(namespace_id, now)
        """The pages: how long each is, when it was stored, and which goes next."""
        self.under_way_bytes = 0
        self.leaving_bytes = 0
        """Of those in `bytes`, of pages whose eviction has begun."""
        self.last_used_ns = 0
        """When a page of it was stored or read last."""
        self.passed_over = 0
        """Pages that were looked at since one was found that may go; see `TargetRoom.is_searching`."""
        self.evicted_pages = [0] * len(EvictionCause)
        self.evicted_bytes = [0] * len(EvictionCause)

    @property
    def bytes(self) -> int:
        """Of committed pages."""
        return self.recency.bytes

    @property
    def claimed_bytes(self) -> int:
        """What counts against the budget."""
        return self.bytes + self.under_way_bytes

    @property
    def staying_bytes(self) -> int:
        """The same, once the evictions under way are done."""
        return self.bytes + self.under_way_bytes - self.leaving_bytes


class _Reservation:
    """Room that is promised to the put of one chunk."""

    __slots__ = ("is_stored", "length", "waiters")

    def __init__(self, length: int) -> None:
        self.length = length
        self.waiters = 0
        self.is_stored = False
        """The chunk is committed, and its bytes count as such: further puts of it will find it there."""


class PageCache:
    """See the module. One per target; not thread-safe."""

    def __init__(self) -> None:
        self.namespaces: dict[int, NamespacePages] = {}
        """Those that have pages here, or had some since the process began."""
        self.grown: set[int] = set()
        """Namespaces whose use has grown since this was emptied."""
        self.is_counted = False
        """Everything that was there at opening has been counted."""
        self.bytes = 0
        """Of committed pages, all namespaces; likewise the following."""
        self.under_way_bytes = 0
        self.leaving_bytes = 0
        self.pages = 0
        self.holds: list[Holds] = []
        """What protects pages from eviction and expiry: asked before either begins."""
        self.preferences: list[Preference] = []
        """What would rather have some pages stay than others."""
        self._reservations: dict[ChunkId, _Reservation] = {}
        self._leaving: dict[ChunkId, EvictionCause] = {}
        self._lingering: set[ChunkId] = set()
        """Reservations that no client waits for any more."""

    # --- questions ---------------------------------------------------------------------------------------------------

    @property
    def staying_bytes(self) -> int:
        """Committed and under way, once the evictions under way are done."""
        return self.bytes + self.under_way_bytes - self.leaving_bytes

    def contains(self, chunk: ChunkId) -> bool:
        """The page is committed here, and its eviction has not begun. Always False for what is not counted yet."""
        pages = self.namespaces.get(page_namespace(chunk))
        return pages is not None and chunk in pages.recency and chunk not in self._leaving

    def is_leaving(self, chunk: ChunkId) -> bool:
        """Its eviction has begun."""
        return chunk in self._leaving

    @property
    def leaving(self) -> Collection[ChunkId]:
        """All pages whose eviction has begun, for who asks about thousands."""
        return self._leaving

    def is_making_room(self, namespace_id: int) -> bool:
        """Evictions of pages of this namespace have begun and are not committed."""
        pages = self.namespaces.get(namespace_id)
        return pages is not None and pages.leaving_bytes > 0

    def length(self, chunk: ChunkId) -> int:
        """Bytes of a page's chunk; 0 when it is not committed here."""
        pages = self.namespaces.get(page_namespace(chunk))
        return (pages.recency.length(chunk) or 0) if pages is not None else 0

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """A lease or a pin protects the page."""
        return any(holds.is_held(chunk, now) for holds in self.holds)

    def is_preferred(self, chunk: ChunkId, now: int) -> bool:
        """Others go first."""
        return any(preference.is_preferred(chunk, now) for preference in self.preferences)

    def use(self, namespace_id: int) -> NamespaceUse:
        """What a namespace takes here."""
        pages = self.namespaces.get(namespace_id)
        if pages is None:
            return NamespaceUse(namespace_id)
        return NamespaceUse(
            namespace_id,
            pages.bytes,
            len(pages.recency),
            pages.under_way_bytes,
            tuple(pages.evicted_pages),
            tuple(pages.evicted_bytes),
        )

    # --- what the store has ------------------------------------------------------------------------------------------

    def count(self, rows: Iterable[tuple[ChunkId, int]], now: int) -> None:
        """Pages (chunk, bytes) that the store has committed at this moment, of those it had at opening."""
        for chunk, length in rows:
            pages = self.namespaces.get(page_namespace(chunk))
            if pages is None or chunk not in pages.recency:
                self.on_commit(chunk, length, now)

    def on_commit(self, chunk: ChunkId, length: int, now: int) -> None:
        """A page is committed here, for the first time or again."""
        namespace_id = page_namespace(chunk)
        pages = self.namespaces.get(namespace_id) or self._add_namespace(namespace_id, now)
        before = pages.recency.insert(chunk, length, now)
        pages.last_used_ns = now
        self.grown.add(namespace_id)
        if before is None:
            self.pages += 1
            self.bytes += length
        else:
            self.bytes += length - before
            if chunk in self._leaving:
                self._add_leaving(pages, length - before)
        reservation = self._reservations.get(chunk)
        if reservation is not None and not reservation.is_stored:
            reservation.is_stored = True
            self._add_under_way(pages, -reservation.length)

    def on_remove(self, chunk: ChunkId) -> RemovedPage | None:
        """The removal of a page is committed here. None: there was no such page."""
        pages = self.namespaces.get(page_namespace(chunk))
        if pages is None:
            return None
        reservation = self._reservations.get(chunk)
        if reservation is not None and reservation.is_stored:
            reservation.is_stored = False
            self._add_under_way(pages, reservation.length)
        cause = self._leaving.get(chunk)
        self.cancel_eviction(chunk)
        length = pages.recency.remove(chunk)
        if length is None:
            return None
        self.pages -= 1
        self.bytes -= length
        if cause is not None:
            pages.evicted_pages[cause] += 1
            pages.evicted_bytes[cause] += length
        return RemovedPage(length, cause)

    def touch(self, chunks: Iterable[ChunkId], now: int) -> None:
        """Pages were read. Those that are not here are passed over."""
        namespaces = self.namespaces
        for chunk in chunks:
            pages = namespaces.get(page_namespace(chunk))
            if pages is not None and pages.recency.touch(chunk, now):
                pages.last_used_ns = now

    def forget_namespace(self, namespace_id: int) -> None:
        """It is deleted and has no pages here: nothing of it needs to be kept."""
        pages = self.namespaces.get(namespace_id)
        if pages is not None and not pages.recency and not pages.under_way_bytes:
            del self.namespaces[namespace_id]

    # --- what the head has under way ---------------------------------------------------------------------------------

    def is_promised(self, chunk: ChunkId, length: int) -> bool:
        """There is room for a put of this page already: it is there, or another put of it has been promised that."""
        reservation = self._reservations.get(chunk)
        return (reservation is not None and length <= reservation.length) or self.contains(chunk)

    def reserve(self, chunk: ChunkId, length: int, now: int) -> None:
        """The head admits a put of a page: its room is taken until `release` and `settle`."""
        reservation = self._reservations.get(chunk)
        namespace_id = page_namespace(chunk)
        pages = self.namespaces.get(namespace_id) or self._add_namespace(namespace_id, now)
        if reservation is None:
            reservation = self._reservations[chunk] = _Reservation(0)
            reservation.is_stored = chunk in pages.recency
        reservation.waiters += 1
        if length > reservation.length:
            if not reservation.is_stored:
                self._add_under_way(pages, length - reservation.length)
                self.grown.add(namespace_id)
            reservation.length = length

    def release(self, chunk: ChunkId, *, is_under_way: bool) -> None:
        """One who waited for a put that was reserved has been answered. `is_under_way`: an update of the chunk still is."""
        reservation = self._reservations.get(chunk)
        if reservation is None:
            return
        reservation.waiters -= 1
        if reservation.waiters <= 0:
            if is_under_way:
                self._lingering.add(chunk)
            else:
                self._drop_reservation(chunk)

    def settle(self, under_way: Container[ChunkId]) -> None:
        """Give up what is held for updates that have ended without anybody waiting, and evictions that have come to nothing."""
        for chunk in [chunk for chunk in self._lingering if chunk not in under_way]:
            self._lingering.discard(chunk)
            reservation = self._reservations.get(chunk)
            if reservation is not None and reservation.waiters <= 0:
                self._drop_reservation(chunk)
        for chunk in [chunk for chunk in self._leaving if chunk not in under_way]:
            self.cancel_eviction(chunk)

    @property
    def is_settled(self) -> bool:
        """There is nothing for `settle` to do."""
        return not self._lingering and not self._leaving

    # --- evictions ---------------------------------------------------------------------------------------------------

    def begin_eviction(self, chunk: ChunkId, cause: EvictionCause) -> int:
        """The head removes a page that is here. Its bytes."""
        pages = self.namespaces[page_namespace(chunk)]
        length = pages.recency.length(chunk) or 0
        if chunk not in self._leaving:
            self._add_leaving(pages, length)
        self._leaving[chunk] = cause
        return length

    def cancel_eviction(self, chunk: ChunkId) -> None:
        """It is not removed: it stays, or a client has removed it."""
        if self._leaving.pop(chunk, None) is not None:
            pages = self.namespaces[page_namespace(chunk)]
            self._add_leaving(pages, -(pages.recency.length(chunk) or 0))

    @property
    def leaving_count(self) -> int:
        """Evictions under way."""
        return len(self._leaving)

    # --- sums --------------------------------------------------------------------------------------------------------

    def _add_namespace(self, namespace_id: int, now: int) -> NamespacePages:
        pages = self.namespaces[namespace_id] = NamespacePages(namespace_id, now)
        return pages

    def _add_under_way(self, pages: NamespacePages, count: int) -> None:
        pages.under_way_bytes += count
        self.under_way_bytes += count

    def _add_leaving(self, pages: NamespacePages, count: int) -> None:
        pages.leaving_bytes += count
        self.leaving_bytes += count

    def _drop_reservation(self, chunk: ChunkId) -> None:
        reservation = self._reservations.pop(chunk)
        if not reservation.is_stored:
            self._add_under_way(self.namespaces[page_namespace(chunk)], -reservation.length)

    def check(self) -> None:
        """What must hold at any moment; adds everything up anew. AssertionError says what does not."""
        for pages in self.namespaces.values():
            assert pages.under_way_bytes >= 0, f"namespace {pages.id}: {pages.under_way_bytes} bytes under way"
            assert 0 <= pages.leaving_bytes <= pages.bytes, f"namespace {pages.id}: {pages.leaving_bytes} bytes leave"
        for name in ("bytes", "under_way_bytes", "leaving_bytes"):
            parts = sum(getattr(pages, name) for pages in self.namespaces.values())
            assert getattr(self, name) == parts, f"{name} {getattr(self, name)}, of the namespaces {parts}"
        assert self.pages == sum(len(pages.recency) for pages in self.namespaces.values()), f"{self.pages} pages"
        promised = sum(each.length for each in self._reservations.values() if not each.is_stored)
        assert self.under_way_bytes == promised, f"{self.under_way_bytes} bytes under way, {promised} promised"

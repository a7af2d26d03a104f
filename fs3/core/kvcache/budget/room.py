"""Who may have more room on one target, and which page goes next: the decisions of the head of a chain.

Three limits hold for a page that is put, each counted with what is under way:

    the share of its namespace's budget      (`shares`)
    the share of the target that all pages together may take      (`set_space`)
    nothing, for a namespace that is not known here yet, or a target whose pages are not counted yet: the put waits

A limit is never passed but by a page that is alone: so no target has more than its share, or one page. A put that does not get
room at once waits for evictions, which begin with the namespaces that are waited for.

Files come first, down to the part of the target that pages are guaranteed: `set_space` says how many bytes must be free for them.
Which pages go for that is decided by the namespaces: one that was not used for the longest time first, by whole minutes; of
those that are in use the largest.
"""

from __future__ import annotations

from heapq import nlargest
from typing import NamedTuple

from fs3.base.ids import ChunkId, page_namespace
from fs3.base.units import MINUTE
from fs3.core.kvcache.budget.page_cache import NamespacePages, PageCache
from fs3.core.kvcache.budget.seams import EvictionCause, LimitsSource
from fs3.core.kvcache.budget.shares import watermarks
from fs3.core.kvcache.recency.limits import pages_per_target_max
from fs3.core.kvcache.recency.recency import LOOKS_PER_SEARCH_MAX

NO_LIMIT = 1 << 62

FILES = 0
"""What updates of files wait under: the id of no namespace."""

namespaces_tried_max = 8
"""Namespaces that are asked for a page when the target needs room, before that is given up for the moment."""

waiting_parts = 8
"""Room is made at once for waiting puts of one part of so many of a limit, or for the longest of them."""


class _WaitingPuts:
    """The puts of one namespace that wait for room."""

    __slots__ = ("bytes", "longest", "puts")

    def __init__(self) -> None:
        self.puts = 0
        self.bytes = 0
        self.longest = 0

    def wanted_bytes(self, limit: int) -> int:
        """What to make room for at once: not for more than what a part of the limit holds, or pages would go to make room for
        pages that go in turn."""
        return min(self.bytes, max(self.longest, limit // waiting_parts))


class MeasuredSpace(NamedTuple):
    """Room on one target, in bytes."""

    used: int
    free: int
    free_soon: int
    """The same, with what was removed and is about to be free; of the replica that has least."""
    free_wanted: int
    """For files, as long as there are pages beyond the guaranteed ones."""


class Victim(NamedTuple):
    """A page that is to go."""

    chunk: ChunkId
    cause: EvictionCause


class TargetRoom:
    """The limits of one target. Fed by its keeper; asked for every put, and for victims while there is something to evict."""

    def __init__(self, cache: PageCache, source: LimitsSource) -> None:
        self.cache = cache
        self.source = source
        self.pages_max = NO_LIMIT
        """Bytes that all pages together may take."""
        self.pages_min = 0
        """Bytes of pages that are not evicted to make room for files."""
        self.used_bytes = 0
        """What the store has altogether, as of `set_space`: pages are not more."""
        self.missing_bytes = 0
        """What has to be evicted, as of `set_space`, for files to find room."""
        self._waiting: dict[int, _WaitingPuts] = {}
        """By namespace, the puts that wait for room."""
        self._evicting: set[int] = set()
        """Namespaces above their budget, or on the way from the high watermark to the low one."""
        self._is_evicting_any = False
        """The same of the target."""
        self.is_searching = False
        """The last `next_victim` found no page, and not all of them have been looked at yet: the next one goes on where it ended.
        Once all were, that is not done again before `look_again`: a cache of which nothing may go costs little."""
        self._ranked: list[NamespacePages] = []
        self._ranked_at = -1

    # --- puts --------------------------------------------------------------------------------------------------------

    def has_room(self, chunk: ChunkId, length: int) -> bool:
        """A put of a page may begin now. Then `cache.reserve` it; else it waits (`add_waiting`)."""
        cache = self.cache
        if cache.is_promised(chunk, length):
            return True
        namespace_id = page_namespace(chunk)
        limits = self.source.limits(namespace_id)
        if limits is None:
            return False
        if not cache.is_counted:
            claimed = all_claimed = self.used_bytes + cache.under_way_bytes
        else:
            pages = cache.namespaces.get(namespace_id)
            claimed = pages.claimed_bytes if pages is not None else 0
            all_claimed = cache.bytes + cache.under_way_bytes
        if cache.pages >= pages_per_target_max:
            return False
        if limits.share_bytes is not None and claimed and claimed + length > limits.share_bytes:
            return False
        return all_claimed + length <= self.pages_max or not all_claimed

    def add_waiting(self, namespace_id: int, length: int) -> None:
        """A put of so many bytes waits for room."""
        waiting = self._waiting.setdefault(namespace_id, _WaitingPuts())
        waiting.puts += 1
        waiting.bytes += length
        waiting.longest = max(waiting.longest, length)
        self.cache.grown.add(namespace_id)

    def drop_waiting(self, namespace_id: int, length: int) -> None:
        """It does not wait any more."""
        waiting = self._waiting[namespace_id]
        waiting.puts -= 1
        waiting.bytes -= length
        if not waiting.puts:
            del self._waiting[namespace_id]

    # --- the target --------------------------------------------------------------------------------------------------

    def set_space(self, space: MeasuredSpace, share_max: float, share_min: float) -> None:
        """What the store has and may still take; the parts of the sum of both that pages may take and are guaranteed. With a
        `share_max` of 1, only the store itself limits pages."""
        capacity = space.used + space.free
        self.used_bytes = space.used
        self.pages_max = int(capacity * share_max) if share_max < 1 else NO_LIMIT
        self.pages_min = int(capacity * share_min)
        waiting = self._waiting.get(FILES)
        wanted = max(space.free_wanted, waiting.bytes if waiting else 0)
        self.missing_bytes = max(0, wanted - space.free_soon - self.cache.leaving_bytes)

    @property
    def evictable_bytes(self) -> int:
        """Of pages that may be evicted to make room for files."""
        return max(0, self.cache.bytes - self.pages_min)

    def file_room(self, free: int) -> int:
        """What files may take of so much free room: what is missing to the guaranteed part of the pages is not theirs."""
        return free - max(0, self.pages_min - self.cache.bytes - self.cache.under_way_bytes)

    # --- victims -----------------------------------------------------------------------------------------------------

    def next_expired(self, namespace_id: int, now: int) -> list[ChunkId]:
        """Pages whose time is over, of the next part of a namespace; those that something protects are left for the next time."""
        pages = self.cache.namespaces.get(namespace_id)
        limits = self.source.limits(namespace_id)
        if pages is None or limits is None or not limits.ttl_ns:
            return []
        found = pages.recency.find_expired(now, limits.ttl_ns)
        return [chunk for chunk in found if not self.cache.is_leaving(chunk) and not self.cache.is_held(chunk, now)]

    def next_victim(self, now: int) -> Victim | None:
        """A page to evict; the caller begins its eviction before it asks again. None: there is nothing to evict, or nothing that
        may be."""
        cache = self.cache
        self.is_searching = False
        if cache.grown:
            self._evicting |= cache.grown
            cache.grown.clear()
        for namespace_id in list(self._evicting):
            chunk = self._find_over_budget(namespace_id, now)
            if chunk is not None:
                return chunk
            if not self.is_searching:
                self._evicting.discard(namespace_id)
        return self._find_for_room(now)

    def look_again(self) -> None:
        """Budgets may have changed, or what protected pages may not do so any more: consider every namespace."""
        self.cache.grown.update(self.cache.namespaces)
        for pages in self.cache.namespaces.values():
            pages.passed_over = 0

    def is_stuck(self, namespace_id: int) -> bool:
        """Nothing that a put in this namespace waits for is under way: asked after `next_victim` said None."""
        cache = self.cache
        is_known = cache.is_counted and self.source.limits(namespace_id) is not None
        return is_known and not cache.leaving_count and not cache.under_way_bytes and not self.is_searching

    def _find_over_budget(self, namespace_id: int, now: int) -> Victim | None:
        cache = self.cache
        pages = cache.namespaces.get(namespace_id)
        limits = self.source.limits(namespace_id)
        if pages is None or limits is None or not pages.recency:
            return None
        if limits.is_deleted:
            chunk = pages.recency.victim(now, cache.is_leaving)
            return Victim(chunk, EvictionCause.DELETED) if chunk is not None else None
        share = limits.share_bytes
        if share is None:
            return None
        waiting = self._waiting.get(namespace_id)
        marks = watermarks(share, pages.bytes // len(pages.recency))
        # On the way down once above: what is leaving has begun the way.
        goal = marks.low if pages.leaving_bytes or waiting else marks.high
        wanted = waiting.wanted_bytes(share) if waiting else 0
        if pages.staying_bytes + wanted <= goal:
            return None
        victim = self._find_in(pages, EvictionCause.BUDGET, now)
        # A page that is alone may be larger than the share: it goes for another one, and not for nothing.
        is_alone = victim is not None and not waiting and cache.length(victim.chunk) == pages.staying_bytes
        return None if is_alone else victim

    def _find_for_room(self, now: int) -> Victim | None:
        cache = self.cache
        if not cache.pages:
            self._is_evicting_any = False
            return None
        is_over = False
        if self.pages_max < NO_LIMIT:
            marks = watermarks(self.pages_max, cache.bytes // cache.pages)
            wanted = sum(each.wanted_bytes(self.pages_max) for key, each in self._waiting.items() if key != FILES)
            is_over = cache.staying_bytes + wanted > (marks.low if self._is_evicting_any or wanted else marks.high)
        self._is_evicting_any = is_over
        is_over = is_over or cache.pages - cache.leaving_count >= pages_per_target_max
        is_missing = self.missing_bytes > 0 and cache.bytes - cache.leaving_bytes > self.pages_min
        if not is_over and not is_missing:
            return None
        for pages in self._rank_namespaces(now):
            victim = self._find_in(pages, EvictionCause.ROOM, now)
            if victim is not None:
                self.missing_bytes -= cache.length(victim.chunk)
                return victim
        return None

    def _rank_namespaces(self, now: int) -> list[NamespacePages]:
        """Those that give room first; looked for once for all that are asked for at one moment."""
        if self._ranked_at != now:
            self._ranked_at = now
            self._ranked = nlargest(
                namespaces_tried_max,
                (pages for pages in self.cache.namespaces.values() if pages.recency),
                key=lambda pages: ((now - pages.last_used_ns) // MINUTE, pages.bytes - pages.leaving_bytes),
            )
        return self._ranked

    def _find_in(self, pages: NamespacePages, cause: EvictionCause, now: int) -> Victim | None:
        cache = self.cache

        def is_protected(chunk: ChunkId) -> bool:
            return cache.is_leaving(chunk) or cache.is_held(chunk, now)

        chunk = None
        if cache.preferences:
            chunk = pages.recency.victim(now, lambda chunk: is_protected(chunk) or cache.is_preferred(chunk, now))
        if chunk is None:
            chunk = pages.recency.victim(now, is_protected)
        if chunk is not None:
            pages.passed_over = 0
            return Victim(chunk, cause)
        pages.passed_over += LOOKS_PER_SEARCH_MAX
        self.is_searching |= pages.passed_over < len(pages.recency)
        return None

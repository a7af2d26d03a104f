"""Leases on pages: what a lookup found stays until its reader is done, or a bounded time is over.

A lease keeps pages from eviction and expiry, never from a removal that a client asks for. It ends when it is released and at its
own end, whichever is first: no lease is longer than `page_lease_ms_max`, and nothing but a new lookup makes one, so the leases of
a worker that has died end by themselves (Gray and Cheriton, "Leases", 1989). They are in memory at the head of a page's chain,
which alone decides what is evicted. A head that takes over knows none: what was leased may be gone then, and is a miss.

A page is held as often as there are leases on it, so that the end of one leaves the others. Both bounds are an answer and no
failure: a lookup beyond them is told what it found, and that it is not leased.

Which pages are held is asked by evictions alone, and most leases are over before the next one. So a lease is taken down as a
whole, and its pages are entered one by one when an eviction asks.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.ids import ChunkId, page_namespace
from fs3.base.limits import leased_pages_max, page_lease_ms_max
from fs3.base.units import MILLISECOND

page_leases_max = 16_384
"""Leases of one storage node."""
not_entered_pages_max = 16_384
"""Pages of leases that wait to be entered, so that an eviction does not wait long for that. A longer lease is entered at once."""
_COMPACT_MIN = 1024
"""Ends of leases that were released are taken out once they are more than the others, and not for fewer."""


class LeaseUse(NamedTuple):
    """What is leased of one namespace."""

    leases: int
    pages: int
    """Each as often as it is leased."""


class _Lease(NamedTuple):
    until_ns: int
    chunks: Sequence[ChunkId]


class Leases:
    """The leases on the pages of one storage node. Times are nanoseconds of its monotonic clock."""

    def __init__(self, leases_max: int = page_leases_max, pages_max: int = leased_pages_max) -> None:
        self._leases_max = leases_max
        self._pages_max = pages_max
        self._leases: dict[int, _Lease] = {}
        self._ends: list[tuple[int, int]] = []
        """A heap of (until, lease id); of leases that were released too."""
        self._holders: Counter[ChunkId] = Counter()
        """How often each page is leased, by leases that are entered; no page with 0."""
        self._not_entered: dict[int, Sequence[ChunkId]] = {}
        """Pages of the other leases."""
        self._not_entered_pages = 0
        self._pages = 0

    @property
    def count(self) -> int:
        """Leases that have not ended, as far as was looked."""
        return len(self._leases)

    @property
    def pages(self) -> int:
        """Pages in them, each as often as it is leased."""
        return self._pages

    def grant(self, lease_id: int, chunks: Sequence[ChunkId], duration_ns: int, now: int) -> bool:
        """Hold these pages until `now + duration_ns`. False when there is no room for so many: none of them is held.

        A lease of the same id is replaced, so that a request that is sent again has the effect of one. ValueError for a duration
        that no lease may have: the service refuses it first.
        """
        if not 0 < duration_ns <= page_lease_ms_max * MILLISECOND:
            raise ValueError(f"a lease of {duration_ns} ns; more than 0 and at most {page_lease_ms_max} ms are possible")
        self.release(lease_id)
        self.expire(now)
        if len(self._leases) >= self._leases_max or self._pages + len(chunks) > self._pages_max:
            return False
        until = now + duration_ns
        self._leases[lease_id] = _Lease(until, chunks)
        self._not_entered[lease_id] = chunks
        self._not_entered_pages += len(chunks)
        if self._not_entered_pages > not_entered_pages_max:
            self._enter()
        self._pages += len(chunks)
        heapq.heappush(self._ends, (until, lease_id))
        return True

    def release(self, lease_id: int) -> bool:
        """End a lease. False when there is none: it has ended, or was never granted here."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return False
        if self._not_entered.pop(lease_id, None) is not None:
            self._not_entered_pages -= len(lease.chunks)
        else:
            holders = self._holders
            for chunk in lease.chunks:
                left = holders[chunk] - 1
                if left:
                    holders[chunk] = left
                else:
                    del holders[chunk]
        self._pages -= len(lease.chunks)
        if len(self._ends) > max(_COMPACT_MIN, 2 * len(self._leases)):
            self._ends = [(each.until_ns, known) for known, each in self._leases.items()]
            heapq.heapify(self._ends)
        return True

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """A lease on the page is running."""
        if self._ends and self._ends[0][0] <= now:
            self.expire(now)
        if self._not_entered:
            self._enter()
        return chunk in self._holders

    def _enter(self) -> None:
        for chunks in self._not_entered.values():
            self._holders.update(chunks)
        self._not_entered.clear()
        self._not_entered_pages = 0

    def expire(self, now: int) -> None:
        """End what has come to its end."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            until, lease_id = heapq.heappop(ends)
            lease = self._leases.get(lease_id)
            if lease is not None and lease.until_ns == until:
                self.release(lease_id)
                ends = self._ends

    def use(self, namespace_id: int, now: int) -> LeaseUse:
        """What is leased of a namespace now. Looks at every lease."""
        self.expire(now)
        found = [lease for lease in self._leases.values() if lease.chunks and page_namespace(lease.chunks[0]) == namespace_id]
        return LeaseUse(len(found), sum(len(lease.chunks) for lease in found))

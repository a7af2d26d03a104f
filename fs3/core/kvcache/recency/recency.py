"""The pages of one namespace on one target in the order in which they are to go.

Pure and bounded: a page costs some 30 bytes of memory, a call costs the work of one bucket of about 20 pages, a search for a victim
that of at most `VICTIM_BUCKETS_MAX`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from fs3.base.ids import ChunkId
from fs3.core.kvcache.recency.page_table import LENGTH_MAX, PageRecord, PageTable

_TICK_BITS = 25
"""A tick is 2^25 ns, 34 ms: three years and a half of them fit beside one year before the start."""
_EPOCH_TICK = 1 << 30
"""Tick of the moment a `Recency` was made: pages of before a restart are older."""
_TICK_MAX = (1 << 32) - 1
CANDIDATES_MAX = 16
"""Kept from one search to the next: the best choices of the buckets that were walked."""
VICTIM_BUCKETS_MAX = 64
"""Walked by one search before it says that there is no victim."""


class Recency:
    """What is remembered of the pages of one namespace on one target, and which of them goes next.

    `now` is a steady clock's, in nanoseconds, the same for all calls.
    """

    def __init__(self, namespace_id: int, now: int) -> None:
        self.namespace_id = namespace_id
        self._epoch = now
        self._table = PageTable(namespace_id)
        self._hand = 0
        """Bucket that is walked next."""
        self._expiry_hand = 0
        self._candidates: list[tuple[int, ChunkId]] = []
        """Score when seen, page; the next to go is the last one."""

    def __len__(self) -> int:
        return self._table.pages

    def __contains__(self, chunk: ChunkId) -> bool:
        return self._table.find(chunk)[1] >= 0

    @property
    def bytes(self) -> int:
        """Lengths of all pages together."""
        return self._table.bytes

    def length(self, chunk: ChunkId) -> int | None:
        """Of a page, in bytes; None: it is not known."""
        record = self._table.get(chunk)
        return record.length if record else None

    def born(self, chunk: ChunkId) -> int | None:
        """When a page was stored, on the clock of `now`, to 34 ms; None: it is not known."""
        record = self._table.get(chunk)
        return self._epoch + (record.born - _EPOCH_TICK << _TICK_BITS) if record else None

    def insert(self, chunk: ChunkId, length: int, now: int) -> None:
        """A page was stored; or again, with another length. Raises ValueError for a length that no page has."""
        if not 0 <= length <= LENGTH_MAX:
            raise ValueError(f"a page of {length} bytes, at most {LENGTH_MAX} can be")
        tick = self._tick(now)
        self._table.put(chunk, PageRecord(length, 0, tick, tick))

    def touch(self, chunk: ChunkId, now: int) -> bool:
        """A page was used. False: it is not known."""
        return self._table.use(chunk, self._tick(now))

    def remove(self, chunk: ChunkId) -> int | None:
        """A page is gone. Returns its length; None: it was not known."""
        record = self._table.remove(chunk)
        return record.length if record else None

    def victim(self, now: int, is_protected: Callable[[ChunkId], bool]) -> ChunkId | None:
        """The next page to go, among those that are not protected; None: none was found.

        It stays known until `remove`. Protect it once its removal has begun: it is named again otherwise.
        """
        for _ in range(min(VICTIM_BUCKETS_MAX, self._table.buckets)):
            self._walk_bucket()
            while self._candidates:
                score, chunk = self._candidates.pop()
                record = self._table.get(chunk)
                if record is not None and self._score(record) == score and not is_protected(chunk):
                    return chunk
        return None

    def expired(self, now: int, ttl_ns: int) -> list[ChunkId]:
        """Pages stored more than `ttl_ns` ago, among the next 20 or so; calls as many as `buckets` look at each page once."""
        if self._expiry_hand >= self._table.buckets:
            self._expiry_hand = 0
        oldest = self._tick(now - ttl_ns)
        found = [chunk for chunk, record in self._table.bucket(self._expiry_hand) if record.born < oldest]
        self._expiry_hand += 1
        return found

    @property
    def buckets(self) -> int:
        """What walks go over; each has 24 pages or fewer on average."""
        return self._table.buckets

    def _walk_bucket(self) -> None:
        """Take what goes rather than the candidates there are."""
        if self._hand >= self._table.buckets:
            self._hand = 0
        candidates = self._candidates
        known = {chunk for _, chunk in candidates}
        for chunk, record in self._table.bucket(self._hand):
            score = self._score(record)
            if chunk not in known and (len(candidates) < CANDIDATES_MAX or score > candidates[0][0]):
                insort(candidates, (score, chunk))
                if len(candidates) > CANDIDATES_MAX:
                    del candidates[0]
        self._hand += 1

    def _score(self, record: PageRecord) -> int:
        """The higher, the sooner it goes."""
        return -record.last

    def _tick(self, now: int) -> int:
        return min(max((now - self._epoch >> _TICK_BITS) + _EPOCH_TICK, 0), _TICK_MAX)

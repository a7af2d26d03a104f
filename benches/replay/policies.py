"""The policies that eviction is measured against: each keeps a budget of bytes, counts nothing and never looks ahead.

What the product does is one of them (`Product`): the same `Recency` that storage targets have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from fs3.base.ids import ChunkId, page_chunk
from fs3.core.kvcache.recency.recency import Recency


class Policy:
    """A cache of pages, named by numbers, that never holds more than its budget of bytes."""

    def __contains__(self, page: int) -> bool:
        raise NotImplementedError

    def touch(self, page: int, now: int) -> None:
        """A page that is there was used."""

    def insert(self, page: int, length: int, now: int) -> None:
        """A page that is not there comes; others go until there is room. One that is larger than the budget does not come."""
        raise NotImplementedError

    def use(self, pages: Sequence[int], lengths: Sequence[int], hits: int, now: int) -> None:
        """A request gets its first `hits` pages, which are there, and puts the others."""
        for page in pages[:hits]:
            self.touch(page, now)
        for page, length in zip(pages[hits:], lengths[hits:], strict=True):
            self._put(page, length, now)

    def _put(self, page: int, length: int, now: int) -> None:
        if page in self:
            self.touch(page, now)
        else:
            self.insert(page, length, now)


class LastFirst(Policy):
    """A policy that is told the pages of each request from the last to the first, as storage targets are those of each get."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __contains__(self, page: int) -> bool:
        return page in self._policy

    def use(self, pages: Sequence[int], lengths: Sequence[int], hits: int, now: int) -> None:
        """First the gets, then the puts; each from its end."""
        policy = self._policy
        for page in reversed(pages[:hits]):
            policy.touch(page, now)
        for page, length in zip(reversed(pages[hits:]), reversed(lengths[hits:]), strict=True):
            policy._put(page, length, now)


class Infinite(Policy):
    """Everything that ever came: what no policy can do better than."""

    def __init__(self, budget: int = 0) -> None:
        self._pages: set[int] = set()

    def __contains__(self, page: int) -> bool:
        return page in self._pages

    def touch(self, page: int, now: int) -> None:
        """Nothing to remember."""

    def insert(self, page: int, length: int, now: int) -> None:
        """It stays."""
        self._pages.add(page)


class LRU(Policy):
    """Least recently used goes first: what the others are measured against."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._lengths: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, page: int) -> bool:
        return page in self._lengths

    def touch(self, page: int, now: int) -> None:
        """To the end of the line."""
        self._lengths.move_to_end(page)

    def insert(self, page: int, length: int, now: int) -> None:
        """At the end of the line."""
        if length > self._budget:
            return
        self._bytes += length
        while self._bytes > self._budget:
            self._bytes -= self._lengths.popitem(last=False)[1]
        self._lengths[page] = length


class Clock(Policy):
    """A line in order of arrival; who was used since comes to its end again instead of going (Corbato, 1968)."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._lengths: OrderedDict[int, int] = OrderedDict()
        self._used: set[int] = set()

    def __contains__(self, page: int) -> bool:
        return page in self._lengths

    def touch(self, page: int, now: int) -> None:
        """Marked."""
        self._used.add(page)

    def insert(self, page: int, length: int, now: int) -> None:
        """At the end of the line, without a mark."""
        if length > self._budget:
            return
        self._bytes += length
        while self._bytes > self._budget:
            oldest, size = self._lengths.popitem(last=False)
            if oldest in self._used:
                self._used.remove(oldest)
                self._lengths[oldest] = size
            else:
                self._bytes -= size
        self._lengths[page] = length


class _Node:
    __slots__ = ("length", "newer", "older", "page", "used")

    def __init__(self, page: int, length: int) -> None:
        self.page = page
        self.length = length
        self.used = False
        self.newer: _Node | None = None
        self.older: _Node | None = None


class Sieve(Policy):
    """SIEVE (Zhang et al., NSDI 2024): a line in order of arrival that is never changed, and a hand that goes from old to new."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._nodes: dict[int, _Node] = {}
        self._newest: _Node | None = None
        self._oldest: _Node | None = None
        self._hand: _Node | None = None

    def __contains__(self, page: int) -> bool:
        return page in self._nodes

    def touch(self, page: int, now: int) -> None:
        """Marked."""
        self._nodes[page].used = True

    def insert(self, page: int, length: int, now: int) -> None:
        """The newest; the hand takes marks away until it finds a page without one."""
        if length > self._budget:
            return
        self._bytes += length
        while self._bytes > self._budget:
            self._evict()
        node = _Node(page, length)
        node.older = self._newest
        if self._newest is not None:
            self._newest.newer = node
        self._newest = node
        if self._oldest is None:
            self._oldest = node
        self._nodes[page] = node

    def _evict(self) -> None:
        node = self._hand or self._oldest
        while node is not None and node.used:
            node.used = False
            node = node.newer or self._oldest
        assert node is not None
        self._hand = node.newer
        if node.newer is not None:
            node.newer.older = node.older
        else:
            self._newest = node.older
        if node.older is not None:
            node.older.newer = node.newer
        else:
            self._oldest = node.newer
        self._bytes -= node.length
        del self._nodes[node.page]


class S3FIFO(Policy):
    """S3-FIFO (Yang et al., SOSP 2023): a tenth for the new, the rest for those used again, and names of those that went."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._small_budget = budget // 10
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0
        self._uses: dict[int, int] = {}
        self._gone: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, page: int) -> bool:
        return page in self._uses

    def touch(self, page: int, now: int) -> None:
        """Counted, up to three."""
        self._uses[page] = min(self._uses[page] + 1, 3)

    def insert(self, page: int, length: int, now: int) -> None:
        """Among the new, or, when it went not long ago, among those used again."""
        if length > self._budget:
            return
        while self._small_bytes + self._main_bytes + length > self._budget:
            if (self._small and self._small_bytes >= self._small_budget) or not self._main:
                self._evict_small()
            else:
                self._evict_main()
        self._uses[page] = 0
        if page in self._gone:
            del self._gone[page]
            self._main[page] = length
            self._main_bytes += length
        else:
            self._small[page] = length
            self._small_bytes += length

    def _evict_small(self) -> None:
        page, length = self._small.popitem(last=False)
        self._small_bytes -= length
        if self._uses[page] > 1:
            self._uses[page] = 0
            self._main[page] = length
            self._main_bytes += length
            return
        del self._uses[page]
        self._gone[page] = None
        while len(self._gone) > max(len(self._main), 1):
            self._gone.popitem(last=False)

    def _evict_main(self) -> None:
        while True:
            page, length = self._main.popitem(last=False)
            if self._uses[page]:
                self._uses[page] -= 1
                self._main[page] = length
                continue
            self._main_bytes -= length
            del self._uses[page]
            return


class Product(Policy):
    """What storage targets do, on one target of the whole budget."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._recency = Recency(1, 0)
        self._chunks: dict[int, ChunkId] = {}

    def __contains__(self, page: int) -> bool:
        return self._chunk(page) in self._recency

    def touch(self, page: int, now: int) -> None:
        """As a get does."""
        self._recency.touch(self._chunk(page), now)

    def insert(self, page: int, length: int, now: int) -> None:
        """As a put does."""
        if length > self._budget:
            return
        recency = self._recency
        while recency.bytes + length > self._budget:
            victim = recency.victim(now, _is_free)
            assert victim is not None
            recency.remove(victim)
        recency.insert(self._chunk(page), length, now)

    def _chunk(self, page: int) -> ChunkId:
        chunk = self._chunks.get(page)
        if chunk is None:
            digest = blake2b(page.to_bytes(8, "little"), digest_size=16).digest()
            chunk = self._chunks[page] = page_chunk(1, digest)
        return chunk


def _is_free(chunk: ChunkId) -> bool:
    return False

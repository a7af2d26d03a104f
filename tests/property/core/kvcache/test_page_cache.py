"""The sums of a page cache, against a plain account of the same, whatever is put, removed, promised and evicted in any order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.ids import ChunkId, page_chunk, page_namespace
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.seams import EvictionCause

NAMESPACES = (1, 2)
PAGES = [page_chunk(namespace, bytes([number]) * 12) for namespace in NAMESPACES for number in range(5)]
pages = st.sampled_from(PAGES)
lengths = st.integers(1, 300)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), pages, lengths),
        st.tuples(st.just("count"), pages, lengths),
        st.tuples(st.just("remove"), pages, st.just(0)),
        st.tuples(st.just("reserve"), pages, lengths),
        st.tuples(st.just("release"), pages, st.integers(0, 1)),
        st.tuples(st.just("evict"), pages, st.sampled_from(list(EvictionCause))),
        st.tuples(st.just("cancel"), pages, st.just(0)),
        st.tuples(st.just("settle"), pages, st.just(0)),
    ),
    max_size=120,
)


class Account:
    """The same, page by page, without any sum that is carried along."""

    def __init__(self) -> None:
        self.there: dict[ChunkId, int] = {}
        self.leaving: dict[ChunkId, EvictionCause] = {}
        self.waiters: dict[ChunkId, int] = {}
        self.promised: dict[ChunkId, int] = {}
        self.stored: set[ChunkId] = set()
        self.lingering: set[ChunkId] = set()
        self.evicted = dict.fromkeys(NAMESPACES, 0)

    def commit(self, chunk: ChunkId, length: int) -> None:
        self.there[chunk] = length
        if chunk in self.promised:
            self.stored.add(chunk)

    def remove(self, chunk: ChunkId) -> None:
        length = self.there.pop(chunk, 0)
        if self.leaving.pop(chunk, None) is not None:
            self.evicted[page_namespace(chunk)] += length
        self.stored.discard(chunk)

    def reserve(self, chunk: ChunkId, length: int) -> None:
        if chunk not in self.promised and chunk in self.there:
            self.stored.add(chunk)
        self.promised[chunk] = max(length, self.promised.get(chunk, 0))
        self.waiters[chunk] = self.waiters.get(chunk, 0) + 1

    def release(self, chunk: ChunkId, *, is_under_way: bool) -> None:
        self.waiters[chunk] -= 1
        if not self.waiters[chunk]:
            if is_under_way:
                self.lingering.add(chunk)
            else:
                self.drop(chunk)

    def settle(self, under_way: set[ChunkId]) -> None:
        for chunk in self.lingering - under_way:
            self.lingering.discard(chunk)
            if not self.waiters.get(chunk):
                self.drop(chunk)
        self.leaving = {chunk: cause for chunk, cause in self.leaving.items() if chunk in under_way}

    def drop(self, chunk: ChunkId) -> None:
        self.promised.pop(chunk, None)
        self.waiters.pop(chunk, None)
        self.stored.discard(chunk)

    def sums(self, namespace_id: int) -> tuple[int, int, int, int]:
        """(bytes, pages, bytes under way, bytes leaving)"""
        of = {chunk: length for chunk, length in self.there.items() if page_namespace(chunk) == namespace_id}
        under_way = sum(
            length
            for chunk, length in self.promised.items()
            if page_namespace(chunk) == namespace_id and chunk not in self.stored
        )
        return sum(of.values()), len(of), under_way, sum(of[chunk] for chunk in self.leaving if chunk in of)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_any_order_of_events_adds_up(script: list[tuple[str, ChunkId, int]]) -> None:
    cache, account = PageCache(), Account()
    for now, (verb, chunk, number) in enumerate(script):
        if verb == "commit":
            cache.on_commit(chunk, number, now)
            account.commit(chunk, number)
        elif verb == "count":
            # A row of the store, read at this moment: it says what is committed there.
            rows = [(chunk, account.there.get(chunk, number))]
            cache.count(rows, now)
            if chunk not in account.there:
                account.commit(*rows[0])
        elif verb == "remove":
            there, cause = account.there.get(chunk), account.leaving.get(chunk)
            assert cache.on_remove(chunk) == ((there, cause) if there is not None else None)
            account.remove(chunk)
        elif verb == "reserve":
            cache.reserve(chunk, number, now)
            account.reserve(chunk, number)
        elif verb == "release" and account.waiters.get(chunk):
            cache.release(chunk, is_under_way=bool(number))
            account.release(chunk, is_under_way=bool(number))
        elif verb == "evict" and chunk in account.there:
            cache.begin_eviction(chunk, EvictionCause(number))
            account.leaving[chunk] = EvictionCause(number)
        elif verb == "cancel":
            cache.cancel_eviction(chunk)
            account.leaving.pop(chunk, None)
        elif verb == "settle":
            cache.settle({chunk})
            account.settle({chunk})
        cache.check()
        compare(cache, account)
    for chunk, waiters in list(account.waiters.items()):
        for _ in range(waiters):
            cache.release(chunk, is_under_way=False)
    cache.settle(())
    cache.check()
    assert cache.is_settled
    assert (cache.under_way_bytes, cache.leaving_bytes) == (0, 0)
    assert cache.bytes == sum(account.there.values())


def compare(cache: PageCache, account: Account) -> None:
    """Each sum and each answer is what the account says."""
    for namespace_id in NAMESPACES:
        use, found = cache.use(namespace_id), cache.namespaces.get(namespace_id)
        leaving = found.leaving_bytes if found is not None else 0
        assert (use.bytes, use.pages, use.under_way_bytes, leaving) == account.sums(namespace_id)
        assert sum(use.evicted_bytes) == account.evicted[namespace_id]
    assert cache.leaving_count == len(account.leaving)
    for chunk in PAGES:
        assert cache.length(chunk) == account.there.get(chunk, 0)
        is_there = chunk in account.there and chunk not in account.leaving
        assert cache.contains(chunk) == is_there
        assert cache.is_promised(chunk, 100) == (is_there or account.promised.get(chunk, 0) >= 100)

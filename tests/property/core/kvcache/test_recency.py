"""Pages leave as from a plain list, whatever comes, goes, is used and is protected; and as they would have after a restart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.ids import ChunkId, page_chunk
from fs3.core.kvcache.recency.recency import LOOKS_PER_SEARCH_MAX, Recency
from fs3.core.kvcache.recency.sample import restore_part, sample_parts

NAMESPACE = 5
PAGES = [page_chunk(NAMESPACE, bytes([index % 3]) * 4 + bytes([index]) * 8) for index in range(60)]
"""Few beginnings, so that buckets have pages that begin alike."""
indexes = st.integers(0, len(PAGES) - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), indexes, st.integers(0, 9)),
        st.tuples(st.just("touch"), indexes, st.just(0)),
        st.tuples(st.just("remove"), indexes, st.just(0)),
        st.tuples(st.just("protect"), indexes, st.just(0)),
        st.tuples(st.just("victim"), st.just(0), st.just(0)),
    ),
    max_size=300,
)


class PlainList:
    """The same, as simply as it can be said: a list from the oldest to the newest."""

    def __init__(self) -> None:
        self.order: list[ChunkId] = []
        self.lengths: dict[ChunkId, int] = {}

    def use(self, chunk: ChunkId) -> None:
        self.order.remove(chunk)
        self.order.append(chunk)

    def victim(self, protected: set[ChunkId]) -> ChunkId | None:
        for chunk in self.order[:LOOKS_PER_SEARCH_MAX]:
            self.use(chunk)
            if chunk not in protected:
                return chunk
        return None


@given(steps)
@settings(max_examples=60, deadline=None)
def test_pages_leave_as_from_a_plain_list(script: list[tuple[str, int, int]]) -> None:
    recency, plain = Recency(NAMESPACE, 0), PlainList()
    protected: set[ChunkId] = set()
    for verb, index, length in script:
        chunk = PAGES[index]
        if verb == "insert":
            recency.insert(chunk, length, 0)
            if chunk not in plain.lengths:
                plain.order.append(chunk)
            plain.use(chunk)
            plain.lengths[chunk] = length
        elif verb == "touch":
            assert recency.touch(chunk, 0) == (chunk in plain.lengths)
            if chunk in plain.lengths:
                plain.use(chunk)
        elif verb == "remove":
            assert recency.remove(chunk) == plain.lengths.pop(chunk, None)
            if chunk in plain.order:
                plain.order.remove(chunk)
        elif verb == "protect":
            protected ^= {chunk}
        else:
            assert recency.victim(0, protected.__contains__) == plain.victim(protected)
        assert len(recency) == len(plain.order)
        assert recency.bytes == sum(plain.lengths.values())
    assert [recency.length(chunk) for chunk in PAGES] == [plain.lengths.get(chunk) for chunk in PAGES]
    again = Recency(NAMESPACE, 7)
    for chunk in sorted(plain.order):
        again.insert(chunk, plain.lengths[chunk], 7)
    data = b"".join(sample_parts([recency], 0))
    at = 0
    while at < len(data):
        at = restore_part(data, at, {NAMESPACE: again}, 7)
    assert [again.victim(7, lambda chunk: False) for _ in plain.order] == plain.order


@given(st.binary(max_size=200), st.integers(0, 2**40))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_to_their_end(data: bytes, away_ns: int) -> None:
    recency = Recency(NAMESPACE, 0)
    for chunk in PAGES[:5]:
        recency.insert(chunk, 1, 0)
    whole = b"".join(sample_parts([recency], 0))
    for sample in (data, whole[: len(data)] + data, data + whole):
        at = 0
        while at < len(sample):
            following = restore_part(sample, at, {NAMESPACE: recency}, 0, away_ns)
            assert at < following <= len(sample)
            at = following
    assert len(recency) == 5

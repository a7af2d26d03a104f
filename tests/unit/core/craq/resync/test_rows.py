from __future__ import annotations

import pytest

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.core.craq.resync.rows import (
    RangeState,
    compare_ranges,
    digest_rows,
    key_after,
    key_before,
    list_rows,
)
from fs3.model.chunk import ChunkMeta, UpdateResult
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.one_replica import chunk, tag, write

LAST = ChunkId(b"\xff" * 16)


def store(*numbers: int, pending: int | None = None, data: bytes = b"data") -> SimChunks:
    """A store with version 1 of these chunks committed, and one more update pending."""
    chunks = SimChunks()
    for number in numbers:
        chunks.stage(write(1, number, data, version=1))
        chunks.commit(chunk(number), 1, tag(1), UpdateResult(Code.OK, 1))
    if pending is not None:
        known = chunks.get(chunk(pending))
        chunks.stage(write(2, pending, b"more", version=known.committed + 1 if known else 1))
    return chunks


def digest(chunks: SimChunks, begin: bytes = b"", end: bytes = b"") -> object:
    until = ChunkId(end) if end else None
    return digest_rows(begin, end, chunks.list(key_before(begin), 1000, until))


def meta(committed: int, pending: int = 0, length: int = 4, checksum: int = 7) -> ChunkMeta:
    return ChunkMeta(committed, pending, 1, length, checksum)


# --- keys and digests ------------------------------------------------------------------------------------------------


def test_keys_before_and_after_leave_no_gaps() -> None:
    assert key_before(b"") is None
    assert key_before(chunk(0)) is None
    assert key_before(chunk(5)) == chunk(4)
    assert key_after(chunk(5)) == chunk(6)
    assert key_after(LAST) == b""


def test_a_digest_is_of_what_is_committed_whatever_the_order_and_the_chain_version() -> None:
    rows = store(1, 2, 3).list(None, 10)
    whole = digest_rows(b"", b"", rows)
    assert whole.count == 3
    assert digest_rows(b"", b"", reversed(rows)) == whole
    assert digest_rows(b"", b"", [*rows, (chunk(9), meta(0, 1))]) == whole
    elsewhere = [(key, ChunkMeta(row.committed, 0, 99, row.length, row.checksum)) for key, row in rows]
    assert digest_rows(b"", b"", elsewhere) == whole


@pytest.mark.parametrize("changes", [{"committed": 2}, {"length": 5}, {"checksum": 8}])
def test_a_digest_notices_every_difference(changes: dict[str, int]) -> None:
    fields = {"committed": 1, "length": 4, "checksum": 7}
    one = digest_rows(b"", b"", [(chunk(1), meta(fields["committed"], 0, fields["length"], fields["checksum"]))])
    fields |= changes
    other = digest_rows(b"", b"", [(chunk(1), meta(fields["committed"], 0, fields["length"], fields["checksum"]))])
    assert one != other
    assert one != digest_rows(b"", b"", [(chunk(2), meta(1))])


# --- the successor's answers -----------------------------------------------------------------------------------------


def test_ranges_are_equal_different_or_empty() -> None:
    mine = store(1, 2, 5, 6)
    ranges = [digest(mine, b"", chunk(3)), digest(mine, chunk(3), chunk(5)), digest(mine, chunk(5), b"")]

    def compared(theirs: SimChunks, *bad: int) -> list[str]:
        states = compare_ranges(theirs, {chunk(number) for number in bad}, ranges)  # type: ignore[arg-type]
        return [state.name for state in states]

    assert compared(store(1, 2, 5, 6)) == ["EQUAL", "EQUAL", "EQUAL"]
    assert compared(store()) == ["EMPTY", "EQUAL", "EMPTY"]
    assert compared(store(1, 2, 3, 5, 6)) == ["EQUAL", "DIFFERS", "EQUAL"]
    assert compared(store(1, 5, 6, 7, 8)) == ["DIFFERS", "EQUAL", "DIFFERS"]
    assert compared(store(1, 2, 5, 6, data=b"other")) == ["DIFFERS", "EQUAL", "DIFFERS"]
    assert compared(store(1, 2, 5, 6, pending=5)) == ["EQUAL", "EQUAL", "DIFFERS"]
    assert compared(store(1, 2, 5, 6, pending=4)) == ["EQUAL", "DIFFERS", "EQUAL"]
    assert compared(store(1, 2, 5, 6), 2) == ["DIFFERS", "EQUAL", "EQUAL"]


def test_a_range_with_many_more_chunks_than_the_source_has_costs_no_more() -> None:
    class Counting(SimChunks):
        asked = 0

        def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
            self.asked = max(self.asked, limit)
            return super().list(after, limit, until)

    theirs = Counting()
    theirs.records = store(*range(50)).records
    assert compare_ranges(theirs, (), [digest_rows(b"", b"", store(1).list(None, 9))]) == (RangeState.DIFFERS,)
    assert theirs.asked == 2


def test_rows_are_listed_by_pages() -> None:
    theirs = store(1, 2, 3, pending=2)
    rows, more = list_rows(theirs, {chunk(3)}, b"", b"", 2)
    assert [(row.chunk, row.committed, row.pending, row.bad) for row in rows] == [
        (chunk(1), 1, 0, False),
        (chunk(2), 1, 2, False),
    ]
    assert more
    rows, more = list_rows(theirs, {chunk(3)}, key_after(rows[-1].chunk), chunk(4), 2)
    assert [(row.chunk, row.bad) for row in rows] == [(chunk(3), True)]
    assert not more
    assert list_rows(theirs, (), chunk(4), b"", 2) == ((), False)


def test_tags_are_no_part_of_what_is_compared() -> None:
    one, other = store(1), store(1)
    assert one.list_channels(None, 9) == other.list_channels(None, 9)
    other.rows.clear()
    assert digest(one) == digest(other)

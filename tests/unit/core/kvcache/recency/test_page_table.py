"""Rows found by chunk, whatever the digests look like, and in order."""

from __future__ import annotations

import tracemalloc

from fs3.base.ids import ChunkId, page_chunk
from fs3.core.kvcache.recency.page_table import LENGTH_MAX, PageTable


def spread(index: int) -> ChunkId:
    """A page whose digest looks like one."""
    return page_chunk(7, (index * 0x9E3779B97F4A7C15_F39CC0605CEDC835 % (1 << 128)).to_bytes(16, "little"))


def alike(index: int) -> ChunkId:
    """A page whose digest begins like all others."""
    return page_chunk(7, b"same" + index.to_bytes(12, "little"))


def in_order(table: PageTable) -> list[ChunkId]:
    chunks = []
    row = table.oldest
    while row:
        chunks.append(table.chunk(row))
        row = table.newer[row]
    return chunks


def test_buckets_follow_the_number_of_pages_up_and_down() -> None:
    table = PageTable(7)
    chunks = [spread(index) for index in range(3000)]
    for count, chunk in enumerate(chunks, 1):
        table.add(chunk, 10, 0)
        assert table.chunk(table.find(chunk)) == chunk
        assert table.pages == count
    assert in_order(table) == chunks
    assert all(table.find(chunk) for chunk in chunks)
    for chunk in chunks[:-1]:
        assert table.remove(table.find(chunk)) == 10
        assert not table.find(chunk)
    assert in_order(table) == chunks[-1:]
    assert (table.pages, table.bytes) == (1, 10)
    assert len(table._buckets) == 1


def test_pages_whose_digests_begin_alike_are_told_apart() -> None:
    table = PageTable(7)
    chunks = [alike(index) for index in range(300)]
    for length, chunk in enumerate(chunks):
        table.add(chunk, length, 0)
    assert [table.words[table.find(chunk)] for chunk in chunks] == list(range(300))
    assert not table.find(alike(300))
    for chunk in chunks[::2]:
        table.remove(table.find(chunk))
    assert [bool(table.find(chunk)) for chunk in chunks] == [False, True] * 150


def test_a_tag_found_across_two_entries_is_not_an_entry() -> None:
    table = PageTable(7)
    table.add(page_chunk(7, b"\x00\x00\x01\x00" + bytes(8)), 1, 0)  # its row, 1, and the next tag hold these bytes too
    table.add(page_chunk(7, bytes(12)), 2, 0)
    assert table.words[table.find(page_chunk(7, bytes(12)))] == 2
    assert not table.find(page_chunk(7, b"\x01\x00\x00\x00" + bytes(8)))


def test_rows_of_pages_that_went_are_used_again() -> None:
    table = PageTable(7)
    for turn in range(5):
        for index in range(100):
            table.add(spread(turn * 100 + index), LENGTH_MAX, 0)
        for index in range(100):
            table.remove(table.find(spread(turn * 100 + index)))
    assert table.rows == 101
    assert not any(table.has_page(row) for row in range(table.rows))
    assert (table.pages, table.bytes, table.oldest) == (0, 0, 0)


def test_a_hand_moves_on_when_its_page_moves_or_goes() -> None:
    table = PageTable(7)
    for index in range(4):
        table.add(spread(index), 1, 0)
    table.hand = table.find(spread(1))
    table.renew(table.hand, 1)
    assert table.chunk(table.hand) == spread(2)
    table.remove(table.hand)
    assert table.chunk(table.hand) == spread(3)
    assert in_order(table) == [spread(0), spread(3), spread(1)]


def test_a_page_takes_fifty_bytes_at_most() -> None:
    chunks = [spread(index) for index in range(20_000)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        table = PageTable(7)
        for chunk in chunks:
            table.add(chunk, 1, 0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(chunks) <= 50

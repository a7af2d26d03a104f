"""Cutting behind the end of a truncated file: which chunks, how, and under which names."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChainId, InodeId, TableId, file_chunk
from fs3.core.files.layout import chain_of
from fs3.core.files.trim_plan import ChainTrim, trim_lanes
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Layout, Trim

SIZE = 1 << 16
FILE = InodeId(7)
LAYOUT = Layout(TableId(1), SIZE, 3, (ChainId(1), ChainId(2), ChainId(3)))


def cut(there: dict[int, int], trim: Trim, layout: Layout = LAYOUT) -> list[WriteIO]:
    """The updates that a file with these chunks (index -> length) gets, in order."""
    updates = []
    for offset in range(len(layout.chains)):
        chain = ChainTrim(FILE, layout, trim, offset)
        mine = {file_chunk(FILE, index): length for index, length in there.items() if index % len(layout.chains) == offset}
        while not chain.is_done:
            key, _ = chain.key()
            following = min((chunk for chunk in mine if chunk >= key), default=None)
            if following is None:
                chain.on_nothing()
                continue
            keys = chain.on_chunk(following)
            updates += chain.plan([mine.get(chunk) for chunk, _ in keys])
    return updates


def test_the_chunk_with_the_end_is_cut_and_those_behind_it_are_removed() -> None:
    there = dict.fromkeys(range(8), SIZE) | {10_000_000: 5}
    updates = {update.chunk: update for update in cut(there, Trim(1, 2 * SIZE + 100))}
    assert set(updates) == {file_chunk(FILE, index) for index in (2, 3, 4, 5, 6, 7, 10_000_000)}
    boundary = updates.pop(file_chunk(FILE, 2))
    assert (boundary.kind, boundary.offset) == (UpdateKind.TRUNCATE, 100)
    for chunk, update in updates.items():
        assert (update.kind, update.offset) == (UpdateKind.REMOVE, 0)
        assert update.chain == chain_of(LAYOUT, int.from_bytes(chunk[8:], "big"))


@pytest.mark.parametrize(("length", "start", "expected"), [(100, 100, 0), (99, 100, 0), (101, 100, 1), (0, 0, 1), (5, SIZE, 0)])
def test_a_chunk_that_ends_before_the_end_is_left_alone(length: int, start: int, expected: int) -> None:
    assert len(cut({0: length}, Trim(1, start))) == expected


def test_chunks_of_nothing_cost_nothing() -> None:
    assert cut({}, Trim(1, 0)) == []


def test_one_cut_has_one_name_whoever_makes_it() -> None:
    some = {update.chunk: update.tag for update in cut(dict.fromkeys(range(500), 1), Trim(3, 0))}
    fewer = {update.chunk: update.tag for update in cut(dict.fromkeys(range(0, 500, 7), 1), Trim(3, 0))}
    assert fewer.items() <= some.items()
    assert len({(update.chain, update.tag) for update in cut(dict.fromkeys(range(500), 1), Trim(3, 0))}) == 500


def test_a_channel_goes_through_its_chunks_in_order_and_later_truncations_come_after() -> None:
    chains = dict.fromkeys(LAYOUT.chains)
    last: dict[tuple[int, int], int] = {}
    for serial in (1, 2, 3):
        for update in cut(dict.fromkeys(range(3000), 1), Trim(serial, 0)):
            assert update.tag is not None
            key = update.chain, update.tag.channel
            assert update.tag.seq > last.get(key, 0)
            last[key] = update.tag.seq
    assert len(last) == len(chains) * trim_lanes


def test_names_fit_in_their_fields_for_the_longest_file_and_many_truncations() -> None:
    layout = Layout(TableId(1), SIZE, 1, (ChainId(1),))
    tags = []
    for serial in (1, (1 << 24) - 1, 1 << 24, (1 << 40) + 1):
        (update,) = cut({(1 << 44) - 1: 1}, Trim(serial, 0), layout)
        assert update.tag is not None
        assert 0 < update.tag.seq < 1 << 64
        assert 0 < update.tag.channel < 1 << 32
        assert len(update.tag.client) == 16
        tags.append(update.tag)
    assert len(set(tags)) == len(tags)


def test_a_chunk_of_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="another"):
        ChainTrim(FILE, LAYOUT, Trim(1, 0), 0).on_chunk(file_chunk(InodeId(8), 0))

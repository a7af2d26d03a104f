from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import ChainId, InodeId, TableId, file_chunk
from fs3.base.units import KIB, MIB
from fs3.core.files.layout import check_layout, chunk_count, chunks, slices
from fs3.core.files.read_plan import ReadIO, buffer_bytes, holes, make_read_ios, plan_read
from fs3.model.inode import Layout

INODE = InodeId(77)


def layout_of(chunk_size: int = 64 * KIB, chains: tuple[int, ...] = (5, 6, 7)) -> Layout:
    return Layout(TableId(1), chunk_size, len(chains), tuple(ChainId(chain) for chain in chains))


layouts = st.builds(
    layout_of,
    chunk_size=st.integers(16, 21).map(lambda bits: 1 << bits),
    chains=st.lists(st.integers(1, 1000), min_size=1, max_size=9).map(tuple),
)


def test_a_small_range_is_one_slice():
    (cut,) = slices(layout_of(), INODE, 64 * KIB + 10, 100)
    assert cut.chunk == file_chunk(INODE, 1)
    assert (cut.chunk_index, cut.chain, cut.offset, cut.length, cut.at) == (1, 6, 10, 100, 0)


def test_a_range_that_ends_at_a_chunk_border_stays_in_its_chunk():
    assert [cut.chunk_index for cut in slices(layout_of(), INODE, 0, 64 * KIB)] == [0]


def test_nothing_is_no_slice():
    assert slices(layout_of(), INODE, 123, 0) == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), ((1 << 60) - 1, 2)])
def test_impossible_ranges_are_refused(offset, length):
    with pytest.raises(ValueError, match="not within a file"):
        slices(layout_of(), INODE, offset, length)


@given(layouts, st.integers(0, 1 << 40), st.integers(0, 5 * MIB))
def test_slices_cover_the_range_exactly_once(layout, offset, length):
    cuts = slices(layout, INODE, offset, length)
    at = 0
    for cut in cuts:
        assert cut.at == at
        assert cut.length > 0
        assert cut.chunk_index * layout.chunk_size + cut.offset == offset + at
        assert cut.offset + cut.length <= layout.chunk_size
        assert cut.chunk == file_chunk(INODE, cut.chunk_index)
        assert cut.chain == layout.chains[cut.chunk_index % len(layout.chains)]
        at += cut.length
    assert at == length
    # No two neighbours could be one.
    assert len({cut.chunk_index for cut in cuts}) == len(cuts)


@given(layouts, st.integers(0, 20 * MIB))
def test_chunk_count_is_the_index_after_the_last(layout, length):
    count = chunk_count(layout, length)
    assert count == (slices(layout, INODE, length - 1, 1)[0].chunk_index + 1 if length else 0)
    assert len(list(chunks(layout, INODE, 0, count))) == count


@pytest.mark.parametrize("bad", [layout_of(chunk_size=1000), layout_of(chunk_size=128 * MIB), layout_of(chains=())])
def test_check_layout_names_what_is_wrong(bad):
    with pytest.raises(ValueError, match=r"chunk size|chains"):
        check_layout(bad)


def test_check_layout_accepts_a_good_one():
    check_layout(layout_of())


def test_a_read_is_shortened_at_the_end_of_the_file():
    layout = layout_of()
    assert sum(cut.length for cut in plan_read(layout, INODE, 100, 1000, 600)) == 500
    assert plan_read(layout, INODE, 600, 1000, 600) == []
    assert plan_read(layout, INODE, 700, 1000, 600) == []


def test_read_ios_point_into_the_buffer():
    into = memoryview(bytearray(100 * KIB))
    ios = make_read_ios(plan_read(layout_of(), INODE, 60 * KIB, 100 * KIB, 1 << 30), into)
    for number, io in enumerate(ios):
        io.buffer[:] = bytes([number + 1]) * buffer_bytes(io.buffer)
    assert bytes(into) == b"\1" * (4 * KIB) + b"\2" * (64 * KIB) + b"\3" * (32 * KIB)


def test_an_io_may_have_several_buffers():
    io = ReadIO(file_chunk(INODE, 0), ChainId(1), 0, (memoryview(bytearray(3)), memoryview(bytearray(4))))
    assert buffer_bytes(io.buffer) == 7


@given(layouts, st.integers(0, 3 * MIB), st.integers(0, 3 * MIB), st.data())
def test_holes_are_the_bytes_that_no_chunk_had(layout, offset, length, data):
    plan = slices(layout, INODE, offset, length)
    got = [data.draw(st.one_of(st.just(0), st.just(cut.length), st.integers(0, cut.length))) for cut in plan]
    wanted = bytearray(b"h" * length)
    for cut, count in zip(plan, got, strict=True):
        wanted[cut.at : cut.at + count] = b"d" * count
    filled = bytearray(b"d" * length)
    found = holes(plan, got)
    for at, count in found:
        assert count > 0
        filled[at : at + count] = b"h" * count
    assert filled == wanted
    assert all(at + count < after for (at, count), (after, _) in pairwise(found)), "neighbours were not joined"

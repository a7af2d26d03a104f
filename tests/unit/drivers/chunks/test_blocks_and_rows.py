"""Sizes, slots, rows and holds of the chunk store."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.checksum import checksums, digest_of
from fs3.base.ids import ClientId, InodeId, file_chunk
from fs3.base.limits import block_bytes_max, chunk_bytes_max, content_bytes_max
from fs3.base.units import KIB, MIB
from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.files import BlockFiles, read_all, write_parts
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.rows import IndexRow, RowDamaged, Version, check, decode, describe, encode, pack_sums, parse_places
from fs3.drivers.chunks.sizes import INLINE, NOWHERE, SIZES, block_bytes, class_for, place_of, split_place
from fs3.model.chunk import Tag, UpdateKind

A = file_chunk(InodeId(1), 0)
C64 = class_for(64 * KIB)


@given(st.integers(64 * KIB, block_bytes_max))
def test_no_value_wastes_more_than_an_eighth(length):
    size = SIZES[class_for(length)]
    assert length <= size
    assert size - length <= size / 8


def test_sizes_of_values_that_matter():
    assert SIZES[class_for(4_497_472)] == 4_718_592
    assert SIZES[class_for(64 * KIB)] == 64 * KIB
    assert SIZES[class_for(chunk_bytes_max)] == 64 * MIB
    assert SIZES[class_for(content_bytes_max)] == block_bytes_max
    assert SIZES[class_for(1)] == 4096
    with pytest.raises(ValueError, match="75497473 bytes fit no block"):
        class_for(block_bytes_max + 1)


def test_the_lowest_free_slot_is_taken():
    slots = BlockAllocator()
    taken = [slots.allocate(C64) for _ in range(6)]
    assert [split_place(place) for place in taken] == [(C64, slot) for slot in range(6)]
    for slot in (4, 1, 3):
        slots.free(taken[slot])
    assert slots.used_bytes == 3 * 64 * KIB
    assert [split_place(slots.allocate(C64))[1] for _ in range(5)] == [1, 3, 4, 6, 7]
    assert split_place(slots.allocate(0)) == (0, 0)
    with pytest.raises(AssertionError):
        slots.free(place_of(0, 0)) or slots.free(place_of(0, 0))


def test_free_space_is_told_apart_from_space_to_give_back():
    slots = BlockAllocator()
    assert slots.claim(place_of(C64, 3))
    assert not slots.claim(place_of(C64, 3))
    slots.extend(C64, 3)
    slots.finish_claims()
    assert (slots.resting_bytes, slots.vacant_bytes) == (3 * 64 * KIB, 0)
    assert not list(slots.find_vacant(1 << 40))
    slots.end_rest()
    assert (slots.resting_bytes, slots.vacant_bytes) == (0, 3 * 64 * KIB)
    assert [split_place(place)[1] for place in slots.find_vacant(1 << 40)] == [0, 1, 2]
    assert [split_place(place)[1] for place in slots.find_vacant(65 * KIB)] == [0, 1]
    slots.mark_empty(place_of(C64, 0))
    slots.mark_empty(place_of(C64, 1))
    assert slots.vacant_bytes == 64 * KIB
    assert [split_place(slots.allocate(C64))[1] for _ in range(4)] == [0, 1, 2, 4]
    assert slots.vacant_bytes == 0


@pytest.fixture
def files(tmp_path):
    files = BlockFiles(tmp_path)
    yield files
    files.close()


def version_of(files, number, content, place):
    sums = pack_sums(checksums(memoryview(content)))
    return Version(number, 4, len(content), place, sums, content if place == INLINE else None, files)


def test_rows_are_packed_and_unpacked(files):
    block = version_of(files, 7, bytes(200_000), place_of(C64 + 20, 5))
    inline = version_of(files, 8, b"tiny", INLINE)
    nothing = version_of(files, 8, b"", NOWHERE)
    tag = Tag(ClientId(b"0123456789abcdef"), 5, 1 << 63)
    for committed in (None, block, inline, nothing):
        for pending in (None, block, inline, nothing):
            row = IndexRow(committed, pending, UpdateKind.TRUNCATE if pending else UpdateKind.WRITE, tag if pending else None)
            if row.exists:
                packed = encode(A, row)
                found = decode(A, packed, files)
                assert found.describe() == row.describe()
                assert encode(A, found) == packed
                where = [v.place if v is not None and v.place >= 0 else NOWHERE for v in (committed, pending)]
                ends = {}
                assert parse_places(A, packed, ends) == (*where, pending is not None)
                assert ends == ({C64 + 20: 5 * SIZES[C64 + 20] + 200_000} if block in (committed, pending) else {})
                assert describe(A, packed) == row.describe()
    assert block.digest == digest_of(checksums(memoryview(bytes(200_000))))
    assert [block.sum_of(index) for index in range(4)] == block.sums_of(0, 4) == checksums(memoryview(bytes(200_000)))


def test_a_row_that_rotted_or_has_moved_is_noticed(files):
    packed = encode(A, IndexRow(version_of(files, 1, b"tiny", INLINE), None, UpdateKind.WRITE, None))
    for at in range(len(packed)):
        rotten = bytearray(packed)
        rotten[at] ^= 1
        with pytest.raises(RowDamaged, match=A.hex()):
            check(A, bytes(rotten))
    for bad in (b"", packed[:4], packed[:-1]):
        with pytest.raises(RowDamaged):
            check(A, bad)
    with pytest.raises(RowDamaged):
        check(file_chunk(InodeId(1), 1), packed)


def test_buffers_are_written_side_by_side_even_when_the_system_stops_early(files, monkeypatch):
    fd, _ = files.locate(place_of(C64, 0))
    parts = [os.urandom(size) for size in (10, 4096, 1, 70_000)]
    real = os.pwritev
    for stop in (0, 5, 10, 11, 4107, 5000, 74_107):

        def early(fd, buffers, offset, stop=stop):
            return real(fd, [b"".join(buffers)[:stop]], offset)

        monkeypatch.setattr(os, "pwritev", early)
        os.ftruncate(fd, 0)
        write_parts(fd, [memoryview(part) for part in parts], 100)
        found = bytearray(74_107)
        assert read_all(fd, memoryview(found), 100)
        assert found == b"".join(parts)
        assert not read_all(fd, memoryview(bytearray(2)), 74_206)


def test_ranges_become_zeros(files):
    fd, _ = files.locate(place_of(C64, 0))
    os.pwrite(fd, b"\xff" * (3 * MIB), 0)
    files.zero(fd, 1000, 2 * MIB)
    files.may_punch = False
    files.zero(fd, 2_500_000, 3000)
    expected = bytearray(b"\xff" * (3 * MIB))
    expected[1000 : 1000 + 2 * MIB] = bytes(2 * MIB)
    expected[2_500_000:2_503_000] = bytes(3000)
    assert os.pread(fd, 4 * MIB, 0) == expected


class TestHolds:
    """A block is free when the index has let go of it, its readers have, and it has rested."""

    def holds(self, rest_ns=0):
        slots = BlockAllocator()
        return BlockReclaimer(slots, rest_ns, None), slots, slots.allocate(C64)

    def test_the_barrier_comes_first(self):
        holds, slots, place = self.holds()
        holds.retire_block(place)
        assert holds.retired_bytes == slots.used_bytes == block_bytes(place)
        let = holds.take_retired()
        holds.put_back(let)
        holds.reclaim(holds.take_retired(), 0)
        assert holds.retired_bytes == slots.used_bytes == 0

    def test_then_readers(self):
        holds, slots, place = self.holds()
        first, second = holds.pin(place), holds.pin(place)
        holds.retire_block(place)
        holds.reclaim(holds.take_retired(), 0)
        holds.unpin(first, 1)
        assert slots.used_bytes
        holds.unpin(second, 2)
        assert not slots.used_bytes
        assert holds.pin_count == 0
        with pytest.raises(KeyError):
            holds.unpin(second, 3)

    def test_then_it_rests_when_it_left_by_sendfile(self):
        holds, slots, place = self.holds(rest_ns=100)
        holds.unpin(holds.pin(place), 10)
        holds.retire_block(place)
        holds.reclaim(holds.take_retired(), 50)
        holds.free_due(149)
        assert slots.used_bytes
        holds.free_due(150)
        assert not slots.used_bytes

    def test_it_need_not_rest_when_that_was_long_ago_or_was_no_sendfile(self):
        for now, sent in ((110, True), (20, False)):
            holds, slots, place = self.holds(rest_ns=100)
            holds.unpin(holds.pin(place), 10, sent=sent)
            holds.retire_block(place)
            holds.reclaim(holds.take_retired(), now)
            assert not slots.used_bytes

    def test_after_opening_everything_rests(self):
        slots = BlockAllocator()
        slots.claim(place_of(C64, 1))
        slots.finish_claims()
        holds = BlockReclaimer(slots, 100, 1000)
        holds.retire_block(place_of(C64, 1))
        holds.reclaim(holds.take_retired(), 1050)
        holds.free_due(1099)
        assert holds.is_guarded(place_of(C64, 9))
        assert split_place(slots.allocate(C64)) == (C64, 2)
        holds.free_due(1100)
        assert not holds.is_guarded(place_of(C64, 9))
        assert split_place(slots.allocate(C64)) == (C64, 0)
        assert slots.used_bytes == 3 * 64 * KIB
        holds.free_due(1150)
        assert slots.used_bytes == 2 * 64 * KIB

    def test_a_guard_goes_the_same_way_and_its_block_not_before_it(self):
        holds, slots, place = self.holds(rest_ns=100)
        pin = holds.pin(place)
        holds.guard(place)
        holds.guard(place)
        holds.unguard(place)
        holds.retire_guard(place)
        holds.reclaim(holds.take_retired(), 0)
        assert holds.is_guarded(place)
        holds.unpin(pin, 10)
        assert holds.is_guarded(place)
        holds.retire_block(place)
        holds.reclaim(holds.take_retired(), 109)
        holds.free_due(110)
        assert not holds.is_guarded(place)
        assert slots.used_bytes
        holds.free_due(209)
        assert not slots.used_bytes

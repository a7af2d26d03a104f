from hypothesis import given
from hypothesis import strategies as st

from fs3.base.checksum import BLOCK_BYTES, checksums, checksums_of_parts, crc32c
from fs3.base.ids import ChainId, InodeId, TableId, file_chunk
from fs3.base.units import KIB
from fs3.core.files.write_plan import plan_write, sums_of
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Layout

INODE = InodeId(9)
LAYOUT = Layout(TableId(1), 128 * KIB, 2, (ChainId(3), ChainId(4)))


def test_a_write_is_cut_at_chunks_and_summed_at_blocks():
    data = memoryview(bytes(range(256)) * 1024)  # 256 KiB
    first, second, third = plan_write(LAYOUT, INODE, 100 * KIB, data)
    assert [write.chunk for write in (first, second, third)] == [file_chunk(INODE, index) for index in (0, 1, 2)]
    assert [write.chain for write in (first, second, third)] == [3, 4, 3]
    assert [(write.offset, len(write.data)) for write in (first, second, third)] == [
        (100 * KIB, 28 * KIB),
        (0, 128 * KIB),
        (0, 100 * KIB),
    ]
    assert second.checksums == (crc32c(data[28 * KIB : 92 * KIB]), crc32c(data[92 * KIB : 156 * KIB]))
    assert len(third.checksums) == 2
    assert all(write.tagged and write.kind is UpdateKind.WRITE for write in (first, second, third))


def test_the_reserve_says_how_long_the_chunk_will_be():
    data = memoryview(bytes(10))
    assert plan_write(LAYOUT, INODE, 0, data)[0].reserve == 10
    assert plan_write(LAYOUT, INODE, 0, data, 50 * KIB)[0].reserve == 50 * KIB
    assert plan_write(LAYOUT, INODE, 0, data, 1 << 40)[0].reserve == 128 * KIB
    assert plan_write(LAYOUT, INODE, 128 * KIB + 5, data, 130 * KIB)[0].reserve == 2 * KIB
    assert plan_write(LAYOUT, INODE, 128 * KIB + 5, data, 100)[0].reserve == 15


@given(st.integers(0, 600 * KIB), st.binary(max_size=100))
def test_writes_reassemble(offset, data):
    image = bytearray(offset + len(data))
    for write in plan_write(LAYOUT, INODE, offset, memoryview(data)):
        index = int.from_bytes(write.chunk[8:], "big")
        at = index * LAYOUT.chunk_size + write.offset
        image[at : at + len(write.data)] = write.data
        assert write.checksums == sums_of(write.data, write.offset)
    assert bytes(image) == bytes(offset) + data


@given(st.lists(st.integers(0, 70 * KIB), max_size=5), st.integers(0, 200 * KIB))
def test_sums_of_several_buffers_are_those_of_one(lengths, offset):
    whole = bytes((7 * index) % 251 for index in range(sum(lengths)))
    parts = []
    at = 0
    for length in lengths:
        parts.append(memoryview(whole)[at : at + length])
        at += length
    assert checksums_of_parts(parts, offset) == checksums(memoryview(whole), offset)
    assert sums_of(tuple(parts), offset) == sums_of(memoryview(whole), offset)
    assert len(checksums_of_parts(parts, offset, 1 << 30)) <= 1 or offset % (1 << 30) + len(whole) > 1 << 30
    assert BLOCK_BYTES == 64 * KIB

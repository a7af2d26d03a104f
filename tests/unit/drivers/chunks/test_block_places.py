"""Where blocks lie, for those who read the files beside the store: what is told is what readers of the store get."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fs3.base.checksum import PIECE_BYTES, checksums
from fs3.base.ids import ChunkId, TargetId
from fs3.base.limits import inline_chunk_bytes_max
from fs3.base.units import KIB, MIB
from fs3.core.craq.change_board import OwnerMark
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.ports.chunk_store import BlockPlace
from fs3.sim.conformance.chunk_tools import TRUNCATE, WRITE, A, B, apply, noise, read, stage, update_of, write


def open_store(directory: Path) -> FileChunkStore:
    config = ChunkStoreConfig(disk_reserve_bytes=0, index_map_bytes=16 * MIB, block_reuse_delay_ns=0)
    return FileChunkStore.open(directory / "target", TargetId(1), OsClock(), config=config)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileChunkStore]:
    store = open_store(tmp_path)
    yield store
    await store.close()


def known(place: BlockPlace | None, version: int, data: bytes) -> set[int]:
    """The block has these bytes, and each piece of it the sum that is told. Of which pieces one is."""
    assert place is not None
    assert (place.version, place.length) == (version, len(data))
    with Path(place.path).open("rb") as file:
        assert os.pread(file.fileno(), place.length, place.offset) == data
    assert place.sums.typecode == "q"
    told = {index: found for index, found in enumerate(place.sums) if found != -1}
    sums = dict(enumerate(checksums(memoryview(data), 0, PIECE_BYTES)))
    assert len(place.sums) == len(sums)
    assert told.items() <= sums.items()
    return set(told)


def rot(store: FileChunkStore, chunk: ChunkId, offset: int) -> None:
    """Bytes change on the disk."""
    where = store.locate(chunk)
    assert where is not None
    (byte,) = os.pread(where.fd, 1, where.offset + offset)
    os.pwrite(where.fd, bytes((byte ^ 0x40,)), where.offset + offset)


@pytest.mark.parametrize("size", [2049, 4095, 4096, 4097, 65_535, 65_536, 65_537, 100_000, 1_000_003, 4 * MIB])
async def test_sums_of_what_small_reads_have_needed(store: FileChunkStore, size: int) -> None:
    data = noise(size, size)
    await write(store, A, 0, data)
    pieces = set(range(-(-size // PIECE_BYTES)))
    for offset in range(0, size, 64 * KIB):
        await read(store, A, offset, 10)
    assert known(store.locate_block(A), 1, data) == pieces


async def test_sums_that_are_not_known_are_not_made(store: FileChunkStore) -> None:
    data = noise(300_000)
    await write(store, A, 0, data)
    assert store.locate_block(A) is None, "no small read has needed one"
    await read(store, A, 140_000, 4096)
    assert known(store.locate_block(A), 1, data) == set(range(32, 48))
    await read(store, A, 299_999, 1)
    assert known(store.locate_block(A), 1, data) == {*range(32, 48), *range(64, 74)}


async def test_a_chunk_of_one_block_needs_no_small_read(store: FileChunkStore, needs_reads_at_once: None) -> None:
    data = noise(20_000)
    await write(store, A, 0, data)
    assert known(store.locate_block(A), 1, data) == {0, 1, 2, 3, 4}


async def test_what_is_told_is_a_copy(store: FileChunkStore) -> None:
    data = noise(100_000)
    await write(store, A, 0, data)
    await read(store, A, 0, 10)
    first = store.locate_block(A)
    assert first is not None
    await read(store, A, 99_000, 10)
    assert known(first, 1, data) == set(range(16))
    first.sums[0] = 5
    assert known(store.locate_block(A), 1, data) == set(range(25))


async def test_it_is_where_the_last_version_is(store: FileChunkStore) -> None:
    data = bytearray(noise(200_000))
    await write(store, A, 0, bytes(data))
    for version, (offset, length) in enumerate(((0, 10), (65_530, 20), (199_999, 70_000), (131_072, 4096)), 2):
        piece = noise(length, version)
        data[offset : offset + length] = piece
        await write(store, A, offset, piece)
        await read(store, A, offset, 10)
        assert offset // PIECE_BYTES in known(store.locate_block(A), version, bytes(data))
    await apply(store, update_of(A, TRUNCATE, 5000))
    await read(store, A, 0, 10)
    assert known(store.locate_block(A), 6, bytes(data[:5000])) == {0, 1}


async def test_it_is_found_after_opening(tmp_path: Path) -> None:
    data = noise(100_000)
    store = open_store(tmp_path)
    await write(store, A, 0, data)
    await read(store, A, 0, 10)
    place = store.locate_block(A)
    await store.close()
    store = open_store(tmp_path)
    await read(store, A, 0, 10)
    assert known(store.locate_block(A), 1, data) == set(range(16))
    assert store.locate_block(A) == place
    await store.close()


async def test_of_chunks_without_a_block_nothing_is_told(store: FileChunkStore) -> None:
    async def locate() -> BlockPlace | None:
        await read(store, A, 0, 10)
        return store.locate_block(A)

    assert store.locate_block(A) is None, "absent"
    await write(store, A, 0, noise(inline_chunk_bytes_max))
    assert await locate() is None, "its bytes are in the index"
    await write(store, A, 0, noise(inline_chunk_bytes_max + 1))
    assert await locate() is not None
    await apply(store, update_of(A, TRUNCATE, 0))
    assert await locate() is None, "empty"
    await stage(store, update_of(B, WRITE, 0, noise(5000)))
    assert store.locate_block(B) is None, "only pending"


async def test_a_chunk_that_is_marked_is_not_told(store: FileChunkStore) -> None:
    await write(store, A, 0, noise(50_000))
    await read(store, A, 0, 10)
    assert store.locate_block(A) is not None
    store.mark_bad(A)
    assert store.locate_block(A) is None


@pytest.mark.parametrize("how", ["rot", "cut"])
async def test_rotten_bytes_are_noticed_when_their_sums_are_made(
    store: FileChunkStore, needs_reads_at_once: None, how: str
) -> None:
    await write(store, A, 0, noise(50_000))
    where = store.locate(A)
    assert where is not None
    if how == "rot":
        rot(store, A, 40_000)
    else:
        os.ftruncate(where.fd, where.offset + 100)
    told: list[ChunkId] = []
    store.on_change = told.append
    place = store.locate_block(A)
    if how == "rot":
        assert place is None
        assert list(store.bad_chunks) == told == [A]
    else:
        assert place is None, "what is not there is left to reads"


async def test_sums_are_those_of_the_bytes_that_were_written(store: FileChunkStore) -> None:
    """Once they are known they stay, whatever becomes of the bytes: so who reads these knows that they are others."""
    await write(store, A, 0, noise(50_000))
    await read(store, A, 0, 10)
    first = store.locate_block(A)
    rot(store, A, 40_000)
    assert first is not None
    assert store.locate_block(A) == first


async def test_each_opening_has_a_mark_of_its_own_in_the_directory(tmp_path: Path) -> None:
    marks = []
    for _ in range(2):
        store = open_store(tmp_path)
        mark = store.owner_mark
        assert mark is not None
        assert mark.path.startswith(str(tmp_path / "target"))
        assert Path(mark.path).read_bytes() == mark.content
        marks.append(mark)
        await store.close()
    assert marks[0].path == marks[1].path
    assert marks[0].content != marks[1].content


async def test_without_a_mark_there_is_none_to_tell(store: FileChunkStore) -> None:
    store._lock.mark = OwnerMark(store._lock.mark.path, b"")
    assert store.owner_mark is None

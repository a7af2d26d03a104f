"""Where blocks lie, for those who read the files beside the store: what is told is what readers of the store get."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fs3.base.checksum import PIECE_BYTES, checksums
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, InodeId, TargetId, file_chunk
from fs3.base.limits import inline_chunk_bytes_max
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.core.craq.change_board import OwnerMark
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore, block_places
from fs3.drivers.os.clock import OsClock
from fs3.ports.chunk_store import BlockPlace
from fs3.sim.conformance.chunk_tools import TRUNCATE, WRITE, A, B, apply, commit, noise, read, stage, update_of, write


def open_store(directory: Path) -> FileChunkStore:
    config = ChunkStoreConfig(disk_reserve_bytes=0, index_map_bytes=16 * MIB, block_reuse_delay_ns=0)
    return FileChunkStore.open(directory / "target", TargetId(1), OsClock(), config=config)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileChunkStore]:
    store = open_store(tmp_path)
    yield store
    await store.close()


def check(place: BlockPlace | None, version: int, data: bytes) -> None:
    """The block has these bytes, and each piece of it the sum that is told."""
    assert place is not None
    assert (place.version, place.length) == (version, len(data))
    with Path(place.path).open("rb") as file:
        found = os.pread(file.fileno(), place.length, place.offset)
    assert found == data
    assert place.sums.typecode == "I"
    assert place.sums.tolist() == checksums(memoryview(data), 0, PIECE_BYTES)


def rot(store: FileChunkStore, chunk: ChunkId, offset: int) -> None:
    """Bytes change on the disk."""
    where = store.locate(chunk)
    assert where is not None
    (byte,) = os.pread(where.fd, 1, where.offset + offset)
    os.pwrite(where.fd, bytes((byte ^ 0x40,)), where.offset + offset)


@pytest.mark.parametrize("size", [2049, 4095, 4096, 4097, 65_535, 65_536, 65_537, 100_000, 1_000_003, 4 * MIB])
async def test_the_block_and_all_its_sums(store: FileChunkStore, size: int) -> None:
    data = noise(size, size)
    await write(store, A, 0, data)
    check(await store.locate_block(A), 1, data)
    check(await store.locate_block(A), 1, data)


async def test_sums_that_are_known_in_part_become_known(store: FileChunkStore) -> None:
    data = noise(300_000)
    await write(store, A, 0, data)
    assert await read(store, A, 70_000, 4096) == data[70_000:74_096]
    check(await store.locate_block(A), 1, data)


async def test_it_is_where_the_last_version_is(store: FileChunkStore) -> None:
    data = bytearray(noise(200_000))
    await write(store, A, 0, bytes(data))
    for version, (offset, length) in enumerate(((0, 10), (65_530, 20), (199_999, 70_000), (131_072, 4096)), 2):
        piece = noise(length, version)
        data[offset : offset + length] = piece
        await write(store, A, offset, piece)
        check(await store.locate_block(A), version, bytes(data))
    await apply(store, update_of(A, TRUNCATE, 5000))
    check(await store.locate_block(A), 6, bytes(data[:5000]))


async def test_it_is_found_after_opening(tmp_path: Path) -> None:
    data = noise(100_000)
    store = open_store(tmp_path)
    await write(store, A, 0, data)
    place = await store.locate_block(A)
    await store.close()
    with pytest.raises(FS3Error) as refused:
        await store.locate_block(A)
    assert refused.value.code is Code.SHUTTING_DOWN
    store = open_store(tmp_path)
    check(await store.locate_block(A), 1, data)
    assert await store.locate_block(A) == place
    await store.close()


async def test_of_chunks_without_a_block_nothing_is_told(store: FileChunkStore) -> None:
    assert await store.locate_block(A) is None, "absent"
    await write(store, A, 0, noise(inline_chunk_bytes_max))
    assert await store.locate_block(A) is None, "its bytes are in the index"
    await write(store, A, 0, noise(inline_chunk_bytes_max + 1))
    assert await store.locate_block(A) is not None
    await apply(store, update_of(A, TRUNCATE, 0))
    assert await store.locate_block(A) is None, "empty"
    await stage(store, update_of(B, WRITE, 0, noise(5000)))
    assert await store.locate_block(B) is None, "only pending"


async def test_a_chunk_that_is_marked_is_not_told(store: FileChunkStore) -> None:
    await write(store, A, 0, noise(100_000))
    assert await store.locate_block(A) is not None
    store.mark_bad(A)
    assert await store.locate_block(A) is None


async def test_rotten_bytes_are_noticed_when_their_sums_are_made(store: FileChunkStore) -> None:
    await write(store, A, 0, noise(300_000))
    rot(store, A, 250_000)
    told: list[ChunkId] = []
    store.on_change = told.append
    assert await store.locate_block(A) is None
    assert list(store.bad_chunks) == [A]
    assert told == [A]


async def test_a_file_that_ends_before_is_noticed(store: FileChunkStore) -> None:
    await write(store, A, 0, noise(300_000))
    where = store.locate(A)
    assert where is not None
    os.ftruncate(where.fd, where.offset + 100)
    assert await store.locate_block(A) is None
    assert list(store.bad_chunks) == [A]


async def test_sums_are_those_of_the_bytes_that_were_written(store: FileChunkStore) -> None:
    """Once they are known they stay, whatever becomes of the bytes: so who reads these knows that they are others."""
    data = noise(100_000)
    await write(store, A, 0, data)
    first = await store.locate_block(A)
    rot(store, A, 50_000)
    assert first is not None
    assert await store.locate_block(A) == first


class Slow:
    """Reads of blocks wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads, self.go = threading.Event(), threading.Event()
        real = block_places.derive_pieces

        def derive(*arguments: Any) -> bool:
            self.reads.set()
            assert self.go.wait(60)
            return real(*arguments)

        monkeypatch.setattr(block_places, "derive_pieces", derive)

    async def begin(self, store: FileChunkStore) -> asyncio.Task[BlockPlace | None]:
        """The sums of a chunk are being made."""
        task = asyncio.ensure_future(store.locate_block(A))
        assert await asyncio.to_thread(self.reads.wait, 60)
        return task


@pytest.mark.parametrize("change", ["commit", "mark", "cut", "nothing", "pending"])
async def test_what_changes_while_the_sums_are_made_is_not_told(
    store: FileChunkStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = noise(100_000)
    await write(store, A, 0, data)
    update = update_of(A, WRITE, 0, noise(70_000, 5), seq=2)
    staged = await stage(store, update) if change == "commit" else None
    slow = Slow(monkeypatch)
    task = await slow.begin(store)
    match change:
        case "commit":
            assert staged is not None
            commit(store, update, staged)
        case "mark":
            store.mark_bad(A)
        case "cut":
            await apply(store, update_of(A, TRUNCATE, 0, seq=2))
        case "pending":
            await stage(store, update)
    slow.go.set()
    place = await task
    if change in ("nothing", "pending"):
        check(place, 1, data)
    else:
        assert place is None
    assert (A in store.bad_chunks) == (change == "mark")


async def test_two_may_ask_at_once(store: FileChunkStore) -> None:
    data = noise(1_000_000)
    await write(store, A, 0, data)
    for place in await asyncio.gather(*(store.locate_block(A) for _ in range(5))):
        check(place, 1, data)


async def test_nothing_stays_pinned(store: FileChunkStore) -> None:
    chunks = [file_chunk(InodeId(9), index) for index in range(20)]
    for chunk in chunks:
        await write(store, chunk, 0, noise(70_000))
    await asyncio.gather(*map(store.locate_block, chunks))
    assert not store.inspect().pins


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

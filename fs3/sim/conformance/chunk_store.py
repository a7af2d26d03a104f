"""What every `ChunkStore` must do. Subclass `ChunkStoreTests` beside the driver's own tests and say how a store is opened."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fs3.base.checksum import checksums, digest_of
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, file_chunk, page_chunk
from fs3.base.limits import block_bytes_max, inline_chunk_bytes_max, small_read_bytes
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadBatch, ReadResult, StageResult
from fs3.ports.rpc import FileRange

CLIENT = ClientId(b"client-of-tests!")
WRITE, PUT, TRUNCATE, REMOVE, FILL = UpdateKind
A, B, C, D = (file_chunk(InodeId(7), index) for index in range(4))


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes without pattern."""
    block = Prng(seed).bytes(min(length, 4093))
    return (block * (length // max(len(block), 1) + 1))[:length]


def update_of(chunk: ChunkId, kind: UpdateKind, offset: int = 0, data: bytes = b"", *, seq: int = 1, reserve: int = 0) -> Update:
    """A well-formed update."""
    view = memoryview(data)
    sums = tuple(checksums(view, offset))
    tag = Tag(CLIENT, 3, seq)
    return Update(chunk, kind, ChainId(1), 5, 0, offset, len(data), tag, sums, reserve, view if data else None)


async def stage(store: ChunkStore, update: Update, version: int = 0) -> StageResult:
    """Stage as the next version, or as the one given."""
    meta = store.get(update.chunk)
    return await store.stage(update, version or (meta.committed if meta else 0) + 1, update.chain_version)


def commit(store: ChunkStore, update: Update, staged: StageResult) -> UpdateResult:
    """Commit what was staged."""
    meta = store.get(update.chunk)
    assert meta is not None
    result = UpdateResult(Code.OK, meta.pending, staged.length, staged.checksum)
    store.commit(update.chunk, meta.pending, update.tag, result)
    return result


async def apply(store: ChunkStore, update: Update) -> StageResult:
    """Stage and commit; it has to succeed."""
    staged = await stage(store, update)
    assert staged.code is Code.OK, staged.message
    commit(store, update, staged)
    return staged


async def write(store: ChunkStore, chunk: ChunkId, offset: int, data: bytes, reserve: int = 0) -> StageResult:
    """A committed WRITE."""
    return await apply(store, update_of(chunk, WRITE, offset, data, reserve=reserve))


def bytes_of(result: ReadResult) -> bytes:
    """What a result would send."""
    return b"".join(os.pread(p.fd, p.length, p.offset) if isinstance(p, FileRange) else bytes(p) for p in result.parts)


def proves(result: ReadResult, offset: int) -> bool:
    """The bytes have the sums they are served with."""
    found = memoryview(bytes_of(result))
    return list(result.checksums) == (checksums(found, offset, result.piece_bytes) if found else [])


async def read(store: ChunkStore, chunk: ChunkId, offset: int, length: int) -> bytes:
    """A range, as a client that verifies gets it, both ways."""
    cold = await store.read_cold(chunk, offset, length)
    warm = store.read(chunk, offset, length)
    found = []
    for result in (cold,) if warm is None else (cold, warm):
        assert result.code is Code.OK, result.message
        assert proves(result, offset)
        found.append(bytes_of(result))
        assert result.length == len(found[-1])
        if result.pin:
            store.release(result.pin)
    assert len(set(found)) == 1
    return found[0]


async def content(store: ChunkStore, chunk: ChunkId) -> bytes | None:
    """All of a chunk's committed version, checked against its metadata. None when there is none."""
    meta = store.get(chunk)
    if meta is None or not meta.committed:
        result = await store.read_cold(chunk, 0, 1)
        assert result.code is Code.NOT_FOUND
        return None
    found = await read(store, chunk, 0, block_bytes_max)
    assert meta.length == len(found)
    assert meta.checksum == digest_of(checksums(memoryview(found)))
    return found


def applied(kind: UpdateKind, old: bytes, offset: int, data: bytes) -> bytes:
    """What a chunk is after an update, said in the plainest way."""
    if kind is TRUNCATE:
        return old[:offset]
    if kind in (PUT, FILL):
        return data
    return old[:offset] + b"\0" * (offset - len(old)) + data + old[offset + len(data) :] if data else old


class ChunkStoreTests(ABC):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path` and an asyncio mode."""

    @abstractmethod
    async def open(self, directory: Path, capacity_bytes: int = 0) -> ChunkStore:
        """A store in `directory`, empty when that is. A block may be used again as soon as nobody has it pinned."""

    @abstractmethod
    async def reopen(self, store: ChunkStore, directory: Path) -> ChunkStore:
        """The store again after `close`."""

    @abstractmethod
    async def crash(self, store: ChunkStore, directory: Path) -> ChunkStore:
        """The store as it could be found if the power had failed just now. It is closed by the caller, as `store` is."""

    @abstractmethod
    def rot(self, store: ChunkStore, chunk: ChunkId, offset: int) -> None:
        """The disk changes a byte of the committed version."""

    @asynccontextmanager
    async def opened(self, directory: Path, capacity_bytes: int = 0) -> AsyncIterator[ChunkStore]:
        """`open`, closed at the end."""
        store = await self.open(directory, capacity_bytes)
        try:
            yield store
        finally:
            await store.close()

    # --- stage, commit, drop -----------------------------------------------------------------------------------------

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert store.get(A) is None
            assert store.channel(CLIENT, 3) is None
            result = store.read(A, 0, 10)
            assert result is not None
            assert result.code is Code.NOT_FOUND
            assert (await store.read_cold(A, 0, 10)).code is Code.NOT_FOUND
            assert (await store.read_cold(A, 0, 10, pending=True)).code is Code.NOT_FOUND
            assert list(store.pending()) == []
            assert store.list(None, 10) == []
            assert store.space().chunks == 0
            assert store.space().used == 0

    async def test_a_staged_version_is_known_but_not_readable(self, tmp_path: Path) -> None:
        data = noise(10_000)
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, data, seq=9)
            staged = await stage(store, update)
            checksum = digest_of(checksums(memoryview(data)))
            assert staged == StageResult(Code.OK, 10_000, checksum)
            assert store.get(A) == ChunkMeta(0, 1, 5, 0, 0, WRITE, Tag(CLIENT, 3, 9), 10_000, checksum)
            assert await content(store, A) is None
            assert list(store.pending()) == [A]
            assert store.channel(CLIENT, 3) is None
            result = await store.read_cold(A, 0, 1 << 30, pending=True)
            assert (result.code, result.version, bytes_of(result), proves(result, 0)) == (Code.OK, 1, data, True)
            store.release(result.pin)

    async def test_a_commit_shows_version_and_channel_at_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, b"first", seq=9)
            result = commit(store, update, await stage(store, update))
            assert store.get(A) == ChunkMeta(1, 0, 5, 5, result.checksum)
            assert store.channel(CLIENT, 3) == ChannelRow(9, A, result)
            assert store.channel(CLIENT, 4) is None
            assert await content(store, A) == b"first"
            assert list(store.pending()) == []
            await store.flush()
            assert store.get(A) == ChunkMeta(1, 0, 5, 5, result.checksum)
            assert store.channel(CLIENT, 3) == ChannelRow(9, A, result)

    async def test_a_tag_without_client_keeps_no_row(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            page = page_chunk(b"\x11" * 16)
            data = noise(5000)
            sums = tuple(checksums(memoryview(data)))
            update = Update(page, PUT, ChainId(1), 5, 0, 0, 5000, Tag(ClientId(b""), 0, 0), sums, 0, memoryview(data))
            await apply(store, update)
            assert await content(store, page) == data
            assert store.channel(ClientId(b""), 0) is None

    async def test_the_committed_version_is_served_while_another_is_pending(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"old bytes")
            await stage(store, update_of(A, WRITE, 0, b"new"))
            meta = store.get(A)
            assert meta is not None
            assert (meta.committed, meta.pending, meta.length, meta.pending_length) == (1, 2, 9, 9)
            assert await content(store, A) == b"old bytes"

    async def test_a_dropped_version_leaves_no_trace(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(70_000))
            used = store.space().used
            before = store.get(A)
            for offset, size in ((0, 100), (70_000, 500), (500_000, 1)):
                await stage(store, update_of(A, WRITE, offset, noise(size, 2)))
                store.drop_pending(A)
                assert store.get(A) == before
                assert await content(store, A) == noise(70_000)
            await stage(store, update_of(B, WRITE, 0, noise(5000)))
            store.drop_pending(B)
            assert store.get(B) is None
            assert [chunk for chunk, _ in store.list(None, 10)] == [A]
            store.drop_pending(B)
            await store.flush()
            assert (store.space().used, store.space().chunks, store.space().pinned) == (used, 1, 0)

    async def test_a_pending_version_is_replaced(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(70_000))
            for seed, (offset, size) in enumerate([(70_000, 9000), (70_000, 300), (100, 10), (0, 200_000), (70_000, 1)], 2):
                staged = await stage(store, update_of(A, WRITE, offset, noise(size, seed), seq=seed), 2)
                assert staged.code is Code.OK
                result = await store.read_cold(A, 0, 1 << 30, pending=True)
                assert bytes_of(result) == applied(WRITE, noise(70_000), offset, noise(size, seed))
                store.release(result.pin)
                meta = store.get(A)
                assert meta is not None
                assert meta.pending_tag == Tag(CLIENT, 3, seed)
                assert await content(store, A) == noise(70_000)
            commit(store, update_of(A, WRITE), staged)
            assert await content(store, A) == noise(70_000) + noise(1, 6)
            await store.flush()
            assert store.space().pinned == 0

    async def test_misuse_is_refused_loudly(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"x")
            for chunk, version in ((A, 1), (A, 2), (B, 1)):
                try:
                    store.commit(chunk, version, Tag(CLIENT, 1, 1), UpdateResult(Code.OK))
                except ValueError as why:
                    assert chunk.hex() in str(why)  # noqa: PT017 - the suite does not import the test runner
                else:
                    raise AssertionError("a version that is not pending was committed")
            assert store.channel(CLIENT, 1) is None

    async def test_many_updates_at_once(self, tmp_path: Path) -> None:
        chunks = [file_chunk(InodeId(9), index) for index in range(150)]
        prng = Prng(5)
        data = [noise(prng.below(9000), index) for index in range(150)]
        async with self.opened(tmp_path) as store:
            updates = [
                update_of(chunk, WRITE, 0, piece, seq=n) for n, (chunk, piece) in enumerate(zip(chunks, data, strict=True))
            ]
            staged = await asyncio.gather(*(stage(store, update) for update in updates))
            for update, result in zip(updates, staged, strict=True):
                commit(store, update, result)
            for chunk, piece in zip(chunks, data, strict=True):
                assert await content(store, chunk) == piece

    # --- what updates do ---------------------------------------------------------------------------------------------

    async def test_every_kind_of_update_on_every_size_of_chunk(self, tmp_path: Path) -> None:
        sizes = (0, 1, inline_chunk_bytes_max, inline_chunk_bytes_max + 1, 4096, 65_535, 65_536, 65_537, 131_072, 300_001)
        changes = (
            (WRITE, 0, 1),
            (WRITE, 0, 131_072),
            (WRITE, 1000, 1048),
            (WRITE, 65_000, 1000),
            (WRITE, 65_536, 65_536),
            (WRITE, 130_000, 5000),
            (WRITE, 300_001, 7),
            (WRITE, 1_500_000, 70_000),
            (WRITE, 50, 0),
            (TRUNCATE, 0, 0),
            (TRUNCATE, 1, 0),
            (TRUNCATE, 65_536, 0),
            (TRUNCATE, 70_000, 0),
            (TRUNCATE, 299_000, 0),
            (TRUNCATE, 1 << 31, 0),
            (FILL, 0, 0),
            (FILL, 0, 3),
            (FILL, 0, 100_000),
        )
        async with self.opened(tmp_path) as store:
            number = 0
            for size in (-1, *sizes):
                for kind, offset, length in changes:
                    number += 1
                    chunk = file_chunk(InodeId(11), number)
                    old = noise(max(size, 0), 3)
                    if size >= 0:
                        await write(store, chunk, 0, old)
                    data = noise(length, number)
                    staged = await apply(store, update_of(chunk, kind, offset, data))
                    wanted = applied(kind, old, offset, data)
                    assert await content(store, chunk) == wanted, (size, kind, offset, length)
                    assert (staged.length, staged.checksum) == (len(wanted), digest_of(checksums(memoryview(wanted))))
                    await apply(store, update_of(chunk, REMOVE))
                    assert store.get(chunk) is None
            await store.flush()
            assert (store.space().used, store.space().chunks, store.space().pinned) == (0, 0, 0)

    async def test_appends_of_any_size(self, tmp_path: Path) -> None:
        prng = Prng(12)
        async with self.opened(tmp_path) as store:
            for chunk, reserve in ((A, 0), (B, 1 * MIB)):
                whole = b""
                for step in range(60):
                    if prng.chance(1, 6):
                        whole += bytes(prng.pick((1, 100, 65_536, 70_000)))
                    data = noise(1 + prng.below(prng.pick((10, 3000, 70_000))), step)
                    await write(store, chunk, len(whole), data, reserve)
                    whole += data
                assert await content(store, chunk) == whole

    async def test_a_gap_reads_as_zeros_whatever_was_there_before(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"\xff" * 300_000)
            await apply(store, update_of(A, REMOVE))
            await store.flush()
            await write(store, B, 0, noise(9000), 300_000)
            await stage(store, update_of(B, WRITE, 9000, b"\xff" * 200_000, reserve=300_000))
            store.drop_pending(B)
            await store.flush()
            await write(store, B, 250_000, b"end")
            assert await content(store, B) == noise(9000) + bytes(241_000) + b"end"

    async def test_a_chunk_that_was_cut_does_not_remember(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(300_000))
            await apply(store, update_of(A, TRUNCATE, 290_000))
            await write(store, A, 295_000, b"end")
            assert await content(store, A) == noise(300_000)[:290_000] + bytes(5000) + b"end"
            await apply(store, update_of(A, TRUNCATE, 100))
            await write(store, A, 200, b"end")
            assert await content(store, A) == noise(300_000)[:100] + bytes(100) + b"end"

    async def test_a_remove_is_staged_too_and_versions_begin_anew(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"one")
            await write(store, A, 0, b"two")
            update = update_of(A, REMOVE, seq=8)
            staged = await stage(store, update)
            assert staged == StageResult(Code.OK)
            meta = store.get(A)
            assert meta is not None
            assert (meta.committed, meta.pending, meta.pending_kind, meta.pending_length) == (2, 3, REMOVE, 0)
            assert await content(store, A) == b"two"
            commit(store, update, staged)
            assert store.get(A) is None
            row = store.channel(CLIENT, 3)
            assert row is not None
            assert row.seq == 8
            await write(store, A, 0, b"again")
            meta = store.get(A)
            assert meta is not None
            assert meta.committed == 1
            await apply(store, update_of(B, REMOVE))
            assert store.get(B) is None

    async def test_a_put_is_done_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            first = await apply(store, update_of(A, PUT, 0, noise(5000)))
            again = await stage(store, update_of(A, PUT, 0, noise(6000, 2)))
            assert (again.code, again.length, again.checksum) == (Code.EXISTS, 5000, first.checksum)
            meta = store.get(A)
            assert meta is not None
            assert (meta.committed, meta.pending) == (1, 0)
            assert await content(store, A) == noise(5000)

    async def test_a_fill_replaces_everything_under_its_own_version(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(5000))
            await stage(store, update_of(A, WRITE, 0, b"pending"))
            for version, data in ((17, noise(70_000, 2)), (18, b"")):
                staged = await store.stage(update_of(A, FILL, 0, data), version, 6)
                assert staged.code is Code.OK
                commit(store, update_of(A, FILL), staged)
                meta = store.get(A)
                assert meta is not None
                assert (meta.committed, meta.pending, meta.chain_version) == (version, 0, 6)
                assert await content(store, A) == data

    # --- refusals ----------------------------------------------------------------------------------------------------

    async def test_wrong_checksums_are_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(200_000))
            before, used = store.get(A), store.space().used
            for offset, size in ((0, 100), (0, 200_000), (100_000, 70_000), (200_000, 10)):
                good = update_of(A, WRITE, offset, noise(size, 2))
                sums = (*good.checksums[:-1], good.checksums[-1] ^ 1)
                bad = Update(A, WRITE, ChainId(1), 5, 0, offset, size, good.tag, sums, 0, good.data)
                results = await asyncio.gather(stage(store, bad), stage(store, update_of(B, WRITE, 0, noise(size))))
                assert [result.code for result in results] == [Code.CHECKSUM, Code.OK]
                assert A.hex() in results[0].message
                store.drop_pending(B)
                assert store.get(A) == before
                assert await content(store, A) == noise(200_000)
            await store.flush()
            assert store.space().used == used

    async def test_updates_that_contradict_themselves_are_refused(self, tmp_path: Path) -> None:
        tag = Tag(CLIENT, 1, 1)
        data = memoryview(b"data")
        sums = tuple(checksums(data))
        bad: Sequence[Update] = (
            Update(A, WRITE, ChainId(1), 5, 0, 0, 5, tag, sums, 0, data),
            Update(A, WRITE, ChainId(1), 5, 0, 0, 4, tag, sums, 0, None),
            Update(A, WRITE, ChainId(1), 5, 0, 0, 4, tag, (), 0, data),
            Update(A, WRITE, ChainId(1), 5, 0, 65_534, 4, tag, sums, 0, data),
            Update(A, WRITE, ChainId(1), 5, 0, -1, 4, tag, sums, 0, data),
            Update(A, PUT, ChainId(1), 5, 0, 1, 4, tag, sums, 0, data),
            Update(A, FILL, ChainId(1), 5, 0, 1, 4, tag, sums, 0, data),
            Update(A, FILL, ChainId(1), 5, 0, 0, 4, tag, sums, 0, None),
            Update(A, TRUNCATE, ChainId(1), 5, 0, 0, 4, tag, sums, 0, data),
        )
        async with self.opened(tmp_path) as store:
            for update in bad:
                result = await stage(store, update)
                assert result.code is Code.INVALID, update
                assert A.hex() in result.message
            result = await stage(store, update_of(A, WRITE, block_bytes_max, b"x"))
            assert result.code is Code.TOO_LARGE
            assert store.get(A) is None
            assert (store.space().used, store.space().chunks) == (0, 0)

    async def test_a_full_store_refuses_writes_and_nothing_else(self, tmp_path: Path) -> None:
        block = 256 * KIB
        async with self.opened(tmp_path, 4 * block) as store:
            for chunk in (A, B, C):
                await write(store, chunk, 0, noise(block))
            assert store.space().used == 3 * block
            assert store.space().free == block
            updates = [update_of(A, WRITE, 0, noise(block, 2)), update_of(D, WRITE, 0, noise(2 * block, 2)), update_of(B, REMOVE)]
            results = await asyncio.gather(*(stage(store, update) for update in updates))
            assert [result.code for result in results] == [Code.OK, Code.NO_SPACE, Code.OK]
            assert D.hex() in results[1].message
            assert store.get(D) is None
            for update, result in zip(updates, results, strict=True):
                if result.code is Code.OK:
                    commit(store, update, result)
            assert await content(store, A) == noise(block, 2)
            assert await content(store, C) == noise(block)
            await store.flush()
            assert store.space().used == 2 * block
            await write(store, D, 0, noise(2 * block, 2))
            before = store.get(C)
            assert (await stage(store, update_of(C, WRITE, block, b"more"))).code is Code.NO_SPACE
            assert store.get(C) == before
            assert (await stage(store, update_of(C, TRUNCATE, block - 10))).code is Code.OK

    async def test_a_closed_store_takes_nothing(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await store.close()
        await store.close()
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 1, 1)).code is Code.SHUTTING_DOWN

    # --- reads -------------------------------------------------------------------------------------------------------

    async def test_any_range_of_any_chunk(self, tmp_path: Path) -> None:
        edges = (0, 1, 2047, 4095, 4096, 4097, 8192, 65_535, 65_536, 65_537, 131_072, 150_000, 199_999, 200_000, 200_001, 300_000)
        async with self.opened(tmp_path) as store:
            for chunk, size in ((A, 200_000), (B, 1500), (C, 131_072), (D, 0)):
                data = noise(size)
                await write(store, chunk, 0, data)
                for begin in edges:
                    for end in edges:
                        if begin <= end:
                            assert await read(store, chunk, begin, end - begin) == data[begin:end]

    async def test_small_aligned_reads_have_pieces_of_4_kib_and_large_ones_stored_sums(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            stored = checksums(memoryview(data))
            await read(store, A, 0, 200_000)
            for offset, length in ((0, 4096), (65_536, 16_384), (196_608, 3392)):
                result = store.read(A, offset, length)
                if result is not None:
                    assert (result.piece_bytes, result.version, result.pin) == (4096, 1, 0)
                    assert list(result.checksums) == checksums(memoryview(data)[offset : offset + length], offset, 4096)
            for offset, length in ((0, 65_536), (65_536, 131_072), (131_072, 68_928), (0, 1 << 30)):
                result = store.read(A, offset, length)
                if result is not None:
                    last = -(-min(offset + length, 200_000) // 65_536)
                    assert result.piece_bytes == 65_536
                    assert list(result.checksums) == stored[offset // 65_536 : last]
                    store.release(result.pin)

    async def test_a_pinned_reader_keeps_what_it_reads(self, tmp_path: Path) -> None:
        old = noise(300_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, old)
            cold = await store.read_cold(A, 0, 300_000)
            warm = store.read(A, 0, 300_000)
            readers = [cold] if warm is None else [cold, warm]
            await write(store, A, 300_000, b"appended")
            await apply(store, update_of(A, TRUNCATE, 299_000))
            await write(store, A, 299_000, noise(2000, 2))
            for seed in range(3, 7):
                await write(store, A, 0, noise(300_000, seed))
                await write(store, B, 0, noise(300_000, seed))
                await apply(store, update_of(A, REMOVE))
                await store.flush()
            for result in readers:
                assert bytes_of(result) == old
                assert proves(result, 0)
                if result.pin:
                    assert store.space().pinned > 0
                    store.release(result.pin)
            await store.flush()
            assert store.space().pinned == 0

    async def test_read_many_reads_as_read_does(self, tmp_path: Path) -> None:
        prng = Prng(4)
        sizes = {A: 500_000, B: 1500, C: 0, D: 70_000}
        absent = file_chunk(InodeId(8), 0)
        data = {chunk: noise(size) for chunk, size in sizes.items()}
        async with self.opened(tmp_path) as store:
            for chunk, piece in data.items():
                await write(store, chunk, 0, piece)
            for _ in range(20):
                count = 1 + prng.below(40)
                chunks = [prng.pick((A, A, A, B, C, D, absent)) for _ in range(count)]
                offsets = [prng.below(125) * 4096 + (prng.below(4096) if prng.chance(1, 3) else 0) for _ in range(count)]
                lengths = [prng.pick((4096, 4096, 1, 10_000, 65_535, small_read_bytes, 200_000)) for _ in range(count)]
                batch = ReadBatch(offsets, lengths)
                halves = (range(0, count, 2), range(1, count, 2))
                for which in halves:
                    for index in store.read_many(chunks, batch, which, refuse_dirty=True):
                        batch.put(index, store, await store.read_cold(chunks[index], offsets[index], lengths[index]))
                payload = bytes_of(ReadResult(Code.OK, parts=batch.parts()))  # type: ignore[arg-type]
                batch.release()
                at = 0
                for index, (chunk, offset, length) in enumerate(zip(chunks, offsets, lengths, strict=True)):
                    if chunk == absent:
                        assert (batch.codes[index], batch.lengths[index]) == (Code.NOT_FOUND, 0)
                        continue
                    wanted = data[chunk][offset : offset + length]
                    found = payload[at : at + batch.lengths[index]]
                    at += len(found)
                    assert (batch.codes[index], batch.versions[index]) == (Code.OK, 1)
                    assert found == wanted
                    assert list(batch.checksums[index]) == checksums(memoryview(found), offset, batch.piece_bytes[index])
                assert at == len(payload)
            assert store.space().pinned == 0

    async def test_read_many_can_refuse_chunks_with_a_pending_version(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"clean")
            await write(store, B, 0, b"dirty")
            await stage(store, update_of(B, WRITE, 0, b"pending"))
            await stage(store, update_of(C, WRITE, 0, b"pending"))
            for refuse, codes in ((True, [Code.OK, Code.DIRTY, Code.DIRTY]), (False, [Code.OK, Code.OK, Code.NOT_FOUND])):
                batch = ReadBatch([0, 0, 0], [5, 5, 5])
                assert not store.read_many([A, B, C], batch, range(3), refuse_dirty=refuse)
                assert batch.codes == codes
                assert b"".join(bytes(part) for part in batch.parts()) == (b"clean" if refuse else b"cleandirty")  # type: ignore[arg-type]

    async def test_chunks_are_listed_in_order_and_by_pages(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            names = sorted([*(file_chunk(InodeId(n), i) for n in (1, 2, 300) for i in (0, 1, 256)), page_chunk(b"\x00" * 16)])
            for name in reversed(names):
                await write(store, name, 0, b"x")
            await apply(store, update_of(names[4], REMOVE))
            await stage(store, update_of(names[5], WRITE, 0, b"pending"))
            left = names[:4] + names[5:]
            assert [chunk for chunk, _ in store.list(None, 100)] == left
            assert [chunk for chunk, _ in store.list(None, 3)] == left[:3]
            assert [chunk for chunk, _ in store.list(names[3], 3)] == left[4:7]
            assert [chunk for chunk, _ in store.list(names[4], 3)] == left[4:7]
            assert store.list(names[-1], 3) == []
            assert all(meta == store.get(chunk) for chunk, meta in store.list(None, 100))
            assert store.space().chunks == len(left)

    # --- a disk that changes bytes -----------------------------------------------------------------------------------

    async def test_rotten_bytes_are_never_passed_off_as_good(self, tmp_path: Path) -> None:
        data = noise(300_000)
        async with self.opened(tmp_path) as store:
            for chunk, known in ((A, False), (B, True)):
                await write(store, chunk, 0, data)
                if known:
                    assert await read(store, chunk, 69_632, 4096) == data[69_632:73_728]
                self.rot(store, chunk, 70_000)
                for offset, length in (
                    (69_632, 4096),
                    (70_000, 1),
                    (65_000, 9000),
                    (65_537, 65_536),
                    (0, 300_000),
                    (65_536, 65_536),
                ):
                    assert (await store.read_cold(chunk, offset, length)).code is Code.CHECKSUM
                    result = store.read(chunk, offset, length)
                    if result is not None:
                        assert result.code is Code.CHECKSUM or not proves(result, offset)
                        store.release(result.pin)
                batch = ReadBatch([69_632], [4096])
                if not store.read_many([chunk], batch, [0], refuse_dirty=True):
                    found = b"".join(bytes(part) for part in batch.parts())  # type: ignore[arg-type]
                    assert batch.codes[0] == Code.CHECKSUM or list(batch.checksums[0]) != checksums(
                        memoryview(found), 69_632, 4096
                    )
                assert await read(store, chunk, 131_072, 4096) == data[131_072:135_168]
                assert await read(store, chunk, 131_072, 131_072) == data[131_072:262_144]

    async def test_rotten_bytes_do_not_get_a_new_sum(self, tmp_path: Path) -> None:
        data = noise(300_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            self.rot(store, A, 70_000)
            before = store.get(A)
            for update in (update_of(A, WRITE, 66_000, b"x"), update_of(A, TRUNCATE, 80_000)):
                refused = await stage(store, update)
                assert refused.code is Code.CHECKSUM
                assert A.hex() in refused.message
                assert store.get(A) == before
            await write(store, A, 65_536, noise(65_536, 2))
            assert await content(store, A) == data[:65_536] + noise(65_536, 2) + data[131_072:]

    # --- close, open, crash ------------------------------------------------------------------------------------------

    async def test_all_is_there_after_close(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await write(store, A, 0, noise(100_000))
        await write(store, A, 100_000, noise(50_000, 2), 1 * MIB)
        await write(store, B, 0, b"small")
        await write(store, C, 0, b"gone")
        await apply(store, update_of(C, REMOVE))
        await stage(store, update_of(B, WRITE, 2, b"pending", seq=77))
        metas, row, space = store.list(None, 10), store.channel(CLIENT, 3), store.space()
        await store.close()
        store = await self.reopen(store, tmp_path)
        try:
            assert store.list(None, 10) == metas
            assert store.channel(CLIENT, 3) == row
            assert (store.space().used, store.space().chunks) == (space.used, space.chunks)
            assert list(store.pending()) == [B]
            assert await content(store, A) == noise(100_000) + noise(50_000, 2)
            assert await content(store, B) == b"small"
            result = await store.read_cold(B, 0, 100, pending=True)
            assert bytes_of(result) == b"smpending"
            store.commit(B, 2, Tag(CLIENT, 3, 77), UpdateResult(Code.OK, 2, 9))
            assert await content(store, B) == b"smpending"
        finally:
            await store.close()

    async def test_a_crash_keeps_what_was_staged_and_what_a_barrier_took_along(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            first = update_of(A, WRITE, 0, noise(100_000), seq=1)
            commit(store, first, await stage(store, first))
            second = update_of(B, WRITE, 0, noise(5000), seq=2)
            result = commit(store, second, await stage(store, second))
            third = update_of(A, WRITE, 100_000, noise(7), seq=3)
            staged = await stage(store, third)
            commit(store, third, staged)
            after = await self.crash(store, tmp_path)
            try:
                meta = after.get(A)
                assert meta is not None
                if meta.committed == 1:
                    assert (meta.pending, meta.pending_tag, meta.pending_length) == (2, Tag(CLIENT, 3, 3), 100_007)
                    assert list(after.pending()) == [A]
                    assert await content(after, A) == noise(100_000)
                    assert after.channel(CLIENT, 3) == ChannelRow(2, B, result)
                    commit(after, third, staged)
                assert await content(after, A) == noise(100_000) + noise(7)
                assert await content(after, B) == noise(5000)
                row = after.channel(CLIENT, 3)
                assert row is not None
                assert row.seq == 3
            finally:
                await after.close()

    async def test_a_crash_at_any_moment_finds_only_good_bytes(self, tmp_path: Path) -> None:
        """Random work on few chunks, so that blocks change hands often; after each crash the work goes on."""
        prng = Prng(21)
        store = await self.open(tmp_path / "0")
        committed: dict[ChunkId, bytes | None] = {A: None, B: None, C: None}
        pending: dict[ChunkId, bytes | None] = {}
        unsynced: dict[ChunkId, bytes | None] = {}
        for step in range(120):
            chunk = prng.pick((A, B, C))
            old = committed[chunk]
            choice = prng.below(10)
            if chunk in pending and choice < 7:
                if choice == 0:
                    store.drop_pending(chunk)
                    unsynced[chunk] = pending.pop(chunk)
                else:
                    meta = store.get(chunk)
                    assert meta is not None
                    store.commit(chunk, meta.pending, Tag(CLIENT, 3, step), UpdateResult(Code.OK))
                    unsynced[chunk] = old
                    committed[chunk] = pending.pop(chunk)
            elif choice < 9:
                size = len(old or b"")
                kind = prng.pick((WRITE, WRITE, WRITE, TRUNCATE, REMOVE, FILL))
                offset = 0 if kind is FILL else prng.pick((0, size, size, size // 2, size + 5000))
                data = noise(1 + prng.below(100_000), step) if kind in (WRITE, FILL) else b""
                staged = await stage(store, update_of(chunk, kind, 0 if kind is REMOVE else offset, data))
                assert staged.code is Code.OK
                pending[chunk] = None if kind is REMOVE else applied(kind, old or b"", offset, data)
                unsynced.clear()
            else:
                after = await self.crash(store, tmp_path / str(step))
                await store.close()
                store = after
                for name in committed:
                    found = await content(store, name)
                    meta = store.get(name)
                    if name in unsynced and found != committed[name]:
                        assert found == unsynced[name]
                    elif name not in unsynced:
                        assert found == committed[name]
                    if meta is not None and meta.pending and meta.pending_kind is not REMOVE:
                        result = await store.read_cold(name, 0, 1 << 30, pending=True)
                        assert result.code is Code.OK, result.message
                        if name in pending:
                            assert bytes_of(result) == pending[name]
                        store.release(result.pin)
                    assert (name in pending) <= bool(meta is not None and meta.pending)
                    if name not in pending and meta is not None and meta.pending:
                        store.drop_pending(name)
                    committed[name] = found
                unsynced.clear()
                await store.flush()
        await store.close()

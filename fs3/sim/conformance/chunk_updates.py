"""What every `ChunkStore` must do with updates; a part of `fs3.sim.conformance.chunk_store`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fs3.base.checksum import checksums, digest_of
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, file_chunk, page_chunk
from fs3.base.limits import block_bytes_max, channels_per_target_max, inline_chunk_bytes_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult
from fs3.ports.chunk_store import ChunkStore, Staged, StageResult
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    FILL,
    PUT,
    REMOVE,
    TRUNCATE,
    WRITE,
    A,
    B,
    C,
    D,
    apply,
    bytes_of,
    commit,
    content,
    expected_content,
    has_valid_checksums,
    noise,
    stage,
    update_of,
    write,
)


class ChunkStoreSuite(ABC):
    """How a driver tells the suite about itself."""

    @abstractmethod
    async def open(self, directory: Path, capacity_bytes: int = 0, channels_max: int = channels_per_target_max) -> ChunkStore:
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
    async def opened(
        self, directory: Path, capacity_bytes: int = 0, channels_max: int = channels_per_target_max
    ) -> AsyncIterator[ChunkStore]:
        """`open`, closed at the end."""
        store = await self.open(directory, capacity_bytes, channels_max)
        try:
            yield store
        finally:
            await store.close()


class ChunkUpdateTests(ChunkStoreSuite):
    """Stage, commit, drop; every kind of update; refusals."""

    # --- stage, commit, drop -----------------------------------------------------------------------------------------

    async def test_what_is_absent_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert store.get(A) is None
            assert store.get_channel(CLIENT, 3) is None
            result = store.read(A, 0, 10)
            assert result is not None
            assert result.code is Code.NOT_FOUND
            assert (await store.read_cold(A, 0, 10)).code is Code.NOT_FOUND
            assert (await store.read_cold(A, 0, 10, pending=True)).code is Code.NOT_FOUND
            assert list(store.list_pending()) == []
            assert store.list(None, 10) == []
            assert store.get_space().chunks == 0
            assert store.get_space().used == 0

    async def test_a_staged_version_is_known_but_not_readable(self, tmp_path: Path) -> None:
        data = noise(10_000)
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, data, seq=9)
            staged = await stage(store, update)
            checksum = digest_of(checksums(memoryview(data)))
            assert staged == StageResult(Code.OK, 10_000, checksum)
            assert store.get(A) == ChunkMeta(0, 1, 5, 0, 0, WRITE, Tag(CLIENT, 3, 9), 10_000, checksum)
            assert await content(store, A) is None
            assert list(store.list_pending()) == [A]
            assert store.get_channel(CLIENT, 3) is None
            result = await store.read_cold(A, 0, 1 << 30, pending=True)
            assert (result.code, result.version, bytes_of(result), has_valid_checksums(result, 0)) == (Code.OK, 1, data, True)
            store.release(result.pin)

    async def test_a_commit_shows_version_and_channel_at_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, b"first", seq=9)
            result = commit(store, update, await stage(store, update))
            assert store.get(A) == ChunkMeta(1, 0, 5, 5, result.checksum)
            assert store.get_channel(CLIENT, 3) == ChannelRow(9, A, result)
            assert store.get_channel(CLIENT, 4) is None
            assert await content(store, A) == b"first"
            assert list(store.list_pending()) == []
            await store.flush()
            assert store.get(A) == ChunkMeta(1, 0, 5, 5, result.checksum)
            assert store.get_channel(CLIENT, 3) == ChannelRow(9, A, result)

    async def test_a_tag_without_client_keeps_no_row(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            page = page_chunk(1, b"\x11" * 16)
            data = noise(5000)
            sums = tuple(checksums(memoryview(data)))
            update = Update(page, PUT, ChainId(1), 5, 0, 0, 5000, Tag(ClientId(b""), 0, 0), sums, 0, memoryview(data))
            await apply(store, update)
            assert await content(store, page) == data
            assert store.get_channel(ClientId(b""), 0) is None

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
            used = store.get_space().used
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
            assert (store.get_space().used, store.get_space().chunks, store.get_space().pinned) == (used, 1, 0)

    async def test_a_pending_version_is_replaced(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(70_000))
            for seed, (offset, size) in enumerate([(70_000, 9000), (70_000, 300), (100, 10), (0, 200_000), (70_000, 1)], 2):
                staged = await stage(store, update_of(A, WRITE, offset, noise(size, seed), seq=seed), 2)
                assert staged.code is Code.OK
                result = await store.read_cold(A, 0, 1 << 30, pending=True)
                assert bytes_of(result) == expected_content(WRITE, noise(70_000), offset, noise(size, seed))
                store.release(result.pin)
                meta = store.get(A)
                assert meta is not None
                assert meta.pending_tag == Tag(CLIENT, 3, seed)
                assert await content(store, A) == noise(70_000)
            commit(store, update_of(A, WRITE), staged)
            assert await content(store, A) == noise(70_000) + noise(1, 6)
            await store.flush()
            assert store.get_space().pinned == 0

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
            assert store.get_channel(CLIENT, 1) is None

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
                    wanted = expected_content(kind, old, offset, data)
                    assert await content(store, chunk) == wanted, (size, kind, offset, length)
                    assert (staged.length, staged.checksum) == (len(wanted), digest_of(checksums(memoryview(wanted))))
                    await apply(store, update_of(chunk, REMOVE))
                    assert store.get(chunk) is None
            await store.flush()
            assert (store.get_space().used, store.get_space().chunks, store.get_space().pinned) == (0, 0, 0)

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
            row = store.get_channel(CLIENT, 3)
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
            before, used = store.get(A), store.get_space().used
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
            assert store.get_space().used == used

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
            assert (store.get_space().used, store.get_space().chunks) == (0, 0)

    async def test_a_full_store_refuses_writes_and_nothing_else(self, tmp_path: Path) -> None:
        block = 256 * KIB
        async with self.opened(tmp_path, 4 * block) as store:
            for chunk in (A, B, C):
                await write(store, chunk, 0, noise(block))
            assert store.get_space().used == 3 * block
            assert store.get_space().free == block
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
            assert store.get_space().used == 2 * block
            await write(store, D, 0, noise(2 * block, 2))
            before = store.get(C)
            assert (await stage(store, update_of(C, WRITE, block, b"more"))).code is Code.NO_SPACE
            assert store.get(C) == before
            assert (await stage(store, update_of(C, TRUNCATE, block - 10))).code is Code.OK

    async def test_updates_that_are_submitted_together(self, tmp_path: Path) -> None:
        """Each is told once, and not within the call; what is told of is pending."""
        async with self.opened(tmp_path) as store:
            await write(store, B, 0, noise(5000))
            told: list[Staged] = []
            all_told = asyncio.Event()

            def on_staged(staged: Sequence[Staged]) -> None:
                told.extend(staged)
                if len(told) == 4:
                    all_told.set()

            sound = msgspec.structs.replace(update_of(A, PUT, 0, noise(4200)), version=1)
            there = msgspec.structs.replace(update_of(B, PUT, 0, noise(4200)), version=2)
            wrong = msgspec.structs.replace(update_of(C, PUT, 0, noise(4200)), version=1, checksums=(1,))
            small = msgspec.structs.replace(update_of(D, WRITE, 0, b"few"), version=1)
            store.submit((sound, there), on_staged)
            store.submit((wrong, small), on_staged)
            assert not told
            async with asyncio.timeout(20):
                await all_told.wait()
            codes = {update.chunk: result.code for update, result in told}
            assert codes == {A: Code.OK, B: Code.EXISTS, C: Code.CHECKSUM, D: Code.OK}
            for chunk, pending in ((A, 1), (B, 0), (D, 1)):
                meta = store.get(chunk)
                assert meta is not None
                assert meta.pending == pending
            assert store.get(C) is None

    async def test_a_closed_store_takes_nothing(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await store.close()
        await store.close()
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 1, 1)).code is Code.SHUTTING_DOWN
        told: asyncio.Future[StageResult] = asyncio.get_running_loop().create_future()
        store.submit([update_of(A, WRITE, 0, b"x")], lambda staged: told.set_result(staged[0][1]))
        assert not told.done()
        assert (await told).code is Code.SHUTTING_DOWN

"""What every `ChunkStore` must do. Subclass `ChunkStoreTests` beside the driver's own tests and say how a store is opened."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fs3.base.checksum import checksums
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, InodeId, file_chunk, page_chunk
from fs3.base.limits import small_read_bytes
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.model.chunk import ChannelRow, Tag, UpdateResult
from fs3.ports.chunk_store import ReadGather, ReadResult
from fs3.sim.conformance.chunk_changes import ChunkChangeTests
from fs3.sim.conformance.chunk_channels import ChunkChannelTests
from fs3.sim.conformance.chunk_prewrites import ChunkPrewriteTests
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    FILL,
    REMOVE,
    TRUNCATE,
    WRITE,
    A,
    B,
    C,
    D,
    apply,
    bytes_of,
    check_read_codes,
    commit,
    content,
    expected_content,
    has_valid_checksums,
    noise,
    read,
    stage,
    update_of,
    write,
)
from fs3.sim.conformance.chunk_updates import ChunkUpdateTests
from fs3.sim.conformance.chunk_upkeep import ChunkUpkeepTests


class ChunkStoreTests(ChunkUpdateTests, ChunkPrewriteTests, ChunkUpkeepTests, ChunkChannelTests, ChunkChangeTests):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path` and an asyncio mode."""

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
                assert has_valid_checksums(result, 0)
                if result.pin:
                    assert store.get_space().pinned > 0
                    store.release(result.pin)
            await store.flush()
            assert store.get_space().pinned == 0

    async def test_a_pinned_version_is_read_whatever_becomes_of_its_chunk(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for chunk, size in ((A, 200_000), (B, 10), (C, 5000)):
                await write(store, chunk, 0, noise(size))
            pins = [store.pin_version(chunk) for chunk in (A, B, C)]
            assert all(pins)
            await apply(store, update_of(A, REMOVE))
            await apply(store, update_of(B, WRITE, 0, b"other bytes"))
            for index in range(20):
                await write(store, file_chunk(InodeId(8), index), 0, noise(200_000, index))
            await store.flush()
            assert store.get_space().pinned >= 200_000
            assert await store.read_pinned(pins, 4200) == [noise(4200), noise(10), noise(4200)]
            await store.flush()
            assert store.get_space().pinned == 0

    async def test_what_is_pinned_and_damaged_is_not_told(self, tmp_path: Path) -> None:
        """And of a chunk that is marked, or damaged elsewhere, what is good is told."""
        async with self.opened(tmp_path) as store:
            for chunk in (A, B):
                await write(store, chunk, 0, noise(200_000))
                store.mark_bad(chunk, "somebody says so")
            self.rot(store, A, 100)
            self.rot(store, B, 100_000)
            pins = [store.pin_version(chunk) for chunk in (A, B)]
            for chunk in (A, B):
                await apply(store, update_of(chunk, REMOVE))
            assert await store.read_pinned(pins, 4200) == [None, noise(4200)]
            assert not store.bad_chunks

    async def test_pins_end_unread_and_with_the_store(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        assert store.pin_version(A) == 0
        await stage(store, update_of(A, WRITE, 0, noise(200_000)))
        assert store.pin_version(A) == 0, "it is not committed"
        await write(store, B, 0, noise(200_000))
        pins = [store.pin_version(B) for _ in range(3)]
        await apply(store, update_of(B, REMOVE))
        store.unpin(pins[:2])
        store.unpin(pins[:1])
        await store.flush()
        assert store.get_space().pinned >= 200_000
        store.unpin(pins)
        await store.flush()
        assert store.get_space().pinned == 0
        await write(store, B, 0, noise(200_000))
        pin = store.pin_version(B)
        await store.close()
        (refused,) = await asyncio.gather(store.read_pinned([pin], 10), return_exceptions=True)
        assert isinstance(refused, FS3Error)
        assert refused.code is Code.SHUTTING_DOWN

    async def test_read_many_reads_as_read_does(self, tmp_path: Path) -> None:
        prng = Prng(4)
        page = file_chunk(InodeId(9), 0)  # of one block, and more than a piece
        sizes = {A: 500_000, B: 1500, C: 0, D: 70_000, page: 4096 + 64}
        absent = file_chunk(InodeId(8), 0)
        data = {chunk: noise(size) for chunk, size in sizes.items()}
        async with self.opened(tmp_path) as store:
            for chunk, piece in data.items():
                await write(store, chunk, 0, piece)
            for _ in range(20):
                count = 1 + prng.below(40)
                chunks = [prng.pick((A, A, A, B, C, D, page, absent)) for _ in range(count)]
                offsets = [prng.below(125) * 4096 + (prng.below(4096) if prng.chance(1, 3) else 0) for _ in range(count)]
                lengths = [prng.pick((4096, 4096, 1, 8192, 10_000, 65_535, small_read_bytes, 200_000)) for _ in range(count)]
                for index, chunk in enumerate(chunks):
                    if prng.chance(1, 2) and offsets[index] < sizes.get(chunk, 0):  # to the very end
                        lengths[index] = sizes[chunk] - offsets[index]
                    if chunk == page and prng.chance(1, 2):
                        offsets[index], lengths[index] = 0, prng.pick((sizes[page], sizes[page] + 1, small_read_bytes - 1))
                batch = ReadGather(offsets, lengths)
                halves = (range(0, count, 2), range(1, count, 2))
                for which in halves:
                    for index in store.read_many(chunks, batch, which, refuse_dirty=True):
                        batch.put(index, store, await store.read_cold(chunks[index], offsets[index], lengths[index]))
                payload = bytes_of(ReadResult(Code.OK, parts=batch.join_parts()))  # type: ignore[arg-type]
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
            assert store.get_space().pinned == 0

    async def test_read_many_can_refuse_chunks_with_a_pending_version(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, b"clean")
            await write(store, B, 0, b"dirty")
            await stage(store, update_of(B, WRITE, 0, b"pending"))
            await stage(store, update_of(C, WRITE, 0, b"pending"))
            for refuse, codes in ((True, [Code.OK, Code.DIRTY, Code.DIRTY]), (False, [Code.OK, Code.OK, Code.NOT_FOUND])):
                batch = ReadGather([0, 0, 0], [5, 5, 5])
                assert not store.read_many([A, B, C], batch, range(3), refuse_dirty=refuse)
                assert batch.codes == codes
                assert b"".join(bytes(part) for part in batch.join_parts()) == (b"clean" if refuse else b"cleandirty")  # type: ignore[arg-type]

    async def test_read_many_answers_what_the_protocol_says_of_every_state(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await check_read_codes(store)

    async def test_chunks_are_listed_in_order_and_by_pages(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            names = sorted([*(file_chunk(InodeId(n), i) for n in (1, 2, 300) for i in (0, 1, 256)), page_chunk(1, b"\x00" * 16)])
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
            assert store.get_space().chunks == len(left)

    # --- a disk that changes bytes -----------------------------------------------------------------------------------

    async def test_rotten_bytes_are_never_passed_off_as_good(self, tmp_path: Path) -> None:
        data = noise(300_000)
        ranges = ((69_632, 4096), (70_000, 1), (65_000, 9000), (65_537, 65_536), (0, 300_000), (65_536, 65_536))
        async with self.opened(tmp_path) as store:
            for number, (offset, length) in enumerate((*ranges, *ranges)):
                chunk = file_chunk(InodeId(12), number)
                await write(store, chunk, 0, data)
                if number >= len(ranges):  # sums of pieces are known already
                    assert await read(store, chunk, 69_632, 4096) == data[69_632:73_728]
                self.rot(store, chunk, 70_000)
                assert await read(store, chunk, 131_072, 4096) == data[131_072:135_168]
                assert await read(store, chunk, 131_072, 131_072) == data[131_072:262_144]
                result = store.read(chunk, offset, length)
                if result is not None:
                    assert result.code is Code.CHECKSUM or not has_valid_checksums(result, offset)
                    store.release(result.pin)
                for size in (4096, 12_288):
                    batch = ReadGather([69_632], [size])
                    if not store.read_many([chunk], batch, [0], refuse_dirty=True):
                        found = b"".join(bytes(part) for part in batch.join_parts())  # type: ignore[arg-type]
                        sums = checksums(memoryview(found), 69_632, 4096)
                        assert batch.codes[0] == Code.CHECKSUM or list(batch.checksums[0]) != sums
                assert (await store.read_cold(chunk, offset, length)).code is Code.CHECKSUM
                assert chunk in store.bad_chunks

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
        metas, row, space = store.list(None, 10), store.get_channel(CLIENT, 3), store.get_space()
        await store.close()
        store = await self.reopen(store, tmp_path)
        try:
            assert store.list(None, 10) == metas
            assert store.get_channel(CLIENT, 3) == row
            assert (store.get_space().used, store.get_space().chunks) == (space.used, space.chunks)
            assert list(store.list_pending()) == [B]
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
                    assert list(after.list_pending()) == [A]
                    assert await content(after, A) == noise(100_000)
                    assert after.get_channel(CLIENT, 3) == ChannelRow(2, B, result)
                    commit(after, third, staged)
                assert await content(after, A) == noise(100_000) + noise(7)
                assert await content(after, B) == noise(5000)
                row = after.get_channel(CLIENT, 3)
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
                pending[chunk] = None if kind is REMOVE else expected_content(kind, old or b"", offset, data)
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

"""What every `ChunkStore` must do for resync, repair and scrub; a part of `fs3.sim.conformance.chunk_store`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from fs3.base.checksum import BLOCK_BYTES, checksums, digest_of
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, InodeId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.chunk import Update
from fs3.ports.chunk_store import ChunkStore, ReadGather
from fs3.sim.conformance.chunk_tools import (
    FILL,
    FILL_BAD,
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
    noise,
    read,
    stage,
    update_of,
    write,
)
from fs3.sim.conformance.chunk_updates import ChunkStoreSuite


async def is_refused(store: ChunkStore, chunk: ChunkId) -> bool:
    """Every way to read the committed version is answered CHECKSUM, and no bytes."""
    warm = store.read(chunk, 0, 100)
    batch = ReadGather([0, 4096], [4096, 4096])
    cold = store.read_many([chunk, chunk], batch, [0, 1], refuse_dirty=True)
    codes = {(await store.read_cold(chunk, 0, 1 << 30)).code, (await store.read_cold(chunk, 4096, 1)).code, *batch.codes}
    return warm is not None and warm.code is Code.CHECKSUM and not cold and codes == {Code.CHECKSUM} and not batch.join_parts()


def damaged_fill(chunk: ChunkId, data: bytes, sound: bytes) -> Update:
    """A FILL_BAD: bytes, and what they should have been."""
    return replace(update_of(chunk, FILL_BAD, 0, data), checksums=tuple(checksums(memoryview(sound))))


class ChunkUpkeepTests(ChunkStoreSuite):
    """Ranges, bad chunks, repair, scrub, channel rows."""

    # --- ranges ------------------------------------------------------------------------------------------------------

    async def test_ranges_cover_the_key_space_without_gaps(self, tmp_path: Path) -> None:
        names = sorted(file_chunk(InodeId(n), i) for n in (1, 2, 300) for i in (0, 1, 256))
        async with self.opened(tmp_path) as store:
            for name in names:
                await write(store, name, 0, b"x")
            await write(store, names[3], 0, b"changed")
            assert [chunk for chunk, _ in store.list(None, 100, names[4])] == names[:4]
            assert [chunk for chunk, _ in store.list(names[1], 100, names[4])] == names[2:4]
            assert [chunk for chunk, _ in store.list(names[1], 1, names[4])] == names[2:3]
            assert store.list(names[3], 100, names[4]) == []
            assert store.list(names[4], 100, names[4]) == []
            between = ChunkId(names[4] + b"")[:-1] + b"\xff"
            assert [chunk for chunk, _ in store.list(names[3], 100, ChunkId(between))] == names[4:5]
            assert store.list(None, 100, ChunkId(bytes(16))) == []
            found = store.list(None, 100, names[4])[3][1]
            assert (found.committed, found.length) == (2, 7)

    async def test_a_list_shows_what_has_completed_and_is_not_yet_durable(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for chunk in (A, B, C):
                await write(store, chunk, 0, noise(5000))
            await store.flush()
            update = update_of(A, WRITE, 5000, noise(10))
            staged = await stage(store, update)
            assert [meta.pending for _, meta in store.list(None, 10)] == [2, 0, 0]
            commit(store, update, staged)
            await apply(store, update_of(B, REMOVE))
            await stage(store, update_of(C, WRITE, 0, b"x"))
            store.drop_pending(C)
            rows = store.list(None, 10)
            assert [(chunk, meta.committed, meta.pending, meta.length) for chunk, meta in rows] == [
                (A, 2, 0, 5010),
                (C, 1, 0, 5000),
            ]
            assert [meta for _, meta in rows] == [store.get(A), store.get(C)]

    # --- bad chunks --------------------------------------------------------------------------------------------------

    async def test_whoever_finds_bad_bytes_marks_the_chunk(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            for number, how in enumerate(("warm", "many", "cold", "overwrite", "verify", "scrub", "hearsay")):
                chunk = file_chunk(InodeId(20), number)
                found: list[ChunkId] = []
                store.on_bad = found.append
                await write(store, chunk, 0, data)
                self.rot(store, chunk, 70_000)
                if how == "warm":
                    result = store.read(chunk, 69_700, 1000)
                    if result is None:
                        await store.read_cold(chunk, 69_700, 1000)
                elif how == "many":
                    batch = ReadGather([69_700], [1000])
                    if store.read_many([chunk], batch, [0], refuse_dirty=True):
                        await store.read_cold(chunk, 69_700, 1000)
                elif how == "cold":
                    await store.read_cold(chunk, 0, 200_000)
                elif how == "overwrite":
                    assert (await stage(store, update_of(chunk, WRITE, 66_000, b"x"))).code is Code.CHECKSUM
                elif how == "verify":
                    assert not await store.verify(chunk)
                elif how == "scrub":
                    assert list((await store.scrub(None, 1 << 30)).bad_chunks) == [chunk]
                else:
                    store.mark_bad(chunk, "somebody says so")
                assert found == [chunk], how
                assert list(store.bad_chunks)[-1] == chunk
                assert chunk.hex() in store.bad_chunks[chunk] or how == "hearsay"
                assert await is_refused(store, chunk)
                store.mark_bad(chunk)
                assert not await store.verify(chunk)
                assert found == [chunk]
                meta = store.get(chunk)
                assert meta is not None
                assert meta.committed == 1
            assert len(store.bad_chunks) == 7

    async def test_a_mark_needs_a_committed_version(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            store.mark_bad(A)
            assert await store.verify(A)
            await stage(store, update_of(A, WRITE, 0, noise(100_000)))
            store.mark_bad(A)
            assert await store.verify(A)
            assert not store.bad_chunks

    async def test_a_mark_goes_with_the_bytes_and_not_before(self, tmp_path: Path) -> None:
        data = noise(200_000)
        heals = (
            update_of(A, FILL, 0, noise(10, 2)),
            update_of(A, WRITE, 0, noise(200_000, 2)),
            update_of(A, TRUNCATE, 0),
            update_of(A, REMOVE),
        )
        async with self.opened(tmp_path) as store:
            for update in heals:
                await write(store, A, 0, data)
                store.mark_bad(A)
                staged = await stage(store, update)
                assert await is_refused(store, A)
                store.drop_pending(A)
                assert await is_refused(store, A)
                staged = await stage(store, update)
                commit(store, update, staged)
                assert not store.bad_chunks
                await content(store, A)
                await apply(store, update_of(A, REMOVE))

    async def test_marks_are_kept(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        for chunk in (A, B, C):
            await write(store, chunk, 0, noise(100_000))
            store.mark_bad(chunk, f"of {chunk.hex()}")
        await apply(store, update_of(B, REMOVE))
        await write(store, B, 0, b"anew")
        await store.close()
        kept: list[ChunkId] = []
        store = await self.reopen(store, tmp_path)
        try:
            # A mark is written with the next barrier, so what is found again after a restart may be found anew.
            kept = [chunk for chunk in (A, C) if chunk in store.bad_chunks]
            assert dict(store.bad_chunks) == {chunk: f"of {chunk.hex()}" for chunk in kept}
            for chunk in kept:
                assert await is_refused(store, chunk)
            assert await content(store, B) == b"anew"
        finally:
            await store.close()

    # --- repair ------------------------------------------------------------------------------------------------------

    async def test_a_repair_takes_only_the_bytes_of_that_version(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            before = store.get(A)
            self.rot(store, A, 70_000)
            assert not await store.verify(A)
            for wrong in (noise(200_000, 2), data[:-1], data + b"x", b"", data[:70_000] + b"?" + data[70_001:]):
                try:
                    await store.repair(A, 1, memoryview(wrong))
                except FS3Error as why:
                    assert (why.code, A.hex() in str(why)) == (Code.CHECKSUM, True)  # noqa: PT017 - no test runner is imported
                else:
                    raise AssertionError("other bytes than those of the version were taken")
                assert await is_refused(store, A)
            assert not await store.repair(A, 2, memoryview(data))
            assert not await store.repair(B, 1, memoryview(data))
            assert await store.repair(A, 1, memoryview(data))
            assert not store.bad_chunks
            assert await content(store, A) == data
            assert await store.verify(A)
            assert store.get(A) == before
            await store.flush()
            assert store.get_space().pinned == 0
            after = await self.crash(store, tmp_path)
            try:
                assert not after.bad_chunks
                assert after.get(A) == before
                assert await content(after, A) == data
            finally:
                await after.close()

    async def test_chunks_of_every_size_can_be_repaired(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for number, size in enumerate((0, 1, 2048, 2049, 4096, 65_536, 65_537, 300_000)):
                chunk = file_chunk(InodeId(21), number)
                data = noise(size, number)
                await write(store, chunk, 0, data, 400_000)
                store.mark_bad(chunk)
                assert await store.repair(chunk, 1, memoryview(data))
                assert await content(store, chunk) == data
                await write(store, chunk, size, b"appended")
                assert await content(store, chunk) == data + b"appended"
            assert not store.bad_chunks

    async def test_a_repair_leaves_a_pending_version_alone(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            for what in ("commit", "drop"):
                await write(store, A, 0, data)
                update = update_of(A, WRITE, 100, b"pending", seq=5)
                staged = await stage(store, update)
                self.rot(store, A, 150_000)
                assert not await store.verify(A)
                meta = store.get(A)
                assert meta is not None
                assert await store.repair(A, meta.committed, memoryview(data))
                assert store.get(A) == meta
                assert await content(store, A) == data
                assert list(store.list_pending()) == [A]
                if what == "commit":
                    commit(store, update, staged)
                    assert await content(store, A) == data[:100] + b"pending" + data[107:]
                else:
                    store.drop_pending(A)
                    assert await content(store, A) == data
                await apply(store, update_of(A, REMOVE))
            await store.flush()
            assert (store.get_space().used, store.get_space().pinned) == (0, 0)

    async def test_whatever_happens_during_a_repair_goes_ahead(self, tmp_path: Path) -> None:
        data, other = noise(200_000), noise(50_000, 2)
        for what in ("commit", "drop", "stage", "remove", "again"):
            async with self.opened(tmp_path / what) as store:
                await write(store, A, 0, data)
                update = update_of(A, REMOVE) if what == "remove" else update_of(A, FILL, 0, other, seq=5)
                staged = await stage(store, update) if what in ("commit", "drop", "remove") else None
                store.mark_bad(A)
                repairing = asyncio.ensure_future(store.repair(A, 1, memoryview(data)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                again = False
                if what == "drop":
                    store.drop_pending(A)
                elif what == "again":
                    again = await store.repair(A, 1, memoryview(data))
                else:
                    staged = staged or await stage(store, update)
                    assert staged.code is Code.OK
                    commit(store, update, staged)
                done = await repairing
                assert done or again or what in ("commit", "remove")
                wanted = {"drop": data, "again": data, "remove": None}.get(what, other)
                assert await content(store, A) == wanted, what
                assert not store.bad_chunks
                await store.flush()
                used = store.get_space().used
                after = await self.crash(store, tmp_path / what)
                try:
                    assert await content(after, A) == wanted
                    assert after.get_space().used == used
                    await apply(after, update_of(A, REMOVE))
                    await after.flush()
                    assert (after.get_space().used, after.get_space().pinned) == (0, 0)
                finally:
                    await after.close()

    async def test_a_reader_of_the_old_bytes_is_not_disturbed_by_a_repair(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            result = await store.read_cold(A, 0, 200_000)
            store.mark_bad(A)
            assert await store.repair(A, 1, memoryview(data))
            for seed in range(2, 5):
                await write(store, B, 0, noise(200_000, seed))
                await store.flush()
            assert bytes_of(result) == data
            store.release(result.pin)

    # --- damaged chunks that are handed on ---------------------------------------------------------------------------

    async def test_a_damaged_chunk_is_handed_on_as_it_is(self, tmp_path: Path) -> None:
        data = noise(200_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            self.rot(store, A, 70_000)
            assert not await store.verify(A)
            found = await store.read_damaged(A)
            carried = bytes_of(found)
            assert (found.code, found.version, found.length, found.piece_bytes, found.pin) == (
                Code.OK,
                1,
                200_000,
                BLOCK_BYTES,
                0,
            )
            assert list(found.checksums) == checksums(memoryview(data))
            assert [index for index, byte in enumerate(carried) if byte != data[index]] == [70_000]
            assert (await store.read_damaged(B)).code is Code.NOT_FOUND
            assert (await store.read_damaged(A, pending=True)).code is Code.NOT_FOUND

            await write(store, B, 0, b"what was there before")
            update = damaged_fill(B, carried, data)
            staged = await stage(store, update, 7)
            assert (staged.code, staged.length, staged.checksum) == (Code.OK, 200_000, digest_of(checksums(memoryview(data))))
            assert B not in store.bad_chunks
            assert bytes_of(await store.read_damaged(B, pending=True)) == carried
            store.drop_pending(B)
            assert await content(store, B) == b"what was there before"
            marked: list[ChunkId] = []
            store.on_bad = marked.append
            commit(store, update, await stage(store, update, 7))
            assert marked == [B]
            meta = store.get(B)
            assert meta is not None
            assert (meta.committed, meta.length, meta.checksum) == (7, 200_000, staged.checksum)
            assert await is_refused(store, B)
            assert bytes_of(await store.read_damaged(B)) == carried
            assert not await store.verify(B)
            await store.flush()
            after = await self.crash(store, tmp_path)
            try:
                for offset, length in ((0, 200_000), (70_000, 1), (65_000, 10_000)):
                    assert (await after.read_cold(B, offset, length)).code is Code.CHECKSUM
                assert await is_refused(after, B)
                assert after.get(B) == meta
                assert await after.repair(B, 7, memoryview(data))
                assert not after.bad_chunks.keys() & {B}
                assert await content(after, B) == data
            finally:
                await after.close()

    async def test_a_chunk_that_came_damaged_is_healed_by_what_heals_any(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for size in (1, 100, 2048, 2049, 5000, 65_536, 200_000):
                data = noise(size)
                wrong = data[:-1] + bytes((data[-1] ^ 1,))
                last = (size - 1) // BLOCK_BYTES * BLOCK_BYTES
                heals = (
                    (update_of(A, FILL, 0, b"filled"), b"filled"),
                    (update_of(A, WRITE, 0, noise(size, 2)), noise(size, 2)),
                    (update_of(A, WRITE, last, noise(size - last + 5, 2)), data[:last] + noise(size - last + 5, 2)),
                    (update_of(A, TRUNCATE, 0), b""),
                    (update_of(A, TRUNCATE, last), data[:last]),
                    (update_of(A, REMOVE), None),
                )
                for update, after in heals:
                    await apply(store, damaged_fill(A, wrong, data))
                    assert await is_refused(store, A) or size <= 4096
                    assert (await store.read_cold(A, 0, size)).code is Code.CHECKSUM
                    for partial in (update_of(A, WRITE, size, b"more"), update_of(A, WRITE, size + 10, b"more")):
                        assert (await stage(store, partial)).code is Code.CHECKSUM
                    if size > 1:
                        assert (await stage(store, update_of(A, WRITE, size - 1, b"?"))).code is Code.CHECKSUM
                        assert (await stage(store, update_of(A, TRUNCATE, size - 1))).code is Code.CHECKSUM
                    assert A in store.bad_chunks
                    await apply(store, update)
                    assert not store.bad_chunks
                    assert await content(store, A) == after, (size, update.kind)
                    if after is not None:
                        await apply(store, update_of(A, REMOVE))

    async def test_bytes_that_are_said_to_be_damaged_and_are_not(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for size in (0, 1, 5000, 200_000):
                await apply(store, damaged_fill(A, noise(size), noise(size)))
                assert not store.bad_chunks
                assert await content(store, A) == noise(size)

    # --- scrub -------------------------------------------------------------------------------------------------------

    async def test_a_scrub_finds_every_bad_chunk_and_no_other(self, tmp_path: Path) -> None:
        prng = Prng(8)
        async with self.opened(tmp_path) as store:
            sizes = {file_chunk(InodeId(22), n): 3000 + prng.below(200_000) for n in range(30)}
            for chunk, size in sizes.items():
                await write(store, chunk, 0, noise(size))
            await write(store, A, 0, b"inline")
            await stage(store, update_of(B, WRITE, 0, noise(100_000)))
            rotten = [chunk for chunk in sizes if prng.chance(1, 4)]
            for chunk in rotten:
                self.rot(store, chunk, prng.below(sizes[chunk]))
            for limit in (1, 300_000, 1 << 30):
                found: list[ChunkId] = []
                after: ChunkId | None = None
                steps = chunks = size = 0
                while True:
                    step = await store.scrub(after, limit)
                    found += step.bad_chunks
                    chunks += step.chunks
                    size += step.bytes
                    steps += 1
                    assert step.bytes < limit + 203_000
                    after = step.after
                    if after is None:
                        break
                if limit == 1:
                    assert sorted(found) == sorted(rotten)
                    assert steps >= 31
                    assert size == sum(sizes.values()) + 6
                else:
                    assert found == []
                assert set(store.bad_chunks) == set(rotten)
                assert chunks == 31 - (0 if limit == 1 else len(rotten))
            for chunk in rotten:
                assert await store.repair(chunk, 1, memoryview(noise(sizes[chunk])))
            step = await store.scrub(None, 1 << 30)
            assert (step.after, step.chunks, list(step.bad_chunks)) == (None, 31, [])

    async def test_a_scrub_of_an_empty_store(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            step = await store.scrub(None, 1)
            assert (step.after, step.chunks, step.bytes, list(step.bad_chunks)) == (None, 0, 0, [])
            await write(store, A, 0, b"x")
            assert (await store.scrub(A, 1)).after is None

    async def test_wrong_bytes_are_never_served_whatever_is_done_about_them(self, tmp_path: Path) -> None:
        """Random work on a disk that rots: what is read is right, or refused; and at the end all can be made good."""
        prng = Prng(33)
        wanted: dict[ChunkId, bytes] = {}
        async with self.opened(tmp_path) as store:
            for step in range(150):
                chunk = prng.pick((A, B, C, D))
                old = wanted.get(chunk)
                choice = prng.below(8)
                if old is None or choice < 2:
                    size = len(old or b"")
                    offset = prng.pick((0, size, size // 2))
                    data = noise(1 + prng.below(100_000), step)
                    update = update_of(chunk, WRITE, offset, data, reserve=prng.pick((0, 300_000)))
                    staged = await stage(store, update)
                    if staged.code is Code.OK:
                        commit(store, update, staged)
                        wanted[chunk] = (old or b"")[:offset] + data + (old or b"")[offset + len(data) :]
                    else:
                        assert staged.code is Code.CHECKSUM
                        assert chunk in store.bad_chunks
                elif choice == 2 and len(old) > 2048:
                    self.rot(store, chunk, prng.below(len(old)))
                elif choice == 3:
                    await store.scrub(None, prng.pick((1, 1 << 30)))
                elif choice == 4:
                    meta = store.get(chunk)
                    assert meta is not None
                    assert await store.repair(chunk, meta.committed, memoryview(old))
                else:
                    offset = prng.below(len(old))
                    result = await store.read_cold(chunk, offset, 1 + prng.below(100_000))
                    assert result.code in (Code.OK, Code.CHECKSUM)
                    if result.code is Code.OK:
                        assert bytes_of(result) == old[offset : offset + result.length]
                    else:
                        assert chunk in store.bad_chunks
                    store.release(result.pin)
            await store.scrub(None, 1 << 30)
            for chunk in list(store.bad_chunks):
                meta = store.get(chunk)
                assert meta is not None
                assert await store.repair(chunk, meta.committed, memoryview(wanted[chunk]))
            for chunk, data in wanted.items():
                assert await read(store, chunk, 0, 1 << 30) == data

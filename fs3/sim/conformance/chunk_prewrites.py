"""What every `ChunkStore` must do with bytes that are written ahead; a part of `fs3.sim.conformance.chunk_store`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.model.chunk import Update
from fs3.ports.chunk_store import ChunkStore, Prewritten, StageResult
from fs3.sim.conformance.chunk_tools import FILL, PUT, WRITE, A, B, commit, content, noise, update_of, write
from fs3.sim.conformance.chunk_updates import ChunkStoreSuite

LENGTH = 200 * KIB + 10


class ChunkPrewriteTests(ChunkStoreSuite):
    """Prewrite, then stage with it or discard it."""

    async def test_an_update_is_staged_with_bytes_that_were_written_ahead(self, tmp_path: Path) -> None:
        for kind in (WRITE, PUT, FILL):
            async with self.opened(tmp_path / kind.name) as store:
                update = update_of(A, kind, 0, noise(LENGTH, kind))
                staged = await _stage_with(store, update, await _prewrite(store, update))
                assert staged.code is Code.OK
                assert staged.length == LENGTH
                assert await content(store, A) is None, "it is committed before it is"
                assert commit(store, update, staged).code is Code.OK
                assert await content(store, A) == noise(LENGTH, kind)

    async def test_staged_bytes_that_were_written_ahead_survive_a_loss_of_power(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, noise(LENGTH))
            await _stage_with(store, update, await _prewrite(store, update))
            after = await self.crash(store, tmp_path)
            try:
                found = await after.read_cold(A, 0, LENGTH, pending=True)
                assert (found.code, found.length, tuple(found.checksums)) == (Code.OK, LENGTH, update.checksums)
                after.release(found.pin)
            finally:
                await after.close()

    async def test_what_is_only_written_ahead_is_nowhere(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, B, 0, noise(LENGTH, 2))
            await store.flush()
            await _prewrite(store, update_of(A, WRITE, 0, noise(LENGTH)))
            assert store.get(A) is None
            assert [chunk for chunk, _ in store.list(None, 10)] == [B]
            assert not store.list_pending()
            after = await self.crash(store, tmp_path)
            try:
                assert [chunk for chunk, _ in after.list(None, 10)] == [B]
                assert await content(after, B) == noise(LENGTH, 2)
            finally:
                await after.close()

    async def test_what_is_discarded_takes_no_room_and_stages_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            used = store.get_space().used
            update = update_of(A, WRITE, 0, noise(LENGTH))
            prewritten = await _prewrite(store, update)
            store.discard(prewritten)
            store.discard(prewritten)
            assert store.get_space().used == used
            assert (await _stage_with(store, update, prewritten)).code is Code.BUSY
            assert store.get(A) is None

    async def test_bytes_are_used_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            update = update_of(A, WRITE, 0, noise(LENGTH))
            prewritten = await _prewrite(store, update)
            assert (await _stage_with(store, update, prewritten)).code is Code.OK
            store.discard(prewritten)
            assert (await _stage_with(store, msgspec.structs.replace(update, chunk=B), prewritten)).code is Code.BUSY
            await write(store, B, 0, noise(LENGTH, 2))
            found = await store.read_cold(A, 0, LENGTH, pending=True)
            assert tuple(found.checksums) == update.checksums
            store.release(found.pin)

    async def test_what_is_not_all_of_the_chunk_is_busy(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(LENGTH + 1))
            used = store.get_space().used
            update = update_of(A, WRITE, 0, noise(LENGTH, 2))
            assert (await _stage_with(store, update, await _prewrite(store, update))).code is Code.BUSY
            assert await content(store, A) == noise(LENGTH + 1)
            assert store.get_space().used == used

    async def test_bytes_with_other_checksums_are_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            prewritten = await _prewrite(store, update_of(A, WRITE, 0, noise(LENGTH, 3)))
            update = update_of(A, WRITE, 0, noise(LENGTH))
            assert (await _stage_with(store, update, prewritten)).code is Code.CHECKSUM
            assert store.get(A) is None
            assert not store.get_space().used

    async def test_bytes_of_another_length_are_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            prewritten = await _prewrite(store, update_of(A, WRITE, 0, noise(LENGTH - 1)))
            update = update_of(A, WRITE, 0, noise(LENGTH))
            assert (await _stage_with(store, update, prewritten)).code is Code.INVALID
            assert not store.get_space().used

    async def test_a_page_that_is_there_takes_no_block(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(LENGTH, 2))
            used = store.get_space().used
            update = update_of(A, PUT, 0, noise(LENGTH))
            staged = await _stage_with(store, update, await _prewrite(store, update))
            assert (staged.code, staged.length) == (Code.EXISTS, LENGTH)
            assert store.get_space().used == used

    async def test_a_closed_store_writes_nothing_ahead(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await store.close()
        assert await store.prewrite(memoryview(noise(LENGTH)), 0) is None


async def _prewrite(store: ChunkStore, update: Update) -> Prewritten:
    assert update.data is not None
    prewritten = await store.prewrite(update.data, update.reserve)
    assert prewritten is not None
    assert prewritten.checksums == update.checksums
    return prewritten


async def _stage_with(store: ChunkStore, update: Update, prewritten: Prewritten) -> StageResult:
    meta = store.get(update.chunk)
    version = (meta.committed if meta is not None else 0) + 1
    return await store.stage(msgspec.structs.replace(update, data=None), version, update.chain_version, prewritten)

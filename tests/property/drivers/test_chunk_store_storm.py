"""Everything at once on one store of files, while its disk rots: what is read is right or refused, and all can be mended."""

import asyncio
import os

import pytest

from fs3.base.ids import ClientId, InodeId, TargetId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.model.chunk import ChannelRow, Tag, UpdateResult
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    FILL,
    REMOVE,
    TRUNCATE,
    WRITE,
    apply,
    bytes_of,
    content,
    expected_content,
    has_valid_checksums,
    noise,
    update_of,
)

CHUNKS = [file_chunk(InodeId(5), index) for index in range(6)]


class Storm:
    """`wanted` is what each chunk's committed content should be."""

    def __init__(self, store, prng, wanted):
        self.store = store
        self.prng = prng
        self.wanted = wanted
        self.writers = len(CHUNKS)
        self.repaired = 0

    async def write(self, chunk):
        store, prng = self.store, self.prng
        for step in range(60):
            old = self.wanted[chunk]
            size = len(old or b"")
            kind = prng.pick((WRITE,) * 8 + (TRUNCATE, REMOVE, FILL))
            offset = 0 if kind in (FILL, REMOVE) else prng.pick((0, size, size, size // 2, size + 3000))
            longest = prng.pick((300, 9000, 90_000, 300_000))
            data = b"" if kind in (TRUNCATE, REMOVE) else noise(1 + prng.below(longest), step)
            meta = store.get(chunk)
            version = (meta.committed if meta else 0) + 1
            staged = await store.stage(update_of(chunk, kind, offset, data, reserve=prng.pick((0, 400_000))), version, 1)
            if staged.code is not Code.OK:
                assert (staged.code, chunk in store.bad_chunks) == (Code.CHECKSUM, True)
            elif prng.chance(1, 5):
                store.drop_pending(chunk)
            else:
                store.commit(chunk, version, Tag(CLIENT, prng.below(40), step), UpdateResult(Code.OK, version))
                self.wanted[chunk] = None if kind is REMOVE else expected_content(kind, old or b"", offset, data)
            await self.rest()
        self.writers -= 1

    async def rest(self):
        for _ in range(1 + self.prng.below(8)):
            await asyncio.sleep(0)

    async def read(self):
        store, prng = self.store, self.prng
        while self.writers:
            chunk = prng.pick(CHUNKS)
            wanted = self.wanted[chunk]
            offset, length = prng.below(len(wanted or b"") + 1), prng.pick((4096, 100_000, 1 << 30))
            found = store.read(chunk, offset, length) if prng.chance(1, 2) else None
            if found is None:
                meta = store.get(chunk)
                found = await store.read_cold(chunk, offset, length)
                if found.version != (meta.committed if meta else 0):
                    wanted = None  # it has changed while the disk was waited for
            if found.code is not Code.OK:
                assert found.code in (Code.CHECKSUM, Code.NOT_FOUND)
            elif not has_valid_checksums(found, offset):
                await store.verify(chunk)
            elif wanted is not None:
                assert bytes_of(found) == wanted[offset : offset + length]
            await self.rest()
            store.release(found.pin)

    async def mend(self):
        while self.writers:
            chunk = self.prng.pick([*self.store.bad_chunks, self.prng.pick(CHUNKS)])
            meta = self.store.get(chunk)
            if meta is not None and meta.committed:
                self.repaired += await self.store.repair(chunk, meta.committed, memoryview(self.wanted[chunk]))
            await self.rest()

    async def look(self):
        after = None
        while self.writers:
            after = (await self.store.scrub(after, self.prng.pick((1, 500_000)))).after
            await self.rest()
            where = self.store.locate(self.prng.pick(CHUNKS))
            if where is not None and where.length and self.prng.chance(1, 4):
                at = where.offset + self.prng.below(where.length)
                byte = os.pread(where.fd, 1, at)
                os.pwrite(where.fd, bytes((byte[0] ^ 1,)), at)

    async def merge(self):
        seq = 0
        while self.writers:
            seq += 1
            client = ClientId(bytes((self.prng.below(20),)) * 16)
            result = UpdateResult(Code.OK)
            await self.store.merge_channels(
                [((client, n), ChannelRow(seq, CHUNKS[0], result)) for n in range(self.prng.below(40))]
            )
            await self.rest()
            if self.prng.chance(1, 10):
                self.store.advance_channel_epoch()
            assert len(self.store.list_channels(None, 10_000)) == self.store.channel_count

    async def blow(self):
        await asyncio.gather(
            *(self.write(chunk) for chunk in CHUNKS),
            self.read(),
            self.read(),
            self.mend(),
            self.mend(),
            self.look(),
            self.merge(),
        )


async def mend_all(store, wanted):
    for chunk in list(store.list_pending()):
        store.drop_pending(chunk)
    for chunk, data in wanted.items():
        meta = store.get(chunk)
        assert (meta.committed != 0 if meta else False) == (data is not None)
        if data is not None:
            assert await store.verify(chunk) or await store.repair(chunk, meta.committed, memoryview(data))
            assert await content(store, chunk) == data
    assert not store.bad_chunks


@pytest.mark.parametrize("seed", range(3))
async def test_a_store_in_a_storm(tmp_path, seed):
    prng = Prng(seed)
    wanted = dict.fromkeys(CHUNKS)
    config = ChunkStoreConfig(
        disk_reserve_bytes=0,
        block_reuse_delay_ns=prng.pick((0, 2 * MILLISECOND)),
        index_map_bytes=prng.pick((64 * KIB, 16_384 * KIB)),
        row_cache_bytes=prng.pick((20 * KIB, 1024 * KIB)),
        commit_sync_ns=prng.pick((1, 100)) * MILLISECOND,
    )
    repaired = 0
    for _ in range(2):
        store = FileChunkStore.open(tmp_path / "target", TargetId(1), OsClock(), config=config)
        await mend_all(store, wanted)
        storm = Storm(store, prng, wanted)
        await storm.blow()
        repaired += storm.repaired
        await mend_all(store, wanted)
        await store.close()
    assert repaired > 5
    store = FileChunkStore.open(tmp_path / "target", TargetId(1), OsClock(), config=ChunkStoreConfig(block_reuse_delay_ns=0))
    await mend_all(store, wanted)
    for chunk in CHUNKS:
        await apply(store, update_of(chunk, REMOVE))
    await store.flush()
    assert (store.get_space().used, store.get_space().pinned) == (0, 0)
    await store.close()

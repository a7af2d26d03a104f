"""Every chunk store passes the same suite."""

import os
import shutil
from pathlib import Path

from fs3.base.ids import ChunkId, TargetId
from fs3.base.limits import channels_per_target_max
from fs3.base.prng import Prng
from fs3.base.units import GIB, KIB
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.ports.chunk_store import ChunkStore
from fs3.sim.conformance.chunk_store import ChunkStoreTests


class TestFiles(ChunkStoreTests):
    map_bytes = 1 * GIB

    async def open(self, directory: Path, capacity_bytes: int = 0, channels_max: int = channels_per_target_max) -> FileChunkStore:
        config = ChunkStoreConfig(
            capacity_bytes=capacity_bytes,
            channels_max=channels_max,
            disk_reserve_bytes=0,
            index_map_bytes=self.map_bytes,
            block_reuse_delay_ns=0,
        )
        return FileChunkStore.open(directory / "target", TargetId(1), OsClock(), config=config)

    async def reopen(self, store: ChunkStore, directory: Path) -> FileChunkStore:
        return await self.open(directory)

    async def crash(self, store: ChunkStore, directory: Path) -> FileChunkStore:
        # No barrier is under way when the suite asks for a crash, so a copy is what a killed process would leave.
        copy = directory / "after"
        shutil.copytree(store.directory, copy / "target")
        return await self.open(copy)

    def rot(self, store: ChunkStore, chunk: ChunkId, offset: int) -> None:
        assert isinstance(store, FileChunkStore)
        where = store.locate(chunk)
        assert where is not None
        byte = os.pread(where.fd, 1, where.offset + offset)
        os.pwrite(where.fd, bytes((byte[0] ^ 0x40,)), where.offset + offset)


class TestFilesWithAnIndexThatGrows(TestFiles):
    """The same on an index map so small that it grows on the way."""

    map_bytes = 64 * KIB


class TestMemory(ChunkStoreTests):
    async def open(
        self, directory: Path, capacity_bytes: int = 0, channels_max: int = channels_per_target_max
    ) -> MemoryChunkStore:
        return MemoryChunkStore(capacity_bytes, channels_max)

    async def reopen(self, store: ChunkStore, directory: Path) -> MemoryChunkStore:
        assert isinstance(store, MemoryChunkStore)
        return store.crash(Prng(1))

    async def crash(self, store: ChunkStore, directory: Path) -> MemoryChunkStore:
        assert isinstance(store, MemoryChunkStore)
        return store.crash(Prng(len(str(directory))))

    def rot(self, store: ChunkStore, chunk: ChunkId, offset: int) -> None:
        assert isinstance(store, MemoryChunkStore)
        store.rot(chunk, offset)

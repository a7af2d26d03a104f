"""Every KV driver passes the same suite."""

from contextlib import asynccontextmanager
from pathlib import Path

import lmdb

from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.kv import MemoryKV
from fs3.ports.kv import KV
from fs3.sim.conformance.kv import KVTests
from fs3.sim.conformance.kv_shared import LocalKVPeer, SharedKVTests, process_peer


async def write_behind_its_back(kv: KV, directory: Path, rows: dict[bytes, bytes]) -> None:
    """Rows as they are in the file; the store is closed."""
    await kv.close()
    with lmdb.open(str(directory / "kv"), max_dbs=1, map_size=1 << 20) as env:
        database = env.open_db(b"rows")
        with env.begin(write=True, db=database) as txn:
            for key, sealed in rows.items():
                txn.put(key, sealed)


class TestLmdb(KVTests):
    async def damage(self, kv: KV, directory: Path, rows: dict[bytes, bytes]) -> KV:
        await write_behind_its_back(kv, directory, rows)
        return await self.open(directory)

    async def open(self, directory: Path) -> KV:
        return LmdbKV.open(directory / "kv")


class TestLmdbThatGrows(TestLmdb):
    """The same on a map so small that it is grown on the way."""

    async def open(self, directory: Path) -> KV:
        return LmdbKV.open(directory / "kv", map_bytes=64 * 1024)


class TestMemory(KVTests):
    persistent = False

    async def open(self, directory: Path) -> KV:
        return MemoryKV()

    async def damage(self, kv: KV, directory: Path, rows: dict[bytes, bytes]) -> KV:
        assert isinstance(kv, MemoryKV)
        for key, sealed in rows.items():
            kv._rows.put(key, sealed)
        return kv


class TestLmdbShared(SharedKVTests):
    """Two processes."""

    opening = 'LmdbKV.open(directory / "kv")'

    @asynccontextmanager
    async def opened(self, directory: Path):
        async with process_peer(self.opening, directory) as peer:
            kv = eval(self.opening, {"LmdbKV": LmdbKV, "directory": directory})
            try:
                yield kv, peer
            finally:
                await kv.close()


class TestLmdbSharedThatGrows(TestLmdbShared):
    """The same on a map so small that each of the two outgrows what the other one has."""

    opening = 'LmdbKV.open(directory / "kv", map_bytes=64 * 1024)'


class TestMemoryShared(SharedKVTests):
    """Two handles."""

    @asynccontextmanager
    async def opened(self, directory: Path):
        kv = MemoryKV()
        other = kv.open_again()
        yield kv, LocalKVPeer(other)
        await kv.close()
        await other.close()

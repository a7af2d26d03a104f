"""Every KV driver passes the same suite."""

from pathlib import Path

from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.kv import MemoryKV
from fs3.ports.kv import KV
from fs3.sim.conformance.kv import KVTests


class TestLmdb(KVTests):
    async def open(self, directory: Path) -> KV:
        return LmdbKV.open(directory / "kv")


class TestLmdbThatGrows(KVTests):
    """The same on a map so small that it is grown on the way."""

    async def open(self, directory: Path) -> KV:
        return LmdbKV.open(directory / "kv", map_bytes=64 * 1024)


class TestMemory(KVTests):
    persistent = False

    async def open(self, directory: Path) -> KV:
        return MemoryKV()

"""The hot paths, each as something to do a number of times against a cluster."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fs3.api.client import Client, File
from fs3.api.connect import connect
from fs3.api.fsspec.walk import list_infos
from fs3.api.kvcache import KVCache
from fs3.base.errors import FS3Error
from fs3.model.namespace import PathRef
from fs3.model.requests import Open

PAGE_BYTES = 4096
FILE_BYTES = 8 << 20
BATCH = 64
PAGES = 128
LOOKUP_KEYS = 1000
FILES = 2000


@dataclass(frozen=True)
class HotPath:
    """One of them."""

    name: str
    operations: int
    """In one round: enough that the scheduler's account is finer than what it measures."""
    run: Callable[[int], Awaitable[None]]
    """Do so many operations."""


@asynccontextmanager
async def opened_paths(url: str, *, count: bool = True) -> AsyncIterator[list[HotPath]]:
    """All hot paths against a cluster, everything they need made and read once. `count`: see `connect`."""
    async with (
        await connect(url, transport="tcp", count=count) as client,
        await KVCache.of(client, namespace="bench-check", page_bytes=PAGE_BYTES, timeout=60) as cache,
    ):
        await client.makedirs("/bench-check/files")
        file = await _make_file(client, "/bench-check/data")
        paths = _Paths(client, cache, file)
        await paths.prepare()
        yield [
            HotPath("single read, 4 KiB", 400, paths.read_single),
            HotPath(f"batch read, {BATCH} x 4 KiB a call, one read", 100 * BATCH, paths.read_batch),
            HotPath(f"KV get, {PAGES} x 4 KiB a call, one page", 10 * PAGES, paths.get),
            HotPath(f"KV put, {PAGES} x 4 KiB a call, one page", 4 * PAGES, paths.put),
            HotPath(f"lookup of {LOOKUP_KEYS} keys", 20, paths.lookup),
            HotPath("stat, one caller", 400, paths.stat),
            HotPath("durable create, one caller", 100, paths.create),
            HotPath("durable write, 4 KiB", 60, paths.write),
            HotPath(f"list {FILES} with details, one entry", FILES, paths.list),
        ]
        await client.close(file)
        await client.rmtree("/bench-check")
        await cache.clear()


class _Paths:
    """What the paths use."""

    def __init__(self, client: Client, cache: KVCache, file: File) -> None:
        self._client = client
        self._cache = cache
        self._file = file
        self._random = random.Random(1)
        self._buffers = [memoryview(bytearray(PAGE_BYTES)) for _ in range(max(BATCH, PAGES))]
        self._page = memoryview(os.urandom(PAGE_BYTES))
        self._stored = [b"stored-%d" % number for number in range(PAGES)]
        self._asked = [*self._stored, *(b"absent-%d" % number for number in range(LOOKUP_KEYS - PAGES))]
        self._serial = 0

    async def prepare(self) -> None:
        """Make what is read."""
        await self._cache.put_from(self._stored, [self._page] * PAGES)
        names = [PathRef.of(f"/bench-check/files/{number:05}") for number in range(FILES)]
        made = await self._client.meta.batch([Open(name, create=True) for name in names])
        _require(not any(isinstance(answer, FS3Error) for answer in made))

    def _offset(self) -> int:
        return self._random.randrange(FILE_BYTES // PAGE_BYTES) * PAGE_BYTES

    async def read_single(self, count: int) -> None:
        for _ in range(count):
            await self._client.pread_into(self._file, self._buffers[0], self._offset())

    async def read_batch(self, count: int) -> None:
        for _ in range(count // BATCH):
            await self._client.preadv_many([(self._file, self._offset(), buffer) for buffer in self._buffers[:BATCH]])

    async def get(self, count: int) -> None:
        for _ in range(count // PAGES):
            _require(all(status.ok for status in await self._cache.get_into(self._stored, self._buffers[:PAGES])))

    async def put(self, count: int) -> None:
        for _ in range(count // PAGES):
            self._serial += 1
            keys = [b"put-%d-%d" % (self._serial, number) for number in range(PAGES)]
            _require(all(status.ok for status in await self._cache.put_from(keys, [self._page] * PAGES)))

    async def lookup(self, count: int) -> None:
        for _ in range(count):
            _require((await self._cache.lookup(self._asked)).hits == PAGES)

    async def stat(self, count: int) -> None:
        for number in range(count):
            await self._client.stat(f"/bench-check/files/{number % FILES:05}")

    async def create(self, count: int) -> None:
        for _ in range(count):
            self._serial += 1
            await self._client.open(f"/bench-check/created-{self._serial}", "x")

    async def write(self, count: int) -> None:
        self._serial += 1
        file = await self._client.open(f"/bench-check/written-{self._serial}", "w")
        for number in range(count):
            await self._client.pwrite(file, self._page, number * PAGE_BYTES)
        await self._client.close(file)

    async def list(self, count: int) -> None:
        for _ in range(count // FILES):
            _require(len(await list_infos(self._client, "/bench-check/files")) == FILES)


async def _make_file(client: Client, path: str) -> File:
    file = await client.open(path, "w")
    await client.pwrite(file, os.urandom(FILE_BYTES), 0)
    await client.close(file)
    return await client.open(path, "r")


def _require(went_well: bool) -> None:
    if not went_well:
        raise RuntimeError("an operation of the bench failed: what it cost says nothing")

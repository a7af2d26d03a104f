"""KVCache: write-once pages of attention keys and values, shared by inference workers.

    cache = await KVCache.open("fs3://127.0.0.1:8000", namespace="model@rev/fp8", page_bytes=4_497_408, replicas=2)
    await cache.put_from(keys, buffers)         # list[Status], one per key
    found = await cache.lookup(keys)            # found.hits: how many from the first on are there
    await cache.get_into(keys[: found.hits], buffers)
    await KVCache.delete_namespace("fs3://127.0.0.1:8000", "model@old/fp8")

A put is one chain write and a get is one read, in one request per storage node; no metadata service is asked. Failures are clean
misses: every call answers within its timeout with one status per key, never shifted, and a buffer whose status is not OK must be
taken as undefined. Bytes with status OK are the key's own: their checksums and the key's digest were verified after they arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence, Sequence
from typing import Any

from fs3.api.client import Client
from fs3.api.kvcache.arguments import (
    Key,
    check_lengths,
    check_limit,
    check_name,
    check_page_bytes,
    check_replicas,
    check_timeout,
    pack_keys,
    pack_prefix,
    page_buffers,
    range_buffers,
)
from fs3.api.kvcache.breaker import GuardedStorage
from fs3.api.kvcache.listing import ListsPages, PageLister, pages_per_list_max, parse_cursor
from fs3.api.kvcache.namespaces import (
    Progress,
    clear_namespace,
    client_of,
    delete_namespace,
    list_namespaces,
)
from fs3.api.kvcache.namespaces import remove_pages as remove_all_pages
from fs3.api.kvcache.page_io import get_pages, get_ranges, look_up, put_pages, remove_pages
from fs3.api.kvcache.results import LookupResult, PageList, Status
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.kvcache.pages import page_keys
from fs3.core.kvcache.placement import Placement
from fs3.model.cluster import CacheNamespace

TIMEOUT_SECONDS = 10.0
presence_check_ns = 1 * SECOND
"""How long a call waits for the manager to say whether its namespace is still there, before it goes on as if it was."""


def _no_progress(_: int) -> None:
    pass


def _miss_all(count: int, lengths: MutableSequence[int] | None) -> list[Status]:
    if lengths is not None:
        for index in range(count):
            lengths[index] = 0
    return [Status.MISS] * count


class KVCache(ListsPages):
    """One namespace of pages. Use `KVCache.open`. Belongs to the event loop it was opened on."""

    def __init__(
        self,
        client: Client,
        namespace: CacheNamespace,
        *,
        owns_client: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        circuit_breaker: bool = True,
    ) -> None:
        self._client = client
        self._guarded = GuardedStorage(client.storage) if circuit_breaker else None
        self._storage = self._guarded or client.storage
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._owns_client = owns_client
        self._namespace = namespace
        self._timeout_ns = check_timeout(timeout)
        self._deletions = 0
        """Deletions of namespaces that routing told of when the manager last said that this one is there."""
        self._is_deleted = False
        self._placement: tuple[int, Placement] | None = None
        self.page_bytes: int = namespace.page_bytes
        self.name: str = namespace.name
        self.namespace_id: int = namespace.id
        self.replicas: int = namespace.replicas

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        namespace: str,
        page_bytes: int,
        replicas: int = 0,
        timeout: float = TIMEOUT_SECONDS,
        transport: str = "auto",
        circuit_breaker: bool = True,
    ) -> KVCache:
        """Connect and open a namespace, creating it when it is new.

        `page_bytes` is the size of the largest page; `replicas` 0 takes the cluster's number. Put everything that makes pages
        incompatible into the name: model, revision, dtype, layout. `timeout` in seconds bounds each later call. With the
        `circuit_breaker`, what did not answer within a call is left out by the following ones until it answers again
        (`fs3.api.kvcache.breaker`).

        Raises TypeError or InvalidArgument for a bad argument, FS3Error NAMESPACE_DIFFERS when the namespace exists with another
        page size or replica count, NotFound while it is being deleted, Unreachable when no manager answers.
        """
        from fs3.api.connect import connect

        wanted = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        check_timeout(timeout)
        client = await connect(url, transport=transport)
        try:
            return await cls._open(client, *wanted, timeout, owns_client=True, circuit_breaker=circuit_breaker)
        except BaseException:
            await client.aclose()
            raise

    @classmethod
    async def of(
        cls,
        client: Client,
        *,
        namespace: str,
        page_bytes: int,
        replicas: int = 0,
        timeout: float = TIMEOUT_SECONDS,
        circuit_breaker: bool = True,
    ) -> KVCache:
        """`open`, over a client that is connected already and stays the caller's."""
        wanted = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        check_timeout(timeout)
        return await cls._open(client, *wanted, timeout, owns_client=False, circuit_breaker=circuit_breaker)

    @classmethod
    async def _open(
        cls,
        client: Client,
        name: str,
        page_bytes: int,
        replicas: int,
        timeout: float,
        *,
        owns_client: bool,
        circuit_breaker: bool,
    ) -> KVCache:
        deletions = client.manager.routing.namespace_deletions
        namespace = await client.manager.open_namespace(name, page_bytes, replicas)
        cache = cls(client, namespace, owns_client=owns_client, timeout=timeout, circuit_breaker=circuit_breaker)
        cache._deletions = deletions
        return cache

    @staticmethod
    async def list_namespaces(source: Client | str, prefix: str = "") -> list[CacheNamespace]:
        """The namespaces of a cluster whose names begin with `prefix`, by name. `source`: a client, or the cluster's URL.

        Raises Unreachable when no manager answers.
        """
        async with client_of(source) as client:
            return await list_namespaces(client, prefix)

    @staticmethod
    async def delete_namespace(source: Client | str, name: str, *, progress: Progress = _no_progress) -> int:
        """Delete a namespace and free what its pages took. Returns how many pages were removed. `source`: a client, or the
        cluster's URL.

        No client opens it any more from the beginning; those that have it open find no pages and store none. When it is
        interrupted, call it again. Afterwards the name is free, for a namespace that has nothing of this one.

        Raises NotFound when there is no such namespace, FS3Error when storage or the manager does not answer.
        """
        check_name(name)
        async with client_of(source) as client:
            return await delete_namespace(client, name, progress)

    @staticmethod
    async def clear_namespace(source: Client | str, name: str, *, progress: Progress = _no_progress) -> int:
        """`clear`, of a namespace that need not be open. Raises NotFound when there is no such namespace."""
        check_name(name)
        async with client_of(source) as client:
            return await clear_namespace(client, name, progress)

    async def __aenter__(self) -> KVCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go; pages stay. Later calls raise InvalidArgument."""
        self._closed = True
        if self._guarded is not None:
            self._guarded.close()
        if self._owns_client:
            await self._client.aclose()

    async def put_from(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """Store one page per key from buffers of 1 to `page_bytes` bytes, which must not change until this returns. A page is as
        long as its buffer. A buffer may be a list of buffers, whose bytes follow each other in the page (K and V, or one per
        layer).

        Large pages are looked up first: one that is there costs no bytes. After OK and EXISTS it is over, after any other status
        a page may be stored, or may yet be. Raises TypeError or InvalidArgument, before anything is sent, for a key or buffer
        that cannot be; NotFound when the namespace was deleted.
        """
        packed = self._pack(keys)
        views = page_buffers(buffers, len(packed), self.page_bytes, writable=False)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            raise error(Code.NO_NAMESPACE, "the namespace was deleted", self.name)
        pages = page_keys(self.namespace_id, packed)
        return await put_pages(self._storage, self._get_placement(), pages, views, timeout_ns)

    async def get_into(
        self, keys: Sequence[Key], buffers: Sequence[Any], lengths: MutableSequence[int] | None = None
    ) -> list[Status]:
        """Read one page per key into writable buffers. A buffer may be a list of buffers, which are filled in order. Of a buffer
        that has more than `page_bytes`, only so many count; the rest stays as it is.

        Without `lengths` a page is read when it is exactly as long as its buffer. With `lengths`, a list or array of one integer
        per key, shorter pages are read too, and it is filled with the bytes of each page: 0 where that is not known; behind
        them the buffer is undefined. A page that does not fit is OTHER_LENGTH, and `lengths` says how long it is.

        Raises TypeError or InvalidArgument, before anything is sent, for a key, buffer or `lengths` that cannot be.
        """
        packed = self._pack(keys)
        views = page_buffers(buffers, len(packed), self.page_bytes, writable=True)
        wanted = check_lengths(lengths, len(packed), self.page_bytes)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return _miss_all(len(packed), wanted)
        pages = page_keys(self.namespace_id, packed)
        return await get_pages(self._storage, self._get_placement(), pages, views, wanted, timeout_ns)

    async def get_ranges_into(
        self, keys: Sequence[Key], ranges: Sequence[tuple[int, int]], buffers: Sequence[Any]
    ) -> list[Status]:
        """Read a part of one page per key: `ranges` are (offset, length) in bytes, and buffer i, or the list of buffers i, has
        room for the length of range i. The same key may come several times: one layer of a page after the other.

        Statuses as of `get_into`; OTHER_LENGTH where the page ends before the range does. Raises TypeError or InvalidArgument,
        before anything is sent, for a key, range or buffer that cannot be.
        """
        packed = self._pack(keys)
        parts = range_buffers(ranges, buffers, len(packed), self.page_bytes)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        pages = page_keys(self.namespace_id, packed)
        return await get_ranges(self._storage, self._get_placement(), pages, parts, timeout_ns)

    async def lookup(self, keys: Sequence[Key]) -> LookupResult:
        """Which of the keys have pages, and how long they are: one request per storage node, for up to thousands of keys. Pins
        nothing.

        A key whose nodes cannot be asked within the timeout is no hit, and its status says so. Raises TypeError or
        InvalidArgument for a bad key.
        """
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return LookupResult(0, [False] * len(packed), [Status.MISS] * len(packed), [0] * len(packed))
        return await look_up(self._storage, self._get_placement(), self.namespace_id, packed, self.page_bytes, timeout_ns)

    async def remove(self, keys: Sequence[Key]) -> list[Status]:
        """Remove pages. OK: there is no such page any more, whether or not there was one. After any other status it may be
        removed, or may yet be. Raises TypeError or InvalidArgument for a bad key."""
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.OK] * len(packed)
        pages = page_keys(self.namespace_id, packed)
        return await remove_pages(self._storage, self._get_placement(), pages, timeout_ns)

    async def _list_pages(self, prefix: Key, after: bytes | None, limit: int) -> PageList:
        self._check_use()
        wanted, most = pack_prefix(prefix), check_limit(limit, pages_per_list_max)
        timeout_ns = await self._check_presence()
        position = parse_cursor(self.namespace_id, after)
        if self._is_deleted:
            return PageList([], None, 0)
        placement = self._get_placement()
        lister = PageLister(self._client, self._storage, placement, self.namespace_id, wanted, timeout_ns)
        return await lister.run(position, most)

    async def clear(self, *, progress: Progress = _no_progress) -> int:
        """Remove every page there is now; the namespace stays. Returns how many those were. Not bounded by the timeout.

        Raises FS3Error when storage does not answer; what was removed stays removed.
        """
        self._check_use()
        await self._check_presence()
        return 0 if self._is_deleted else await remove_all_pages(self._client, self._namespace, progress)

    async def _check_presence(self) -> int:
        """Ask the manager whether the namespace is still there, when one was deleted since that was asked last. A manager that
        does not answer is asked again by the next call. Returns what is left of the timeout, in nanoseconds."""
        deletions = self._client.manager.routing.namespace_deletions
        if self._is_deleted or deletions == self._deletions:
            return self._timeout_ns
        now = asyncio.get_running_loop().time
        begun = now()
        try:
            found = await self._client.manager.find_namespace(self.name, min(presence_check_ns, self._timeout_ns))
        except FS3Error:
            return max(1, self._timeout_ns - round((now() - begun) * SECOND))
        self._is_deleted = found is None or found.id != self.namespace_id or found.deleting
        self._deletions = deletions
        return max(1, self._timeout_ns - round((now() - begun) * SECOND))

    def _check_use(self) -> None:
        """RuntimeError on another event loop than the one it was opened on, InvalidArgument after `close`."""
        if self._closed or self._client.closed:
            raise error(Code.INVALID, f"the KVCache of namespace {self.name!r} is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"the KVCache of namespace {self.name!r} belongs to another event loop; open one on each, or use BlockingKVCache"
            )

    def _pack(self, keys: Sequence[Key]) -> list[bytes]:
        self._check_use()
        return pack_keys(keys)

    def _get_placement(self) -> Placement:
        routing = self._client.manager.routing
        table = routing.tables.get(self._namespace.table)
        if table is None or not table.chains:
            raise error(Code.NO_TABLE, f"the chain table of namespace {self.name!r} is not known here", self.name)
        if self._placement is None or self._placement[0] != table.version:
            self._placement = (table.version, Placement(table.chains))
        return self._placement[1]

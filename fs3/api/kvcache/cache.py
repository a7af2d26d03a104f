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
import os
from collections.abc import MutableSequence, Sequence
from typing import Any

from fs3.api.client import Client
from fs3.api.io.device_memory import are_in_host_memory
from fs3.api.kvcache.arguments import (
    Key,
    Spots,
    check_lease_ms,
    check_lengths,
    check_limit,
    check_name,
    check_page_bytes,
    check_replicas,
    check_settings,
    check_timeout,
    pack_keys,
    pack_prefix,
    page_buffers,
    range_buffers,
)
from fs3.api.kvcache.breaker import GuardedStorage
from fs3.api.kvcache.leases import PageLease
from fs3.api.kvcache.listing import ListsPages, PageLister, pages_per_list_max, parse_cursor
from fs3.api.kvcache.lookup_reports import LookupReporter
from fs3.api.kvcache.namespaces import (
    clear_namespace,
    client_of,
    create_namespace,
    delete_namespace,
    get_namespace,
    list_namespaces,
)
from fs3.api.kvcache.page_io import get_pages, get_ranges, left_ns, look_up, look_up_leased, put_pages, remove_pages
from fs3.api.kvcache.results import LookupResult, PageList, Status
from fs3.api.kvcache.staged_pages import get_parts_staged, get_staged, put_staged
from fs3.api.kvcache.upkeep import PageUpkeep
from fs3.api.registration import BufferCalls
from fs3.base.errors import FS3Error, error
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.kvcache.pages import page_keys
from fs3.core.kvcache.placement import Placement
from fs3.model.cluster import CacheNamespace, NamespaceSettings
from fs3.model.page_usage import LookupCounters

TIMEOUT_SECONDS = 10.0
presence_check_ns = 1 * SECOND
"""How long a call waits for the manager to say whether its namespace is still there, before it goes on as if it was."""


def _miss_all(count: int, lengths: MutableSequence[int] | None) -> list[Status]:
    if lengths is not None:
        for index in range(count):
            lengths[index] = 0
    return [Status.MISS] * count


class KVCache(ListsPages, PageUpkeep, BufferCalls):
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
        """Deletions and clearings of namespaces that routing told of when the manager last said what this one is."""
        self._is_deleted = False
        self._placement: tuple[int, Placement] | None = None
        self._lookups = LookupCounters()
        self._reports = LookupReporter(client.storage)
        self.page_bytes: int = namespace.page_bytes
        self.name: str = namespace.name
        self.namespace_id: int = namespace.id
        """It gets another one each time it is cleared, by whichever client."""
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
        budget_bytes: int | float | None = None,
        ttl: float | None = None,
        pin_bytes: int | None = None,
        owner: str | None = None,
        token: str | Secret | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
    ) -> KVCache:
        """Connect and open a namespace, creating it when it is new.

        `page_bytes` is the size of the largest page; `replicas` 0 takes the cluster's number. Put everything that makes pages
        incompatible into the name: model, revision, dtype, layout. `timeout` in seconds bounds each later call. With the
        `circuit_breaker`, what did not answer within a call is left out by the following ones until it answers again
        (`fs3.api.kvcache.breaker`). `budget_bytes`, `ttl`, `pin_bytes` and `owner` are as of `create_namespace`; a namespace
        that is there already keeps its own. `token`, `token_file`, `tls_ca`, `tls_cert` and `tls_key` are as of `fs3.connect`.

        Raises TypeError or InvalidArgument for a bad argument, FS3Error NAMESPACE_DIFFERS when the namespace exists with another
        page size or replica count, Unreachable when no manager answers.
        """
        from fs3.api.connect import connect

        wanted = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, page_bytes=wanted[1])
        check_timeout(timeout)
        client = await connect(
            url,
            transport=transport,
            token=token,
            token_file=token_file,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
        )
        try:
            return await cls._open(client, *wanted, settings, timeout, owns_client=True, circuit_breaker=circuit_breaker)
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
        budget_bytes: int | float | None = None,
        ttl: float | None = None,
        pin_bytes: int | None = None,
        owner: str | None = None,
    ) -> KVCache:
        """`open`, over a client that is connected already and stays the caller's."""
        wanted = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, page_bytes=wanted[1])
        check_timeout(timeout)
        return await cls._open(client, *wanted, settings, timeout, owns_client=False, circuit_breaker=circuit_breaker)

    @classmethod
    async def _open(
        cls,
        client: Client,
        name: str,
        page_bytes: int,
        replicas: int,
        settings: NamespaceSettings,
        timeout: float,
        *,
        owns_client: bool,
        circuit_breaker: bool,
    ) -> KVCache:
        deletions = client.manager.routing.namespace_deletions
        namespace = await client.manager.open_namespace(name, page_bytes, replicas, settings)
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
    async def get_namespace(source: Client | str, name: str) -> CacheNamespace:
        """A namespace and its settings. `source`: a client, or the cluster's URL. Raises NotFound when there is none of this
        name, Unreachable when no manager answers."""
        check_name(name)
        async with client_of(source) as client:
            return await get_namespace(client, name)

    @staticmethod
    async def create_namespace(
        source: Client | str,
        name: str,
        *,
        page_bytes: int,
        replicas: int = 0,
        budget_bytes: int | float | None = None,
        ttl: float | None = None,
        pin_bytes: int | None = None,
        owner: str | None = None,
    ) -> CacheNamespace:
        """Make a namespace that is not there yet. `source`: a client, or the cluster's URL.

        `page_bytes`: the size of its pages; `replicas` 0 takes the cluster's number. `budget_bytes`: what its pages may take
        together, each counted once, whatever the number of replicas; None or `math.inf`: as much as there is. `ttl`: seconds
        that a page stays after it was stored; None or `math.inf`: for ever. `pin_bytes`: what hard pins may hold. `owner`:
        whom it belongs to, for people and for sums by owner.

        Raises TypeError or InvalidArgument for a bad argument, Exists when there is one of this name, Unreachable when no
        manager answers.
        """
        check_name(name)
        size, copies = check_page_bytes(page_bytes), check_replicas(replicas)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, page_bytes=size)
        async with client_of(source) as client:
            return await create_namespace(client, name, size, copies, settings)

    @staticmethod
    async def set_namespace(
        source: Client | str,
        name: str,
        *,
        budget_bytes: int | float | None = None,
        ttl: float | None = None,
        pin_bytes: int | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> CacheNamespace:
        """Change settings of a namespace while it is in use: those that are not None. `math.inf` takes a budget or a TTL away,
        0 the hard pins, "" the owner. `tenant`: whose users may use it from now on. Returns it as it is then. `source`: a
        client, or the cluster's URL. In a cluster with security this is for administrators.

        Raises TypeError or InvalidArgument when none is given and for what it cannot have (a budget below one page, or below what
        hard pins may hold), NotFound when there is none of this name, Unreachable when no manager answers.
        """
        check_name(name)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, tenant=tenant)
        if settings == NamespaceSettings():
            raise error(Code.INVALID, "nothing to set: give budget_bytes, ttl, pin_bytes, owner or tenant", name)
        async with client_of(source) as client:
            return await client.manager.set_namespace(name, settings)

    @staticmethod
    async def delete_namespace(source: Client | str, name: str) -> None:
        """Delete a namespace. `source`: a client, or the cluster's URL.

        Its name is free at once, for a namespace that has nothing of this one; those that have it open find no pages and store
        none. What its pages took is freed afterwards.

        Raises NotFound when there is none of this name, FS3Error when the manager does not answer.
        """
        check_name(name)
        async with client_of(source) as client:
            await delete_namespace(client, await get_namespace(client, name))

    @staticmethod
    async def clear_namespace(source: Client | str, name: str) -> CacheNamespace:
        """`clear`, of a namespace that need not be open. Returns it as it is then. Raises as `delete_namespace`."""
        check_name(name)
        async with client_of(source) as client:
            return await clear_namespace(client, await get_namespace(client, name))

    async def __aenter__(self) -> KVCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go; pages stay. Later calls raise InvalidArgument. What lookups found and is not reported yet is told the cluster,
        which takes a moment, a second at most when it does not answer."""
        self._closed = True
        if self._guarded is not None:
            self._guarded.close()
        await self._reports.close()
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
        return await self.put_views(packed, page_buffers(buffers, len(packed), self.page_bytes, writable=False))

    async def put_views(self, keys: Sequence[bytes], views: Sequence[Spots]) -> list[Status]:
        """`put_from` of what was checked already, by the functions of `arguments`: a job's is checked where it is submitted."""
        self._check_use()
        if not are_in_host_memory(views):
            return await put_staged(self.put_views, keys, views)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            raise error(Code.NO_NAMESPACE, "the namespace was deleted", self.name)
        pages = page_keys(self.namespace_id, self.salt, keys)
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
        return await self.get_views(packed, views, check_lengths(lengths, len(packed), self.page_bytes))

    async def get_views(
        self, keys: Sequence[bytes], views: Sequence[Spots], lengths: MutableSequence[int] | None
    ) -> list[Status]:
        """`get_into` of what was checked already; see `put_views`."""
        self._check_use()
        if not are_in_host_memory(views):
            return await get_staged(self.get_views, keys, views, lengths)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return _miss_all(len(keys), lengths)
        pages = page_keys(self.namespace_id, self.salt, keys)
        return await get_pages(self._storage, self._get_placement(), pages, views, lengths, timeout_ns)

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
        return await self._get_parts(packed, [offset for offset, _ in parts], [views for _, views in parts])

    async def _get_parts(self, packed: Sequence[bytes], offsets: Sequence[int], views: Sequence[Spots]) -> list[Status]:
        if not are_in_host_memory(views):
            return await get_parts_staged(self._get_parts, packed, offsets, views)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        pages = page_keys(self.namespace_id, self.salt, packed)
        return await get_ranges(self._storage, self._get_placement(), pages, list(zip(offsets, views, strict=True)), timeout_ns)

    async def lookup(self, keys: Sequence[Key], *, lease_ms: int | None = None) -> LookupResult:
        """Which of the keys have pages, and how long they are: one request per storage node, for up to thousands of keys.

        With `lease_ms`, 60 000 at most, what is found is neither evicted nor expires for so long, or until the result's `lease`
        is released; a page that is just being stored or removed is a miss then. Without it a lookup keeps nothing, and in no case
        does it renew anything or count as a read.

        A key whose nodes cannot be asked within the timeout is no hit, and its status says so. Raises TypeError or
        InvalidArgument for a bad key.
        """
        packed = self._pack(keys)
        lease = None if lease_ms is None else check_lease_ms(lease_ms)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            held = None if lease is None else PageLease(self._storage, [], 0, [], lease)
            found = LookupResult(0, [False] * len(packed), [Status.MISS] * len(packed), [0] * len(packed), held)
        else:
            where = self._storage, self._get_placement(), self._namespace
            if lease is None:
                found = await look_up(*where, packed, timeout_ns)
            else:
                found = await look_up_leased(*where, packed, timeout_ns, lease)
        self._count_lookup(found)
        return found

    async def remove(self, keys: Sequence[Key]) -> list[Status]:
        """Remove pages. OK: there is no such page any more, whether or not there was one. After any other status it may be
        removed, or may yet be. Raises TypeError or InvalidArgument for a bad key."""
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.OK] * len(packed)
        pages = page_keys(self.namespace_id, self.salt, packed)
        return await remove_pages(self._storage, self._get_placement(), pages, timeout_ns)

    async def _list_pages(self, prefix: Key, after: bytes | None, limit: int) -> PageList:
        self._check_use()
        wanted, most = pack_prefix(prefix), check_limit(limit, pages_per_list_max)
        timeout_ns = await self._check_presence()
        position = parse_cursor(self.namespace_id, after)
        if self._is_deleted:
            return PageList([], None, 0)
        placement = self._get_placement()
        lister = PageLister(self._client, self._storage, placement, self._namespace, wanted, timeout_ns)
        return await lister.run(position, most)

    async def clear(self) -> None:
        """Have no pages any more: all there are cannot be reached from now on, and what they took is freed afterwards. The
        namespace and its settings stay. Nothing happens to one that was deleted.

        Raises FS3Error when the manager does not answer within the timeout: it may be cleared then, or may yet be.
        """
        self._check_use()
        begun = self._loop.time()
        # Asked for in any case: a page stored after another client has cleared it, of which this one has not heard, is to go too.
        self._follow(await self._client.manager.find_namespace(self.name, self._timeout_ns))
        if not self._is_deleted:
            self._follow(await clear_namespace(self._client, self._namespace, left_ns(self._timeout_ns, begun)))

    @property
    def salt(self) -> bytes:
        """What came with `namespace_id`: pages are named after both."""
        return self._namespace.salt

    async def _check_presence(self) -> int:
        """Ask the manager what became of the namespace, when one was deleted or cleared since that was asked last. A manager
        that does not answer is asked again by the next call. Returns what is left of the timeout, in nanoseconds."""
        deletions = self._client.manager.routing.namespace_deletions
        if self._is_deleted or deletions == self._deletions:
            return self._timeout_ns
        begun = self._loop.time()
        try:
            found = await self._client.manager.find_namespace(self.name, min(presence_check_ns, self._timeout_ns))
        except FS3Error:
            return left_ns(self._timeout_ns, begun)
        self._follow(found)
        self._deletions = deletions
        return left_ns(self._timeout_ns, begun)

    def _follow(self, found: CacheNamespace | None) -> None:
        """Go on with what there is under the name now: the same namespace, with another id when it was cleared. One that was
        made under the name of a deleted one is none of ours."""
        if self._is_deleted or found is None or found.made_as != self._namespace.made_as:
            self._is_deleted = True
        elif found.id > self.namespace_id or (found.id == self.namespace_id and found.salt != self._namespace.salt):
            # Ids only rise: an answer that was overtaken does not lead back. One that was given out again has another salt.
            self._namespace, self.namespace_id = found, found.id

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

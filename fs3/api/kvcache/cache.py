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
from collections.abc import Sequence
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple

from fs3.api.client import Client
from fs3.api.kvcache.arguments import (
    Key,
    check_name,
    check_page_bytes,
    check_replicas,
    check_settings,
    check_timeout,
    pack_keys,
    page_buffers,
    range_buffers,
)
from fs3.api.kvcache.breaker import GuardedStorage
from fs3.api.kvcache.namespaces import (
    clear_namespace,
    client_of,
    create_namespace,
    delete_namespace,
    get_namespace,
    list_namespaces,
)
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChunkId
from fs3.base.limits import page_trailer_bytes
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.core.files.read_plan import ReadIO, buffer_bytes
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.pages import PageKey, is_trailer_of, page_chunks, page_keys, trailer, trailers
from fs3.core.kvcache.placement import Placement
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import CacheNamespace, NamespaceSettings

TIMEOUT_SECONDS = 10.0
_code_of = attrgetter("code")
ask_first_bytes = 64 * KIB
"""Pages of at least so many bytes are put only when a lookup has not found them: the bytes cost more than the question."""
ask_first_timeout_ns = 1 * SECOND
"""How long that lookup may take; what is not known by then is sent."""
presence_check_ns = 1 * SECOND
"""How long a call waits for the manager to say whether its namespace is still there, before it goes on as if it was."""


class Status(Enum):
    """What became of one key."""

    OK = "ok"
    """Stored and durable on every replica; or read and verified."""
    EXISTS = "exists"
    """Put: another put had stored the page already. Counts as success."""
    MISS = "miss"
    """Get: there is no such page."""
    CORRUPT = "corrupt"
    """Get: no replica returned bytes that match their checksums."""
    NO_SPACE = "no space"
    """Put: the cluster is full."""
    TIMEOUT = "timeout"
    """Not known in time; a put may still take effect."""
    ERROR = "error"
    """The storage nodes could not be asked."""

    @property
    def ok(self) -> bool:
        """The page is there, and after a get its bytes are in the buffer."""
        return self in (Status.OK, Status.EXISTS)


class LookupResult(NamedTuple):
    """Which keys have pages."""

    hits: int
    """Length of the longest prefix of the keys that is there."""
    bitmap: list[bool]
    """Per key: its page is there."""
    statuses: list[Status]
    """Per key: OK, MISS, or why it is not known whether it is there (TIMEOUT, ERROR)."""


class KVCache:
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
    ) -> KVCache:
        """Connect and open a namespace, creating it when it is new.

        `page_bytes` is the size of every page; `replicas` 0 takes the cluster's number. Put everything that makes pages
        incompatible into the name: model, revision, dtype, layout. `timeout` in seconds bounds each later call. With the
        `circuit_breaker`, what did not answer within a call is left out by the following ones until it answers again
        (`fs3.api.kvcache.breaker`). `budget_bytes`, `ttl`, `pin_bytes` and `owner` are as of `create_namespace`; a namespace
        that is there already keeps its own.

        Raises TypeError or InvalidArgument for a bad argument, FS3Error NAMESPACE_DIFFERS when the namespace exists with another
        page size or replica count, Unreachable when no manager answers.
        """
        from fs3.api.connect import connect

        wanted = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, page_bytes=wanted[1])
        check_timeout(timeout)
        client = await connect(url, transport=transport)
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
    ) -> CacheNamespace:
        """Change settings of a namespace while it is in use: those that are not None. `math.inf` takes a budget or a TTL away,
        0 the hard pins, "" the owner. Returns it as it is then. `source`: a client, or the cluster's URL.

        Raises TypeError or InvalidArgument for what it cannot have (a budget below one page, or below what hard pins may
        hold), NotFound when there is none of this name, Unreachable when no manager answers.
        """
        check_name(name)
        settings = check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner)
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
        """Let go; pages stay. Later calls raise InvalidArgument."""
        self._closed = True
        if self._guarded is not None:
            self._guarded.close()
        if self._owns_client:
            await self._client.aclose()

    async def put_from(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """Store one page per key from buffers of exactly `page_bytes` bytes, which must not change until this returns. A buffer
        may be a list of buffers, whose bytes follow each other in the page (K and V, or one per layer).

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
        placement = self._get_placement()
        stored = self.page_bytes + page_trailer_bytes
        statuses = [Status.EXISTS] * len(pages)
        missing: Sequence[int] = range(len(pages))
        if self.page_bytes >= ask_first_bytes:
            begun = self._loop.time()
            there = await self._find([page.chunk for page in pages], placement, min(timeout_ns, ask_first_timeout_ns))
            missing = [index for index, status in enumerate(there) if status is not Status.OK]
            timeout_ns = max(1, timeout_ns - round((self._loop.time() - begun) * SECOND))
        writes = [
            WriteIO(
                pages[index].chunk,
                placement.chain(pages[index].chunk),
                UpdateKind.PUT,
                0,
                (*views[index], memoryview(trailer(pages[index].check, self.page_bytes))),
                stored,
            )
            for index in missing
        ]
        if writes:
            try:
                results = [result.code for result in await self._storage.update(writes, timeout_ns=timeout_ns)]
            except FS3Error as failure:
                results = [failure.code] * len(writes)
            for index, code in zip(missing, results, strict=True):
                statuses[index] = _status_of(code)
        return statuses

    async def get_into(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """Read one page per key into writable buffers of at least `page_bytes` bytes; the first `page_bytes` are filled. A buffer
        may be a list of buffers with exactly `page_bytes` bytes together, which are filled in order.

        Raises TypeError or InvalidArgument, before anything is sent, for a key or buffer that cannot be.
        """
        packed = self._pack(keys)
        views = page_buffers(buffers, len(packed), self.page_bytes, writable=True)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        pages = page_keys(self.namespace_id, packed)
        placement = self._get_placement()
        size = page_trailer_bytes
        found = bytearray(size * len(pages))
        places = memoryview(found)
        reads = [
            ReadIO(page.chunk, placement.chain(page.chunk), 0, (*view, places[at : at + size]))
            for at, page, view in zip(range(0, len(found), size), pages, views, strict=True)
        ]
        try:
            outcomes = await self._storage.read(reads, timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        # Every page a hit, as nearly always: the trailers are what they must be, all of them.
        if found == trailers(pages, self.page_bytes) and not any(map(_code_of, outcomes)):
            whole = self.page_bytes + size
            return [Status.OK if outcome.length == whole else Status.MISS for outcome in outcomes]
        return [
            self._verdict(outcome.code, outcome.length, places[index * size : (index + 1) * size], page)
            for index, (outcome, page) in enumerate(zip(outcomes, pages, strict=True))
        ]

    def _verdict(self, code: Code, length: int, found: memoryview, page: PageKey) -> Status:
        if code is not Code.OK:
            return _status_of(code)
        # Another key's page under the same chunk id is a miss for this key, whatever its size.
        if length != self.page_bytes + page_trailer_bytes or not is_trailer_of(found, page.check, self.page_bytes):
            return Status.MISS
        return Status.OK

    async def get_ranges_into(
        self, keys: Sequence[Key], ranges: Sequence[tuple[int, int]], buffers: Sequence[Any]
    ) -> list[Status]:
        """Read a part of one page per key: `ranges` are (offset, length) in bytes, and buffer i, or the list of buffers i, has
        room for the length of range i. The same key may come several times: one layer of a page after the other.

        Statuses as of `get_into`. Raises TypeError or InvalidArgument, before anything is sent, for a key, range or buffer that
        cannot be.
        """
        packed = self._pack(keys)
        parts = range_buffers(ranges, buffers, len(packed), self.page_bytes)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        pages = page_keys(self.namespace_id, packed)
        placement = self._get_placement()
        size = page_trailer_bytes
        trailers = memoryview(bytearray(size * len(pages)))
        reads: list[ReadIO] = []
        for index, (page, (offset, views)) in enumerate(zip(pages, parts, strict=True)):
            chain = placement.chain(page.chunk)
            reads.append(ReadIO(page.chunk, chain, offset, views))
            reads.append(ReadIO(page.chunk, chain, self.page_bytes, trailers[index * size : (index + 1) * size]))
        try:
            outcomes = await self._storage.read(reads, timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        statuses = []
        for index, (page, (_, views)) in enumerate(zip(pages, parts, strict=True)):
            part, end = outcomes[2 * index], outcomes[2 * index + 1]
            if part.code is not Code.OK or end.code is not Code.OK:
                statuses.append(_status_of(part.code if part.code is not Code.OK else end.code))
            elif (
                part.version == end.version
                and part.length == buffer_bytes(views)
                and end.length == size
                and is_trailer_of(trailers[index * size : (index + 1) * size], page.check, self.page_bytes)
            ):
                statuses.append(Status.OK)
            else:
                statuses.append(Status.MISS)
        return statuses

    async def lookup(self, keys: Sequence[Key]) -> LookupResult:
        """Which of the keys have pages: one request per storage node, for up to thousands of keys. Pins nothing.

        A key whose nodes cannot be asked within the timeout is no hit, and its status says so. Raises TypeError or
        InvalidArgument for a bad key.
        """
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return LookupResult(0, [False] * len(packed), [Status.MISS] * len(packed))
        chunks = page_chunks(self.namespace_id, packed)
        statuses = await self._find(chunks, self._get_placement(), timeout_ns)
        there = Status.OK
        bitmap = [status is there for status in statuses]
        return LookupResult(bitmap.index(False) if False in bitmap else len(bitmap), bitmap, statuses)

    async def _find(self, chunks: Sequence[ChunkId], placement: Placement, timeout_ns: int) -> list[Status]:
        """OK, MISS, or why that is not known, of each page."""
        stored = self.page_bytes + page_trailer_bytes
        places = placement.places(chunks)
        try:
            codes = await self._storage.contains(chunks, places, placement.chains, stored, timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(chunks)
        # By identity, of nearly all: an Enum's members hash slowly.
        ok, not_found, there, miss = Code.OK, Code.NOT_FOUND, Status.OK, Status.MISS
        return [there if code is ok else miss if code is not_found else _status_of(code) for code in codes]

    async def remove(self, keys: Sequence[Key]) -> list[Status]:
        """Remove pages. OK: there is no such page any more, whether or not there was one. After any other status it may be
        removed, or may yet be. Raises TypeError or InvalidArgument for a bad key."""
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.OK] * len(packed)
        pages = page_keys(self.namespace_id, packed)
        placement = self._get_placement()
        writes = [WriteIO(page.chunk, placement.chain(page.chunk), UpdateKind.REMOVE, 0) for page in pages]
        try:
            results = await self._storage.update(writes, timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        return [_status_of(result.code) for result in results]

    async def clear(self) -> None:
        """Have no pages any more: all there are cannot be reached from now on, and what they took is freed afterwards. The
        namespace and its settings stay. Nothing happens to one that was deleted. Not bounded by the timeout.

        Raises FS3Error when the manager does not answer.
        """
        self._check_use()
        # Asked for in any case: a page stored after another client has cleared it, of which this one has not heard, is to go too.
        self._follow(await self._client.manager.find_namespace(self.name))
        if not self._is_deleted:
            self._follow(await clear_namespace(self._client, self._namespace))

    async def _check_presence(self) -> int:
        """Ask the manager what became of the namespace, when one was deleted or cleared since that was asked last. A manager
        that does not answer is asked again by the next call. Returns what is left of the timeout, in nanoseconds."""
        deletions = self._client.manager.routing.namespace_deletions
        if self._is_deleted or deletions == self._deletions:
            return self._timeout_ns
        now = asyncio.get_running_loop().time
        begun = now()
        try:
            found = await self._client.manager.find_namespace(self.name, min(presence_check_ns, self._timeout_ns))
        except FS3Error:
            return max(1, self._timeout_ns - round((now() - begun) * SECOND))
        self._follow(found)
        self._deletions = deletions
        return max(1, self._timeout_ns - round((now() - begun) * SECOND))

    def _follow(self, found: CacheNamespace | None) -> None:
        """Go on with what there is under the name now: the same namespace, with another id when it was cleared. One that was
        made under the name of a deleted one is none of ours."""
        if self._is_deleted or found is None or found.made_as != self._namespace.made_as:
            self._is_deleted = True
        elif found.id > self.namespace_id:  # ids only rise: an answer that was overtaken does not lead back
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


_STATUS = {
    Code.OK: Status.OK,
    Code.EXISTS: Status.EXISTS,
    Code.NOT_FOUND: Status.MISS,
    Code.CHECKSUM: Status.CORRUPT,
    Code.NO_SPACE: Status.NO_SPACE,
    Code.DEADLINE: Status.TIMEOUT,
}


def _status_of(code: Code) -> Status:
    return _STATUS.get(code, Status.ERROR)

"""KVCache: write-once pages of attention keys and values, shared by inference workers.

    cache = await KVCache.open("fs3://127.0.0.1:8000", namespace="model@rev/fp8", page_bytes=4_497_408, replicas=2)
    await cache.put_from(keys, buffers)         # list[Status], one per key
    found = await cache.lookup(keys)            # found.hits: how many from the first on are there
    await cache.get_into(keys[: found.hits], buffers)

A put is one chain write and a get is one read, in one request per storage node; no metadata service is asked. Failures are clean
misses: every call answers within its timeout with one status per key, never shifted, and a buffer whose status is not OK must be
taken as undefined. Bytes with status OK are the key's own: their checksums and the key's digest were verified after they arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from fs3.api.client import Client
from fs3.base import limits
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.pages import PageKey, is_trailer_of, page_keys, trailer
from fs3.core.kvcache.placement import Placement
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import CacheNamespace

key_bytes_max = 4096

TIMEOUT_SECONDS = 10.0
Key = bytes | str


class Status(Enum):
    """What became of one key."""

    OK = "ok"
    """Stored and durable on every replica; or read and verified."""
    EXISTS = "exists"
    """Put: the page was there already. Counts as success."""
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
    """Per key."""


class KVCache:
    """One namespace of pages. Use `KVCache.open`. Belongs to the event loop it was opened on."""

    def __init__(
        self, client: Client, namespace: CacheNamespace, *, owns_client: bool = False, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._client = client
        self._owns_client = owns_client
        self._namespace = namespace
        self._timeout_ns = round(timeout * SECOND)
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
    ) -> KVCache:
        """Connect and open a namespace, creating it when it is new.

        `page_bytes` is the size of every page; `replicas` 0 takes the cluster's number. Put everything that makes pages
        incompatible into the name: model, revision, dtype, layout. `timeout` in seconds bounds each later call.

        Raises InvalidArgument for a bad argument, FS3Error NAMESPACE_DIFFERS when the namespace exists with another page size or
        replica count, Unreachable when no manager answers.
        """
        from fs3.api.connect import connect

        _check_namespace(namespace, page_bytes, timeout)
        client = await connect(url, transport=transport)
        try:
            return await cls.of(client, namespace=namespace, page_bytes=page_bytes, replicas=replicas, timeout=timeout, _own=True)
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
        _own: bool = False,
    ) -> KVCache:
        """`open`, over a client that is connected already and stays the caller's."""
        _check_namespace(namespace, page_bytes, timeout)
        opened = await client.manager.open_namespace(namespace, page_bytes, replicas)
        return cls(client, opened, owns_client=_own, timeout=timeout)

    async def __aenter__(self) -> KVCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go; pages stay."""
        if self._owns_client:
            await self._client.aclose()

    async def put_from(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """Store one page per key from buffers of exactly `page_bytes` bytes, which must not change until this returns.

        Raises InvalidArgument, before anything is sent, for a key or buffer that cannot be.
        """
        pages = self._pages(keys)
        views = self._views(keys, buffers, writable=False)
        placement = self._get_placement()
        stored = self.page_bytes + limits.page_trailer_bytes
        writes = [
            WriteIO(
                page.chunk,
                placement.chain(page.chunk),
                UpdateKind.PUT,
                0,
                (view, memoryview(trailer(page.check, self.page_bytes))),
                stored,
            )
            for page, view in zip(pages, views, strict=True)
        ]
        try:
            results = await self._client.storage.update(writes, timeout_ns=self._timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        return [_status_of(result.code) for result in results]

    async def get_into(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """Read one page per key into writable buffers of at least `page_bytes` bytes; the first `page_bytes` are filled.

        Raises InvalidArgument, before anything is sent, for a key or buffer that cannot be.
        """
        pages = self._pages(keys)
        views = self._views(keys, buffers, writable=True)
        placement = self._get_placement()
        size = limits.page_trailer_bytes
        trailers = memoryview(bytearray(size * len(pages)))
        reads = [
            ReadIO(page.chunk, placement.chain(page.chunk), 0, (view, trailers[index * size : (index + 1) * size]))
            for index, (page, view) in enumerate(zip(pages, views, strict=True))
        ]
        try:
            outcomes = await self._client.storage.read(reads, timeout_ns=self._timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        return [
            self._verdict(outcome.code, outcome.length, trailers[index * size : (index + 1) * size], page)
            for index, (outcome, page) in enumerate(zip(outcomes, pages, strict=True))
        ]

    def _verdict(self, code: Code, length: int, found: memoryview, page: PageKey) -> Status:
        if code is not Code.OK:
            return _status_of(code)
        # Another key's page under the same chunk id is a miss for this key, whatever its size.
        if length != self.page_bytes + limits.page_trailer_bytes or not is_trailer_of(found, page.check, self.page_bytes):
            return Status.MISS
        return Status.OK

    async def lookup(self, keys: Sequence[Key]) -> LookupResult:
        """Which of the keys have pages: one request per storage node, for up to thousands of keys. Pins nothing.

        Nodes that cannot be asked within the timeout count as not having the page. Raises InvalidArgument for a bad key.
        """
        pages = self._pages(keys)
        placement = self._get_placement()
        stored = self.page_bytes + limits.page_trailer_bytes
        asked = [(page.chunk, placement.chain(page.chunk)) for page in pages]
        try:
            outcomes = await self._client.storage.find(asked, timeout_ns=self._timeout_ns)
        except FS3Error:
            return LookupResult(0, [False] * len(pages))
        bitmap = [outcome.code is Code.OK and outcome.length == stored for outcome in outcomes]
        return LookupResult(bitmap.index(False) if False in bitmap else len(bitmap), bitmap)

    async def remove(self, keys: Sequence[Key]) -> list[Status]:
        """Remove pages. OK: there is no such page any more, whether or not there was one."""
        pages = self._pages(keys)
        placement = self._get_placement()
        writes = [WriteIO(page.chunk, placement.chain(page.chunk), UpdateKind.REMOVE, 0) for page in pages]
        try:
            results = await self._client.storage.update(writes, timeout_ns=self._timeout_ns)
        except FS3Error as failure:
            return [_status_of(failure.code)] * len(pages)
        return [_status_of(result.code) for result in results]

    def _get_placement(self) -> Placement:
        routing = self._client.manager.routing
        table = routing.tables.get(self._namespace.table)
        if table is None or not table.chains:
            raise error(Code.NO_TABLE, f"the chain table of namespace {self.name!r} is not known here", self.name)
        if self._placement is None or self._placement[0] != table.version:
            self._placement = (table.version, Placement(table.chains))
        return self._placement[1]

    def _pages(self, keys: Sequence[Key]) -> list[PageKey]:
        packed = []
        for index, key in enumerate(keys):
            data = key.encode() if isinstance(key, str) else bytes(key)
            if not 1 <= len(data) <= key_bytes_max:
                raise error(Code.INVALID, f"key {index} has {len(data)} bytes; 1 to {key_bytes_max} are allowed")
            packed.append(data)
        return page_keys(self._namespace.id, packed)

    def _views(self, keys: Sequence[Key], buffers: Sequence[Any], *, writable: bool) -> list[memoryview]:
        if len(buffers) != len(keys):
            raise error(Code.INVALID, f"{len(keys)} keys and {len(buffers)} buffers")
        views = []
        for index, buffer in enumerate(buffers):
            try:
                view = memoryview(buffer)
                if not view.c_contiguous:
                    raise TypeError("its bytes do not follow each other")
                view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
            except TypeError as wrong:
                raise error(Code.INVALID, f"buffer {index} is not a contiguous buffer of bytes: {wrong}") from wrong
            if writable and view.readonly:
                raise error(Code.INVALID, f"buffer {index} is read-only")
            if len(view) < self.page_bytes or (not writable and len(view) != self.page_bytes):
                raise error(Code.INVALID, f"buffer {index} has {len(view)} bytes; pages here have {self.page_bytes}")
            views.append(view[: self.page_bytes])
        return views


def _check_namespace(namespace: str, page_bytes: int, timeout: float) -> None:
    if not 1 <= len(namespace.encode()) <= limits.namespace_name_bytes_max:
        raise error(
            Code.INVALID, f"namespace {namespace!r} has {len(namespace.encode())} bytes; 1 to {limits.namespace_name_bytes_max}"
        )
    if not 1 <= page_bytes <= limits.page_bytes_max:
        raise error(Code.INVALID, f"page_bytes {page_bytes}: 1 to {limits.page_bytes_max} are allowed")
    if timeout <= 0:
        raise error(Code.INVALID, f"timeout {timeout}: seconds, more than 0")


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

"""What happens to the pages of a namespace, as a stream: for routers that send a request to where its prefix is.

    async with cache.events() as events:        # from now on
        ...                                     # make a picture: cache.list()
        async for event in events:
            ...
            token = events.token                # later: cache.events(token) goes on behind this event

Events come from the heads of the chains, each chain's in order. They are kept there in memory, and boundedly: a listener that
comes back too late, or after the head of a chain has changed, is told MISSED and makes the picture anew, by listing. What happens
after that is told, so nothing falls between the two.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import msgspec

from fs3.api.kvcache.arguments import check_timeout
from fs3.base.errors import error
from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.storage.client import StorageClient
from fs3.client.storage.page_events import ChainNews, PageEventReader
from fs3.core.kvcache.events import Cursor, PageChange, PageEvent
from fs3.core.kvcache.pages import front_bytes

check_ns = 1 * SECOND
"""How often a stream looks whether the namespace was cleared or deleted."""
token_bytes_max = 1 << 20


class CacheChange(Enum):
    """What happened."""

    STORED = "stored"
    EVICTED = "evicted"
    """To make room."""
    EXPIRED = "expired"
    """Its time (TTL) was over."""
    REMOVED = "removed"
    """A client removed it."""
    LOST = "lost"
    """No replica had its bytes any more."""
    CLEARED = "cleared"
    """The namespace was cleared: there are no pages any more but those that were stored since. A MISSED follows."""
    MISSED = "missed"
    """There may have been events that are not told: list the pages again."""


class CacheEvent(NamedTuple):
    """One event."""

    change: CacheChange
    page_id: bytes = b""
    """Names the page, as `KVCache.page_ids` does; b"" of CLEARED and MISSED."""
    key: bytes = b""
    """b"": not known. It is known of pages whose puts began while their head had a listener, and of nothing that is removed."""
    length: int = 0
    """Bytes of a page that was stored, where its key is known; else 0."""


class Listened(Protocol):
    """The cache whose events a stream tells. `KVCache` is the one of production."""

    @property
    def namespace_id(self) -> int:
        """Under which its pages are found now."""
        ...

    async def check_namespace(self) -> None:
        """Learn whether it was cleared. Raises NotFound when it was deleted, InvalidArgument after `close`."""
        ...

    def get_chains(self) -> Sequence[ChainId]:
        """Of the namespace's table."""
        ...


class _Position(msgspec.Struct, array_like=True):
    """What a token says."""

    namespace_id: int
    cursors: dict[int, tuple[bytes, int]]


_CHANGES = {change: CacheChange[change.name] for change in PageChange}


class _Entry(NamedTuple):
    """An event that is not told yet."""

    event: CacheEvent
    places: dict[ChainId, Cursor]
    """Where chains stand behind it."""


class EventStream:
    """The events of one namespace, for one reader: an async iterator that does not end. Use `KVCache.events`.

    Reading raises NotFound once the namespace was deleted, InvalidArgument after the cache was closed. While a chain cannot be
    asked, the stream waits for it and tells what the others say.
    """

    def __init__(self, cache: Listened, storage: StorageClient, token: str, start_timeout_ns: int) -> None:
        self._cache = cache
        self._storage = storage
        self._start_timeout_ns = start_timeout_ns
        self._queue: deque[_Entry] = deque()
        self._told: dict[ChainId, Cursor] = {}
        """How far each chain has been told."""
        self._namespace_id = cache.namespace_id
        self._is_started = bool(token)
        if token != "":
            position = _parse(token)
            self._namespace_id = position.namespace_id
            self._told = {ChainId(chain): Cursor(*cursor) for chain, cursor in position.cursors.items()}
        self._placed = set(self._told)
        """Chains whose place is known; any other begins with MISSED."""
        self._reader = self._open_reader()

    @property
    def token(self) -> str:
        """Text that names the place behind the last event that was told, for `KVCache.events`."""
        cursors = {int(chain): (cursor.epoch, cursor.seq) for chain, cursor in self._told.items()}
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(_Position(self._namespace_id, cursors))).decode()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._reader.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CacheEvent:
        """The next event, once there is one."""
        await self.start()
        while not self._queue:
            await self._fetch(check_ns)
        return self._pop()

    async def read(self, timeout_ns: int, limit: int | None = None) -> list[CacheEvent]:
        """The events that are there, or the next ones, at most `limit`; none when nothing happens for so long."""
        await self.start()
        deadline = _now_ns() + timeout_ns
        while not self._queue and (left := deadline - _now_ns()) > 0:
            await self._fetch(min(check_ns, left))
        count = len(self._queue) if limit is None else min(limit, len(self._queue))
        return [self._pop() for _ in range(count)]

    async def start(self) -> None:
        """Begin: what happens after this returns is told. A chain that does not answer within the cache's timeout begins with
        MISSED, once it does. Of a stream that goes on from a token, and a second time, it does nothing."""
        if not self._is_started:
            self._is_started = True
            await self._cache.check_namespace()
            await self._place(self._told)

    async def _fetch(self, timeout_ns: int) -> None:
        """Queue what there is next."""
        await self._cache.check_namespace()
        if self._cache.namespace_id != self._namespace_id:
            await self._begin_anew()
        else:
            self._take(await self._reader.next(timeout_ns))

    async def _begin_anew(self) -> None:
        """The namespace was cleared: the events of the id it had are of no use any more."""
        self._reader.close()
        self._told.clear()
        self._placed.clear()
        self._namespace_id = self._cache.namespace_id
        self._reader = self._open_reader()
        places: dict[ChainId, Cursor] = {}
        self._queue.append(_Entry(CacheEvent(CacheChange.CLEARED), {}))
        self._queue.append(_Entry(CacheEvent(CacheChange.MISSED), places))
        await self._place(places)

    async def _place(self, places: dict[ChainId, Cursor]) -> None:
        """Learn where the chains are now."""
        deadline = _now_ns() + self._start_timeout_ns
        while not self._placed.issuperset(self._cache.get_chains()) and (left := deadline - _now_ns()) > 0:
            news = await self._reader.next(left)
            fresh = [(chain, batch) for chain, batch in news if chain not in self._placed]
            for chain, batch in fresh:
                self._placed.add(chain)
                places[chain] = batch.since
            self._take([(chain, batch) for chain, batch in news if (chain, batch) not in fresh or batch.events])

    def _open_reader(self) -> PageEventReader:
        return self._storage.read_page_events(self._namespace_id, self._cache.get_chains, dict(self._told))

    def _take(self, news: list[ChainNews]) -> None:
        missed = {chain: batch.since for chain, batch in news if batch.missed or chain not in self._placed}
        if missed:
            self._placed.update(missed)
            self._queue.append(_Entry(CacheEvent(CacheChange.MISSED), missed))
        for chain, batch in news:
            cursor = batch.since
            for event in batch.events:
                cursor = Cursor(cursor.epoch, cursor.seq + 1)
                self._queue.append(_Entry(_event_of(event), {chain: cursor}))

    def _pop(self) -> CacheEvent:
        event, places = self._queue.popleft()
        self._told.update(places)
        return event


RunRead: TypeAlias = "Callable[[Coroutine[Any, Any, list[CacheEvent]]], list[CacheEvent]]"
"""Runs a coroutine on the loop of a cache and waits for it."""


class BlockingEventStream:
    """An `EventStream` for code without an event loop: an iterator that waits for the next event. For one thread at a time."""

    def __init__(self, stream: EventStream, run: RunRead) -> None:
        self._stream = stream
        self._run = run

    @property
    def token(self) -> str:
        """`EventStream.token`."""
        return self._stream.token

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CacheEvent:
        """The next event, once there is one."""
        while not (events := self._run(self._stream.read(check_ns, 1))):
            pass
        return events[0]

    def read(self, timeout: float) -> list[CacheEvent]:
        """The events that are there, or the next ones; none when nothing happens for so many seconds."""
        return self._run(self._stream.read(check_timeout(timeout)))

    def close(self) -> None:
        """Listen no more."""
        self._run(self._stop())

    async def _stop(self) -> list[CacheEvent]:
        self._stream.close()
        return []


def _now_ns() -> int:
    return round(asyncio.get_running_loop().time() * SECOND)


def _event_of(event: PageEvent) -> CacheEvent:
    length = event.length - front_bytes(event.key) if event.key and event.length else 0
    return CacheEvent(_CHANGES[event.change], bytes(event.chunk), event.key, length)


def _parse(token: str) -> _Position:
    if not isinstance(token, str):
        raise TypeError(f"token is not str but {type(token).__name__}")
    try:
        if len(token) > token_bytes_max:
            raise ValueError
        return msgspec.msgpack.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=_Position)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise error(Code.INVALID, "token is not one that a stream of events has given") from None

"""Keeps a row cache up to date by a watch, and reads what it lacks.

Every transaction of the store also writes its *mark*, one row; so the revision of the mark says which change of the store was the
newest when something was read, whatever else the etcd cluster is used for. Once the watch has told the changes up to there,
the cache is as fresh as the read was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import aclosing

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.etcd.client import EtcdClient, etcd_retry_max_ns, etcd_retry_min_ns, is_refusal
from fs3.drivers.etcd.key_space import KeySpace
from fs3.drivers.etcd.row_cache import EtcdRowCache, etcd_fetch_rows_max
from fs3.wire.etcd import EtcdChange, EtcdRange, EtcdReadReply, EtcdRow, decode_watch, encode_watch

log = logging.getLogger("fs3.etcd")

etcd_watch_lag_ns = 700 * MILLISECOND
"""A watch that is behind what was read for so long begins anew at another member."""
etcd_unreachable_said_ns = 5 * SECOND
"""How often a log says that etcd cannot be reached."""
_FETCH_RANGES_MAX = 1024
"""Of one read."""


class CacheFeed:
    """The watch of one store, from `start` to `stop`."""

    def __init__(self, client: EtcdClient, keys: KeySpace, cache: EtcdRowCache) -> None:
        self._client = client
        self._keys = keys
        self._cache = cache
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._watched = ""
        """The member the watch is at."""
        self._waiting: dict[asyncio.Future[None], int] = {}
        """Who waits for which revision."""
        client.on_moved = self._on_moved

    async def start(self) -> None:
        """Find out how new the store is, as long as that takes; then follow it. FS3Error when etcd refuses."""
        reply = await self._read_mark()
        self._cache.reset(self._mark_of(reply))
        self._task = asyncio.get_running_loop().create_task(self._run(reply.revision + 1), name="fs3-etcd-watch")

    async def stop(self) -> None:
        """The cache is not kept up to date any more."""
        tasks = [task for task in (self._task, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = self._watch = None
        for future in self._waiting:
            if not future.done():
                future.set_exception(error(Code.SHUTTING_DOWN, "the key-value store is closed"))

    # --- the watch ----------------------------------------------------------------------------------------------------

    async def _run(self, start_revision: int) -> None:
        backoff = Backoff(etcd_retry_min_ns, etcd_retry_max_ns)
        while True:
            self._watched = self._client.endpoint
            # A task of its own, so that it can be ended from outside: the member may say nothing at all.
            self._watch = asyncio.get_running_loop().create_task(self._follow(start_revision, self._watched, backoff))
            await asyncio.wait({self._watch})
            if not self._watch.cancelled() and (problem := self._watch.exception()) is not None:
                if not isinstance(problem, FS3Error):
                    log.error("the watch of %s has failed", self._watched, exc_info=problem)
                else:
                    log.info("%s", problem)
                self._client.avoid(self._watched)
            await asyncio.sleep(backoff.next_ns() / SECOND)
            try:
                start_revision = await self._find_start()
            except FS3Error as why:
                log.error("what has changed is not told: %s", why)

    async def _follow(self, start_revision: int, endpoint: str, backoff: Backoff) -> None:
        keys, cache = self._keys, self._cache
        async with aclosing(self._client.watch(encode_watch(keys.begin, keys.end, start_revision), endpoint)) as messages:
            async for message in messages:
                reply = decode_watch(message, cache.revision)
                if reply.compact_revision:
                    # What has changed is not told any more. No read may wait for it: the cache begins anew at what is there now.
                    mark = await self._read_mark()
                    cache.reset(self._mark_of(mark))
                    self._wake()
                    told = f"changes up to revision {reply.compact_revision} are compacted; begun anew"
                    raise error(Code.UNAVAILABLE, told)
                if reply.is_canceled:
                    raise error(Code.UNAVAILABLE, f"etcd at {endpoint} has ended the watch: {reply.reason}")
                backoff.reset()
                changes = [change for change in reply.changes if keys.is_of_store(change.key)]
                if changes:
                    cache.apply(keys.rows_of(changes), changes[-1].mod_revision)
                    self._wake()

    async def _find_start(self) -> int:
        """Where a watch goes on. When nothing was missed it begins behind the newest revision, since that of the last change may
        be compacted away."""
        reply = await self._read_mark()
        if self._mark_of(reply) == self._cache.revision:
            return reply.revision + 1
        return self._cache.revision + 1

    async def _read_mark(self) -> EtcdReadReply:
        said_at = self._client.clock.now()
        while True:
            try:
                deadline = self._client.clock.now() + etcd_unreachable_said_ns
                return await self._client.read([EtcdRange(self._keys.mark)], deadline)
            except FS3Error as why:
                if is_refusal(why):
                    raise
                if self._client.clock.now() - said_at >= etcd_unreachable_said_ns - SECOND:
                    said_at = self._client.clock.now()
                    log.warning("%s; trying again", why)
                await asyncio.sleep(etcd_retry_max_ns / SECOND)

    @staticmethod
    def _mark_of(reply: EtcdReadReply) -> int:
        (rows,) = reply.ranges
        return rows[0].mod_revision if rows else 0

    def _on_moved(self, endpoint: str) -> None:
        if endpoint == self._watched and self._watch is not None:
            self._watch.cancel()

    # --- what operations wait for -------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[EtcdChange], revision: int) -> None:
        """Changes that this process has made itself, directly upon the state the cache has."""
        self._cache.apply(changes, revision)
        self._wake()

    def _wake(self) -> None:
        for future, revision in list(self._waiting.items()):
            if revision <= self._cache.revision and not future.done():
                future.set_result(None)

    async def wait_told(self, revision: int, deadline: int) -> None:
        """Return once the cache has all changes up to `revision`. FS3Error UNAVAILABLE when the deadline passes before."""
        clock = self._client.clock
        while self._cache.revision < revision:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[future] = revision
            watched = self._watched
            try:
                await asyncio.wait({future}, timeout=etcd_watch_lag_ns / SECOND)
            finally:
                self._waiting.pop(future)
            if future.done():
                future.result()
            elif clock.now() >= deadline:
                raise error(Code.UNAVAILABLE, f"etcd at {watched} does not tell what has changed")
            elif watched == self._watched and self._watch is not None:
                self._client.avoid(watched)
                self._watch.cancel()

    async def probe(self, deadline: int) -> None:
        """Return once the cache is as new as the store was when this was called. FS3Error as `EtcdClient.ask`."""
        reply = await self._client.read([EtcdRange(self._keys.mark)], deadline)
        await self.wait_told(self._mark_of(reply), deadline)

    async def fetch(self, wanted: Sequence[EtcdRange], deadline: int) -> None:
        """Bring ranges of rows into the cache. FS3Error as `EtcdClient.ask`."""
        for ranges in _cut(dict.fromkeys(wanted)):
            fetch = self._cache.begin_fetch()
            try:
                keys = [EtcdRange(self._keys.mark), *map(self._keys.to_etcd, ranges)]
                mark, *found = (await self._client.read(keys, deadline)).ranges
                revision = mark[0].mod_revision if mark else 0
                await self.wait_told(revision, deadline)
                self._cache.take_in(fetch, ranges, [self._rows(rows) for rows in found], revision)
            finally:
                self._cache.end_fetch(fetch)

    def _rows(self, rows: Sequence[EtcdRow]) -> list[EtcdRow]:
        strip = self._keys.strip
        return [EtcdRow(strip(key), value, revision) for key, value, revision in rows]


def _cut(wanted: dict[EtcdRange, None]) -> Iterator[list[EtcdRange]]:
    """As many ranges as may be read at once."""
    part: list[EtcdRange] = []
    rows = 0
    for one in wanted:
        cost = one.limit or 1
        if part and (rows + cost > 4 * etcd_fetch_rows_max or len(part) >= _FETCH_RANGES_MAX):
            yield part
            part, rows = [], 0
        part.append(one)
        rows += cost
    if part:
        yield part

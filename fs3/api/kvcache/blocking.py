"""The KVCache for code without an event loop: blocking calls from any thread, and jobs for engines that must not wait.

    cache = BlockingKVCache("fs3://127.0.0.1:8000", namespace="model@rev/fp8", page_bytes=4_497_408)
    cache.put_from(keys, buffers)
    job = cache.submit_get(keys, buffers)     # returns at once
    select.select([cache.event_fd("get")], [], [])
    for result in cache.poll("get"):
        ...

It has a thread with an event loop of its own. A forked child finds its parent's connections useless and makes its own at its
first call; jobs and file descriptors of the parent stay the parent's.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from fs3.api.io.blocking import run_on
from fs3.api.kvcache.arguments import (
    Key,
    Spots,
    check_lease_ms,
    check_lengths,
    check_name,
    check_page_bytes,
    check_replicas,
    check_settings,
    check_timeout,
    pack_keys,
    page_buffers,
    range_buffers,
)
from fs3.api.kvcache.cache import TIMEOUT_SECONDS, KVCache
from fs3.api.kvcache.events import BlockingEventStream, EventStream
from fs3.api.kvcache.jobs import JobBoard, JobKind, JobResult
from fs3.api.kvcache.leases import BlockingLease, PageLease
from fs3.api.kvcache.listing import pages_per_list_default
from fs3.api.kvcache.results import LookupResult, PageList, Status
from fs3.api.kvcache.upkeep import CacheUsage
from fs3.api.registration import BufferCalls
from fs3.base.errors import FS3Error, error
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.model.page_usage import LookupCounters
from fs3.runtime.exit import ExitStage, run_at_exit

T = TypeVar("T")

CLOSE_PATIENCE_S = 10.0
"""How long `close` waits for the thread of the loop."""

OpenCache = Callable[[], Coroutine[Any, Any, KVCache]]
"""Opens the cache on the running loop."""


class CacheThread:
    """A KVCache of this process on an event loop in a thread of its own, and its jobs."""

    def __init__(self, opening: OpenCache) -> None:
        """Returns when it is open. Raises what opening raises."""
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.jobs = JobBoard()
        self._calls_changed = threading.Condition()
        self._calls = 0
        """Threads that are in `run` or `submit`."""
        self._is_closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        """Jobs and calls that have begun."""
        self._thread = threading.Thread(target=self._run, name="fs3 KVCache", daemon=True)
        self._thread.start()
        try:
            self.cache = run_on(self.loop, opening())
        except BaseException:
            self._stop()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _stop(self) -> None:
        self.jobs.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_PATIENCE_S)

    @contextmanager
    def _call(self) -> Iterator[None]:
        """The loop goes on as long as a call that was let in is in here. Raises InvalidArgument once it is being closed."""
        with self._calls_changed:
            if self._is_closing:
                raise _closed()
            self._calls += 1
        try:
            yield
        finally:
            with self._calls_changed:
                self._calls -= 1
                self._calls_changed.notify_all()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine on the loop returns. CANCELLED, or InvalidArgument, when the cache is closed meanwhile."""
        try:
            with self._call():
                return run_on(self.loop, self._unless_closing(work))
        finally:
            work.close()  # of no effect once it has begun

    async def _unless_closing(self, work: Coroutine[Any, Any, T]) -> T:
        if self._is_closing:
            raise _closed()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    def submit(self, kind: JobKind, keys: int, work: Coroutine[Any, Any, list[Status] | LookupResult]) -> int:
        """Begin a job over so many keys. Raises FS3Error BUSY when too many are under way."""
        try:
            with self._call():
                job = self.jobs.begin()
                self.loop.call_soon_threadsafe(self._start, job, kind, keys, work)
        except BaseException:
            work.close()
            raise
        return job

    def _start(self, job: int, kind: JobKind, keys: int, work: Coroutine[Any, Any, list[Status] | LookupResult]) -> None:
        if self._is_closing:
            work.close()  # nobody can pick its result up
            return
        task = self.loop.create_task(self._work(job, kind, keys, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: int, kind: JobKind, keys: int, work: Coroutine[Any, Any, list[Status] | LookupResult]) -> None:
        try:
            answer = await work
        except BaseException as failure:  # told to who picks the job up, cancellation too: a job always has a result
            self.jobs.end(JobResult(job, kind, [Status.ERROR] * keys, failure=failure))
            return
        if isinstance(answer, LookupResult):
            self.jobs.end(JobResult(job, kind, answer.statuses, answer))
        else:
            self.jobs.end(JobResult(job, kind, answer))

    async def look_up(self, keys: Sequence[Key], lease_ms: int | None) -> LookupResult:
        """`KVCache.lookup`, with a lease that threads can release."""
        found = await self.cache.lookup(keys, lease_ms=lease_ms)
        if isinstance(found.lease, PageLease):
            return found._replace(lease=BlockingLease(found.lease, self.run))
        return found

    async def open_events(self, token: str) -> EventStream:
        """`KVCache.events`, begun."""
        stream = self.cache.events(token)
        await stream.start()
        return stream

    async def make_page_ids(self, keys: Sequence[Key]) -> list[bytes]:
        """`KVCache.page_ids`, on the loop."""
        return self.cache.page_ids(keys)

    def abandon(self) -> None:
        """`close` without waiting, from any thread, this one's own too."""
        self._is_closing = True
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._close_and_stop()))

    async def _close_and_stop(self) -> None:
        try:
            await self._close()
        finally:
            self.jobs.close()
            self.loop.stop()

    def close(self) -> None:
        """End everything; calls and jobs that are under way are cancelled. Not in a forked child."""
        with self._calls_changed:
            if self._is_closing or not self._thread.is_alive():
                return
            self._is_closing = True
        try:
            run_on(self.loop, self._close())
            # A call that has not begun yet waits for the loop to refuse it.
            with self._calls_changed:
                self._calls_changed.wait_for(lambda: not self._calls, CLOSE_PATIENCE_S)
        finally:
            self._stop()

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.cache.close()


def _closed() -> FS3Error:
    return error(Code.INVALID, "the KVCache is closed")


_open_caches: weakref.WeakSet[BlockingKVCache] = weakref.WeakSet()


def _close_all() -> None:
    for cache in list(_open_caches):
        cache.close()


run_at_exit(_close_all, ExitStage.CLIENTS)


class ListsPagesBlocking(ABC):
    """`list` of a blocking cache; see `ListsPages`."""

    @abstractmethod
    def _get_thread(self) -> CacheThread: ...

    def list(self, prefix: Key = b"", after: bytes | None = None, limit: int = pages_per_list_default) -> PageList:
        """`KVCache.list`."""
        thread = self._get_thread()
        return thread.run(thread.cache.list(prefix, after, limit))


class BlockingKVCache(ListsPagesBlocking, BufferCalls):
    """One namespace of pages, for any thread. What the calls of a `KVCache` guarantee, these do too.

    Every call raises InvalidArgument after `close`, and what opening raises in a forked child that cannot open it again.
    """

    def __init__(
        self,
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
    ) -> None:
        """As `KVCache.open`, which it waits for."""
        secret = Secret(token) if isinstance(token, str) else token
        name, size, copies = check_name(namespace), check_page_bytes(page_bytes), check_replicas(replicas)
        check_settings(budget_bytes=budget_bytes, ttl=ttl, pin_bytes=pin_bytes, owner=owner, page_bytes=size)
        check_timeout(timeout)

        async def opening() -> KVCache:
            return await KVCache.open(
                url,
                namespace=name,
                page_bytes=size,
                replicas=copies,
                timeout=timeout,
                transport=transport,
                circuit_breaker=circuit_breaker,
                budget_bytes=budget_bytes,
                ttl=ttl,
                pin_bytes=pin_bytes,
                owner=owner,
                token=secret,
                token_file=token_file,
            )

        self._opening: OpenCache = opening
        self._changing = threading.Lock()
        self._changing_process = os.getpid()
        self._closed = False
        self._thread: CacheThread | None = CacheThread(opening)
        self.page_bytes = size
        self.name = name
        self.replicas = self._thread.cache.replicas
        _open_caches.add(self)

    def __del__(self) -> None:
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.process == os.getpid():
            warnings.warn(f"the KVCache of namespace {self.name!r} was not closed", ResourceWarning, stacklevel=2)
            thread.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; pages stay. Calls and jobs that are under way are cancelled, and no result can be picked up any more."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None and thread.process == os.getpid():
            thread.close()

    # --- blocking calls -------------------------------------------------------------------------------------------------

    def put_from(self, keys: Sequence[Key], buffers: Sequence[Any]) -> list[Status]:
        """`KVCache.put_from`."""
        thread = self._get_thread()
        return thread.run(thread.cache.put_from(keys, buffers))

    def get_into(self, keys: Sequence[Key], buffers: Sequence[Any], lengths: MutableSequence[int] | None = None) -> list[Status]:
        """`KVCache.get_into`."""
        thread = self._get_thread()
        return thread.run(thread.cache.get_into(keys, buffers, lengths))

    def get_ranges_into(self, keys: Sequence[Key], ranges: Sequence[tuple[int, int]], buffers: Sequence[Any]) -> list[Status]:
        """`KVCache.get_ranges_into`."""
        thread = self._get_thread()
        return thread.run(thread.cache.get_ranges_into(keys, ranges, buffers))

    def lookup(self, keys: Sequence[Key], *, lease_ms: int | None = None) -> LookupResult:
        """`KVCache.lookup`. Its `lease` is a `BlockingLease`."""
        thread = self._get_thread()
        return thread.run(thread.look_up(keys, lease_ms))

    def pin(self, keys: Sequence[Key], *, ttl: float | None = None, hard: bool = False) -> list[Status]:
        """`KVCache.pin`."""
        thread = self._get_thread()
        return thread.run(thread.cache.pin(keys, ttl=ttl, hard=hard))

    def unpin(self, keys: Sequence[Key]) -> list[Status]:
        """`KVCache.unpin`."""
        thread = self._get_thread()
        return thread.run(thread.cache.unpin(keys))

    def touch(self, keys: Sequence[Key]) -> list[Status]:
        """`KVCache.touch`."""
        thread = self._get_thread()
        return thread.run(thread.cache.touch(keys))

    def usage(self) -> CacheUsage:
        """`KVCache.usage`."""
        thread = self._get_thread()
        return thread.run(thread.cache.usage())

    def events(self, token: str = "") -> BlockingEventStream:
        """`KVCache.events`, begun when this returns."""
        thread = self._get_thread()
        return BlockingEventStream(thread.run(thread.open_events(token)), thread.run)

    def page_ids(self, keys: Sequence[Key]) -> list[bytes]:
        """`KVCache.page_ids`."""
        thread = self._get_thread()
        return thread.run(thread.make_page_ids(keys))

    @property
    def statistics(self) -> LookupCounters:
        """`KVCache.statistics`: of this process."""
        return self._get_thread().cache.statistics

    def remove(self, keys: Sequence[Key]) -> list[Status]:
        """`KVCache.remove`."""
        thread = self._get_thread()
        return thread.run(thread.cache.remove(keys))

    def clear(self) -> None:
        """`KVCache.clear`."""
        thread = self._get_thread()
        thread.run(thread.cache.clear())

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def submit_put(self, keys: Sequence[Key], buffers: Sequence[Any]) -> int:
        """Begin `put_from` and return the number of the job. The buffers must not change until it has ended.

        Raises TypeError or InvalidArgument for a bad argument, FS3Error BUSY when too many jobs are not over or not picked up.
        """
        packed, views = self._pages(keys, buffers, writable=False)
        thread = self._get_thread()
        return thread.submit(JobKind.PUT, len(packed), thread.cache.put_views(packed, views))

    def submit_get(
        self,
        keys: Sequence[Key],
        buffers: Sequence[Any],
        ranges: Sequence[tuple[int, int]] | None = None,
        lengths: MutableSequence[int] | None = None,
    ) -> int:
        """Begin `get_into`, or `get_ranges_into` where `ranges` are given, and return the number of the job. The buffers and
        `lengths` must be kept, and are undefined, until it has ended. Raises as `submit_put`."""
        thread = self._get_thread()
        if ranges is not None:
            if lengths is not None:
                raise error(Code.INVALID, "lengths: ranges have the lengths that were asked for")
            packed = pack_keys(keys)
            parts = [views for _, views in range_buffers(ranges, buffers, len(packed), self.page_bytes)]
            return thread.submit(JobKind.GET, len(packed), thread.cache.get_ranges_into(packed, tuple(ranges), parts))
        packed, views = self._pages(keys, buffers, writable=True)
        wanted = check_lengths(lengths, len(packed), self.page_bytes)
        return thread.submit(JobKind.GET, len(packed), thread.cache.get_views(packed, views, wanted))

    def submit_lookup(self, keys: Sequence[Key], *, lease_ms: int | None = None) -> int:
        """Begin `lookup` and return the number of the job. The lease counts from when a storage node answers, so one that is
        picked up late may have ended. Raises as `submit_put`."""
        packed = pack_keys(keys)
        lease = None if lease_ms is None else check_lease_ms(lease_ms)
        thread = self._get_thread()
        return thread.submit(JobKind.LOOKUP, len(packed), thread.look_up(packed, lease))

    def poll(self, kind: JobKind | str | None = None) -> list[JobResult]:
        """The jobs that have ended since the last time, of one kind ("put", "get", "lookup") or of all. Never waits."""
        return self._get_thread().jobs.poll(None if kind is None else _kind_of(kind))

    def wait(self, jobs: Sequence[int], timeout: float | None = None) -> list[JobResult]:
        """The results of these jobs, in their order, which `poll` does not tell then.

        Raises TimeoutError when one has not ended in so many seconds, KeyError for a job there is not.
        """
        return self._get_thread().jobs.wait(jobs, timeout)

    def event_fd(self, kind: JobKind | str) -> int:
        """A file descriptor that is readable while jobs of this kind wait for `poll`. It belongs to the cache."""
        return self._get_thread().jobs.event_fd(_kind_of(kind))

    def _pages(self, keys: Sequence[Key], buffers: Sequence[Any], *, writable: bool) -> tuple[list[bytes], list[Spots]]:
        packed = pack_keys(keys)
        return packed, page_buffers(buffers, len(packed), self.page_bytes, writable=writable)

    def _check_use(self) -> None:
        self._get_thread()

    def _get_thread(self) -> CacheThread:
        if self._closed:
            raise error(Code.INVALID, f"the KVCache of namespace {self.name!r} is closed")
        thread = self._thread
        process = os.getpid()
        if thread is not None and thread.process == process:
            return thread
        if self._changing_process != process:  # a lock that another thread of the parent held is held for ever here
            self._changing, self._changing_process = threading.Lock(), process
        with self._changing:
            if self._thread is None or self._thread.process != process:
                self._thread = CacheThread(self._opening)
            return self._thread


def _kind_of(kind: JobKind | str) -> JobKind:
    try:
        return JobKind(kind)
    except ValueError:
        known = ", ".join(each.value for each in JobKind)
        raise error(Code.INVALID, f"kind {kind!r}: {known} are known") from None

"""The L2 adapter of LMCache's cache server, whose controllers hand tasks over and are woken when those have ended."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.api import KeyEntry, KeyListPage, MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc, L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import AdapterUsage, L2AdapterInterface, L2TaskId
from lmcache.v1.distributed.l2_adapters.config import L2AdapterConfigBase
from lmcache.v1.memory_management import MemoryObj

from fs3.api.integrations.engine import EngineOptions, unknown_options
from fs3.api.integrations.lmcache.keys import cursor_of, layout_mark, object_key, page_key, place_of
from fs3.api.integrations.lmcache.object_cache import ObjectCache, ObjectPosition, Objects, PageName, Usage
from fs3.api.io.loop_thread import LoopThread
from fs3.api.kvcache import Status
from fs3.api.kvcache.jobs import EventFd
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import GIB
from fs3.runtime.exit import ExitStage, run_at_exit

R = TypeVar("R")

Work = Callable[[], Coroutine[Any, Any, R]]
"""Looks at what a task was given, and makes what is to be done of it."""
Tell = Callable[..., None]
"""One of the base class's `_notify_…`."""

log = logging.getLogger("fs3.lmcache")

_OWN_OPTIONS = frozenset({"type", "max_capacity_gb"})

tasks_max = 8192
"""Of one kind: under way, or done and not asked for. One more fails at once."""

usage_age_s_max = 2.0
"""The cluster is asked for what is used at most so often."""
usage_timeout_s = 1.0

list_page_max = 1000
"""Objects that one call of `list_l2_keys` tells, whatever it is asked for."""

known_sizes_max = 1_000_000
"""Objects stored by this process whose sizes are remembered, so that LMCache is told what a deletion freed."""


class FS3L2AdapterConfig(L2AdapterConfigBase):  # type: ignore[misc]  # LMCache has no types
    """What stands in `adapter_params`."""

    def __init__(self, options: EngineOptions, max_capacity_gb: float = 0.0) -> None:
        super().__init__()
        self.options = options
        self.max_capacity_bytes = int(max_capacity_gb * GIB)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> FS3L2AdapterConfig:
        """Raises TypeError or InvalidArgument, which is a ValueError, for what cannot be."""
        if unknown := unknown_options(d, _OWN_OPTIONS):
            log.warning("options of the fs3 adapter that it does not know: %s", ", ".join(unknown))
        capacity = d.get("max_capacity_gb", 0)
        if isinstance(capacity, bool) or not isinstance(capacity, int | float) or capacity < 0:
            raise error(Code.INVALID, f"max_capacity_gb is {capacity!r}: a number of GiB, 0 for none, is wanted")
        return cls(EngineOptions.read("LMCache", d), float(capacity))

    @classmethod
    def help(cls) -> str:
        """What LMCache prints about the options."""
        return (
            "fs3 L2 adapter config fields (in adapter_params):\n"
            "- url (str): of the cluster, fs3://host:port[,host:port]; else the environment's FS3_CLUSTER\n"
            "- replicas (int): how many copies; 0: the cluster's number (default 0)\n"
            "- timeout (float): seconds that a call may take, after which objects are misses (default 10)\n"
            "- name (str): put before the names of the namespaces: what the model's name does not say (default empty)\n"
            '- max_capacity_gb (float): what LMCache\'s own eviction ("eviction" beside "type") keeps the objects below '
            "(default 0: none; a namespace's budget in fs3 needs it not)"
        )


class TaskBoard(Generic[R]):
    """The tasks of one kind: each has a result, which is told once. Any thread may use it."""

    def __init__(self) -> None:
        self._event = EventFd()
        self._lock = threading.Lock()
        self._results: dict[L2TaskId, R] = {}
        self._under_way = 0
        self._next = 0
        self._closed = False

    @property
    def fd(self) -> int:
        """Readable when a task has ended."""
        return self._event.fd

    def begin(self) -> tuple[L2TaskId, bool]:
        """A new task, and whether there is room for its work."""
        with self._lock:
            self._next += 1
            has_room = self._under_way + len(self._results) < tasks_max
            self._under_way += 1
            return self._next, has_room

    def end(self, task: L2TaskId, result: R) -> None:
        """A task has ended."""
        with self._lock:
            self._under_way -= 1
            if self._closed:
                return
            self._results[task] = result
            self._event.signal()

    def pop(self, task: L2TaskId) -> R | None:
        """The result of a task that has ended, once."""
        with self._lock:
            return self._results.pop(task, None)

    def pop_all(self) -> dict[L2TaskId, R]:
        """All results that were not told yet."""
        with self._lock:
            results, self._results = self._results, {}
            return results

    def close(self) -> None:
        """Give the descriptor back; results that come later are dropped."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._event.close()


_open_adapters: weakref.WeakSet[FS3L2Adapter] = weakref.WeakSet()


def _close_all() -> None:
    for adapter in list(_open_adapters):
        adapter.close()


run_at_exit(_close_all, ExitStage.CLIENTS)


class FS3L2Adapter(L2AdapterInterface):  # type: ignore[misc]  # LMCache has no types
    """The adapter that LMCache makes of `"class_name": "FS3L2Adapter"`."""

    def __init__(self, config: FS3L2AdapterConfig, l1_memory_desc: L1MemoryDesc | None = None) -> None:
        """Connects. Raises Unreachable when the cluster does not answer: LMCache says so and does not start with it."""
        super().__init__(max_capacity_bytes=config.max_capacity_bytes)
        self._options = config.options
        self._stores: TaskBoard[L2StoreResult] = TaskBoard()
        self._lookups: TaskBoard[Bitmap] = TaskBoard()
        self._loads: TaskBoard[Bitmap] = TaskBoard()
        self._sizes: dict[ObjectKey, int] = {}
        self._sizes_lock = threading.Lock()
        self._asking_usage = threading.Lock()
        self._usage: Usage | None = None
        """What the cluster said last."""
        self._usage_until = 0.0
        self._thread = LoopThread("fs3 LMCache")
        try:
            self._objects = self._thread.run(ObjectCache.open(config.options))
        except BaseException:
            self._thread.close(_nothing())
            self._close_boards()
            raise
        _open_adapters.add(self)

    # --- event file descriptors -----------------------------------------------------------------------------------------------

    def get_store_event_fd(self) -> int:
        """Readable when a store task has ended."""
        return self._stores.fd

    def get_lookup_and_lock_event_fd(self) -> int:
        """Readable when a lookup task has ended."""
        return self._lookups.fd

    def get_load_event_fd(self) -> int:
        """Readable when a load task has ended."""
        return self._loads.fd

    # --- store ----------------------------------------------------------------------------------------------------------------

    def submit_store_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> L2TaskId:
        """Begin to store objects, whose memory must not change until the task has ended. It failed when one is not stored."""
        failed = L2StoreResult(False, 0)

        def work() -> Coroutine[Any, Any, L2StoreResult]:
            return self._store(list(keys), _in_memory(keys, objects))

        return self._submit(self._stores, work, failed)

    async def _store(self, keys: list[ObjectKey], objects: Objects) -> L2StoreResult:
        statuses = await self._objects.put(objects)
        sizes = [len(view) if status is Status.OK else 0 for status, view in zip(statuses, objects.views, strict=True)]
        there = [index for index, status in enumerate(statuses) if status.ok]
        self._remember([(keys[index], sizes[index]) for index in there if sizes[index]])
        self._notify(self._notify_keys_stored, [keys[index] for index in there], [sizes[index] for index in there])
        return L2StoreResult(len(there) == len(keys), sum(sizes))

    def pop_completed_store_tasks(self) -> dict[L2TaskId, L2StoreResult]:
        """What became of the store tasks that have ended since the last time."""
        return self._stores.pop_all()

    # --- lookup ---------------------------------------------------------------------------------------------------------------

    def submit_lookup_and_lock_task(
        self, keys: list[ObjectKey], group_layout_descs: dict[int, MemoryLayoutDesc] | None = None
    ) -> L2TaskId:
        """Begin to look which objects are there, and keep those until they are unlocked, or for a minute."""
        count = len(keys)

        def work() -> Coroutine[Any, Any, Bitmap]:
            return self._lookup(_names(keys))

        return self._submit(self._lookups, work, Bitmap(count))

    async def _lookup(self, names: Sequence[PageName]) -> Bitmap:
        return _bitmap(await self._objects.lookup(names, lock=True))

    def query_lookup_and_lock_result(self, task_id: L2TaskId) -> Bitmap | None:
        """Which objects are there, once; None while it is not known."""
        return self._lookups.pop(task_id)

    def submit_unlock(self, keys: list[ObjectKey]) -> None:
        """Objects that a lookup found are not needed any more. What is not unlocked is so by itself after a minute."""
        try:
            self._thread.start(self._objects.unlock(_names(keys)))
        except Exception as failure:  # LMCache's controllers go on
            log.warning("%d objects stay locked for a minute: %s", len(keys), failure)

    # --- load -----------------------------------------------------------------------------------------------------------------

    def submit_load_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> L2TaskId:
        """Begin to read objects to their memory, which is undefined until the task has ended, and where that failed."""

        def work() -> Coroutine[Any, Any, Bitmap]:
            return self._load(list(keys), _in_memory(keys, objects))

        return self._submit(self._loads, work, Bitmap(len(keys)))

    async def _load(self, keys: list[ObjectKey], objects: Objects) -> Bitmap:
        statuses = await self._objects.get(objects)
        read = [key for key, status in zip(keys, statuses, strict=True) if status is Status.OK]
        self._notify(self._notify_keys_accessed, read)
        return _bitmap(statuses)

    def query_load_result(self, task_id: L2TaskId) -> Bitmap | None:
        """Which objects were read, once; None while it is not known."""
        return self._loads.pop(task_id)

    # --- the rest -------------------------------------------------------------------------------------------------------------

    def delete(self, keys: list[ObjectKey]) -> None:
        """Delete objects, for all that share them, and wait for it. What cannot be deleted stays, and is logged."""
        if not keys:
            return
        try:
            statuses = self._thread.run(self._objects.remove(_names(keys)))
        except Exception as failure:  # LMCache's eviction thread ends for good when a call raises
            log.warning("%d objects were not deleted: %s", len(keys), failure)
            return
        deleted = [key for key, status in zip(keys, statuses, strict=True) if status is Status.OK]
        if len(deleted) < len(keys):
            log.warning("%d of %d objects were not deleted: fs3 did not answer for them", len(keys) - len(deleted), len(keys))
        with self._sizes_lock:
            sizes = [self._sizes.pop(key, 0) for key in deleted]
        self._notify(self._notify_keys_deleted, deleted, sizes)

    def list_l2_keys(self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None) -> KeyListPage:
        """The objects there are, of all servers. Raises ValueError for a bad argument, FS3Error when fs3 does not answer."""
        if page_size <= 0:
            raise error(Code.INVALID, f"page_size is {page_size}: at least 1 is wanted")
        after = None if cursor is None else ObjectPosition(*place_of(cursor))
        found = self._thread.run(self._objects.list_objects(model_name, after, min(page_size, list_page_max)))
        entries = []
        for name, length in found.objects:
            if (key := object_key(name.model, name.key)) is not None:
                entries.append(KeyEntry(key.to_encoded_object_key(), length))
        return KeyListPage(tuple(entries), None if found.after is None else cursor_of(*found.after))

    def get_usage(self) -> AdapterUsage:
        """What all servers have stored, as the cluster said within the last seconds; per salt, what this one has."""
        own = super().get_usage()
        with self._asking_usage:
            now = time.monotonic()
            if now >= self._usage_until:
                self._usage_until = now + usage_age_s_max
                try:
                    self._usage = self._thread.run(self._ask_usage())
                except Exception as failure:  # LMCache's eviction thread ends for good when a call raises
                    log.warning("what is used is not known: %s", failure)
            usage = self._usage
        if usage is None:
            return own
        return AdapterUsage(usage.used_bytes, own.total_capacity_bytes or usage.budget_bytes, own.bytes_by_cache_salt)

    async def _ask_usage(self) -> Usage:
        async with asyncio.timeout(usage_timeout_s):
            return await self._objects.usage()

    def report_status(self) -> dict[str, Any]:
        """For LMCache's status page."""
        return {
            "is_healthy": self._thread.is_running,
            "type": type(self).__name__,
            "url": self._options.url,
            "replicas": self._options.replicas,
            "timeout": self._options.timeout,
        }

    def close(self) -> None:
        """Let go; objects stay. Tasks that are under way are cancelled and get no result."""
        try:
            self._thread.close(self._objects.close())
        except (FS3Error, OSError, RuntimeError) as failure:
            log.warning("closing: %s", failure)
        self._close_boards()

    def _close_boards(self) -> None:
        for board in (self._stores, self._lookups, self._loads):
            board.close()

    def _submit(self, board: TaskBoard[R], work: Work[R], failed: R) -> L2TaskId:
        """Begin a task. One that cannot begin ends at once as `failed`, like one that raises."""
        task, has_room = board.begin()

        async def run(coroutine: Coroutine[Any, Any, R]) -> None:
            result = failed
            try:
                result = await coroutine
            except Exception as failure:
                log.warning("a task failed: %s", failure)
            finally:
                board.end(task, result)

        try:
            if not has_room:
                raise error(Code.BUSY, f"{tasks_max} tasks are under way or were not asked for")
            coroutine = work()
            try:
                self._thread.start(run(coroutine))
            except BaseException:
                coroutine.close()
                raise
        except Exception as failure:  # LMCache's controllers go on
            log.warning("a task was refused: %s", failure)
            board.end(task, failed)
        return task

    def _remember(self, stored: Sequence[tuple[ObjectKey, int]]) -> None:
        with self._sizes_lock:
            self._sizes.update(stored)
            while len(self._sizes) > known_sizes_max:
                del self._sizes[next(iter(self._sizes))]

    def _notify(self, tell: Tell, keys: list[ObjectKey], *more: Any) -> None:
        """Tell LMCache's listeners. What they raise is theirs."""
        if not keys:
            return
        try:
            tell(keys, *more)
        except Exception:
            log.exception("a listener of LMCache failed")


async def _nothing() -> None:
    pass


def _names(keys: Sequence[ObjectKey]) -> list[PageName]:
    return [PageName(key.model_name, page_key(key)) for key in keys]


def _in_memory(keys: Sequence[ObjectKey], objects: Sequence[MemoryObj]) -> Objects:
    if len(keys) != len(objects):
        raise error(Code.INVALID, f"{len(keys)} keys and {len(objects)} objects")
    return Objects(_names(keys), [layout_mark(each) for each in objects], [each.byte_array for each in objects], list(objects))


def _bitmap(statuses: Sequence[Status]) -> Bitmap:
    bitmap = Bitmap(len(statuses))
    for index, status in enumerate(statuses):
        if status is Status.OK:
            bitmap.set(index)
    return bitmap

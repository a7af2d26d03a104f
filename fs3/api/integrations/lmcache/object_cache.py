"""Objects of several models and sizes: one namespace per model, opened when the first object of the model comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.integrations.engine import EngineOptions, namespace_name
from fs3.api.integrations.lmcache.keys import MARK_BYTES
from fs3.api.integrations.locks import ObjectLocks
from fs3.api.kvcache import KVCache, PageLease, Status
from fs3.base.errors import FS3Error, error
from fs3.base.limits import page_bytes_max, page_lease_ms_max
from fs3.base.status import Code
from fs3.base.units import MIB

log = logging.getLogger("fs3.lmcache")

ENGINE = "lmcache"
"""In the names of its namespaces."""

object_bytes_max = page_bytes_max - MARK_BYTES

models_max = 1024
"""Whose namespaces one process has open."""

part_bytes_max = 128 * MIB
"""A task of more bytes is done in parts, each within a timeout of its own."""
parts_max = 4
"""Parts of stores and of loads, each, that are under way at a time."""

lock_ms = page_lease_ms_max
"""How long what a lookup found stays when it is not unlocked: LMCache's own locks last 300 s, leases of fs3 a minute at most."""

reopen_interval_s_min = 1.0
"""How long a namespace that could not be opened is not asked for again; twice as long after each further failure."""
reopen_interval_s_max = 60.0


class PageName(NamedTuple):
    """Where an object is."""

    model: str
    key: bytes


class Objects(NamedTuple):
    """Objects in memory, of the same length each list: what they are called, what their pages begin with, and their bytes."""

    names: Sequence[PageName]
    marks: Sequence[bytes]
    views: Sequence[memoryview]
    owners: Sequence[Any]
    """Whose memory that is: views do not keep it."""


class ObjectPosition(NamedTuple):
    """How far a listing has got: behind a key of a model; None: at the model's beginning."""

    model: str
    key: bytes | None


class Usage(NamedTuple):
    """Of all models, one copy, with keys and headers."""

    used_bytes: int
    budget_bytes: int
    """0: not every model has a budget."""


class ObjectListing(NamedTuple):
    """A part of the objects there are."""

    objects: list[tuple[PageName, int]]
    """And how many bytes each has."""
    after: ObjectPosition | None
    """Where the next part begins; None: this was the last one."""


class FailedOpening(NamedTuple):
    """A namespace could not be opened: why, and until when it is not tried again."""

    failure: FS3Error
    interval_s: float
    until: float


Ask = Callable[[KVCache, Sequence[int]], Awaitable[Sequence[Status]]]
"""Asks a namespace about the objects at these indices."""


class ObjectCache:
    """The pages of all models, over one client. Use `ObjectCache.open`. Belongs to the event loop it was opened on.

    No call raises for what fs3 answers or does not answer: that is in the statuses, one per object.
    """

    def __init__(self, client: Client, options: EngineOptions) -> None:
        self._client = client
        self._options = options
        self._caches: dict[str, asyncio.Task[KVCache]] = {}
        self._failed: dict[str, FailedOpening] = {}
        self._now = asyncio.get_running_loop().time
        self._warn_after = 0.0
        self._prefix = namespace_name(options.name, ENGINE) + "/"
        self._locks: ObjectLocks[PageName, PageLease] = ObjectLocks()
        self._storing = asyncio.Semaphore(parts_max)
        self._loading = asyncio.Semaphore(parts_max)

    @classmethod
    async def open(cls, options: EngineOptions) -> ObjectCache:
        """Connect. Raises Unreachable when no manager answers in time."""
        try:
            async with asyncio.timeout(options.timeout):
                return cls(await connect(options.url), options)
        except TimeoutError:
            raise error(Code.UNAVAILABLE, f"no manager answered in {options.timeout:g} s", options.url) from None

    async def close(self) -> None:
        """Let go; pages stay."""
        for task in self._caches.values():
            task.cancel()
        for outcome in await asyncio.gather(*self._caches.values(), return_exceptions=True):
            if isinstance(outcome, KVCache):
                await outcome.close()
        await self._client.aclose()

    # --- objects --------------------------------------------------------------------------------------------------------------

    async def put(self, objects: Objects) -> list[Status]:
        """Store objects; OK or EXISTS: it is there."""

        async def ask(cache: KVCache, indices: Sequence[int]) -> Sequence[Status]:
            buffers = [[objects.marks[index], objects.views[index]] for index in indices]
            return await cache.put_from([objects.names[index].key for index in indices], buffers)

        return await self._ask_each(objects.names, ask, objects.views, self._storing)

    async def get(self, objects: Objects, lengths: list[int] | None = None) -> list[Status]:
        """Read objects of the same layout and of exactly the length of their memory; any other is a miss. With `lengths`, which
        are set, shorter ones are read too."""
        marks = bytearray(MARK_BYTES * len(objects.names))
        places = memoryview(marks)

        def mark(index: int) -> memoryview:
            return places[index * MARK_BYTES : (index + 1) * MARK_BYTES]

        async def ask(cache: KVCache, indices: Sequence[int]) -> Sequence[Status]:
            buffers = [[mark(index), objects.views[index]] for index in indices]
            keys = [objects.names[index].key for index in indices]
            if lengths is None:
                return await cache.get_into(keys, buffers)
            stored = [0] * len(keys)
            found = await cache.get_into(keys, buffers, stored)
            for index, length in zip(indices, stored, strict=True):
                lengths[index] = max(0, length - MARK_BYTES)
            return found

        statuses = await self._ask_each(objects.names, ask, objects.views, self._loading)
        for index, status in enumerate(statuses):
            if status is Status.OK and mark(index) != objects.marks[index]:
                statuses[index] = Status.MISS
                self._warn(
                    "objects of model %s are stored in another layout than this server's; give the servers of each layout a "
                    '"name" of their own',
                    objects.names[index].model,
                )
        return statuses

    async def lookup(self, names: Sequence[PageName], *, lock: bool = False) -> list[Status]:
        """Which objects are there: OK, MISS, or why it is not known. With `lock`, what is there stays until it is unlocked, or
        for `lock_ms`."""

        async def ask(cache: KVCache, indices: Sequence[int]) -> Sequence[Status]:
            found = await cache.lookup([names[index].key for index in indices], lease_ms=lock_ms if lock else None)
            if isinstance(found.lease, PageLease):
                there = [names[index] for index, is_there in zip(indices, found.bitmap, strict=True) if is_there]
                now = self._now()
                self._locks.lock(found.lease, there, now + lock_ms / 1000, now)
            return found.statuses

        return await self._ask_each(names, ask)

    async def unlock(self, names: Sequence[PageName]) -> None:
        """Objects are not needed any more, as often as a lookup with `lock` found them."""
        await asyncio.gather(*(lease.release() for lease in self._locks.unlock(names)))

    async def remove(self, names: Sequence[PageName]) -> list[Status]:
        """Remove objects; OK: it is not there any more."""

        async def ask(cache: KVCache, indices: Sequence[int]) -> Sequence[Status]:
            return await cache.remove([names[index].key for index in indices])

        return await self._ask_each(names, ask)

    async def list_objects(self, model: str | None, after: ObjectPosition | None, limit: int) -> ObjectListing:
        """At most `limit` objects of a model, or of all. Raises FS3Error when they cannot be listed."""
        models = await self._models(model)
        found: list[tuple[PageName, int]] = []
        for at, each in enumerate(models, 1):
            if after is not None and each < after.model:
                continue
            cache = await self._open(each)
            key = after.key if after is not None and each == after.model else None
            while True:
                part = await cache.list(after=key, limit=limit - len(found))
                found += [(PageName(each, page.key), page.length - MARK_BYTES) for page in part.pages]
                key = part.after
                if key is None:
                    break
                if len(found) >= limit:
                    return ObjectListing(found, ObjectPosition(each, key))
            if len(found) >= limit:
                return ObjectListing(found, ObjectPosition(models[at], None) if at < len(models) else None)
        return ObjectListing(found, None)

    async def _models(self, model: str | None) -> list[str]:
        """Models that have a namespace; of one whose name had to be shortened only when it is asked for."""
        prefix = self._prefix
        wanted = None if model is None else namespace_name(self._options.name, ENGINE, model)
        names = [each.name for each in await KVCache.list_namespaces(self._client, wanted or prefix)]
        if model is not None:
            return [model] if wanted in names else []
        return sorted(name[len(prefix) :] for name in names)

    async def _ask_each(
        self,
        names: Sequence[PageName],
        ask: Ask,
        views: Sequence[memoryview] | None = None,
        turns: asyncio.Semaphore | None = None,
    ) -> list[Status]:
        """The answers about all names, of each model by itself, and of the objects that go with them in bounded parts."""
        models: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            models.setdefault(name.model, []).append(index)
        statuses = [Status.ERROR] * len(names)

        async def ask_part(model: str, part: Sequence[int]) -> None:
            async with turns or nullcontext():
                answer = await self._ask(model, part, ask)
            for index, status in zip(part, answer, strict=True):
                statuses[index] = status

        parts = [(model, part) for model, indices in models.items() for part in _parts(indices, views)]
        await asyncio.gather(*(ask_part(model, part) for model, part in parts))
        return statuses

    async def _ask(self, model: str, indices: Sequence[int], ask: Ask) -> Sequence[Status]:
        try:
            return await ask(await self._open(model), indices)
        except FS3Error as failure:
            if failure.code is Code.NO_NAMESPACE:
                self._caches.pop(model, None)  # it was deleted: the next call makes it anew
            self._warn("%d objects of model %s are left out: %s", len(indices), model, failure)
            return [Status.ERROR] * len(indices)

    async def usage(self) -> Usage:
        """What all models take, of all servers. Raises FS3Error when not all of the cluster can say so."""
        found = await KVCache.list_usage(self._client, self._prefix)
        if missing := sum(each.missing_chains for each in found):
            raise error(Code.UNAVAILABLE, f"the heads of {missing} chains do not say what is used")
        budgets = [each.namespace.budget_bytes for each in found]
        return Usage(sum(each.bytes for each in found), sum(budgets) if all(budgets) else 0)

    async def is_reachable(self) -> bool:
        """A manager answers."""
        try:
            await KVCache.list_namespaces(self._client, namespace_name(self._options.name, ENGINE, "ping"))
        except FS3Error:
            return False
        return True

    # --- namespaces -----------------------------------------------------------------------------------------------------------

    async def _open(self, model: str) -> KVCache:
        """The namespace of a model, which several calls may wait for. Raises FS3Error."""
        failed = self._failed.get(model)
        if failed is not None and self._now() < failed.until:
            raise failed.failure
        task = self._caches.get(model)
        if task is None:
            if len(self._caches) >= models_max:
                raise error(Code.BUSY, f"objects of {models_max} models are in use already", model)
            task = self._caches[model] = asyncio.get_running_loop().create_task(self._open_namespace(model))
        try:
            cache = await asyncio.shield(task)
        except FS3Error as failure:
            if self._caches.get(model) is task:
                del self._caches[model]
                interval_s = min(2 * failed.interval_s, reopen_interval_s_max) if failed else reopen_interval_s_min
                self._failed[model] = FailedOpening(failure, interval_s, self._now() + interval_s)
            raise
        self._failed.pop(model, None)
        return cache

    async def _open_namespace(self, model: str) -> KVCache:
        name = namespace_name(self._options.name, ENGINE, model)
        try:
            async with asyncio.timeout(self._options.timeout):
                cache = await KVCache.of(
                    self._client,
                    namespace=name,
                    page_bytes=page_bytes_max,
                    replicas=self._options.replicas,
                    timeout=self._options.timeout,
                )
        except TimeoutError:
            raise error(Code.DEADLINE, f"the manager did not open the namespace in {self._options.timeout:g} s", name) from None
        log.info("objects of model %s: namespace %r, %d replicas", model, name, cache.replicas)
        return cache

    def _warn(self, message: str, *arguments: Any) -> None:
        """At most once a second: who calls again and again must not fill a disk with logs."""
        now = self._now()
        if now >= self._warn_after:
            self._warn_after = now + 1.0
            log.warning(message, *arguments)


def _parts(indices: Sequence[int], views: Sequence[memoryview] | None) -> Iterator[Sequence[int]]:
    """The indices in parts of so many bytes at most, or of one object."""
    if views is None:
        yield indices
        return
    first = size = 0
    for at, index in enumerate(indices):
        if size and size + len(views[index]) > part_bytes_max:
            yield indices[first:at]
            first, size = at, 0
        size += len(views[index])
    yield indices[first:]

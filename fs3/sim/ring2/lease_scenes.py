"""Directed runs of leases and events of KVCache pages, beside evictions. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fs3.api.client import Client
from fs3.api.kvcache import CacheChange, EventStream, KVCache, LookupResult, PageLease, Status
from fs3.api.kvcache.page_io import ask_first_bytes
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster, SlowLinks

NAME = "fleet"
PAGE_BYTES = 1000
LARGE_PAGE_BYTES = ask_first_bytes - 1
"""Such a page leaves the store without a copy, and is put without asking first."""
BUDGET_PAGES = 24
LONG_LEASE_MS = 30_000
SHORT_LEASE_MS = 2_000
FAILOVER_SECONDS = 8
"""Longer than a chain needs to go on without a node that was killed, and a client to hear of it."""


def _content(key: str, page_bytes: int) -> bytes:
    """The one page that may stand under a key."""
    word = f"[{key}]".encode()
    return (word * (page_bytes // len(word) + 1))[:page_bytes]


def _keys(name: str, count: int) -> list[str]:
    return [f"{name}-{number:04}" for number in range(count)]


class Worker:
    """One client's handle of the namespace."""

    def __init__(self, stage: SceneCluster, client: str, cache: KVCache) -> None:
        self.stage = stage
        self.client = client
        self.cache = cache

    async def put(self, keys: Sequence[str]) -> list[Status]:
        """Store the pages of some keys."""
        pages = [_content(key, self.cache.page_bytes) for key in keys]
        return await self.stage.call(self.client, lambda _: self.cache.put_from(keys, pages))

    async def get(self, keys: Sequence[str]) -> list[Status]:
        """Read them. CORRUPT stands for other bytes than a key's own, too."""
        buffers = [bytearray(self.cache.page_bytes) for _ in keys]
        statuses = await self.stage.call(self.client, lambda _: self.cache.get_into(keys, buffers))
        return [
            Status.CORRUPT if status is Status.OK and buffer != _content(key, self.cache.page_bytes) else status
            for key, buffer, status in zip(keys, buffers, statuses, strict=True)
        ]

    async def lookup(self, keys: Sequence[str], lease_ms: int | None = None) -> LookupResult:
        """Which are there."""
        return await self.stage.call(self.client, lambda _: self.cache.lookup(keys, lease_ms=lease_ms))

    async def release(self, found: LookupResult) -> None:
        """Be done with what a lookup leased."""
        lease = found.lease
        assert isinstance(lease, PageLease)
        await self.stage.call(self.client, lambda _: lease.release())

    async def churn(self, keys: Sequence[str]) -> None:
        """Store pages one after the other: each makes others go."""
        for begin in range(0, len(keys), 2):
            await self.put(keys[begin : begin + 2])

    async def wait_gone(self, keys: Sequence[str], name: str) -> str:
        """Store others until none of these is there. What is wrong when that does not happen."""
        for number in range(60):
            statuses = (await self.lookup(keys)).statuses
            if all(status is Status.MISS for status in statuses):
                return ""
            await self.churn(_keys(f"{name}-{number}", 8))
        return f"pages that nobody leases any more are not evicted: {statuses}"


async def _open(stage: SceneCluster, client: str, page_bytes: int = PAGE_BYTES, budget_pages: int = BUDGET_PAGES) -> Worker:
    """A handle of a client; the namespace has room for so many pages, and every storage node knows that."""
    budget = budget_pages * (page_bytes + 100)

    async def make(connected: Client) -> KVCache:
        return await KVCache.of(
            connected, namespace=NAME, page_bytes=page_bytes, budget_bytes=budget, timeout=20.0, circuit_breaker=False
        )

    cache = await stage.call(client, make)
    for _ in range(POLLS_MAX):
        if all(service.namespaces.get(cache.namespace_id) for service in stage.cluster.storages.values()):
            return Worker(stage, client, cache)
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("storage nodes do not hear of the namespace")


async def leased_pages_stay(stage: SceneCluster) -> str:
    """Pages are leased, and others store many times what the namespace has room for. Once they are released, they go."""
    reader, writer = await _open(stage, "client-1"), await _open(stage, "client-2")
    keys = _keys("prompt", 6)
    await writer.put(keys)
    found = await reader.lookup(keys, LONG_LEASE_MS)
    if found.hits != len(keys) or found.lease is None or found.lease.pages != len(keys):
        return f"a lookup of pages that are there: {found}"
    for number in range(10):
        await writer.churn(_keys(f"other-{number}", 8))
        statuses = await reader.get(keys)
        if statuses != [Status.OK] * len(keys):
            return f"a get under a lease: {statuses}"
    await reader.release(found)
    return await writer.wait_gone(keys, "after")


async def a_lookup_renews_nothing(stage: SceneCluster) -> str:
    """A worker has leased pages and dies; another one looks them up again and again. They go all the same."""
    reader, writer = await _open(stage, "client-1"), await _open(stage, "client-2")
    # Enough of them that each replica is somebody's favourite.
    watchers = [await _open(stage, name) for name in stage.cluster.clients if name not in ("client-1", "client-2")]
    keys = _keys("prompt", 6)
    await writer.put(keys)
    await reader.lookup(keys, SHORT_LEASE_MS)
    stage.cluster.hosts["client-1"].kill()
    leased_until = stage.cluster.loop.now + SHORT_LEASE_MS * MILLISECOND

    async def look_on() -> None:
        while True:
            await asyncio.gather(*(watcher.lookup(keys) for watcher in watchers))
            await asyncio.sleep(0.2)

    looking = asyncio.get_running_loop().create_task(look_on())
    try:
        while stage.cluster.loop.now < leased_until - 200 * MILLISECOND:
            await writer.churn(_keys(f"early-{stage.cluster.loop.now}", 8))
            if (await writer.lookup(keys)).hits < len(keys):
                return "a page was evicted although it was leased"
        await asyncio.sleep(0.5)
        return await writer.wait_gone(keys, "late")
    finally:
        looking.cancel()


async def lease_what_is_being_evicted(stage: SceneCluster) -> str:
    """Whatever a lookup leases can be read, although everything comes and goes all the time."""
    writer = await _open(stage, "client-2", budget_pages=9)
    readers = [await _open(stage, f"client-{number}", budget_pages=9) for number in (1, 3)]
    keys = _keys("page", 40)
    prng = Prng(1)
    problems: list[str] = []

    async def write() -> None:
        for _ in range(60):
            begin = prng.below(len(keys) - 4)
            await writer.put(keys[begin : begin + 4])

    async def read(reader: Worker) -> None:
        while not writing.done():
            some = list(keys)
            prng.shuffle(some)
            found = await reader.lookup(some[:10], LONG_LEASE_MS)
            there = [key for key, is_there in zip(some, found.bitmap, strict=False) if is_there]
            await asyncio.sleep(0.02)  # an eviction that had begun is over by then
            statuses = await reader.get(there)
            if statuses != [Status.OK] * len(there):
                problems.append(f"a lease on {there}, and reading them: {statuses}")
            await reader.release(found)

    loop = asyncio.get_running_loop()
    writing = loop.create_task(write())
    await asyncio.gather(*[loop.create_task(read(reader)) for reader in readers])
    await writing
    return problems[0] if problems else ""


async def a_head_with_leases_fails(stage: SceneCluster) -> str:
    """Leases end with the head that granted them: what is read is a page or a miss, and the next head grants others."""
    reader, writer = await _open(stage, "client-1"), await _open(stage, "client-2")
    keys = _keys("prompt", 6)
    await writer.put(keys)
    before = await reader.lookup(keys, LONG_LEASE_MS)
    head = stage.initial_order[0]
    stage.cluster.hosts[head].kill()
    for number in range(10):
        await writer.churn(_keys(f"other-{number}", 8))
        statuses = await reader.get(keys)
        if not set(statuses) <= {Status.OK, Status.MISS}:
            return f"gets while a head fails: {statuses}"
    await asyncio.sleep(FAILOVER_SECONDS)
    stage.cluster.hosts[head].start()
    await asyncio.sleep(FAILOVER_SECONDS)
    await writer.put(keys)
    found = await reader.lookup(keys, LONG_LEASE_MS)
    if found.hits != len(keys):
        return f"a lookup with a lease once all is well: {found.statuses}"
    for number in range(10):
        await writer.churn(_keys(f"more-{number}", 8))
        statuses = await reader.get(keys)
        if statuses != [Status.OK] * len(keys):
            return f"a get under a lease of the next head: {statuses}"
    await reader.release(before)
    await reader.release(found)
    return await writer.wait_gone(keys, "after")


async def read_a_page_while_it_is_evicted(stage: SceneCluster) -> str:
    """Large pages are on their way when they are evicted and their blocks are free for others: each is whole, or a miss."""
    cluster = stage.cluster
    writer = await _open(stage, "client-2", LARGE_PAGE_BYTES, budget_pages=6)
    readers = [
        await _open(stage, name, LARGE_PAGE_BYTES, budget_pages=6) for name in cluster.clients if name not in ("client-2",)
    ]
    cluster.network.policy = SlowLinks(cluster.links, "storage", "client", 150)
    problem = ""
    for number in range(4):
        keys = _keys(f"page-{number}", 3)
        await writer.put(keys)
        reading = [asyncio.get_running_loop().create_task(reader.get(keys)) for reader in readers]
        await asyncio.sleep(0.02)
        await writer.put(_keys(f"other-{number}", 12))
        for statuses in await asyncio.gather(*reading):
            if not set(statuses) <= {Status.OK, Status.MISS}:
                problem = problem or f"reading pages that are being evicted: {statuses}"
    mismatches = sum(each.storage.reads.checksum_mismatches for each in cluster.clients.values())
    return problem or (f"{mismatches} answers were not what their checksums say" if mismatches else "")


async def a_picture_made_of_events(stage: SceneCluster) -> str:
    """A listener keeps a picture of what is there, while pages come and go and a head fails: it is right in the end."""
    listener, writer = await _open(stage, "client-1"), await _open(stage, "client-2")
    keys = _keys("page", 60)
    ids = dict(zip(listener.cache.page_ids(keys), keys, strict=True))
    picture: set[str] = set()
    told = missed = 0

    async def fetch(events: EventStream) -> None:
        nonlocal told, missed
        for event in await stage.call("client-1", lambda _: events.read(50 * MILLISECOND)):
            told += 1
            if event.change is CacheChange.MISSED:
                missed += 1
                found = await listener.lookup(keys)
                picture.clear()
                picture.update(key for key, is_there in zip(keys, found.bitmap, strict=True) if is_there)
                continue
            key = ids[event.page_id]
            if event.key is None or event.key.decode() != key:
                stage.cluster.story.fail("events", f"page {key} is {event.change.value} and said to be of key {event.key!r}")
            if event.change is CacheChange.STORED:
                picture.add(key)
            else:
                picture.discard(key)

    async def write() -> None:
        prng = Prng(2)
        for number in range(120):
            begin = prng.below(len(keys) - 4)
            try:
                if number % 5:
                    await writer.put(keys[begin : begin + 4])
                else:
                    await stage.call("client-2", lambda _, begin=begin: writer.cache.remove(keys[begin : begin + 2]))  # type: ignore[misc]
            except FS3Error as failure:
                stage.cluster.story.say("client-2", f"pages: {failure}")
            if number == 60:
                stage.cluster.hosts[stage.initial_order[0]].kill()
                stage.cluster.hosts[stage.initial_order[0]].start()

    events = listener.cache.events()
    await stage.call("client-1", lambda _: events.start())
    writing = asyncio.get_running_loop().create_task(write())
    while not writing.done():
        await fetch(events)
    await writing
    await asyncio.sleep(FAILOVER_SECONDS)
    for _ in range(40):
        await fetch(events)
    found = await listener.lookup(keys)
    there = {key for key, is_there in zip(keys, found.bitmap, strict=True) if is_there}
    events.close()
    if told < 100 or not missed:
        return f"{told} events were told, and {missed} times that some were missed"
    if picture != there:
        return f"the picture has {sorted(picture - there)} too much and lacks {sorted(there - picture)}"
    return ""


LEASE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "leased_pages_stay": leased_pages_stay,
    "a_lookup_renews_nothing": a_lookup_renews_nothing,
    "lease_what_is_being_evicted": lease_what_is_being_evicted,
    "a_head_with_leases_fails": a_head_with_leases_fails,
    "read_a_page_while_it_is_evicted": read_a_page_while_it_is_evicted,
    "a_picture_made_of_events": a_picture_made_of_events,
}

"""Directed runs of caches that have budgets. Each says what went wrong, "" when nothing did.

What the pages of a namespace take is counted in the stores themselves, on every replica, and not by asking what is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, TargetId, is_page, page_namespace
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.core.kvcache.budget.shares import share_of
from fs3.core.kvcache.pages import page_keys
from fs3.core.kvcache.placement import Placement
from fs3.model.chain import Chain
from fs3.model.chunk import ChunkMeta
from fs3.model.cluster import NamespaceSettings
from fs3.ports.chunk_store import ChunkStore
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.sim.ring2.checks import explain_divergence
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster

PAGE_BYTES = 1000
NAME = "fleet"
SETTLE_SECONDS = 20
"""Longer than a target that was killed needs to be up to date again."""


def _content(key: str) -> bytes:
    """The one page that may stand under a key."""
    word = f"[{key}]".encode()
    return (word * (PAGE_BYTES // len(word) + 1))[:PAGE_BYTES]


def _keys(first: int, count: int) -> list[str]:
    return [f"key-{number}" for number in range(first, first + count)]


class CacheScene:
    """A cluster with a cache that has a budget, and what is watched of it."""

    def __init__(self, stage: SceneCluster) -> None:
        self.stage = stage
        self.cluster = stage.cluster
        self.problem = ""
        self._limit = 0
        self._watching: asyncio.Task[None] | None = None

    async def open(self, client: str, budget_pages: int = 0, ttl: float | None = None) -> KVCache:
        """A handle of a client; the namespace has room for so many pages then, and every storage node knows that."""

        async def make(connected: Client) -> KVCache:
            return await KVCache.of(connected, namespace=NAME, page_bytes=PAGE_BYTES, circuit_breaker=False)

        cache = await self.stage.call(client, make)
        if budget_pages or ttl is not None:
            await self.set(client, cache, budget_pages, ttl)
        return cache

    async def open_three(self, *, budget_pages: int) -> list[KVCache]:
        """Handles of the clients 1, 2 and 3, in this order, and `open` for the first."""
        return [await self.open("client-1", budget_pages), await self.open("client-2"), await self.open("client-3")]

    async def set(self, client: str, cache: KVCache, budget_pages: int, ttl: float | None = None) -> None:
        """Change the settings; returns once every storage node knows."""
        budget = budget_pages * self.chunk_bytes(cache)
        settings = NamespaceSettings(budget_bytes=budget, ttl_ms=int((ttl or 0) * 1000))
        await self.stage.call(client, lambda connected: connected.manager.set_namespace(NAME, settings))
        for _ in range(POLLS_MAX):
            known = [service.namespaces.get(cache.namespace_id) for service in self.cluster.storages.values()]
            if all(each is not None and each.budget_bytes == budget for each in known):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError("storage nodes do not hear of the budget")

    def chunk_bytes(self, cache: KVCache) -> int:
        """Of the chunk of a page, with what stands beside it: those of this scene's keys differ by a few bytes."""
        return PAGE_BYTES + 64 + len("key-1000")

    # --- what is there -----------------------------------------------------------------------------------------------

    def stored_bytes(self, namespace_id: int) -> dict[TargetId, int]:
        """What the pages of a namespace take in each store that is in use."""
        return {
            target: sum(meta.length for chunk, meta in _pages_of(disks.stores[target]) if page_namespace(chunk) == namespace_id)
            for name, disks in self.cluster.disks.items()
            if name in self.cluster.storages
            for target in disks.stores
        }

    def keepers(self) -> Iterable[CacheKeeper]:
        """Of every target that is open."""
        for service in self.cluster.storages.values():
            yield from service.caches.by_target.values()

    def explain_counts(self) -> str:
        """ "" when every target has counted exactly what its store has."""
        for service in self.cluster.storages.values():
            for target, keeper in service.caches.by_target.items():
                keeper.cache.check()
                store = service.targets[target].store
                there = sum(meta.length for _, meta in _pages_of(store) if meta.committed)
                if keeper.cache.is_counted and keeper.cache.bytes != there:
                    return f"target {target} has counted {keeper.cache.bytes} bytes, {there} are there"
        return ""

    def explain_budget(self, cache: KVCache, budget_pages: int) -> str:
        """ "" when no chain has more than its share of a budget, and one page."""
        routing = next(iter(self.cluster.clients.values())).manager.routing
        chunk_bytes = self.chunk_bytes(cache)
        used = self.stored_bytes(cache.namespace_id)
        for table in routing.tables.values():
            for place, chain in enumerate(table.chains):
                share = share_of(budget_pages * chunk_bytes, place, len(table.chains))
                for slot in routing.chains[chain].serving_slots():
                    if used.get(slot.target, 0) > share * 1.01 + chunk_bytes:
                        return f"target {slot.target} has {used[slot.target]} bytes of a share of {share}"
        return ""

    # --- watching ----------------------------------------------------------------------------------------------------

    def watch(self, cache: KVCache, budget_pages: int) -> None:
        """From now on no chain has more than this budget allows."""
        self._limit = budget_pages
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(cache))

    async def _watch(self, cache: KVCache) -> None:
        while not self.problem:
            self.problem = self.explain_budget(cache, self._limit)
            await asyncio.sleep(0.005)

    async def end(self) -> str:
        """When all is quiet: what went wrong meanwhile, or does not fit together now."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.sleep(SETTLE_SECONDS)
        return self.problem or explain_divergence(_by_id(self.cluster.chains), self.cluster.disks) or self.explain_counts()

    # --- workers -----------------------------------------------------------------------------------------------------

    async def put(self, client: str, cache: KVCache, keys: Sequence[str]) -> list[Status]:
        """Store the pages of some keys."""
        return await self.stage.call(client, lambda _: cache.put_from(keys, [_content(key) for key in keys]))

    async def get(self, client: str, cache: KVCache, keys: Sequence[str]) -> list[Status]:
        """Read them. Other bytes than a key's own are a failure of the scene."""
        buffers = [bytearray(PAGE_BYTES) for _ in keys]
        statuses = await self.stage.call(client, lambda _: cache.get_into(keys, buffers))
        for key, buffer, status in zip(keys, buffers, statuses, strict=True):
            if status is Status.OK and buffer != _content(key):
                self.problem = f"{client} got other bytes for {key}"
        return statuses

    async def work(self, number: int, cache: KVCache, keys: int, rounds: int, hot: Sequence[str]) -> int:
        """One worker's puts of ever other keys, and gets of some that are hot. How many puts were stored."""
        client = f"client-{number}"
        prng = Prng(number)
        stored = 0
        for turn in range(rounds):
            fresh = [f"w{number}-{turn * keys + index}" for index in range(keys)]
            try:
                statuses = await self.put(client, cache, fresh)
                stored += sum(status in (Status.OK, Status.EXISTS) for status in statuses)
                known = [status for status in statuses if status in (Status.CORRUPT, Status.MISS)]
                if known:
                    self.problem = f"{client} was told {known[0].name} by a put"
                await self.get(client, cache, hot)
                await self.get(client, cache, fresh[:2])
            except FS3Error:
                pass
            await asyncio.sleep(prng.between(100, 300) / 1000)
        return stored


def _by_id(chains: Mapping[int, Chain]) -> dict[ChainId, Chain]:
    return {chain.id: chain for chain in chains.values()}


def _pages_of(store: ChunkStore) -> Iterable[tuple[ChunkId, ChunkMeta]]:
    return [(chunk, meta) for chunk, meta in store.list(None, 1 << 30) if is_page(chunk)]


# --- pressure --------------------------------------------------------------------------------------------------------------


async def evict_under_pressure(stage: SceneCluster) -> str:
    """Workers put many times what the budget holds, and read some pages all the time: those stay."""
    scene = CacheScene(stage)
    cache, *_ = handles = await scene.open_three(budget_pages=60)
    hot = _keys(0, 6)
    await scene.put("client-1", cache, hot)
    scene.watch(cache, 60)
    stored = await asyncio.gather(*(scene.work(number, handles[number - 1], 8, 12, hot) for number in (1, 2, 3)))
    if sum(stored) < 3 * 8 * 12:
        return scene.problem or f"{sum(stored)} of {3 * 8 * 12} pages were stored"
    kept = (await scene.get("client-2", handles[1], hot)).count(Status.OK)
    if kept < len(hot):
        return f"{len(hot) - kept} of {len(hot)} pages that were read all the time are gone"
    used = sum(scene.stored_bytes(cache.namespace_id).values()) // 3
    if used < 40 * scene.chunk_bytes(cache):
        return f"{used} bytes are left: more was evicted than had to be"
    return await scene.end()


async def fail_over_while_evicting(stage: SceneCluster) -> str:
    """The head is killed while workers put, get and evict; and its successor as well, once the first is back."""
    scene = CacheScene(stage)
    cache, *_ = handles = await scene.open_three(budget_pages=60)
    hot = _keys(0, 6)
    await scene.put("client-1", cache, hot)
    scene.watch(cache, 60)
    working = asyncio.gather(*(scene.work(number, handles[number - 1], 8, 30, hot) for number in (1, 2, 3)))
    for silently in (False, True):
        await asyncio.sleep(0.6)
        victim = stage.serving_hosts()[0]
        scene.cluster.hosts[victim].kill(silently=silently)
        await asyncio.sleep(0.5)
        scene.cluster.hosts[victim].start()
        await asyncio.sleep(8)
    stored = sum(await working)
    if stored < 200:
        return scene.problem or f"{stored} pages were stored"
    return await scene.end()


async def change_the_budget(stage: SceneCluster) -> str:
    """The budget of a cache that is full becomes smaller, then larger, while workers put."""
    scene = CacheScene(stage)
    cache = await scene.open("client-1", budget_pages=90)
    other = await scene.open("client-2")
    scene.watch(cache, 90)
    await scene.work(1, cache, 12, 12, [])
    working = asyncio.gather(scene.work(2, other, 8, 40, []))
    await scene.set("client-1", cache, 30)
    for _ in range(POLLS_MAX):
        if not scene.explain_budget(cache, 30):
            break
        await asyncio.sleep(POLL_SECONDS)
    scene.watch(cache, 30)
    await working
    await scene.set("client-1", cache, 60)
    scene.watch(cache, 60)
    await scene.work(1, cache, 12, 12, [])
    used = sum(scene.stored_bytes(cache.namespace_id).values()) // 3
    if used < 40 * scene.chunk_bytes(cache):
        return f"{used} bytes are used of a budget that was made larger"
    return await scene.end()


async def clear_while_putting(stage: SceneCluster) -> str:
    """A cache is cleared while workers put, one of whom does not hear of it: what was there is gone, and its room is free."""
    scene = CacheScene(stage)
    cache, *_ = handles = await scene.open_three(budget_pages=60)
    old = cache.namespace_id
    await scene.put("client-1", cache, _keys(0, 20))
    scene.cluster.links.block("mgmtd-1", "client-3")
    working = asyncio.gather(*(scene.work(number, handles[number - 1], 4, 20, []) for number in (2, 3)))
    await asyncio.sleep(0.1)
    await stage.call("client-1", lambda _: cache.clear())
    if (await scene.get("client-1", cache, _keys(0, 20))).count(Status.OK):
        return "a page that was cleared is there"
    await working
    scene.cluster.links.unblock("mgmtd-1", "client-3")
    scene.cluster.network.release()
    await asyncio.sleep(10)
    if left := sum(scene.stored_bytes(old).values()):
        return f"{left} bytes of the pages from before are left"
    if cache.namespace_id == old:
        return "the namespace has the id it had"
    return await scene.end()


# --- refusals --------------------------------------------------------------------------------------------------------------


class _HoldAll:
    """Protects every page."""

    def __init__(self) -> None:
        self.is_holding = True

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """See `Holds`."""
        return self.is_holding


async def put_beside_what_is_held(stage: SceneCluster) -> str:
    """All pages are held: a put is refused, within its deadline. When its answer is lost and room is made meanwhile, the copy
    that the client sends is refused too: it may have gone on since."""
    scene = CacheScene(stage)
    cache = await scene.open("client-1", budget_pages=6)
    other = await scene.open("client-2")
    fill = _keys(0, 12)
    await scene.put("client-1", cache, fill)
    holds = _HoldAll()
    for keeper in scene.keepers():
        keeper.cache.holds.append(holds)
    (status,) = await scene.put("client-1", cache, ["held-1"])
    if status is not Status.NO_SPACE:
        return f"a put beside pages that are held was answered {status.name}"
    head = _head_of(scene, cache, "held-2")
    scene.cluster.links.block(head, "client-2")
    late = stage.start("client-2", lambda _: other.put_from(["held-2"], [_content("held-2")]))
    await asyncio.sleep(1)
    holds.is_holding = False
    await stage.call("client-1", lambda _: cache.remove(fill))
    scene.cluster.links.unblock(head, "client-2")
    scene.cluster.network.cut(head, "client-2")
    (status,) = await late
    if status is not Status.NO_SPACE:
        return f"a put that had been refused was answered {status.name} when it was sent again"
    (status,) = await scene.put("client-2", other, ["held-2"])
    if status is not Status.OK:
        return f"a put that there is room for was answered {status.name}"
    return await scene.end()


def _head_of(scene: CacheScene, cache: KVCache, key: str) -> str:
    """The host of the head of a key's chain."""
    routing = next(iter(scene.cluster.clients.values())).manager.routing
    (page,) = page_keys(cache.namespace_id, cache.salt, [key.encode()])
    chain = Placement(routing.tables[min(routing.tables)].chains).chain(page.chunk)
    head = routing.chains[chain].head()
    assert head is not None
    return routing.nodes[head.node].name


async def put_what_is_pending(stage: SceneCluster) -> str:
    """A page is staged at the head and goes no further. Another client that puts it is not told that it is there."""
    scene = CacheScene(stage)
    cache = await scene.open("client-1")
    other = await scene.open("client-2")
    await scene.put("client-1", cache, _keys(0, 1))
    key = "pending"
    head = _head_of(scene, cache, key)
    for name in scene.cluster.storages:
        if name != head:
            scene.cluster.links.block(head, name)
    first = stage.start("client-1", lambda _: cache.put_from([key], [_content(key)]))
    await asyncio.sleep(0.3)
    second = stage.start("client-2", lambda _: other.put_from([key], [_content(key)]))
    await asyncio.wait([second], timeout=1)
    early = second.result()[0] if second.done() else None
    found = Status.OK
    if early is Status.EXISTS:
        (found,) = await scene.get("client-2", other, [key])
    for name in scene.cluster.storages:
        scene.cluster.links.unblock(head, name)
    scene.cluster.network.release()
    await asyncio.wait([first, second])
    if found is Status.MISS:
        return "a put was told that the page is there, and a get then that it is not"
    return await scene.end()


# --- time ------------------------------------------------------------------------------------------------------------------


async def expire_by_the_heads_clock(stage: SceneCluster) -> str:
    """Pages live for a while, whatever the wall clocks of clients and nodes say."""
    scene = CacheScene(stage)
    for number, name in enumerate(scene.cluster.hosts):
        scene.cluster.hosts[name].clock.jump_wall((number % 3 - 1) * 3600 * 1_000_000_000)
    cache = await scene.open("client-1", budget_pages=60, ttl=10.0)
    keys = _keys(0, 10)
    await scene.put("client-1", cache, keys)
    await asyncio.sleep(9)
    there = (await scene.get("client-1", cache, keys)).count(Status.OK)
    if there < len(keys):
        return f"{len(keys) - there} of {len(keys)} pages are gone before their time"
    await asyncio.sleep(4)
    there = (await scene.get("client-1", cache, keys)).count(Status.OK)
    return f"{there} pages are there after their time" if there else await scene.end()


async def restart_a_warm_cache(stage: SceneCluster) -> str:
    """All storage nodes are stopped and started. What had been read is evicted last, as if nothing had happened."""
    scene = CacheScene(stage)
    cache = await scene.open("client-1", budget_pages=60)
    hot = _keys(0, 10)
    await scene.put("client-1", cache, hot)
    await scene.put("client-1", cache, _keys(100, 40))
    for _ in range(4):
        await scene.get("client-1", cache, hot)
        await asyncio.sleep(0.5)
    names = list(scene.cluster.storages)
    await asyncio.gather(*(scene.cluster.hosts[name].stop() for name in names))
    for name in names:
        scene.cluster.hosts[name].start()
    await asyncio.sleep(SETTLE_SECONDS)
    await scene.put("client-1", cache, _keys(200, 36))
    kept = (await scene.get("client-1", cache, hot)).count(Status.OK)
    if kept < len(hot) - 1:
        return f"{len(hot) - kept} of {len(hot)} pages that had been read before the restart are gone"
    return await scene.end()


# --- files -----------------------------------------------------------------------------------------------------------------


STORE_BYTES = 640 * 1024


async def files_beside_a_full_cache(stage: SceneCluster) -> str:
    """Pages take their part of small disks and no more; a file that grows pushes them out, down to what they are guaranteed."""
    scene = CacheScene(stage)
    for disks in scene.cluster.disks.values():
        for store in disks.stores.values():
            store.capacity_bytes = STORE_BYTES
    for service in scene.cluster.storages.values():
        service.config = replace(service.config, cache_share_max=0.5, cache_share_min=0.1, cache_file_room_bytes=40_000)
        service.caches.on_config_changed()
    cache = await scene.open("client-1")
    for first in range(0, 800, 50):
        statuses = await scene.put("client-1", cache, _keys(first, 50))
        if set(statuses) != {Status.OK}:
            return f"a put into a full cache was answered {statuses}"
        if (most := max(scene.stored_bytes(cache.namespace_id).values())) > STORE_BYTES * 0.505 + PAGE_BYTES + 100:
            return f"pages take {most} bytes of a target"
    file = await stage.call("client-2", lambda client: client.open("/f", "x"))
    written = 0
    step = b"f" * 30_000
    try:
        while written < 2 * STORE_BYTES:
            await stage.call("client-2", lambda client: client.pwrite(file, step, written))  # noqa: B023
            await stage.call("client-2", lambda client: client.fsync(file))
            written += len(step)
    except FS3Error as failure:
        if failure.code is not Code.NO_SPACE:
            return f"a file could not be written: {failure}"
    if written < 2 * STORE_BYTES * 0.75:
        return f"a file beside a cache that may go could have no more than {written} bytes"
    least = min(scene.stored_bytes(cache.namespace_id).values())
    if least < STORE_BYTES * 0.09:
        return f"files left {least} bytes of a target to pages"
    return scene.explain_counts()


CACHE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "evict_under_pressure": evict_under_pressure,
    "fail_over_while_evicting": fail_over_while_evicting,
    "change_the_budget": change_the_budget,
    "clear_while_putting": clear_while_putting,
    "put_beside_what_is_held": put_beside_what_is_held,
    "put_what_is_pending": put_what_is_pending,
    "files_beside_a_full_cache": files_beside_a_full_cache,
    "expire_by_the_heads_clock": expire_by_the_heads_clock,
    "restart_a_warm_cache": restart_a_warm_cache,
}

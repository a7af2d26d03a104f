"""Directed runs of KVCache pages whose copies are damaged. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, Status
from fs3.core.kvcache.pages import page_chunks
from fs3.sim.ring2.scene_cluster import SceneCluster

NAME = "worn"
PAGE_BYTES = 1000
KEYS = [f"page-{number}" for number in range(12)]
READ_SECONDS = 8
"""Longer than a chain needs to go on without a node that was killed, and a client to hear of it."""
POLL_SECONDS = 0.1
POLLS_MAX = 1200


def _content(key: str) -> bytes:
    word = f"[{key}]".encode()
    return (word * (PAGE_BYTES // len(word) + 1))[:PAGE_BYTES]


async def _open(stage: SceneCluster, client: str) -> KVCache:
    """A handle of a client that asks every time, and gives up soon."""

    async def make(connected: Client) -> KVCache:
        return await KVCache.of(connected, namespace=NAME, page_bytes=PAGE_BYTES, timeout=2.0, circuit_breaker=False)

    return await stage.call(client, make)


async def _put(stage: SceneCluster, client: str, cache: KVCache) -> list[Status]:
    return await stage.call(client, lambda _: cache.put_from(KEYS, [_content(key) for key in KEYS]))


async def _get(stage: SceneCluster, client: str, cache: KVCache) -> list[Status]:
    """Read all pages. Other bytes than a key's own are a failure of the scene."""
    buffers = [bytearray(PAGE_BYTES) for _ in KEYS]
    statuses = await stage.call(client, lambda _: cache.get_into(KEYS, buffers))
    for key, buffer, status in zip(KEYS, buffers, statuses, strict=True):
        if status is Status.OK and buffer != _content(key):
            stage.cluster.story.fail("pages", f"{client} got other bytes for {key}")
    return statuses


def _damage(stage: SceneCluster, cache: KVCache, hosts: Iterable[str]) -> None:
    """The disks of some nodes have changed every copy they have."""
    for host in hosts:
        for shell in stage.cluster.storages[host].targets.values():
            for chunk in page_chunks(cache.namespace_id, cache.salt, [key.encode() for key in KEYS]):
                if shell.store.get(chunk) is not None:
                    shell.store.mark_bad(chunk, "the scene says so")


def _unlike(statuses: Sequence[Status], *wanted: Status) -> list[Status]:
    return [status for status in statuses if status not in wanted]


async def the_good_copies_are_away(stage: SceneCluster) -> str:
    """Two of three replicas have damaged copies, and the third is cut off for a while: nothing is known to be lost, nothing is
    removed, and all pages are there when it is back."""
    writer, reader = [await _open(stage, name) for name in ("client-1", "client-2")]
    if wrong := _unlike(await _put(stage, "client-1", writer), Status.OK):
        return f"puts: {wrong}"
    await asyncio.sleep(1)
    *others, last = stage.initial_order
    links = stage.cluster.links
    for name in stage.cluster.hosts:
        if name != last:
            links.block(name, last)
            links.block(last, name)
    _damage(stage, writer, others)
    loop = stage.cluster.loop
    until = loop.time() + READ_SECONDS
    while loop.time() < until:
        for client, cache in (("client-1", writer), ("client-2", reader)):
            if wrong := _unlike(await _get(stage, client, cache), Status.TIMEOUT, Status.ERROR):
                return f"{client} is told {wrong} of pages whose good copies are away"
        await asyncio.sleep(0.5)
    links.heal(stage.cluster.network)
    for _ in range(POLLS_MAX):
        statuses = await _get(stage, "client-2", reader)
        if wrong := _unlike(statuses, Status.OK, Status.TIMEOUT, Status.ERROR):
            return f"pages whose good copies were away are {wrong}"
        if not _unlike(statuses, Status.OK):
            return ""
        await asyncio.sleep(POLL_SECONDS)
    return f"pages whose good copies are back cannot be read: {statuses}"


async def all_copies_are_damaged(stage: SceneCluster) -> str:
    """Such a page is removed by a client that reads it, or by the head: it is not found any more, and a put stores it."""
    writer, reader = [await _open(stage, name) for name in ("client-1", "client-2")]
    await _put(stage, "client-1", writer)
    await asyncio.sleep(1)
    _damage(stage, writer, stage.initial_order)
    if wrong := _unlike(await _get(stage, "client-2", reader), Status.CORRUPT, Status.MISS):
        return f"a get of pages that no replica has is told {wrong}"
    found = await stage.call("client-1", lambda _: writer.lookup(KEYS))
    if wrong := _unlike(found.statuses, Status.MISS):
        return f"a lookup of pages that no replica has is told {wrong}"
    if wrong := _unlike(await _put(stage, "client-1", writer), Status.OK):
        return f"a put of pages that no replica has is told {wrong}"
    wrong = _unlike(await _get(stage, "client-2", reader), Status.OK)
    return f"a get of pages that were put again is told {wrong}" if wrong else ""


async def the_good_copies_are_gone(stage: SceneCluster) -> str:
    """Two of three replicas have damaged copies, and the third one comes back with an empty disk: the pages are misses, no
    resync waits for their bytes, and the chain is whole again."""
    writer, reader = [await _open(stage, name) for name in ("client-1", "client-2")]
    await _put(stage, "client-1", writer)
    await asyncio.sleep(1)
    *others, last = stage.initial_order
    stage.cluster.hosts[last].kill()
    _damage(stage, writer, others)
    await asyncio.sleep(READ_SECONDS)
    if found := _unlike(await _get(stage, "client-2", reader), Status.TIMEOUT, Status.ERROR):
        return f"pages whose good copies are away are {found}"
    stage.cluster.disks[last].wipe()
    stage.cluster.hosts[last].start()
    for _ in range(POLLS_MAX):
        statuses = await _get(stage, "client-2", reader)
        if wrong := _unlike(statuses, Status.MISS, Status.CORRUPT, Status.TIMEOUT, Status.ERROR):
            return f"pages whose copies are gone are {wrong}"
        if not _unlike(statuses, Status.MISS) and len(stage.serving_hosts()) == len(stage.initial_order):
            break
        await asyncio.sleep(POLL_SECONDS)
    else:
        return f"pages whose copies are gone are {statuses}, and {stage.serving_hosts()} serve"
    await _put(stage, "client-1", writer)
    wrong = _unlike(await _get(stage, "client-2", reader), Status.OK)
    return f"a get of pages that were put again is told {wrong}" if wrong else ""


DAMAGE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "the_good_copies_are_away": the_good_copies_are_away,
    "all_copies_are_damaged": all_copies_are_damaged,
    "the_good_copies_are_gone": the_good_copies_are_gone,
}

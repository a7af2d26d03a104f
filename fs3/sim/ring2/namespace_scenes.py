"""Directed runs of KVCache namespaces that are cleared, deleted, made again. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error, NotFound
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership import namespaces as manager_namespaces
from fs3.core.txn import ReadTxn
from fs3.model.cluster import NamespaceSettings
from fs3.sim.planting import plant
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.scene_cluster import SceneCluster

NAME = "model"
PAGE_BYTES = 1000
OLD, NEW, LATE = (letter * PAGE_BYTES for letter in (b"o", b"n", b"l"))
POLL_SECONDS = 0.05
POLLS_MAX = 400
CUT_OFF_SECONDS = 5
LOOK_SECONDS = 0.002
"""How often it is asked whether a node takes a namespace that is there for a deleted one."""
CHANGES = 60
"""Of the list, by each client."""


async def clear_what_a_client_goes_on_with(stage: SceneCluster) -> str:
    """A client that cannot reach the manager does not hear that a namespace was cleared; it is told when it can."""
    mine, other = [await stage.call(name, _open) for name in ("client-1", "client-2")]
    await stage.call("client-1", lambda _: _put(mine, "page", OLD))
    _cut_off(stage, "client-2")
    await stage.call("client-1", lambda _: mine.clear())
    if (found := await stage.call("client-1", lambda _: _get(mine, "page"))) is not Status.MISS:
        return f"a page was cleared, and a get of it gives {found!r}"
    await stage.call("client-1", lambda _: _put(mine, "page", NEW))
    await stage.call("client-2", lambda _: _put(other, "late", LATE))
    await asyncio.sleep(CUT_OFF_SECONDS)
    stage.cluster.links.heal(stage.cluster.network)

    async def sees_new(_: Client) -> bool:
        return await _get(other, "page") == NEW

    if not await _wait(stage, "client-2", sees_new):
        return "a client does not go on with what a namespace has since it was cleared"
    for name, cache in (("client-1", mine), ("client-2", other)):
        for key in ("late", "never"):
            if (found := await stage.call(name, lambda _, cache=cache, key=key: _get(cache, key))) is not Status.MISS:  # type: ignore[misc]
                return f"what was stored for nobody is found: {found!r}"
    return ""


async def make_a_namespace_again(stage: SceneCluster) -> str:
    """A namespace is deleted while one of its clients is cut off, and another one is made under its name."""
    mine, other = [await stage.call(name, _open) for name in ("client-1", "client-2")]
    await stage.call("client-1", lambda _: _put(mine, "page", OLD))
    _cut_off(stage, "client-2")
    await stage.call("client-1", lambda client: KVCache.delete_namespace(client, NAME))
    again = await stage.call("client-1", _open)
    await stage.call("client-1", lambda _: _put(again, "page", NEW))
    await asyncio.sleep(CUT_OFF_SECONDS)
    stage.cluster.links.heal(stage.cluster.network)

    async def hears(client: Client) -> bool:
        return bool(client.manager.routing.namespace_deletions)

    if not await _wait(stage, "client-2", hears):
        return "a client does not hear of a deletion"
    for name, cache in (("client-1", mine), ("client-2", other)):
        if (found := await stage.call(name, lambda _, cache=cache: _get(cache, "page"))) is not Status.MISS:  # type: ignore[misc]
            return f"{name} finds {found!r} in a namespace that was deleted"
        try:
            await stage.call(name, lambda _, cache=cache: _put(cache, "late", LATE))  # type: ignore[misc]
        except NotFound:
            pass
        else:
            return f"{name} stores pages in a namespace that was deleted"
    found = await stage.call("client-1", lambda _: _get(again, "page"))
    return "" if found == NEW else f"the new namespace has {found!r}"


async def nodes_know_the_namespaces(stage: SceneCluster) -> str:
    """Clients make, clear, set and delete namespaces, while a manager and a node are started again, and another node does not
    reach the manager. No node ever takes a namespace that is there for a deleted one, and in the end all know the same. The list
    comes in pages of two."""
    cluster, restarted = stage.cluster, ("mgmtd-1", stage.initial_order[0])
    behind = stage.initial_order[1]
    with plant([(manager_namespaces, "namespaces_per_page_max", 2)]):
        works = [
            stage.start(name, lambda client, number=number: _change(client, Prng(10 + number)))  # type: ignore[misc]
            for number, name in enumerate(list(cluster.clients)[:3], 1)
        ]
        for step in range(10_000):
            if problem := "; ".join(_find_wrong(cluster)):
                return problem
            if all(work.done() for work in works):
                break
            if step == 150:
                _cut_off(stage, behind)
            elif step == 300:
                cluster.links.unblock(behind, "mgmtd-1")
                cluster.links.unblock("mgmtd-1", behind)
                cluster.network.release()
            for name, at in zip(restarted, (200, 500), strict=True):
                if step == at:
                    cluster.hosts[name].kill()
                elif step == at + 50:
                    cluster.hosts[name].start()
            await asyncio.sleep(LOOK_SECONDS)
        for work in works:
            work.result()
        assert all(cluster.hosts[name].starts == 2 for name in restarted), "it was over too soon"
        for _ in range(POLLS_MAX):
            if not (problem := "; ".join(_find_ignorant(cluster))):
                return ""
            await asyncio.sleep(POLL_SECONDS)
        return problem


async def an_older_list_is_put_back(stage: SceneCluster) -> str:
    """The whole cluster is stopped, and the manager's store put back from a copy that does not know the last ids of namespaces.
    They are given out again, to a namespace that is made and to one that is cleared. Neither finds what was stored under them,
    although the keys are the same."""
    cluster, there, since, again = stage.cluster, "there", "made since", "made again"
    mine = await stage.call("client-1", lambda client: _open(client, there))
    copy = cluster.mgmtd_kv.back_up()
    await stage.call("client-1", lambda _: mine.clear())
    other = await stage.call("client-1", lambda client: _open(client, since))
    for cache in (mine, other):
        await stage.call("client-1", lambda _, cache=cache: _put(cache, "page", OLD))  # type: ignore[misc]
    lost = {mine.namespace_id, other.namespace_id}
    for host in cluster.hosts.values():
        await host.stop()
    cluster.mgmtd_kv.put_back(copy)
    for host in cluster.hosts.values():
        host.start()
    for _ in range(POLLS_MAX):
        if "client-2" in cluster.clients:
            break
        await asyncio.sleep(POLL_SECONDS)
    made = await stage.call("client-2", lambda client: _open(client, again))
    cleared = await stage.call("client-2", lambda client: _open(client, there))
    await stage.call("client-2", lambda _: cleared.clear())
    if (ids := {made.namespace_id, cleared.namespace_id}) != lost:
        return f"the copy does not give {lost} out again but {ids}"
    for cache in (made, cleared):
        found = await stage.call("client-2", lambda _, cache=cache: _get(cache, "page"))  # type: ignore[misc]
        if found is not Status.MISS:
            return f"namespace {cache.name!r} has {found!r}, which was stored under an id that the manager has forgotten"
        await stage.call("client-2", lambda _, cache=cache: _put(cache, "page", NEW))  # type: ignore[misc]
        if (found := await stage.call("client-2", lambda _, cache=cache: _get(cache, "page"))) != NEW:  # type: ignore[misc]
            return f"namespace {cache.name!r} has {found!r} of what was put"
        listed = await stage.call("client-2", lambda _, cache=cache: cache.list())  # type: ignore[misc]
        if [page.key for page in listed.pages] != [b"page"]:
            return f"namespace {cache.name!r} lists {listed.pages}"
    return ""


async def _change(client: Client, prng: Prng) -> None:
    """Change the list of namespaces again and again."""
    manager = client.manager
    for number in range(CHANGES):
        await asyncio.sleep(prng.below(40 * MILLISECOND) / SECOND)
        name = f"{'abcdefgh'[prng.below(8)]}"
        try:
            made = await manager.open_namespace(name, PAGE_BYTES)
            draw = prng.below(4)
            if draw == 0:
                await manager.delete_namespace(name, made.made_as)
            elif draw == 1:
                await manager.clear_namespace(name, made.id)
            elif draw == 2:
                await manager.set_namespace(name, NamespaceSettings(ttl_ms=1 + number))
        except FS3Error:
            pass  # another client has deleted it meanwhile, or the manager is away


def _stored_ids(cluster: Cluster) -> set[int]:
    """Of the namespaces there are, as the manager's store has them."""

    async def read(txn: ReadTxn) -> list[tuple[bytes, bytes]]:
        return await txn.scan(b"mgmtd/namespace/", b"mgmtd/namespace0", 1000)

    return {int.from_bytes(key[-4:], "big") for key, _ in cluster.mgmtd_kv.memory_kv.read_now(read)}


def _find_wrong(cluster: Cluster) -> Iterator[str]:
    stored = _stored_ids(cluster)
    for name, service in cluster.storages.items():
        if wrong := sorted(number for number in stored if service.namespaces.is_deleted(number)):
            yield f"{name} takes namespaces {wrong} for deleted, which are there"


def _find_ignorant(cluster: Cluster) -> Iterator[str]:
    stored = _stored_ids(cluster)
    for name, service in cluster.storages.items():
        table = service.namespaces
        known = {number for number in range(1, table.next_id) if table.get(number) is not None}
        if known != stored:
            yield f"{name} knows the namespaces {sorted(known)}, there are {sorted(stored)}"


async def _open(client: Client, name: str = NAME) -> KVCache:
    return await KVCache.of(client, namespace=name, page_bytes=PAGE_BYTES, circuit_breaker=False)


async def _put(cache: KVCache, key: str, page: bytes) -> None:
    (status,) = await cache.put_from([key], [page])
    assert status is Status.OK, status


async def _get(cache: KVCache, key: str) -> bytes | Status:
    buffer = bytearray(PAGE_BYTES)
    (status,) = await cache.get_into([key], [buffer])
    return bytes(buffer) if status is Status.OK else status


def _cut_off(stage: SceneCluster, name: str) -> None:
    """From the manager."""
    stage.cluster.links.block(name, "mgmtd-1")
    stage.cluster.links.block("mgmtd-1", name)


async def _wait(stage: SceneCluster, name: str, condition: Callable[[Client], Awaitable[bool]]) -> bool:
    """Whether a client sees it so in the end."""

    async def ask(client: Client) -> bool:
        return await condition(client)

    for _ in range(POLLS_MAX):
        if await stage.call(name, ask):
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


NAMESPACE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "clear_what_a_client_goes_on_with": clear_what_a_client_goes_on_with,
    "make_a_namespace_again": make_a_namespace_again,
    "nodes_know_the_namespaces": nodes_know_the_namespaces,
    "an_older_list_is_put_back": an_older_list_is_put_back,
}

"""Directed runs of clients that lock one file. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.sim.ring2.workloads.locks import COUNTED, open_or_create

_EARLY_NS = 5 * SECOND
_METAS = ("meta-1", "meta-2")
_PATIENCE_SECONDS = 0.3
"""Less than after what a client asks another service as well."""


async def _open_and_lock(client: Client) -> File:
    file = await open_or_create(client, COUNTED)
    await client.lock(file)
    return file


def _lock_in_time(patience_ns: int) -> Callable[[Client], Coroutine[Any, Any, int]]:
    async def work(client: Client) -> int:
        """When it was acquired, by the loop."""
        file = await open_or_create(client, COUNTED)
        await client.lock(file, timeout_ns=patience_ns)
        now = asyncio.get_running_loop().time()
        await client.unlock(file)
        await client.close(file)
        return round(now * SECOND)

    return work


async def a_lock_while_its_holder_is_cut_off(stage: SceneCluster) -> str:
    """The holder is not heard of for so long that it loses its lock; another one gets it; the first is told when it is back."""
    cluster = stage.cluster
    silence_ns = cluster.swarm.session_silence_ms * SECOND // 1000
    file = await stage.call("client-1", _open_and_lock)
    begun = cluster.loop.now
    for name in _METAS:
        cluster.links.block("client-1", name)
    acquired = await stage.call("client-2", _lock_in_time(silence_ns + 60 * SECOND))
    if acquired - begun < silence_ns - 12 * SECOND:
        return "a holder loses its lock before it can be presumed dead"
    for name in _METAS:
        cluster.links.unblock("client-1", name)
    cluster.network.release()

    async def unlock(client: Client) -> str:
        try:
            await client.unlock(file)
        except FS3Error as failure:
            return "" if failure.code is Code.LOCKS_LOST else f"the holder hears {failure}"
        return "the holder is not told that it had lost its lock"

    if problem := await stage.call("client-1", unlock):
        return problem
    await stage.call("client-1", _lock_in_time(_EARLY_NS))
    return ""


async def a_lock_while_its_waiters_die(stage: SceneCluster) -> str:
    """The one that waits first dies, services are killed, and the holder gives the lock up: the next one gets it soon."""
    cluster = stage.cluster
    file = await stage.call("client-1", _open_and_lock)
    stage.start("client-3", _open_and_lock)
    await asyncio.sleep(1)
    waiting = stage.start("client-2", _lock_in_time(60 * SECOND))
    await asyncio.sleep(1)
    cluster.hosts["client-3"].kill()
    for name in _METAS:
        cluster.hosts[name].kill()
        cluster.hosts[name].start()
    await stage.call("client-1", lambda client: client.unlock(file))
    unlocked = cluster.loop.now
    acquired = await waiting
    if acquired - unlocked > 10 * SECOND:
        return f"the lock was free for {(acquired - unlocked) / SECOND:.1f} s while one waited for it"
    return ""


async def a_lock_is_withdrawn_while_its_request_is_late(stage: SceneCluster) -> str:
    """Clients give up waiting while their requests are on their way to one service; the other one hears of it first."""
    cluster = stage.cluster
    names = [f"client-{number}" for number in range(2, 8)]
    for name in names:
        await stage.call(name, lambda client: open_or_create(client, COUNTED))

    def give_up(start: int) -> Callable[[Client], Coroutine[Any, Any, None]]:
        async def work(client: Client) -> None:
            file = await open_or_create(client, COUNTED)
            cluster.links.block(names[start], "meta-1")
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await client.lock(file, start=start, length=1)
            await client.unlock(file, start=start)

        return work

    for task in [stage.start(name, give_up(start)) for start, name in enumerate(names)]:
        await task
    await asyncio.sleep(3)
    for name in names:
        cluster.links.unblock(name, "meta-1")
    cluster.network.release()
    await asyncio.sleep(1)

    async def lock_all(client: Client) -> str:
        file = await open_or_create(client, COUNTED)
        found = await client.get_lock(file, start=0)
        return "" if found is None else f"byte {found.start} is locked by a client that has given up"

    return await stage.call("client-1", lock_all)


LOCK_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "a_lock_while_its_holder_is_cut_off": a_lock_while_its_holder_is_cut_off,
    "a_lock_while_its_waiters_die": a_lock_while_its_waiters_die,
    "a_lock_is_withdrawn_while_its_request_is_late": a_lock_is_withdrawn_while_its_request_is_late,
}

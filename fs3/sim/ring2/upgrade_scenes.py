"""Directed runs of clusters that are upgraded process by process. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fs3.api.client import Client
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.sim.ring2.scene_cluster import SceneCluster

HEALTHY_POLLS = 400
"""Every 50 ms."""
CALM_SECONDS = 4
"""Longer than a lease: who gets none any more has stopped by then."""
WRITERS = ("client-1", "client-2")
"""One of the last release, one of this one."""


async def upgrade_and_back(stage: SceneCluster) -> str:
    """All services are upgraded one by one, go back and are upgraded again, while clients of both releases write and read. No
    operation fails; an old process is started again beside new ones; what was set is in force in the end."""
    failures: list[str] = []
    over = asyncio.Event()
    working = [asyncio.ensure_future(_work(stage, name, failures, over)) for name in WRITERS]
    for turn, is_old in enumerate((False, True, False)):
        for host in stage.cluster.servers:
            await host.stop()
            host.is_old = is_old
            host.start()
            await _wait_healthy(stage, failures, f"{host.name} runs {'the last' if is_old else 'this'} release")
            if host.name == "storage-1":
                # Managers are of one release now, and the other storage nodes of the other.
                stage.cluster.hosts["storage-2"].kill()
                stage.cluster.hosts["storage-2"].start()
                await _wait_healthy(stage, failures, "storage-2 is started again as it was")
                await asyncio.sleep(CALM_SECONDS)
            if failures:
                break
        if not is_old and not failures:
            for step in range(3 - turn):
                failures += await _set(stage, 1001 + 10 * turn + step)
    over.set()
    await asyncio.gather(*working)
    return "; ".join(failures[:3])


async def _set(stage: SceneCluster, value: int) -> list[str]:
    """Change a setting of the cluster, and look whether it is that."""
    key = "meta.space_age_ms"
    await stage.call("client-2", lambda client: client.manager.set_settings({key: value}))
    history = await stage.call("client-2", lambda client: client.manager.settings())
    found = history.versions[-1].values.get(key)
    return [] if found == value else [f"{key} was set to {value}, and is {found}"]


async def _wait_healthy(stage: SceneCluster, failures: list[str], what: str) -> None:
    """Every service runs, and all targets serve."""
    cluster = stage.cluster
    for _ in range(HEALTHY_POLLS):
        running = len(cluster.managers) + len(cluster.metas) + len(cluster.storages)
        serving = all(len(chain.serving_slots()) == cluster.swarm.replicas for chain in cluster.chains.values())
        if running == len(cluster.servers) and serving:
            return
        await asyncio.sleep(0.05)
    failures.append(f"{what}, and not all targets serve after that")


async def _work(stage: SceneCluster, name: str, failures: list[str], over: asyncio.Event) -> None:
    """Write the client's own file and read both again and again; the chunk that the scene is about is written as well."""
    number = 0
    while not over.is_set() and not failures:
        number += 1
        content = b"%s %d" % (name.encode(), number)
        try:
            await stage.call(name, lambda client, content=content: _replace(client, f"/{name}", content))  # type: ignore[misc]
            for other in WRITERS:
                found = await stage.call(other, lambda client: _read(client, f"/{name}"))
                if found != content:
                    failures.append(f"{other} reads {found!r} where {name} has written {content!r}")
            result = await stage.write(name, content)
            if result.code is not Code.OK:
                failures.append(f"a write of {name} is answered {result.code.name}")
        except FS3Error as problem:
            failures.append(f"{name}: {problem}")
        await asyncio.sleep(0.02)


async def _replace(client: Client, path: str, content: bytes) -> None:
    await client.put(NewFile(path, memoryview(content), UnnamedFile("/")))


async def _read(client: Client, path: str) -> bytes:
    return await client.pread(await client.open(path, "r"), 1000)


UPGRADE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {"upgrade_and_back": upgrade_and_back}

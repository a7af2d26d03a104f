"""Scenes of directories: an old copy is put back in the place of one, or begins beside it. See `scenes`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from fs3.base.status import Code
from fs3.model.chunk import UpdateResult
from fs3.sim.ring2.cluster import Cluster

POLLS_MAX = 2400
POLL_SECONDS = 0.05
DEAD_SECONDS = 10
HEAD_START_SECONDS = 1
"""Long enough for a node to come back before the others."""
READS = 40
"""Spread over all replicas: none of them is overlooked."""


class DirectoryStage(Protocol):
    """A quiet cluster and one chunk of it; `scenes.SceneCluster`."""

    cluster: Cluster
    initial_order: list[str]

    def serving_hosts(self) -> list[str]:
        """Hosts that serve the chain now, head first."""
        ...

    def write(self, client: str, data: bytes) -> Awaitable[UpdateResult]:
        """Begin to write the chunk."""
        ...

    async def read(self, client: str) -> bytes:
        """The content of the chunk, as a client sees it."""
        ...


async def an_old_copy_is_put_back(stage: DirectoryStage) -> str:
    """All nodes are down, and the manager sees no difference; the first that comes back has what it had before its last start."""
    cluster, victim = stage.cluster, stage.initial_order[0]
    await _write(stage, b"old")
    await _kill_all(stage)
    copy = cluster.disks[victim].copy()
    if problem := await _start_all(stage):
        return problem
    await _write(stage, b"new")
    await _kill_all(stage)
    cluster.disks[victim].put_back(copy)
    cluster.hosts[victim].start()
    await asyncio.sleep(HEAD_START_SECONDS)
    if problem := await _start_all(stage):
        return problem
    return await _check_read(stage, b"new")


async def all_but_the_manager_is_put_back(stage: DirectoryStage) -> str:
    """No node has the newest bytes: none serves, until the right directory is here again."""
    cluster, victim = stage.cluster, stage.initial_order[1]
    await _write(stage, b"old")
    await _kill_all(stage)
    copies = {name: cluster.disks[name].copy() for name in stage.initial_order}
    if problem := await _start_all(stage):
        return problem
    await _write(stage, b"new")
    await _kill_all(stage)
    newest = cluster.disks[victim].copy()
    for name, copy in copies.items():
        cluster.disks[name].put_back(copy)
    for name in stage.initial_order:
        cluster.hosts[name].start()
    await asyncio.sleep(20)
    if serving := stage.serving_hosts():
        return f"{serving} serve with old copies"
    cluster.hosts[victim].kill()
    cluster.disks[victim].put_back(newest)
    if problem := await _start_all(stage):
        return problem
    return await _check_read(stage, b"new")


async def a_copy_begins_beside_the_original(stage: DirectoryStage) -> str:
    """A copy of a node's directory is started elsewhere while the node runs, and has not what was written since."""
    cluster, victim = stage.cluster, stage.initial_order[0]
    await _write(stage, b"old")
    await _kill_all(stage)
    copy = cluster.disks[victim].fork(f"{victim}-copy")
    if problem := await _start_all(stage):
        return problem
    await _write(stage, b"new")
    beside = cluster.add_storage(f"{victim}-copy", copy)
    beside.start()
    await asyncio.sleep(10)
    original = cluster.storages[victim]
    if original.member.is_superseded:
        return f"{victim} was replaced while its lease was running"
    cluster.hosts[victim].kill()
    await asyncio.sleep(60)
    if beside.name not in cluster.storages:
        return "the copy is not let in, although the original has gone"
    return await _check_read(stage, b"new")


async def _write(stage: DirectoryStage, data: bytes) -> None:
    result = await stage.write("client-1", data)
    assert result.code is Code.OK, result


async def _kill_all(stage: DirectoryStage) -> None:
    """Kill all storage nodes, and wait until the manager counts them as dead: all of them served last."""
    for name in stage.initial_order:
        stage.cluster.hosts[name].kill()
    await asyncio.sleep(DEAD_SECONDS)


async def _start_all(stage: DirectoryStage) -> str:
    """Start all storage nodes, and wait until all of them serve."""
    for name in stage.initial_order:
        stage.cluster.hosts[name].start()
    for _ in range(POLLS_MAX):
        if sorted(stage.serving_hosts()) == sorted(stage.initial_order):
            return ""
        await asyncio.sleep(POLL_SECONDS)
    return f"only {stage.serving_hosts()} serve"


async def _check_read(stage: DirectoryStage, data: bytes) -> str:
    for index in range(READS):
        found = await stage.read(f"client-{1 + index % len(stage.cluster.clients)}")
        if found != data:
            return f"a read shows {found!r} instead of {data!r}"
    return ""

"""Directed runs of clients that punch holes into files. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fs3.api.client import Client, File
from fs3.api.space import KEEP_SIZE, PUNCH_HOLE
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateResult
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster
from fs3.sim.ring2.workloads.holes import HoleHistory, HoleWorkload

_PUNCH = PUNCH_HOLE | KEEP_SIZE


async def punch_beside_writers(stage: SceneCluster) -> str:
    """Four clients write and punch their own parts of one file, which share chunks, while services are killed."""
    cluster = stage.cluster
    history = HoleHistory("/holes", 4)
    await stage.call("client-1", lambda client: _create(client, history.path))
    workers = {}
    for number in range(4):
        name = f"client-{number + 1}"
        workers[name] = HoleWorkload(number, cluster.clients[name], Prng(number), history)
    works = [stage.start(name, lambda _, work=work: work.run(40, 40 * MILLISECOND)) for name, work in workers.items()]  # type: ignore[misc]
    for victim in (stage.initial_order[0], "meta-1", stage.initial_order[2]):
        await asyncio.sleep(0.5)
        cluster.hosts[victim].kill()
        cluster.hosts[victim].start()
    await asyncio.wait(works)
    for name, work in workers.items():
        await stage.call(name, lambda _, work=work: work.look_at_all())  # type: ignore[misc]
    if history.problems:
        return history.problems[0]
    return "" if history.operations > 100 else f"{history.operations} operations end well: hardly any"


async def _create(client: Client, path: str) -> None:
    await client.close(await client.open(path, "w"))


async def write_before_a_punch_is_told(stage: SceneCluster) -> str:
    """A chunk is punched, and its client is not told; another one sees the hole and writes; then the removal is sent again."""
    cluster, path = stage.cluster, "/holes"

    async def fill(client: Client) -> int:
        file = await client.open(path, "w")
        await client.pwrite(file, b"o" * 2 * file.inode.layout.chunk_size)
        await client.close(file)
        return file.inode.layout.chunk_size

    async def punch(client: Client, file: File, size: int) -> None:
        await client.fallocate(file, 0, size, _PUNCH)

    async def rewrite(client: Client, size: int) -> None:
        file = await client.open(path, "r+")
        for _ in range(POLLS_MAX):
            if await client.pread(file, size) == bytes(size):
                break
            await asyncio.sleep(POLL_SECONDS)
        else:
            raise TimeoutError("the hole is never seen")
        await client.pwrite(file, b"n" * size)
        await client.close(file)

    async def look(client: Client, size: int) -> bytes:
        return await client.pread(await client.open(path), size)

    size = await stage.call("client-2", fill)
    file = await stage.call("client-1", lambda client: client.open(path, "r+"))
    storage = cluster.clients["client-1"].storage
    update = storage.update

    async def update_unheard(writes: Sequence[WriteIO], **options: Any) -> list[UpdateResult]:
        for name in stage.initial_order:
            cluster.links.block(name, "client-1")
        return await update(writes, **options)

    storage.update = update_unheard  # type: ignore[method-assign]
    late = stage.start("client-1", lambda client: punch(client, file, size))
    await stage.call("client-2", lambda client: rewrite(client, size))
    for name in stage.initial_order:
        cluster.links.unblock(name, "client-1")
        cluster.network.cut(name, "client-1")
    await late
    found = await stage.call("client-3", lambda client: look(client, size))
    return "" if found == b"n" * size else f"what was written behind the hole is {found[:10]!r}"


HOLE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "punch_beside_writers": punch_beside_writers,
    "write_before_a_punch_is_told": write_before_a_punch_is_told,
}

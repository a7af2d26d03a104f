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
from fs3.sim.ring2.checks import explain_hidden_holes
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


async def holes_of_every_kind_are_told(stage: SceneCluster) -> str:
    """A writer leaves holes in each way there is, and files without any beside. What is said of holes agrees with storage."""

    async def begin(client: Client, name: str, chunks: int) -> tuple[File, int]:
        file = await client.open(f"/{name}", "w")
        size = file.inode.layout.chunk_size
        await client.pwrite(file, b"o" * (chunks * size))
        return file, size

    async def write_behind_the_end(client: Client) -> None:
        file, size = await begin(client, "behind", 1)
        await client.pwrite(file, b"n", 3 * size)
        await client.close(file)

    async def punch(client: Client) -> None:
        file, size = await begin(client, "punched", 3)
        await client.fallocate(file, size, size, _PUNCH)
        await client.close(file)

    async def lengthen(client: Client) -> None:
        file, size = await begin(client, "truncated", 1)
        await client.truncate(file, 3 * size)
        await client.close(file)
        file, size = await begin(client, "allocated", 1)
        await client.fallocate(file, 0, 3 * size)
        await client.close(file)

    async def copy(client: Client) -> None:
        source = await client.open("/behind")
        file, size = await begin(client, "copied", 1)
        await client.copy_range(source, 0, file, size, source.length)
        await client.close(file)

    async def write_on_where_another_cut(client: Client) -> None:
        file, size = await begin(client, "cut", 4)
        await client.fsync(file)
        await stage.call("client-2", lambda other: other.truncate("/cut", size))
        await client.pwrite(file, b"n" * size, 4 * size)
        await client.close(file)

    async def write_whole(client: Client) -> bool:
        file, size = await begin(client, "whole", 3)
        await asyncio.gather(*(client.pwrite(file, b"n" * size, at * size) for at in range(2, 8)))
        return (await client.close(file)).has_holes

    for work in (write_behind_the_end, punch, lengthen, copy, write_on_where_another_cut):
        await stage.call("client-1", work)
    if await stage.call("client-1", write_whole):
        return "a file that was written from its beginning to its end is said to have holes"
    return explain_hidden_holes(stage.cluster.chains.values(), stage.cluster)


HOLE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "punch_beside_writers": punch_beside_writers,
    "write_before_a_punch_is_told": write_before_a_punch_is_told,
    "holes_of_every_kind_are_told": holes_of_every_kind_are_told,
}

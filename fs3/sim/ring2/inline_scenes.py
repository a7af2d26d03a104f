"""Directed runs of clients of small files. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fs3.api.client import Client
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND
from fs3.core.meta import keys, rows
from fs3.core.txn import ReadTxn
from fs3.model.inode import InodeType
from fs3.sim.checkers import whole_files
from fs3.sim.ring2.checks import explain_namespace
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster
from fs3.sim.ring2.workloads.small_files import INLINE_BYTES, LENGTH_MIN, SmallFileHistory, SmallFileWorkload


def _client(stage: SceneCluster, number: int, history: SmallFileHistory) -> SmallFileWorkload:
    client = stage.cluster.clients[f"client-{number}"]
    return SmallFileWorkload(number, client, Prng(number), history, stage.cluster.hosts["meta-1"].clock)


async def _explain(stage: SceneCluster, history: SmallFileHistory) -> str:
    """After one more read."""
    await stage.call("client-1", lambda _: _client(stage, 1, history).read())
    problem = history.problem or whole_files.explain(history.operations) or explain_namespace(stage.cluster)
    return f"{history.path}: {problem}" if problem else ""


async def several_clients_of_one_small_file(stage: SceneCluster) -> str:
    """They put, append, cut, patch and read around the size up to which a file is inline, while services and clients are
    killed."""
    cluster = stage.cluster
    histories = [SmallFileHistory(f"/small-{number}") for number in range(3)]
    works = []
    for history in histories:
        first = _client(stage, 1, history)
        await stage.call("client-1", partial(_create, first))
        for number in range(1, 6):
            work = _client(stage, number, history)
            works.append(stage.start(f"client-{number}", partial(_run, work)))
    for victim in ("meta-1", stage.initial_order[0], "meta-2", "client-5", stage.initial_order[2]):
        await asyncio.sleep(0.15)
        cluster.hosts[victim].kill()
        if not victim.startswith("client"):
            cluster.hosts[victim].start()
    await asyncio.wait([work for work in works if work.process is not None and work.process.name != "client-5"])
    for history in histories:
        if problem := await _explain(stage, history):
            return problem
        if sum(operation.is_told for operation in history.operations) < 30:
            return f"{history.path}: hardly an operation ends well"
    return ""


async def _move_at_a_service_that_hangs(stage: SceneCluster, *, has_stored: bool) -> str:
    """A service that moves the bytes of a file out does not get on with it; another one does, the file is changed, and then the
    first is heard of again. `has_stored`: storage has taken the bytes, and cannot say so."""
    cluster, history = stage.cluster, SmallFileHistory("/small")
    name = next(one for one in cluster.clients if _meta_of(stage, one) == "meta-1")
    number = int(name.rpartition("-")[2])
    writer, other = _client(stage, number, history), _client(stage, 1 if number != 1 else 2, history)
    other_name = "client-1" if number != 1 else "client-2"
    await stage.call(name, lambda _: writer.put(INLINE_BYTES // 2))
    cut = [(host, "meta-1") if has_stored else ("meta-1", host) for host in stage.initial_order]
    for source, target in cut:
        cluster.links.block(source, target)
    patching = stage.start(name, lambda _: writer.patch())
    await _wait_moving(stage)
    await asyncio.sleep(0.2)
    await stage.call(other_name, lambda _: other.read())
    await stage.call(other_name, lambda _: other.append(LENGTH_MIN))
    await stage.call(other_name, lambda _: other.read())
    await asyncio.wait([patching])
    await stage.call(other_name, lambda _: other.patch())
    for source, target in cut:
        cluster.links.unblock(source, target)
    cluster.network.release()
    await asyncio.sleep(10)
    return await _explain(stage, history)


async def move_while_updates_of_a_service_are_late(stage: SceneCluster) -> str:
    """The bytes that a service has sent to storage arrive when another one has moved them and the file was written anew."""
    return await _move_at_a_service_that_hangs(stage, has_stored=False)


async def move_while_a_service_does_not_learn_of_it(stage: SceneCluster) -> str:
    """Storage has the bytes, and the service that has sent them is not told."""
    return await _move_at_a_service_that_hangs(stage, has_stored=True)


async def append_at_the_limit_of_a_small_file(stage: SceneCluster) -> str:
    """Clients append to one file until it has grown out of its row, one killed in the middle; then it is small again."""
    history = SmallFileHistory("/small")
    first = _client(stage, 1, history)
    await stage.call("client-1", lambda _: first.put(LENGTH_MIN))
    for _ in range(2):
        works = []
        for number in range(1, 5):
            work = _client(stage, number, history)
            works.append(stage.start(f"client-{number}", partial(_append_often, work)))
        await asyncio.wait(works)
        if problem := await _explain(stage, history):
            return problem
        await stage.call("client-1", lambda _: first.put(LENGTH_MIN))
    return await _explain(stage, history)


async def _create(work: SmallFileWorkload, client: Client) -> None:
    await work.put(INLINE_BYTES // 2)


async def _run(work: SmallFileWorkload, client: Client) -> None:
    await work.run(12, 40 * MILLISECOND)


async def _append_often(work: SmallFileWorkload, client: Client) -> None:
    for _ in range(3):
        await work.append(LENGTH_MIN)
        await work.read()


def _meta_of(stage: SceneCluster, client: str) -> str:
    place = stage.cluster.clients[client].meta._nodes.choose()
    return "" if place is None else place.node.name


async def _wait_moving(stage: SceneCluster) -> None:
    """The only file of the namespace is on its way out, or is out."""

    async def is_moving(txn: ReadTxn) -> bool:
        found = await txn.scan(keys.INODE, keys.end_of(keys.INODE), 10)
        files = [inode for inode in (rows.decode_inode(*row) for row in found) if inode.type is InodeType.FILE]
        return any(file.moving or not file.inline for file in files)

    for _ in range(POLLS_MAX):
        if stage.cluster.meta_kv.memory_kv.read_now(is_moving):
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("nobody moves the bytes")


INLINE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "several_clients_of_one_small_file": several_clients_of_one_small_file,
    "move_while_updates_of_a_service_are_late": move_while_updates_of_a_service_are_late,
    "move_while_a_service_does_not_learn_of_it": move_while_a_service_does_not_learn_of_it,
    "append_at_the_limit_of_a_small_file": append_at_the_limit_of_a_small_file,
}
"""Played with two metadata services that keep files up to `INLINE_BYTES` inline."""

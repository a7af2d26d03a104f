"""Directed runs: what randomness is slow to reach, arranged on purpose. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.storage import ReadIO, WriteIO
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.loop import SimTask, running
from fs3.sim.ring2.cluster import Cluster
from fs3.sim.ring2.story import Story
from fs3.sim.ring2.swarm import Swarm
from fs3.sim.ring2.workloads.chunks import shared_chunks
from fs3.sim.ring2.world import World, drawn_swarm

TIMEOUT_NS = 20 * SECOND


class Stage:
    """A quiet cluster on which a scene is played, and one chunk of it."""

    def __init__(self, world: World) -> None:
        self.cluster: Cluster = world.cluster
        routing = next(iter(self.cluster.clients.values())).manager.routing
        chains = list(routing.tables[min(routing.tables)].chains)
        self.chunk, self.chain = shared_chunks(1, chains)[0]
        hosts = {node.id: node.name for node in routing.nodes.values()}
        self.order = [hosts[slot.node] for slot in routing.chains[self.chain].serving()]
        """Hosts of the chain, head first."""

    def write(self, client: str, data: bytes) -> SimTask[UpdateResult]:
        """Begin to write the chunk."""
        host = self.cluster.hosts[client]
        assert host.process is not None
        return self.cluster.loop.spawn(host.process, _write(self, client, data))

    async def read(self, client: str) -> bytes:
        """The content of the chunk, as a client sees it."""
        buffer = bytearray(1000)
        io = ReadIO(self.chunk, self.chain, 0, memoryview(buffer))
        (outcome,) = await self.cluster.clients[client].storage.read([io], timeout_ns=TIMEOUT_NS)
        assert outcome.code in (Code.OK, Code.NOT_FOUND), outcome
        return bytes(buffer[: outcome.length])

    async def until_read(self, client: str, data: bytes) -> None:
        """Read until that is what there is."""
        while await self.read(client) != data:
            await asyncio.sleep(0.001)


async def _write(stage: Stage, client: str, data: bytes) -> UpdateResult:
    io = WriteIO(stage.chunk, stage.chain, UpdateKind.WRITE, 0, memoryview(data))
    (result,) = await stage.cluster.clients[client].storage.update([io], timeout_ns=TIMEOUT_NS)
    return result


async def retry_after_a_lost_answer(stage: Stage) -> str:
    """An update has happened, its answer is lost, another update follows, then the first is sent again."""
    cluster, head = stage.cluster, stage.order[0]
    await stage.write("client-2", b"before")
    cluster.links.block(head, "client-1")
    first = stage.write("client-1", b"first.")
    await stage.until_read("client-2", b"first.")
    second = await stage.write("client-2", b"second")
    assert second.code is Code.OK, second
    cluster.links.unblock(head, "client-1")
    cluster.network.cut(head, "client-1")
    result = await first
    if result.code is not Code.OK:
        return f"the repeated update was answered {result.code.name}"
    found = await stage.read("client-2")
    return "" if found == b"second" else f"an update that was over came back: {found!r}"


async def read_while_an_update_is_under_way(stage: Stage) -> str:
    """Whoever has seen the new content has seen it for everybody: no replica shows the old one afterwards."""
    cluster, order = stage.cluster, stage.order
    await stage.write("client-1", b"old")
    # The tail has committed, and the others do not hear of it.
    cluster.links.block(order[-1], order[-2])
    writing = stage.write("client-1", b"new")
    names = [name for name in cluster.clients if name != "client-1"]
    while b"new" not in [await stage.read(name) for name in names]:
        await asyncio.sleep(0.001)
    seen = {name: await stage.read(name) for name in names}
    cluster.links.unblock(order[-1], order[-2])
    cluster.network.release()
    await writing
    old = [name for name, content in seen.items() if content != b"new"]
    return f"{', '.join(old)} still read the old content" if old else ""


SCENES: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "retry_after_a_lost_answer": retry_after_a_lost_answer,
    "read_while_an_update_is_under_way": read_while_an_update_is_under_way,
}


def quiet_swarm() -> Swarm:
    """A cluster without trouble: three copies of everything, and enough clients that each replica is somebody's favourite."""
    swarm = drawn_swarm(0)
    links = replace(swarm.links.quiet(), latency_min_ns=MILLISECOND // 10, latency_max_ns=MILLISECOND)
    disk = replace(swarm.disk, access_ns_max=2 * MILLISECOND, tail_chance=0, cold_chance=0)
    return replace(
        swarm, storages=3, replicas=3, targets_per_node=1, mgmtds=1, metas=1, clients=8, links=links, disk=disk, drift_ppm=0,
        heartbeat_ns=500 * MILLISECOND, wall_jumps=0,
    )  # fmt: skip


def play(name: str, tell: Callable[[str], None] | None = None) -> str:
    """Play a scene. What went wrong, "" when nothing did."""
    with running(0) as loop:
        story = Story(loop, tell)
        problem = loop.run_until_complete(_play(World(loop, 0, story, quiet_swarm()), SCENES[name]))
        return problem or "; ".join(story.failures + loop.unhandled)


async def _play(world: World, scene: Callable[[Stage], Awaitable[str]]) -> str:
    if not await world.begin():
        return "the cluster does not come up"
    async with asyncio.timeout(60):
        return await scene(Stage(world))

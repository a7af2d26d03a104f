"""Directed runs of targets that move while clients write. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.chain import Chain, PublicState
from fs3.model.moves import MoveAction, MoveOverview, PlanMoves
from fs3.sim.ring2.disk import DISK_PATHS
from fs3.sim.ring2.scene_cluster import SceneCluster

MOVING_STORAGES = 6
MOVING_ZONES = 3
POLLS = 1200
"""Every 50 ms."""


CHANGES_MAX = 2 * 3 * 6
"""Two nodes with two or three targets each, and a few versions for each move."""


async def drain_nodes_under_writes(stage: SceneCluster) -> str:
    """The head's node is drained, then that of the next head, while a chunk is written again and again. No chain has fewer
    targets that serve than before, no write fails, the last one is read afterwards, and the manager is killed in the middle."""
    failures: list[str] = []
    versions = sum(chain.version for chain in stage.cluster.chains.values())
    over = asyncio.Event()
    watching = asyncio.ensure_future(_watch_replicas(stage, failures, over))
    writing = asyncio.ensure_future(_write_on(stage, failures, over))
    for turn in range(2):
        name = stage.serving_hosts()[0]
        await _plan(stage, PlanMoves(MoveAction.DRAIN, name))
        if turn:
            stage.cluster.hosts["mgmtd-1"].kill()
            stage.cluster.hosts["mgmtd-1"].start()
        if not await _until(stage, lambda overview, name=name: _targets_of(stage, overview, name) == 0):  # type: ignore[misc]
            failures.append(f"{name} is never empty")
            break
        await asyncio.sleep(2)
        if held := stage.cluster.storages[name].targets:
            failures.append(f"{name} keeps targets {sorted(held)}")
    over.set()
    await watching
    changes = sum(chain.version for chain in stage.cluster.chains.values()) - versions
    if changes > CHANGES_MAX:
        failures.append(f"chains have changed {changes} times")
    last = await writing
    found = await stage.read("client-2")
    if found != last:
        failures.append(f"{last!r} was written last, {found!r} is read")
    return "; ".join(failures)


async def moves_keep_zones_apart(stage: SceneCluster) -> str:
    """Nodes are drained and one dies for good: no chain ends with two replicas in one zone."""
    await stage.write("client-1", b"before")
    drained, dead = stage.initial_order[0], stage.initial_order[1]
    await _plan(stage, PlanMoves(MoveAction.DRAIN, drained))
    if not await _until(stage, lambda overview: _targets_of(stage, overview, drained) == 0):
        return f"{drained} is never empty"
    await _plan(stage, PlanMoves(MoveAction.UNDRAIN, drained))
    stage.cluster.hosts[dead].is_wanted = False
    stage.cluster.hosts[dead].kill()
    await _until_dead(stage, dead)
    await _plan(stage, PlanMoves(MoveAction.FORGET, dead))
    if not await _until(stage, lambda overview: not overview.departing and not overview.moves):
        return f"what {dead} had is never rebuilt"
    nodes = stage.cluster.clients["client-1"].manager.routing.nodes.values()
    zones = {node.id: node.domain.zone for node in nodes}
    chains = stage.cluster.chains.values()
    crowded = [chain for chain in chains if len({zones[slot.node] for slot in chain.slots}) < len(chain.slots)]
    if crowded:
        return f"chain {crowded[0].id} has two replicas in one zone"
    found = await stage.read("client-2")
    return "" if found == b"before" else f"{found!r} is read"


async def forget_the_last_copy(stage: SceneCluster) -> str:
    """One replica after another dies; the last one has an update of its own. It is not forgotten when that is asked for, and when
    it is back, so is the update."""
    cluster, order = stage.cluster, stage.initial_order
    await stage.write("client-1", b"of all")
    for name in order[1:]:
        cluster.hosts[name].is_wanted = False
        cluster.hosts[name].kill()
        await _until_dead(stage, name)
    result = await stage.write("client-1", b"of one")
    assert result.code is Code.OK, result
    last = order[0]
    cluster.hosts[last].is_wanted = False
    cluster.hosts[last].kill()
    await _until_dead(stage, last)
    for name in order[1:]:
        cluster.hosts[name].start()
    await asyncio.sleep(2)
    try:
        await _plan(stage, PlanMoves(MoveAction.FORGET, last))
    except FS3Error as refusal:
        if "is on node" not in str(refusal):
            return f"it is refused for another reason: {refusal}"
    await asyncio.sleep(5)
    cluster.hosts[last].start()
    await asyncio.sleep(5)
    try:
        found = await stage.read("client-2")
    except AssertionError as failure:
        return f"the chunk is not served: {failure}"
    return "" if found == b"of one" else f"what the last replica had acknowledged is lost: {found!r}"


async def a_good_copy_is_away_while_it_moves(stage: SceneCluster) -> str:
    """The node that has the only good copy of a chunk is drained while it is down. It is back, and so is the chunk."""
    cluster, (*others, away) = stage.cluster, stage.initial_order
    await stage.write("client-1", b"before")
    await cluster.hosts[away].stop()
    for name in others:
        for store in cluster.disks[name].stores.values():
            if store.get(stage.chunk) is not None:
                store.rot(stage.chunk, 0)
    await _until_dead(stage, away)
    await _plan(stage, PlanMoves(MoveAction.DRAIN, away))
    if not await _until(stage, lambda overview: _serving(cluster.chains[stage.chain]) == cluster.swarm.replicas):
        return "no other target takes its place"
    await asyncio.sleep(2)
    cluster.hosts[away].start()
    if not await _until(stage, lambda overview: _targets_of(stage, overview, away) == 0):
        return f"{away} is never empty"
    try:
        found = await stage.read("client-2")
    except AssertionError as failure:
        return f"the chunk is not served: {failure}"
    return "" if found == b"before" else f"{found!r} is read"


async def a_drained_disk_is_taken_out(stage: SceneCluster) -> str:
    """A disk of each of two nodes is drained under writes. Once both are said to be empty the other node in the zone of the first
    is drained, onto this one; then the two nodes are started again without their disks: no target was there."""
    cluster = stage.cluster
    failures: list[str] = []
    for disks in cluster.disks.values():
        disks.split(DISK_PATHS)
    await asyncio.sleep(2)  # heartbeats tell it
    over = asyncio.Event()
    writing = asyncio.ensure_future(_write_on(stage, failures, over))
    first, second, _ = stage.initial_order
    filling = _neighbour(stage, first)
    drained = {first: DISK_PATHS[0], second: DISK_PATHS[1]}
    for name, path in drained.items():
        await _plan(stage, PlanMoves(MoveAction.DRAIN_DISK, name, disk=path))
    if not await _until(stage, lambda overview: all(disk.is_empty for disk in overview.drained_disks)):
        failures.append("the disks are never empty")
    for name, path in drained.items():
        if there := cluster.disks[name].targets_on(path):
            failures.append(f"{path} of {name} is said to be empty, and has targets {list(there)}")
    await _plan(stage, PlanMoves(MoveAction.DRAIN, filling))
    if not await _until(stage, lambda overview: _targets_of(stage, overview, filling) == 0):
        failures.append(f"{filling} is never empty")
    for name, path in drained.items():
        await cluster.hosts[name].stop()
        cluster.disks[name].pull(path)
        if lost := cluster.disks[name].lost_targets():
            failures.append(f"{path} of {name} was said to be empty, and had targets {sorted(lost)} when it was taken out")
        cluster.hosts[name].start()
    over.set()
    last = await writing
    found = await stage.read("client-2")
    if found != last:
        failures.append(f"{last!r} was written last, {found!r} is read")
    return "; ".join(failures)


def _neighbour(stage: SceneCluster, name: str) -> str:
    """Another node in the same zone."""
    nodes = stage.cluster.clients["client-3"].manager.routing.nodes.values()
    zone = next(node.domain.zone for node in nodes if node.name == name)
    return next(node.name for node in nodes if node.domain.zone == zone and node.name != name)


async def _plan(stage: SceneCluster, plan: PlanMoves) -> MoveOverview:
    return await stage.call("client-3", lambda client: client.manager.plan_moves(plan))


def _targets_of(stage: SceneCluster, overview: MoveOverview, name: str) -> int:
    nodes = stage.cluster.clients["client-3"].manager.routing.nodes.values()
    number = next(node.id for node in nodes if node.name == name)
    return next(share.targets for share in overview.shares if share.node == number)


async def _until(stage: SceneCluster, happened: Callable[[MoveOverview], bool]) -> bool:
    for _ in range(POLLS):
        if happened(await stage.call("client-3", lambda client: client.manager.list_moves())):
            return True
        await asyncio.sleep(0.05)
    return False


async def _until_dead(stage: SceneCluster, name: str) -> None:
    manager = stage.cluster.clients["client-3"].manager
    await manager.wait_routing(
        lambda routing: any(node.name == name and not node.alive for node in routing.nodes.values()), 60_000_000_000
    )


async def _watch_replicas(stage: SceneCluster, failures: list[str], over: asyncio.Event) -> None:
    """Every chain has as many targets that serve as in the beginning."""
    replicas = stage.cluster.swarm.replicas
    while not over.is_set() and not failures:
        few = [chain for chain in stage.cluster.chains.values() if _serving(chain) < replicas]
        if few:
            failures.append(f"chain {few[0].id} version {few[0].version} has {_serving(few[0])} replicas that serve")
        await asyncio.sleep(0.002)


def _serving(chain: Chain) -> int:
    return sum(slot.state is PublicState.SERVING for slot in chain.slots)


async def _write_on(stage: SceneCluster, failures: list[str], over: asyncio.Event) -> bytes:
    """Write the chunk again and again. What was acknowledged last."""
    number = 0
    while True:
        number += 1
        data = b"%06d" % number
        result = await stage.write("client-1", data)
        if result.code is not Code.OK:
            failures.append(f"write {number} was answered {result.code.name}")
        if over.is_set() or failures:
            return data
        await asyncio.sleep(0.02)


MOVE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "drain_nodes_under_writes": drain_nodes_under_writes,
    "moves_keep_zones_apart": moves_keep_zones_apart,
    "forget_the_last_copy": forget_the_last_copy,
    "a_good_copy_is_away_while_it_moves": a_good_copy_is_away_while_it_moves,
    "a_drained_disk_is_taken_out": a_drained_disk_is_taken_out,
}

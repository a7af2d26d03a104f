"""Directed runs of clients that read from the files of their host's storage node, without asking it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fs3.base.status import Code
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster

_OTHER = "client-8"
"""A client on a host of its own."""


async def what_others_have_seen_is_there(stage: SceneCluster) -> str:
    """A reader on the host of the head; the head does not hear that the tail has committed, and others have seen it."""
    head, following = stage.initial_order[:2]
    reader = await _reader_on(stage, head)
    stage.cluster.links.block(following, head)
    writing = stage.write(_OTHER, b"new")
    for _ in range(POLLS_MAX):
        if await stage.read(_OTHER) == b"new":
            break
        await asyncio.sleep(POLL_SECONDS)
    found = await stage.read(reader)
    stage.cluster.links.unblock(following, head)
    stage.cluster.network.release()
    await writing
    return "" if found == b"new" else f"a reader on the host of the head reads {found!r} after others have seen what is new"


async def a_node_that_is_stopped(stage: SceneCluster) -> str:
    """A node is stopped for longer than its lease, and the chain goes on without it. A reader on its host has not heard of
    that."""
    victim = stage.initial_order[1]
    reader = await _reader_on(stage, victim)
    stage.cluster.links.block("mgmtd-1", reader)
    process = stage.cluster.hosts[victim].process
    assert process is not None
    stage.cluster.loop.pause(process)
    return await _overwrite(stage, reader, f"{victim} is stopped")


async def a_node_that_leaves_its_chain(stage: SceneCluster) -> str:
    """A target leaves its chain of its own accord, within its lease; neither its node nor a reader there hears what follows."""
    victim = stage.initial_order[1]
    reader = await _reader_on(stage, victim)
    for name in (victim, reader):
        stage.cluster.links.block("mgmtd-1", name)
    shells = stage.cluster.storages[victim].targets.values()
    shell = next(shell for shell in shells if shell.chain is not None and shell.chain.id == stage.chain)
    assert shell.leave_chain("a scene wants it")
    for _ in range(POLLS_MAX):
        if victim not in stage.serving_hosts():
            break
        await asyncio.sleep(POLL_SECONDS)
    return await _overwrite(stage, reader, f"{victim} has left the chain")


async def a_node_that_is_started_anew(stage: SceneCluster) -> str:
    """A node is killed, and serves again within the lease that its board promises. A reader has the board of the dead one."""
    cluster, victim = stage.cluster, stage.initial_order[1]
    reader = await _reader_on(stage, victim)
    cluster.links.block("mgmtd-1", reader)
    began = cluster.loop.time()
    cluster.hosts[victim].kill()
    cluster.hosts[victim].start()
    problem = await _overwrite(stage, reader, f"{victim} was started anew")
    took = cluster.loop.time() - began
    assert problem or took < cluster.swarm.lease_ns / 1e9, f"that took {took} s, longer than a lease"
    return problem


async def _reader_on(stage: SceneCluster, storage: str) -> str:
    """The client on the host of a node, once it reads what was written without asking."""
    result = await stage.write(_OTHER, b"old")
    assert result.code is Code.OK, result
    reader = f"client-{storage.rpartition('-')[2]}"
    short = stage.cluster.clients[reader].storage.short_circuit
    assert short is not None, f"{reader} asks for every read"
    for _ in range(POLLS_MAX):
        before = short.reads
        if await stage.read(reader) == b"old" and short.reads > before:
            return reader
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError(f"{reader} always asks")


async def _overwrite(stage: SceneCluster, reader: str, when: str) -> str:
    """Write, and once that is acknowledged, read."""
    result = await stage.write(_OTHER, b"new")
    assert result.code is Code.OK, result
    found = await stage.try_read(reader)
    return f"{when}: a reader on its host reads {found!r}, which was overwritten" if found == b"old" else ""


SHORT_CIRCUIT_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "what_others_have_seen_is_there": what_others_have_seen_is_there,
    "a_node_that_is_stopped": a_node_that_is_stopped,
    "a_node_that_leaves_its_chain": a_node_that_leaves_its_chain,
    "a_node_that_is_started_anew": a_node_that_is_started_anew,
}

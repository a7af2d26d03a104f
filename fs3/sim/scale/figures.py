"""What is measured of a large cluster: routing, convergence, balance, memory, rolling restarts."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.manager import Manager
from fs3.core.membership.placement import place
from fs3.core.membership.state import FORMAT, ClusterRow, IdCounters, State
from fs3.model.chain import PublicState
from fs3.model.cluster import RoutingUpdate
from fs3.model.routing import Routing
from fs3.sim.ring2.loop import open_loop
from fs3.sim.scale.cluster import START_NS, ScaleCluster, ScaleOptions
from fs3.wire.mgmtd import EncodedRouting, routing_from_pb, routing_to_pb
from fs3.wire.routing_parts import RoutingParts, split_routing

STEP_NS = 5 * MILLISECOND
"""How exactly times are known."""
WAIT_NS = 120 * SECOND
"""Virtual time after which something that is waited for counts as broken."""


class Figure(NamedTuple):
    """One thing that was measured."""

    figure: str
    value: float
    unit: str
    nodes: int
    chains: int
    clients: int


class CpuMeter:
    """CPU that the callbacks of each process take."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running = ""
        self._since = time.process_time()

    def on_step(self, now: int, process: str, callback: str) -> None:
        """For `SimLoop.on_step`: the callback before this one has ended."""
        at = time.process_time()
        self.seconds[self._running] += at - self._since  # type: ignore[assignment]
        self._running, self._since = process, at


class ScaleRun:
    """Measures one size. Each step goes on with the cluster as the one before has left it."""

    def __init__(self, options: ScaleOptions, say: Callable[[str], None] = lambda text: None) -> None:
        self.options = options
        self.figures: list[Figure] = []
        self._say = say

    def run(self, restarts: int = 3) -> list[Figure]:
        """All figures; `restarts`: nodes of the rolling restart that are restarted."""
        with open_loop(self.options.seed) as loop:
            self._cluster = ScaleCluster(loop, self.options)
            loop.run_until_complete(self._run(restarts))
            if loop.unhandled_errors:
                raise RuntimeError(f"something failed: {loop.unhandled_errors[:3]}")
        self._measure_memory()
        return self.figures

    def form(self) -> Routing:
        """The first routing info that has chains; nothing more is measured."""
        with open_loop(self.options.seed) as loop:
            self._cluster = ScaleCluster(loop, self.options)
            loop.run_until_complete(self._form())
        return self._cluster.newest

    async def _run(self, restarts: int) -> None:
        await self._form()
        await self._rest()
        await self._lose_node()
        await self._replace_node()
        await self._restart_nodes(restarts)
        await self._lose_primary()

    def _add(self, figure: str, value: float, unit: str) -> None:
        options = self.options
        self.figures.append(Figure(figure, value, unit, options.nodes, len(self._cluster.newest.chains), options.clients))
        self._say(f"{figure}: {value:,.6g} {unit}")

    async def _until(self, condition: Callable[[], bool], what: str) -> int:
        """Nanoseconds until something is so. RuntimeError when it does not come."""
        begin = self._cluster.loop.now
        while not condition():
            if self._cluster.loop.now - begin > WAIT_NS:
                raise RuntimeError(f"{what}: not within {WAIT_NS // SECOND} s of virtual time")
            await asyncio.sleep(STEP_NS / SECOND)
        return self._cluster.loop.now - begin

    # --- steps ---------------------------------------------------------------------------------------------------------

    async def _form(self) -> None:
        """Managers, clients, then all nodes at once: a table is made, and everybody gets it."""
        cluster, options = self._cluster, self.options
        begun = time.process_time()
        place(options.nodes, options.targets_per_node, options.replicas, seed=1)
        placed = time.process_time() - begun
        for number in range(1, options.managers + 1):
            cluster.start_manager(number)
        await self._until(lambda: bool(cluster.primary), "a manager leads")
        for number in range(1, options.nodes + 1):
            cluster.start_node(f"storage-{number}")
        for _ in range(options.clients):
            cluster.start_client()
        meter = CpuMeter()
        cluster.loop.on_step = meter.on_step
        await self._until(
            lambda: bool(cluster.newest.tables) and cluster.all_have(cluster.newest.version), "all processes have the chains"
        )
        cluster.loop.on_step = None
        self._add("all processes start, CPU of the manager until they have the chains", meter.seconds[cluster.primary], "s")
        self._add("all processes start, CPU of a client until it has the chains", meter.seconds["client-1"], "s")
        self._add("CPU to place the chains, in one step of the manager", placed, "s")
        whole = routing_to_pb_of(cluster.newest)
        parts = split_routing(whole)
        self._add("first snapshot", whole.ByteSize(), "bytes")
        self._add("parts of the first snapshot", len(parts), "messages")
        self._add("largest part", max(part.ByteSize() for part in parts), "bytes")

    async def _rest(self) -> None:
        """A while in which nothing happens."""
        cluster = self._cluster
        before, frames = dict(cluster.links.bytes_to), dict(cluster.links.frames_to)
        seconds, manager = 5, cluster.primary
        meter = CpuMeter()
        cluster.loop.on_step = meter.on_step
        await asyncio.sleep(seconds)
        cluster.loop.on_step = None
        self._add("at rest, bytes to the manager", (cluster.links.bytes_to[manager] - before[manager]) / seconds, "bytes/s")
        self._add("at rest, messages to the manager", (cluster.links.frames_to[manager] - frames[manager]) / seconds, "/s")
        client = cluster.clients[0].name
        self._add("at rest, bytes to a client", (cluster.links.bytes_to[client] - before[client]) / seconds, "bytes/s")
        self._add("at rest, CPU of the manager", meter.seconds[manager] / seconds, "s/s")
        self._add("at rest, CPU of a node", meter.seconds["storage-1"] / seconds, "s/s")

    async def _lose_node(self) -> None:
        """A node is killed: its chains go on without it, and every process hears of that."""
        cluster = self._cluster
        node = cluster.nodes["storage-1"]
        assert node.member is not None
        number, before = node.member.node, cluster.newest.version
        chains = sum(any(slot.node == number for slot in chain.slots) for chain in cluster.newest.chains.values())
        client = cluster.clients[0].name
        heard, frames = cluster.links.bytes_to[client], cluster.links.frames_to[client]
        node.kill()
        taken = await self._until(
            lambda: (
                cluster.newest.version > before
                and not serves(cluster.newest, number)
                and cluster.all_have(cluster.newest.version)
            ),
            "everybody knows that a node is dead",
        )
        self._add("node dies, until everybody has its chains without it", taken / SECOND, "s")
        self._add("node dies, routing versions", cluster.newest.version - before, "versions")
        self._add("node dies, chains that change", chains, "chains")
        self._add("node dies, messages to a client", cluster.links.frames_to[client] - frames, "messages")
        self._add("node dies, bytes to a client per chain", (cluster.links.bytes_to[client] - heard) / chains, "bytes")

    async def _replace_node(self) -> None:
        """The dead node comes back with empty disks, and is filled by the others."""
        cluster = self._cluster
        cluster.sources.sent.clear()
        client = cluster.clients[0].name
        heard, before = cluster.links.bytes_to[client], cluster.newest.version
        cluster.start_node("storage-1", complete=frozenset())
        taken = await self._until(lambda: cluster.is_healthy() and cluster.all_have(cluster.newest.version), "a node is filled")
        sent = balance_of(cluster.sources.sent, self.options.nodes - 1)
        filled = sum(cluster.sources.sent.values())
        self._add("empty node comes back, until all its targets serve", taken / SECOND, "s")
        self._add("empty node comes back, routing versions", cluster.newest.version - before, "versions")
        self._add(
            "empty node comes back, bytes to a client per chain", (cluster.links.bytes_to[client] - heard) / filled, "bytes"
        )
        self._add("empty node comes back, most targets filled by one node", max(cluster.sources.sent.values()), "targets")
        self._add("empty node comes back, sent by one node max/mean", sent, "ratio")

    async def _restart_nodes(self, count: int) -> None:
        """Nodes are stopped cleanly and started again, each once all chains are whole."""
        cluster = self._cluster
        times, stalls = [], []
        for number in range(2, 2 + count):
            name = f"storage-{number}"
            begin = cluster.loop.now
            node = cluster.nodes[name]
            assert node.member is not None
            identity = node.member.node
            await node.stop()
            stalls.append(cluster.loop.now - begin)
            await self._until(lambda node=identity: not serves(cluster.newest, node), "chains go on")  # type: ignore[misc]
            await asyncio.sleep(START_NS / SECOND)
            # Writes have gone on without it: it has to be compared with its chains before it serves.
            cluster.start_node(name, frozenset())
            await self._until(lambda: cluster.is_healthy() and cluster.all_have(cluster.newest.version), "the node is back")
            times.append(cluster.loop.now - begin)
        self._add("restart of one node, hand over", max(stalls) / SECOND, "s")
        self._add("restart of one node, until all chains are whole", max(times) / SECOND, "s")
        self._add("rolling restart of all nodes, one by one", max(times) / SECOND * self.options.nodes, "s")

    async def _lose_primary(self) -> None:
        """The primary is killed: another one leads, all nodes find it in time, and no chain changes."""
        cluster = self._cluster
        if self.options.managers < 2:
            return
        before = cluster.newest
        dead = cluster.primary
        cluster.kill_manager(dead)
        taken = await self._until(lambda: bool(cluster.primary), "another manager leads")
        self._add("primary dies, until another leads", taken / SECOND, "s")
        await asyncio.sleep(6)
        changed = [chain.id for chain in cluster.newest.chains.values() if before.chains[chain.id] != chain]
        self._add("primary dies, chains that change", len(changed), "chains")

    # --- memory ----------------------------------------------------------------------------------------------------------

    def _measure_memory(self) -> None:
        routing = self._cluster.newest
        data = [part.SerializeToString() for part in split_routing(routing_to_pb_of(routing))]
        kept: list[object] = []

        def snapshot() -> None:
            parts = RoutingParts()
            for part in data:
                if (whole := parts.add(EncodedRouting.FromString(part))) is not None:
                    update = routing_from_pb(whole)
                    kept.append(Routing().apply(update.delta, update.cluster))

        self._add("memory of a client's snapshot", measure_bytes(snapshot), "bytes")

        def manager() -> None:
            counters = IdCounters(routing.version, len(routing.nodes), 10**6, len(routing.chains), len(routing.tables))
            cluster = ClusterRow(FORMAT, routing.cluster, "fs3")
            state = State(cluster, counters, dict(routing.nodes), dict(routing.chains), dict(routing.tables))
            kept.append(Manager(0, MgmtdConfig(), state, b"entropy"))

        self._add("memory of the manager beyond the routing info", measure_bytes(manager), "bytes")


def routing_to_pb_of(routing: Routing) -> EncodedRouting:
    """All of the routing info, as it travels."""
    return routing_to_pb(RoutingUpdate(routing.to_full_delta(), routing.cluster))


def serves(routing: Routing, node: NodeId) -> bool:
    """A target of this node serves."""
    return any(
        slot.node == node and slot.state is PublicState.SERVING for chain in routing.chains.values() for slot in chain.slots
    )


def balance_of(sent: Counter[NodeId], nodes: int) -> float:
    """Most over mean."""
    return max(sent.values()) * nodes / sum(sent.values())


def measure_bytes(make: Callable[[], None]) -> int:
    """How much memory what is made takes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        make()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

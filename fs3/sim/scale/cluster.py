"""A large cluster of which the control plane is real: managers, their routing deltas, and the routing of every process.

Managers run as they are (`MgmtdService` with its machine, placement, election and streams). Every node and every client has a
real `MgmtdClient`, and a node a real `Member`, over a network that counts what it carries. What is modelled is what a node
stores: whether its targets are complete, and how long it takes to bring one up to date. Virtual time has no CPU in it: that is
measured beside it, by process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence, Set
from dataclasses import dataclass
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import lease_ns
from fs3.base.prng import Prng
from fs3.base.units import MICROSECOND, MILLISECOND, SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.core.membership.config import MgmtdConfig
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.cluster import DiskSpace, LeaveRequest, RoleConfig
from fs3.model.routing import Role, Routing
from fs3.model.target_report import TargetReport
from fs3.runtime.incarnation import GivenIncarnation
from fs3.services.mgmtd.service import MgmtdService
from fs3.sim.ring2.clock import SimClock
from fs3.sim.ring2.kv import SimKVEngine
from fs3.sim.ring2.loop import SimLoop, SimProcess

LATENCY_NS = 100 * MICROSECOND
"""One way."""
BYTES_PER_US = 1000
"""Of one link."""
COMMIT_NS_MIN = 1 * MILLISECOND
COMMIT_NS_MAX = 3 * MILLISECOND
START_NS = 1 * SECOND
"""From the end of a process until the next one of its node registers."""


@dataclass(frozen=True)
class ScaleOptions:
    """How large it is."""

    nodes: int = 180
    """Storage processes."""
    clients: int = 500
    chains: int = 10_000
    replicas: int = 3
    managers: int = 2
    resync_ns: int = 200 * MILLISECOND
    """To bring one target up to date."""
    resyncs_at_once: int = 4
    """Targets that one node brings up to date at the same time, as source."""
    seed: int = 1
    disk_bytes: tuple[int, ...] = ()
    """Sizes of the nodes' disks, by turns; none: nodes do not tell them."""

    @property
    def targets_per_node(self) -> int:
        """So many that there are at least `chains` chains."""
        return -(-self.chains * self.replicas // self.nodes)


class CountingLinks:
    """`LinkPolicy` of a network without faults. Counts frames and bytes by the hosts they go to."""

    def __init__(self) -> None:
        self.bytes_to: Counter[str] = Counter()
        self.frames_to: Counter[str] = Counter()

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        self.bytes_to[target] += size
        self.frames_to[target] += 1
        return LATENCY_NS + size * MICROSECOND // BYTES_PER_US


class DiskOfNode(GivenIncarnation):
    """An `IncarnationCounter` of a node with one disk."""

    def __init__(self, starts: int, disk_bytes: int) -> None:
        super().__init__(starts)
        self._bytes = disk_bytes

    def measure_space(self) -> Sequence[DiskSpace]:
        """See `IncarnationCounter`."""
        return (DiskSpace("/data", self._bytes, self._bytes),) if self._bytes else ()


class ScaleProcess:
    """What of a process takes part here."""

    def __init__(self, cluster: ScaleCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.process = SimProcess(name)
        self.mgmtd: MgmtdClient | None = None
        """None while it is being started."""

    @property
    def routing(self) -> Routing:
        """As it knows it."""
        return self.mgmtd.routing if self.mgmtd is not None else Routing()

    def transport(self) -> MemoryTransport:
        """The network as seen from here."""
        return MemoryTransport(self.cluster.network, self.name, pool=ReceivePool())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A task of this process."""
        self.cluster.loop.spawn(self.process, work)

    def kill(self) -> None:
        """As SIGKILL, and its peers notice."""
        self.cluster.loop.kill(self.process)
        self.cluster.network.crash(self.name)

    async def connect(self) -> MgmtdClient:
        """What every process begins with; asked again while no manager answers."""
        while True:
            mgmtd = MgmtdClient(Connector([self.transport()], ""), self.cluster.manager_endpoints, SimClock(self.cluster.loop))
            try:
                await mgmtd.start()
            except FS3Error:
                await mgmtd.close()
                continue
            self.mgmtd = mgmtd
            mgmtd.on_change(self.cluster.on_routing)
            return mgmtd


class ScaleNode(ScaleProcess):
    """A storage node. `MemberOwner` of its own member."""

    def __init__(self, cluster: ScaleCluster, name: str, starts: int, complete: Set[TargetId] | None = None) -> None:
        """`complete`: targets whose data it has, None: all that it will be given."""
        super().__init__(cluster, name)
        self.member: Member | None = None
        self._starts = starts
        self._all_complete = complete is None
        self.complete: set[TargetId] = set(complete or ())
        self._chains: dict[TargetId, ChainId] = {}
        self._syncing: dict[TargetId, int] = {}
        """Target that is being brought up to date -> chain version under which it is."""

    async def run(self) -> None:
        """Join the cluster."""
        mgmtd = await self.connect()
        sizes, number = self.cluster.options.disk_bytes or (0,), int(self.name.rpartition("-")[2])
        disk = DiskOfNode(self._starts, sizes[number % len(sizes)])
        self.member = Member(mgmtd, SimClock(self.cluster.loop), disk, name=self.name, role=Role.STORAGE, owner=self)
        await self.member.register(mgmtd.cluster, [f"memory://{self.name}", f"tcp://{self.name}.example:8000"], "", 1)
        mgmtd.on_change(self._on_routing)
        self._on_routing(mgmtd.routing)
        self.member.start()

    async def stop(self) -> set[TargetId]:
        """A clean stop: it hands over. The targets whose data it has."""
        if self.member is not None:
            await self.member.stop()
        if self.mgmtd is not None:
            await self.mgmtd.close()
        self.kill()
        return self.complete

    def _on_routing(self, routing: Routing) -> None:
        if self.member is None:
            return
        if not self._chains:
            self._chains = {
                slot.target: chain.id
                for chain in routing.chains.values()
                for slot in chain.slots
                if slot.node == self.member.node
            }
            if self._all_complete:
                self.complete.update(self._chains)
        changed = False
        for target, number in self._chains.items():
            chain = routing.chains[number]
            slot = chain.slot(target)
            if slot is not None and slot.state is PublicState.SYNCING and self._syncing.get(target) != chain.version:
                self._syncing[target] = chain.version
                self.cluster.sources.begin(chain, target, self)
            changed = changed or (slot is not None and slot.state is not PublicState.SERVING)
        if changed:
            self.member.heartbeat_now()

    def on_resynced(self, target: TargetId, chain_version: int) -> None:
        """The source has sent everything that is missing."""
        if self._syncing.get(target) == chain_version:
            self.complete.add(target)
            assert self.member is not None
            self.member.heartbeat_now()

    # --- MemberOwner -----------------------------------------------------------------------------------------------------

    def target_reports(self) -> Sequence[TargetReport]:
        """See `MemberOwner`."""
        routing = self.routing
        reports = []
        for target, number in self._chains.items():
            chain = routing.chains[number]
            slot = chain.slot(target)
            assert slot is not None
            ready = slot.state in (PublicState.SERVING, PublicState.SYNCING, PublicState.LASTSRV)
            state = LocalState.UPTODATE if ready and target in self.complete else LocalState.ONLINE
            if slot.state is PublicState.SYNCING and self._syncing.get(target) != chain.version:
                state = LocalState.ONLINE
            reports.append(TargetReport(target, state, chain.version, used_bytes=10**12, free_bytes=10**12, chunks=250_000))
        return reports

    def on_lease_changed(self) -> None:
        """See `MemberOwner`: no reads are served here."""

    def on_births_stored(self, targets: Set[TargetId]) -> None:
        """See `MemberOwner`."""

    def on_config(self, config: RoleConfig) -> None:
        """See `MemberOwner`."""

    def on_heard(self, routing_version: int) -> None:
        """See `MemberOwner`."""

    def on_drained_disks(self, paths: Sequence[str]) -> None:
        """See `MemberOwner`: none is."""

    def on_retired(self, targets: Sequence[TargetId]) -> None:
        """See `MemberOwner`."""

    def on_leave_requests(self, requests: Sequence[LeaveRequest]) -> None:
        """See `MemberOwner`."""


class ResyncSources:
    """Which nodes send how much to bring others up to date, and when that is done."""

    def __init__(self, cluster: ScaleCluster) -> None:
        self._cluster = cluster
        self.sent: Counter[NodeId] = Counter()
        """Targets that each node has filled."""
        self._free_at: dict[NodeId, list[int]] = {}
        """When each of the lanes of a source is free."""

    def begin(self, chain: Chain, target: TargetId, receiver: ScaleNode) -> None:
        """A target is to be brought up to date by its predecessor."""
        source = chain.predecessor(target)
        if source is None:
            return
        self.sent[source.node] += 1
        options, loop = self._cluster.options, self._cluster.loop
        lanes = self._free_at.setdefault(source.node, [0] * options.resyncs_at_once)
        lane = min(range(len(lanes)), key=lanes.__getitem__)
        lanes[lane] = max(lanes[lane], loop.now) + options.resync_ns
        loop.call_later((lanes[lane] - loop.now) / SECOND, self._end, receiver, target, chain.version)

    def _end(self, receiver: ScaleNode, target: TargetId, chain_version: int) -> None:
        if receiver.process.is_alive:
            receiver.on_resynced(target, chain_version)


class ScaleCluster:
    """All processes of a run."""

    def __init__(self, loop: SimLoop, options: ScaleOptions) -> None:
        self.loop = loop
        self.options = options
        self.links = CountingLinks()
        self.network = MemoryNetwork(SimClock(loop), self.links)
        self.sources = ResyncSources(self)
        self.prng = Prng(options.seed)
        self._kv = SimKVEngine(loop, Prng(self.prng.next()), COMMIT_NS_MIN, COMMIT_NS_MAX)
        self.managers: dict[str, MgmtdService] = {}
        self._manager_processes: dict[str, SimProcess] = {}
        self.nodes: dict[str, ScaleNode] = {}
        self.clients: list[ScaleProcess] = []
        self._starts: Counter[str] = Counter()
        self.manager_endpoints = [f"memory://mgmtd-{number}" for number in range(1, options.managers + 1)]
        self.newest = Routing()
        """The newest that any process has heard of."""

    def on_routing(self, routing: Routing) -> None:
        """Some process has newer routing info."""
        if routing.version > self.newest.version:
            self.newest = routing

    def start_manager(self, number: int) -> None:
        """One more manager."""
        name = f"mgmtd-{number}"
        self._manager_processes[name] = process = SimProcess(name)
        self.loop.spawn(process, self._run_manager(name))

    async def _run_manager(self, name: str) -> None:
        options = self.options
        config = MgmtdConfig(
            storage_nodes=options.nodes, replicas=options.replicas, targets_per_node=options.targets_per_node, lease_ns=lease_ns
        )
        endpoint = f"memory://{name}"
        service = MgmtdService(self._kv.open(), SimClock(self.loop), config, self.prng.bytes, name=name, endpoints=[endpoint])
        await service.start()
        transport = MemoryTransport(self.network, name, pool=ReceivePool())
        await transport.serve(endpoint, service.bindings())
        service.announce([endpoint])
        self.managers[name] = service

    @property
    def primary(self) -> str:
        """The manager that leads; "" while none does."""
        return next((name for name, service in self.managers.items() if service.is_primary), "")

    def kill_manager(self, name: str) -> None:
        """As SIGKILL."""
        del self.managers[name]
        process = self._manager_processes.pop(name)
        self.loop.kill(process)
        self._kv.on_process_death(process)
        self.network.crash(name)

    def start_node(self, name: str, complete: Set[TargetId] | None = None) -> ScaleNode:
        """Start a node, or start it again."""
        self._starts[name] += 1
        node = self.nodes[name] = ScaleNode(self, name, self._starts[name], complete)
        node.spawn(node.run())
        return node

    def start_client(self) -> None:
        """One more client."""
        client = ScaleProcess(self, f"client-{len(self.clients) + 1}")
        self.clients.append(client)

        async def run() -> None:
            await client.connect()

        client.spawn(run())

    def processes(self) -> list[ScaleProcess]:
        """Everything that follows the routing info and lives."""
        return [each for each in (*self.nodes.values(), *self.clients) if each.process.is_alive]

    def all_have(self, version: int) -> bool:
        """Every process has applied this version."""
        return all(each.routing.version >= version for each in self.processes())

    def is_healthy(self) -> bool:
        """Every target of every chain serves, as far as the newest routing info says."""
        chains = self.newest.chains
        return bool(chains) and all(slot.state is PublicState.SERVING for chain in chains.values() for slot in chain.slots)

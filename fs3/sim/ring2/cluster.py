"""A simulated cluster: every service as a process of its own on a host of its own, that can be killed, stopped and started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from fs3.api.client import Client
from fs3.api.proving import start_proving
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND, SECOND
from fs3.client.connector import Connector
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.client.storage.client import StorageClient
from fs3.core.files.file_clients import draw_client_id
from fs3.core.files.hedging import HedgePolicy
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.state import State
from fs3.core.security.state import SecurityState
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.model.chain import Chain
from fs3.model.domain import NOWHERE, Domain
from fs3.model.inode import User
from fs3.model.routing import Role, Routing
from fs3.ports.kv import KV
from fs3.runtime.incarnation import GivenIncarnation
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.service import MetaService
from fs3.services.mgmtd.service import MgmtdService
from fs3.services.mgmtd.store import MgmtdStore
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.service import StorageService
from fs3.sim.ring2.authority import Authority, HostSecurity
from fs3.sim.ring2.clock import SimClock, draw_clock
from fs3.sim.ring2.disk import DISK_PATHS, OnCommit, SimDisk, SimDisks
from fs3.sim.ring2.host_files import SimHostFiles
from fs3.sim.ring2.kv import SimKVEngine
from fs3.sim.ring2.last_release import LastRelease, MixedTransport, OldKV
from fs3.sim.ring2.loop import SimLoop, SimProcess, SimTask
from fs3.sim.ring2.network import SimLinks
from fs3.sim.ring2.story import Story
from fs3.sim.ring2.swarm import ClusterSwarm

CHUNK_BYTES = 64 * 1024
"""Of files: the smallest there is."""
RESTART_NS = 200 * MILLISECOND
"""After which a process that ended by itself is started again, as an init system does."""
PID = 1


class Host:
    """One host with its clock, and the process that runs on it."""

    def __init__(self, cluster: Cluster, name: str, start_service: Callable[[Host, AsyncExitStack], Awaitable[None]]) -> None:
        self.name = name
        self.clock: SimClock = draw_clock(
            cluster.loop, cluster.prng, cluster.swarm.drift_ppm, 2 * SECOND if cluster.swarm.wall_jumps else 0
        )
        self.process: SimProcess | None = None
        """None: nothing runs here."""
        self.security: HostSecurity | None = None
        """Of its process, in a cluster that has security."""
        self.starts = 0
        self.is_powered_off = False
        """It lost its power and the others were not told."""
        self.is_wanted = False
        """It should run, so it is started again when it ends by itself."""
        self.is_old = False
        """What is started next is of the last release; or runs, when nothing was changed since."""
        self.prng = Prng(cluster.prng.next())
        """Entropy of its processes."""
        self._cluster = cluster
        self._start_service = start_service
        self._task: SimTask[None] | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def endpoint(self) -> str:
        """Where its service listens."""
        return f"memory://{self.name}"

    @property
    def is_up(self) -> bool:
        """A process is here, though it may be starting or paused."""
        return self.process is not None

    def transport(self) -> MemoryTransport:
        """The network as seen from here."""
        cluster = self._cluster
        if self.security is not None:
            gate, wallet = self.security.gate, self.security.wallet
            return MemoryTransport(cluster.network, self.name, pool=ReceivePool(), gate=gate, tickets=wallet)
        if cluster.last_release is None:
            return MemoryTransport(cluster.network, self.name, pool=ReceivePool())
        return MixedTransport(cluster.network, self.name, cluster.last_release, cluster.is_old, ReceivePool())

    @property
    def security_state(self) -> SecurityState | None:
        """What its process knows of the cluster's security; None: there is none."""
        return self.security.state if self.security is not None else None

    def open_kv(self, engine: SimKVEngine) -> KV:
        """A store, for its process."""
        release = self._cluster.last_release
        return OldKV(engine.open(), release) if self.is_old and release is not None else engine.open()

    def start(self) -> None:
        """Start a process. Harmless when one runs."""
        self.is_wanted = True
        if self.process is not None:
            return
        if self.is_powered_off:
            # Only now do its peers find out: their connections lead to somebody who does not know them.
            self._cluster.network.crash(self.name)
            self._cluster.links.power_on(self.name)
            self.is_powered_off = False
        self.starts += 1
        self.process = process = SimProcess(self.name, is_of_last_release=self.is_old)
        self._cluster.story.say(self.name, f"starts, for the {self.starts}. time")
        self._task = self._cluster.loop.spawn(process, self._run())
        self._task.add_done_callback(self._on_task_done)

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL or, `silently`, a loss of power that its peers do not hear of."""
        process = self.process
        if process is None:
            return
        self._cluster.story.say(self.name, "loses its power" if silently else "is killed")
        self.is_wanted = False
        self._remove_process(process)
        if silently:
            self.is_powered_off = True
            self._cluster.links.power_off(self.name)
        else:
            self._cluster.network.crash(self.name)

    async def stop(self) -> None:
        """A clean stop, waited for; killed when that takes too long."""
        process, task = self.process, self._task
        if process is None or task is None or self._stopping is None:
            self.kill()
            return
        self._cluster.story.say(self.name, "is told to stop")
        self.is_wanted = False
        self._stopping.set()
        _, late = await asyncio.wait((task,), timeout=20)
        if late and self.process is process:
            self._cluster.story.say(self.name, "does not stop")
            self.kill()

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        self.security = self._cluster.join_security(self)
        async with AsyncExitStack() as stack:
            await self._start_service(self, stack)
            self._cluster.story.say(self.name, "serves")
            await self._stopping.wait()

    def _on_task_done(self, task: SimTask[None]) -> None:
        process = task.process
        if process is None or process is not self.process:
            return
        problem = task.exception()
        if problem is None:
            self._cluster.story.say(self.name, "has stopped")
        elif isinstance(problem, FS3Error):
            self._cluster.story.say(self.name, f"ends: {problem}")
            self.is_wanted = self.is_wanted and problem.code is not Code.NODE_REMOVED
        else:
            self._cluster.story.fail("process", f"{self.name} ends: {type(problem).__name__}: {problem}")
        self._remove_process(process, cleanly=problem is None)
        self._cluster.network.crash(self.name)
        if self.is_wanted:
            self._cluster.loop.call_later(RESTART_NS / SECOND, self._restart)

    def _restart(self) -> None:
        if self.is_wanted:
            self.start()

    def _remove_process(self, process: SimProcess, *, cleanly: bool = False) -> None:
        self.process = None
        self._stopping = None
        self._cluster.loop.kill(process)
        self._cluster.on_process_death(self, process, cleanly)


class Cluster:
    """All hosts of a run."""

    def __init__(self, loop: SimLoop, prng: Prng, swarm: ClusterSwarm, story: Story, on_commit: OnCommit | None = None) -> None:
        """`on_commit` is told of every commit of every store."""
        self.loop = loop
        self._on_commit = on_commit
        self.prng = prng
        self.swarm = swarm
        self.story = story
        self.links = SimLinks(loop, Prng(prng.next()), swarm.links)
        self.network = MemoryNetwork(SimClock(loop), self.links)
        self.mgmtd_kv = SimKVEngine(loop, Prng(prng.next()), swarm.commit_ns_min, swarm.commit_ns_max)
        self.meta_kv = SimKVEngine(loop, Prng(prng.next()), swarm.commit_ns_min, swarm.commit_ns_max)
        self.authority: Authority | None = None
        if swarm.has_security:
            self.authority = Authority(loop, Prng(prng.next()), SimClock(loop), self._is_cut_off)
        self.last_release = LastRelease() if swarm.upgrades else None
        """None: every process runs this one."""
        self.hosts: dict[str, Host] = {}
        self.managers: dict[str, MgmtdService] = {}
        """The running services, by host."""
        self.metas: dict[str, MetaService] = {}
        self.storages: dict[str, StorageService] = {}
        self.clients: dict[str, Client] = {}
        self.disks: dict[str, SimDisks] = {}
        self.host_files: dict[str, SimHostFiles] = {}
        """What those share that run on one host."""
        self.homes: dict[str, str] = {}
        """Identity of that host."""
        self.chains: dict[int, Chain] = {}
        """The newest version of each that any process has heard of."""
        self.chain_changes = 0
        """Chain versions after the first of each chain."""
        for number in range(1, swarm.mgmtds + 1):
            self._add_host(f"mgmtd-{number}", self._start_mgmtd_service)
        for number in range(1, swarm.metas + 1):
            self._add_host(f"meta-{number}", self._start_meta_service)
        for number in range(1, swarm.storages + 1):
            self.add_storage(f"storage-{number}")
        for number in range(1, swarm.clients + 1):
            self._add_host(f"client-{number}", self._start_client)
        if swarm.short_circuit:
            for number in range(1, min(swarm.clients, swarm.storages) + 1):
                self._share_host(f"client-{number}", f"storage-{number}")
        if swarm.upgrades:
            # Of the clients, every other one; they stay as they are.
            for host in self.hosts.values():
                host.is_old = not host.name.startswith("client") or int(host.name.rpartition("-")[2]) % 2 == 1

    def _share_host(self, client: str, storage: str) -> None:
        """A client runs on the host of a storage node, whose files it may open. Their network is that of two hosts."""
        files = self.disks[storage].files = self.host_files[client] = SimHostFiles()
        self.hosts[client].clock = self.hosts[storage].clock
        self.homes[client] = self.homes[storage] = storage
        self.host_files[storage] = files

    def is_old(self, name: str) -> bool:
        """Whether a host runs the last release."""
        host = self.hosts.get(name)
        return host is not None and host.is_old

    def join_security(self, host: Host) -> HostSecurity | None:
        """A process proves who it is, in a cluster that has security."""
        return self.authority.join(host.name, host.clock, self._user_of(host)) if self.authority is not None else None

    def _is_cut_off(self, name: str) -> bool:
        """No manager is heard by a host."""
        managers = [other for other in self.hosts if other.startswith("mgmtd")]
        return name not in managers and all(self.links.is_blocked(manager, name) for manager in managers)

    def _add_host(self, name: str, start_service: Callable[[Host, AsyncExitStack], Awaitable[None]]) -> None:
        self.hosts[name] = Host(self, name, start_service)

    def add_storage(self, name: str, disks: SimDisks | None = None) -> Host:
        """One more host with a storage node on it, on disks that are there, or on new ones."""
        self._add_host(name, self._start_storage_service)
        disk = SimDisk(self.loop, Prng(self.prng.next()), self.swarm.disk) if disks is None else disks.disk
        self.disks[name] = disks or SimDisks(name, disk, self._on_commit)
        if disks is None and self.swarm.operator_steps and not int(name.rpartition("-")[2]) % 2:
            self.disks[name].split(DISK_PATHS)  # every other node has several, which the operator drains
        return self.hosts[name]

    async def load_state(self) -> State | None:
        """What the manager has on its disk; None before there is anything."""
        return await MgmtdStore(self.mgmtd_kv.open()).load()

    @property
    def servers(self) -> list[Host]:
        """Hosts of services."""
        return [host for name, host in self.hosts.items() if not name.startswith("client")]

    def on_process_death(self, host: Host, process: SimProcess, cleanly: bool) -> None:
        """A process is no more."""
        for services in (self.managers, self.metas, self.storages, self.clients):
            services.pop(host.name, None)
        self.mgmtd_kv.on_process_death(process)
        self.meta_kv.on_process_death(process)
        disks = self.disks.get(host.name)
        if disks is not None:
            if cleanly:
                disks.reopen()
            else:
                disks.crash(self.prng)

    # --- what processes do ---------------------------------------------------------------------------------------------

    @property
    def _manager_endpoints(self) -> list[str]:
        return [f"memory://{name}" for name in self.hosts if name.startswith("mgmtd")]

    async def _start_mgmtd_service(self, host: Host, stack: AsyncExitStack) -> None:
        swarm = self.swarm
        config = MgmtdConfig(
            storage_nodes=swarm.storages,
            replicas=swarm.replicas,
            targets_per_node=swarm.targets_per_node,
            heartbeat_ns=swarm.heartbeat_ns,
            lease_ns=swarm.lease_ns,
            reconfigure=swarm.reconfigure,
        )
        kv = host.open_kv(self.mgmtd_kv)
        stack.push_async_callback(kv.close)
        service = MgmtdService(
            kv,
            host.clock,
            config,
            host.prng.bytes,
            name=host.name,
            endpoints=[host.endpoint],
            sole=swarm.mgmtds == 1,
            security=host.security_state,
        )
        await service.start()
        listener = await host.transport().serve(host.endpoint, service.bindings())
        stack.push_async_callback(listener.close, SECOND)
        service.announce([host.endpoint])
        stack.push_async_callback(service.stop)
        self.managers[host.name] = service

    async def _start_meta_service(self, host: Host, stack: AsyncExitStack) -> None:
        kv = host.open_kv(self.meta_kv)
        stack.push_async_callback(kv.close)
        connector, mgmtd = await self._join(host, stack)
        storage = StorageClient(mgmtd, connector, host.clock, draw_client_id(host.prng.bytes))
        stack.push_async_callback(storage.close)
        config = MetaConfig(
            chunk_size=CHUNK_BYTES,
            stripe=2,
            garbage_delay_ms=self.swarm.garbage_delay_ms,
            session_silence_ms=self.swarm.session_silence_ms,
            sessions_interval_ms=1000,
            inline_bytes=self.swarm.inline_bytes,
        )
        security = host.security_state
        service = MetaService(kv, host.clock, mgmtd, storage, config, host.prng.bytes, owner=User(0, 0), security=security)
        await service.start()
        listener = await host.transport().serve(host.endpoint, service.bindings())
        stack.push_async_callback(listener.close, SECOND)
        stack.push_async_callback(service.stop)
        member = Member(mgmtd, host.clock, GivenIncarnation(host.starts), name=host.name, role=Role.META)
        await member.register(mgmtd.cluster, [host.endpoint], "", PID)
        member.start()
        stack.push_async_callback(member.stop)
        self.metas[host.name] = service

    async def _start_storage_service(self, host: Host, stack: AsyncExitStack) -> None:
        disks = self.disks[host.name]
        connector, mgmtd = await self._join(host, stack)
        config = StorageConfig(
            enforce_lease=True,
            stop_grace_ms=2000,
            push_bytes_min=4 * KIB,
            scrub_interval_s=10,
            cache_share_max=1.0,
            cache_file_room_bytes=0,
            cache_exchange_ms=self.swarm.cache_exchange_ms,
        )
        domain = Domain(f"zone-{int(host.name.rpartition('-')[2]) % self.swarm.zones}") if self.swarm.zones else NOWHERE
        security = host.security_state
        service = StorageService(
            disks, disks.open_store, host.clock, mgmtd, connector, config, domain=domain, security=security,
            files=self.host_files.get(host.name),
        )  # fmt: skip
        listener = await host.transport().serve(host.endpoint, service.bindings())
        stack.push_async_callback(listener.close, SECOND)
        stack.push_async_callback(service.stop)
        await service.start([host.endpoint], self.homes.get(host.name, ""))
        self.storages[host.name] = service

    async def _start_client(self, host: Host, stack: AsyncExitStack) -> None:
        connector, mgmtd = await self._join(host, stack)
        identity = draw_client_id(host.prng.bytes)
        meta = MetaClient(mgmtd, connector, host.clock, identity, self._user_of(host))
        hedges = HedgePolicy(self.swarm.hedge_samples) if self.swarm.hedge_samples else None
        home, files = self.homes.get(host.name, ""), self.host_files.get(host.name)
        storage = StorageClient(mgmtd, connector, host.clock, identity, host=home, hedges=hedges, files=files)
        if storage.short_circuit is not None:
            storage.short_circuit.asked_reads_min = 1
        stack.push_async_callback(storage.close)

        async def nothing() -> None:
            return None

        if host.security is not None:
            stack.push_async_callback(start_proving(host.clock, mgmtd, meta, storage, host.security.wallet).close)
        client = Client(mgmtd, meta, storage, nothing)
        stack.push_async_callback(client.aclose)
        self.clients[host.name] = client

    def _user_of(self, host: Host) -> User:
        number = int(host.name.rpartition("-")[2])
        users = self.swarm.users
        return users[number - 1] if number <= len(users) else User(0, 0)

    async def _join(self, host: Host, stack: AsyncExitStack) -> tuple[Connector, MgmtdClient]:
        """What every process but a manager begins with. Unreachable when no manager answers."""
        connector = Connector([host.transport()], "")
        stack.push_async_callback(connector.close)
        mgmtd = MgmtdClient(connector, self._manager_endpoints, host.clock)
        stack.push_async_callback(mgmtd.close)
        mgmtd.on_change(self._on_routing)
        await mgmtd.start()
        return connector, mgmtd

    def _on_routing(self, routing: Routing) -> None:
        for chain in routing.chains.values():
            known = self.chains.get(chain.id)
            if known is None or known.version < chain.version:
                self.chains[chain.id] = chain
                self.chain_changes += known is not None
                slots = " ".join(f"{slot.target}@{slot.node}:{slot.state.name.lower()}" for slot in chain.slots)
                self.story.say("chain", f"{chain.id} version {chain.version}: {slots}")

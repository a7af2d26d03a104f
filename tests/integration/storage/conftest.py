"""Storage services and clients in one loop: a network with faults, a manager that does what it is told, real chunk stores."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId, TableId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.base.version import THIS_RELEASE
from fs3.client.connector import Connector
from fs3.client.routing import StaticRouting
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.core.membership.transition import next_chain
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import (
    CacheNamespace,
    HeartbeatAck,
    LeaveRequest,
    NamespaceChanges,
    NamespacePage,
    RegistrationAck,
    RoleConfig,
)
from fs3.model.principal import AuthContext
from fs3.model.routing import Node, Role, Routing
from fs3.ports.rpc import FileRange, Reply
from fs3.services.storage import StorageConfig, StorageService
from fs3.services.storage.service import HeldResources
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2

CLUSTER = b"c" * 16
SERVING = PublicState.SERVING


class SystemClock:
    now = staticmethod(time.monotonic_ns)
    wall = staticmethod(time.time_ns)


CLOCK = SystemClock()


class SkewedClock(SystemClock):
    """Runs ahead of the system's by `skew` nanoseconds."""

    def __init__(self):
        self.skew = 0

    def now(self):
        return time.monotonic_ns() + self.skew


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something has become true; a test that waits in vain fails."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


# --- network ---------------------------------------------------------------------------------------------------------


class FakeCall:
    """The server's side of one call. A payload that has been given back is overwritten, so that late users are found out."""

    def __init__(self, network, channel, method, request, payload, deadline):
        self.network = network
        self.channel = channel
        self.method = method
        self.request = request
        self._buffer = bytearray(payload)
        self.payload = memoryview(self._buffer) if payload else None
        self.peer = "fake"
        self.span = None
        self.auth = AuthContext()
        self.deadline = deadline
        self.is_cancelled = False
        self.ended = False
        self.released = False

    def reply(self, message, parts=(), on_sent=None):
        if self.ended:
            return  # the process has crashed meanwhile
        self.ended = True
        payload = b"".join(bytes_of(part) for part in parts)
        if on_sent is not None:
            on_sent()
        self.release()
        self.channel.answered(self, message, payload, None)

    def fail(self, code, message, routing_version=0):
        self.ended = True
        self.release()
        self.channel.answered(self, None, b"", error(code, message))

    def release(self):
        if not self.released:
            self.released = True
            self._buffer[:] = b"\xdd" * len(self._buffer)


def bytes_of(part):
    if isinstance(part, FileRange):
        return os.pread(part.fd, part.length, part.offset)
    return bytes(part)


class FakeChannel:
    def __init__(self, network, endpoint):
        self.network = network
        self.endpoint = endpoint
        self.activity = 0

    def start(self, method, request, parts=(), into=None, timeout_ns=0):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        payload = b"".join(bytes_of(part) for part in parts)
        data = request.SerializeToString()
        self.network.log.append((self.endpoint, method.name, method.request.FromString(data)))
        timer = loop.call_later((timeout_ns or 30 * SECOND) / SECOND, self._expire, future)
        future.add_done_callback(lambda _: timer.cancel())
        loop.call_soon(self._deliver, method, data, payload, into, future, CLOCK.now() + timeout_ns)
        return future

    async def call(self, method, request, parts=(), into=None, timeout_ns=0):
        return await self.start(method, request, parts, into, timeout_ns)

    async def close(self):
        pass

    def _expire(self, future):
        if not future.done():
            future.set_exception(error(Code.DEADLINE, f"{self.endpoint} did not answer in time"))

    def _deliver(self, method, data, payload, into, future, deadline):
        bindings = self.network.servers.get(self.endpoint)
        if bindings is None:
            if not future.done():
                future.set_exception(error(Code.UNAVAILABLE, f"nobody listens at {self.endpoint}"))
            return
        call = FakeCall(self.network, self, method, method.request.FromString(data), payload, deadline)
        call.into, call.future = into, future
        fault = self.network.fault(self.endpoint, method, call.request)
        if fault == "lose request":
            return
        call.fault = fault
        self.network.calls.append(call)
        if fault == "hold":
            self.network.held.append(lambda: bindings[method](call))
        else:
            bindings[method](call)

    def answered(self, call, message, payload, failure):
        if call.fault == "lose reply":
            return
        if call.fault == "break":
            failure = error(Code.DISCONNECTED, f"the connection to {self.endpoint} broke")
        if call.fault == "flip a bit" and payload:
            payload = bytes((payload[0] ^ 1,)) + payload[1:]
        data = message.SerializeToString() if message is not None else b""
        if call.fault == "hold reply":
            self.network.held.append(lambda: self._receive(call, data, payload, failure))
        else:
            asyncio.get_running_loop().call_soon(self._receive, call, data, payload, failure)

    def _receive(self, call, data, payload, failure):
        future = call.future
        if future.done() or self.endpoint not in self.network.servers:
            self._expire_soon(future)
            return
        self.activity += 1
        if failure is not None:
            future.set_exception(failure)
            return
        message = call.method.reply.FromString(data)
        try:
            buffers = call.into(message, len(payload)) if call.into is not None else [memoryview(bytearray(len(payload)))]
        except Exception as refused:
            future.set_exception(refused)
            return
        assert sum(map(len, buffers)) == len(payload)
        at = 0
        for buffer in buffers:
            buffer[:] = payload[at : at + len(buffer)]
            at += len(buffer)
        future.set_result(Reply(message, buffers[0] if len(buffers) == 1 and payload else None))

    def _expire_soon(self, future):
        if not future.done():
            future.set_exception(error(Code.DISCONNECTED, f"the connection to {self.endpoint} broke"))


class FakeNetwork:
    """Endpoints "fake://name" to bindings. `fault` is asked about every call and may name what goes wrong with it."""

    scheme = "fake"

    def __init__(self):
        self.servers = {}
        self.log = []
        """(endpoint, method name, request) of every call."""
        self.calls = []
        """Every call that reached a handler."""
        self.fault = lambda endpoint, method, request: None
        self.held = []
        """Requests that were not handed to their handler yet, and answers that are kept back."""

    def let_go(self):
        """Deliver what was held."""
        self.fault = lambda endpoint, method, request: None
        held, self.held = self.held, []
        for deliver in held:
            deliver()

    def hold(self, name, when=lambda request: True):
        """Every matching call is held from now on."""
        self.fault = lambda endpoint, method, request: "hold" if method.name == name and when(request) else None

    def connect(self, endpoint):
        return FakeChannel(self, endpoint)

    def requests(self, name):
        return [(endpoint, request) for endpoint, method, request in self.log if method == name]

    def once(self, what, name, when=lambda request: True, endpoint=None):
        """The next matching call goes wrong."""
        before = self.fault
        done = []

        def fault(where, method, request):
            if not done and method.name == name and when(request) and endpoint in (None, where):
                done.append(True)
                return what
            return before(where, method, request)

        self.fault = fault
        return done


# --- manager ---------------------------------------------------------------------------------------------------------


class FakeManager(StaticRouting):
    """Registers whoever comes under the number at the end of its name, and hands out the routing it is given.

    With `follows`, chains change as the real manager's table says, from what the nodes report."""

    def __init__(self, routing):
        super().__init__(routing)
        self.cluster = CLUSTER
        self.release = THIS_RELEASE
        self.beats = {}
        """Last heartbeat of each node."""
        self.registered = {}
        self.lease_ms = 3000
        self.config = (0, "")
        self.answer_beats = True
        self.follows = False
        self.dead = set()
        """Nodes whose lease has run out."""
        self.born = set()
        """Targets that were reported complete."""
        self.history = []
        """Every chain there ever was, with `follows`."""
        self.namespaces = (CacheNamespace(1, "pages", 1000, 3, TableId(1)),)
        """By name."""
        self.next_namespace_id = 2
        self.namespaces_version = 0
        self.asks_to_leave = False
        """Whoever cannot be reached by its predecessor is asked to leave."""

    async def register(self, request):
        node = int(request.name.rpartition("-")[2])
        known = self.registered.get(node)
        if not request.incarnation:
            request = msgspec.structs.replace(request, incarnation=known.incarnation + 1 if known is not None else 1)
        self.registered[node] = request
        self.beats.pop(node, None)
        self.dead.discard(node)
        self._set_alive(node, True, request.incarnation)
        own = {slot.target for chain in self.routing.chains.values() for slot in chain.slots if slot.node == node}
        return RegistrationAck(
            node=NodeId(node),
            cluster=CLUSTER,
            lease_ns=self.lease_ms * MILLISECOND,
            heartbeat_ns=20 * MILLISECOND,
            incarnation=request.incarnation,
            born=tuple(sorted(own & self.born)),
        )

    async def heartbeat(self, request, timeout_ns=SECOND, attempt_ns=0):
        if not self.answer_beats:
            raise error(Code.DEADLINE, "the manager is silent")
        self.beats[request.node] = request
        complete = (report for report in request.targets if report.state == LocalState.UPTODATE)
        self.born.update(report.target for report in complete)
        if request.leaving:
            self._set_alive(request.node, False)
            self.dead.add(request.node)
        self.follow()
        return HeartbeatAck(
            seq=request.seq,
            lease_ns=self.lease_ms * MILLISECOND,
            routing_version=self.routing.version,
            config_version=self.config[0],
            leave=self._to_leave(request.node) if self.asks_to_leave else (),
        )

    def _to_leave(self, node):
        accused = {
            (report.unreachable, report.chain_version)
            for beat in self.beats.values()
            for report in beat.targets
            if report.unreachable
        }
        return tuple(
            LeaveRequest(slot.target, chain.version)
            for chain in self.routing.chains.values()
            for slot in chain.slots
            if slot.node == node and (slot.target, chain.version) in accused
        )

    async def get_config(self, role):
        return RoleConfig(role, *self.config)

    def set_namespaces(self, *namespaces, next_id):
        """What the list has from now on, and routing says so."""
        self.namespaces, self.next_namespace_id = namespaces, next_id
        self.namespaces_version += 1
        version = self.routing.version + 1
        self.set(msgspec.structs.replace(self.routing, version=version, namespaces_version=self.namespaces_version))

    async def list_namespace_changes(self, since):
        return NamespaceChanges(False, self.namespaces_version, self.next_namespace_id)

    async def list_namespaces(self, prefix="", after=""):
        found = tuple(each for each in self.namespaces if each.name.startswith(prefix) and each.name > after)
        return NamespacePage(found, False, self.namespaces_version, self.next_namespace_id)

    def set_table(self):
        """All chains are one table from now on, of which pages find theirs."""
        routing = self.routing
        table = ChainTable(TableId(1), 1, 3, tuple(routing.chains))
        self.set(Routing(routing.cluster, routing.version + 1, routing.nodes, routing.chains, {table.id: table}))

    def set_chain(self, chain):
        routing = self.routing
        self.history.append(chain)
        self.set(Routing(CLUSTER, routing.version + 1, routing.nodes, {**routing.chains, chain.id: chain}, routing.tables))

    def lose(self, node):
        """Its lease has run out."""
        self.dead.add(node)
        self._set_alive(node, False)
        self.follow()

    def follow(self):
        if not self.follows:
            return
        for chain in list(self.routing.chains.values()):
            states = {}
            for slot in chain.slots:
                if slot.node in self.dead:
                    states[slot.target] = LocalState.OFFLINE
                    continue
                beat = self.beats.get(slot.node)
                for report in beat.targets if beat is not None else ():
                    if report.target == slot.target and report.chain_version == chain.version:
                        states[slot.target] = LocalState(report.state)
            following = next_chain(chain, states)
            if following is not chain:
                self.set_chain(following)

    def _set_alive(self, node, alive, incarnation=None):
        routing = self.routing
        was = routing.nodes[NodeId(node)]
        now = msgspec.structs.replace(was, alive=alive, incarnation=incarnation or was.incarnation)
        if now != was:
            self.set(Routing(CLUSTER, routing.version + 1, {**routing.nodes, now.id: now}, routing.chains, routing.tables))


# --- cluster ---------------------------------------------------------------------------------------------------------


class StagingStore(FileChunkStore):
    """A store on files whose `stage` a test may replace: what is submitted takes that way then."""

    def submit(self, updates, on_staged):
        if "stage" not in vars(self):
            super().submit(updates, on_staged)
            return
        for update in updates:
            task = asyncio.ensure_future(self.stage(update, update.version, update.chain_version))
            task.add_done_callback(lambda staged, update=update: on_staged([(update, staged.result())]))


def chain_of(chain: int, version: int, states: dict[int, PublicState]) -> Chain:
    """Target of node n in chain c is c * 100 + n."""
    slots = tuple(Slot(TargetId(chain * 100 + node), NodeId(node), state) for node, state in states.items())
    return Chain(ChainId(chain), version, slots)


class StorageCluster:
    """A few storage nodes and the clients that use them."""

    def __init__(self, path: Path, nodes: int = 3, chains: int = 2, transport=None, endpoints=None, memory=False):
        """`transport`: one per node, for clusters that are not on the fake network; `endpoints`: where they listen.
        `memory`: keep chunks in memory."""
        self.path = path
        self.memory = {} if memory else None
        self.transport = transport
        self.network = FakeNetwork()
        states = dict.fromkeys(range(1, nodes + 1), SERVING)
        order = list(states)
        made = []
        for chain in range(1, chains + 1):
            # Each chain begins at another node.
            turned = order[(chain - 1) % nodes :] + order[: (chain - 1) % nodes]
            made.append(chain_of(chain, 1, dict.fromkeys(turned, SERVING)))
        routing = Routing(
            CLUSTER,
            1,
            {
                NodeId(node): Node(
                    NodeId(node), f"storage-{node}", Role.STORAGE, ((endpoints or {}).get(node, f"fake://{node}"),), "", 1, True
                )
                for node in states
            },
            {chain.id: chain for chain in made},
            {},
        )
        self.manager = FakeManager(routing)
        self.services: dict[int, StorageService] = {}
        self.connectors = []
        self.listeners = []
        self.store_config: dict[int, ChunkStoreConfig] = {}
        self.wrap: Callable[[TargetId, object], object] = lambda target, store: store
        self.host, self.files = "", None
        """Of all nodes: the identity of their host, and what they share with its clients."""
        self.disks = 1
        """Data directories of each node."""
        self._clients = itertools.count(1)

    async def start(self, *nodes, config=StorageConfig(), settle=True):  # noqa: B008
        for node in nodes or self.manager.routing.nodes:
            names = [f"node-{node}", *(f"node-{node}-disk-{disk}" for disk in range(2, self.disks + 1))]
            disks = DataDirectories([self.path / name for name in names], f"storage-{node}")

            async def factory(target, disks=disks, node=node):
                if self.memory is not None:
                    return self.memory.setdefault(target, MemoryChunkStore())
                store = StagingStore.open(
                    disks.ensure_target_dir(target), target, CLOCK, config=self.store_config.get(node, ChunkStoreConfig())
                )
                return self.wrap(target, store)

            connector = Connector([self.transport(node) if self.transport else self.network], "")
            self.connectors.append(connector)
            service = StorageService(disks, factory, CLOCK, self.manager, connector, config, files=self.files)
            if self.transport is None:
                self.network.servers[f"fake://{node}"] = service.bindings()
            else:
                (endpoint,) = self.manager.routing.nodes[NodeId(node)].endpoints
                self.listeners.append(await self.transport(node).serve(endpoint, service.bindings()))
            self.services[node] = service
            await service.start([f"fake://{node}"], self.host)
        if settle:
            await self.settled()

    async def settled(self):
        """Every target that routing assigns to a running node is open (or has failed) and has heard of its chain."""
        await until(lambda: all(self._settled(node, service) for node, service in self.services.items()))
        if self.manager.answer_beats and self.manager.lease_ms:
            await until(lambda: all(service.may_serve(CLOCK.now()) for service in self.services.values()))
            await until(lambda: not any(self._waits_for_birth(service) for service in self.services.values()))

    @staticmethod
    def _waits_for_birth(service):
        """A new target has not heard yet that the manager has stored that it is there."""
        replicas = [shell.replica for shell in service.targets.values()]
        return any(each.local_state is LocalState.UPTODATE and not each.completeness.is_born for each in replicas)

    def _settled(self, node, service):
        for chain in self.manager.routing.chains.values():
            for slot in chain.slots:
                if slot.node != node or slot.target in service.keeper.open_failures:
                    continue
                shell = service.targets.get(slot.target)
                machine = shell.replica if shell is not None else None
                if machine is None or not machine.is_open or machine.chain is not chain or machine.flights.lanes:
                    return False
        return True

    until = staticmethod(until)

    async def idle(self):
        """No update is under way anywhere."""
        shells = [shell for service in self.services.values() for shell in service.targets.values()]
        await until(lambda: not any(shell.replica.flights.lanes for shell in shells))

    def client(self, **options) -> StorageClient:
        client_id = ClientId(next(self._clients).to_bytes(16, "little"))
        connector = Connector([self.transport(0) if self.transport else self.network], "")
        self.connectors.append(connector)
        client = StorageClient(self.manager, connector, CLOCK, client_id, **options)
        return client

    def client_through(self, endpoints: dict[int, str]) -> StorageClient:
        """A client that reaches the nodes elsewhere than where they listen."""
        routing = self.manager.routing
        nodes = {node.id: msgspec.structs.replace(node, endpoints=(endpoints[node.id],)) for node in routing.nodes.values()}
        source = StaticRouting(Routing(CLUSTER, routing.version, nodes, routing.chains, routing.tables))
        connector = Connector([self.transport(0)], "")
        self.connectors.append(connector)
        return StorageClient(source, connector, CLOCK, ClientId(next(self._clients).to_bytes(16, "little")))

    async def crash(self, node):
        """The process is gone: nothing is flushed, nothing is said."""
        service = self.services.pop(node)
        del self.network.servers[f"fake://{node}"]
        for call in self.network.calls:
            if call.channel.endpoint == f"fake://{node}":
                call.ended = call.released = True
                call.channel._expire_soon(call.future)
        await service.abort()

    async def stop_node(self, node):
        service = self.services.pop(node)
        await service.stop()
        self.network.servers.pop(f"fake://{node}", None)

    async def stop(self):
        self.manager.answer_beats = True
        for node in list(self.services):
            await self.stop_node(node)
        for listener in self.listeners:
            await listener.close()
        for connector in self.connectors:
            await connector.close()

    def store(self, chain, node):
        return self.services[node].targets[TargetId(chain * 100 + node)].store

    def shell(self, chain, node):
        return self.services[node].targets[TargetId(chain * 100 + node)]

    def replicas(self, chain, chunk):
        """(committed, pending, length, checksum) of a chunk on every running replica."""
        found = []
        for slot in self.manager.routing.chains[ChainId(chain)].slots:
            if slot.node in self.services:
                meta = self.services[slot.node].targets[slot.target].store.get(chunk)
                found.append((meta.committed, meta.pending, meta.length, meta.checksum) if meta is not None else None)
        return found

    def assert_clean(self):
        """Nothing is held any more."""
        for service in self.services.values():
            assert service.held() == HeldResources(0, 0, 0, 0, 0, 0, 0, 0)
            for shell in service.targets.values():
                if self.memory is None:
                    assert not shell.store.inspect().pins
        for call in self.network.calls:
            assert call.ended, f"{call.method} was never answered"
            assert call.released


@pytest.fixture
async def cluster(tmp_path):
    made = []

    async def make(start=True, **options) -> StorageCluster:
        cluster = StorageCluster(tmp_path, **options)
        made.append(cluster)
        if start:
            await cluster.start()
        return cluster

    yield make
    for each in made:
        await each.stop()


# --- shorthand -------------------------------------------------------------------------------------------------------


def chunk(number: int) -> ChunkId:
    return file_chunk(1000, number)


def write(number: int, data: bytes, offset: int = 0, chain: int = 1, kind=UpdateKind.WRITE, **options) -> WriteIO:
    return WriteIO(chunk(number), ChainId(chain), kind, offset, memoryview(data), **options)


def change(number: int, kind, offset: int = 0, chain: int = 1, **options) -> WriteIO:
    return WriteIO(chunk(number), ChainId(chain), kind, offset, None, **options)


def read_io(number: int, length: int, offset: int = 0, chain: int = 1) -> ReadIO:
    return ReadIO(chunk(number), ChainId(chain), offset, memoryview(bytearray(length)))


async def get(client: StorageClient, number: int, length: int, offset: int = 0, chain: int = 1):
    """(code, bytes) of one read."""
    io = read_io(number, length, offset, chain)
    (outcome,) = await client.read([io])
    return outcome.code, bytes(io.buffer[: outcome.length])


@pytest.fixture
def help():
    """The shorthands above, for test modules, which cannot import a conftest."""
    from types import SimpleNamespace

    return SimpleNamespace(
        until=until,
        chunk=chunk,
        write=write,
        change=change,
        read_io=read_io,
        get=get,
        chain_of=chain_of,
        CLUSTER=CLUSTER,
        CLOCK=CLOCK,
        SkewedClock=SkewedClock,
        STORAGE=STORAGE,
        pb=storage_pb2,
    )

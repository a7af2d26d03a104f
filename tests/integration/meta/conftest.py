"""A metadata service and its clients in one process, on a wire that can be told to misbehave."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial

import pytest

from fs3.base.errors import error
from fs3.base.ids import ChainId, ClientId, NodeId, TableId, TargetId
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.client.routing import StaticRouting
from fs3.client.storage.finds import FindOutcome
from fs3.drivers.lmdb import LmdbKV
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.principal import AuthContext
from fs3.model.requests import (
    Close,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Remove,
    Rename,
    SetAttributes,
    Stat,
    StatFs,
    Symlink,
    Sync,
    Truncate,
)
from fs3.model.routing import Node, Role, Routing
from fs3.model.upkeep import TargetSpace
from fs3.ports.rpc import Reply
from fs3.services.meta import MetaConfig, MetaService

ALICE = User(1000, 1000)


@dataclass
class StepClock:
    """A clock that moves when told to, and a little with each look."""

    ns: int = 1_000_000_000

    def now(self):
        self.ns += 1_000
        return self.ns

    def wall(self):
        return 1_700_000_000_000_000_000 + self.ns

    def advance(self, seconds):
        self.ns += int(seconds * 1_000_000_000)


class FakeCall:
    """One request at the server, as a transport would hand it over."""

    def __init__(self, method, message, future):
        self.method = method
        self.request = method.request.FromString(message.SerializeToString())
        self.payload = None
        self.peer = "test"
        self.span = None
        self.auth = AuthContext()
        self.deadline = 1 << 62
        self.is_cancelled = False
        self._future = future

    def reply(self, message, parts=(), on_sent=None):
        assert isinstance(message, self.method.reply)
        if not self._future.done():
            self._future.set_result(Reply(self.method.reply.FromString(message.SerializeToString())))

    def fail(self, code, message, routing_version=0):
        assert message
        if not self._future.done():
            self._future.set_exception(error(code, message))


class Wire:
    """Endpoints and who answers there; also the `Connector` of the clients. `mishaps` are consumed one per call:
    a Code is answered instead of asking, "lost" asks and loses the answer."""

    def __init__(self):
        self.bindings = {}
        self.mishaps = []
        self.calls = []

    def channel(self, endpoints, host=""):
        return FakeChannel(self, endpoints[0])


class FakeChannel:
    def __init__(self, wire, endpoint):
        self._wire = wire
        self._endpoint = endpoint

    def start(self, method, request, parts=(), into=None, timeout_ns=0):
        assert timeout_ns > 0
        wire = self._wire
        wire.calls.append((self._endpoint, method.name))
        future = asyncio.get_running_loop().create_future()
        bindings = wire.bindings.get(self._endpoint)
        mishap = wire.mishaps.pop(0) if wire.mishaps else None
        if isinstance(mishap, Code):
            future.set_exception(error(mishap, f"as told: {mishap.name}"))
        elif bindings is None:
            future.set_exception(error(Code.UNAVAILABLE, f"nobody listens at {self._endpoint}"))
        elif mishap == "lost":
            swallowed = asyncio.get_running_loop().create_future()
            bindings[method](FakeCall(method, request, swallowed))

            def lose(answer):
                answer.exception()
                future.set_exception(error(Code.DISCONNECTED, "the connection broke"))

            swallowed.add_done_callback(lose)
        else:
            bindings[method](FakeCall(method, request, future))
        return future

    def submit(self, method, request, finished, timeout_ns=0):
        def tell(future):
            why = future.exception()
            finished(None if why else future.result(), why)

        self.start(method, request, timeout_ns=timeout_ns).add_done_callback(tell)
        return True


@dataclass
class FakeChunks:
    """Storage: which chunks exist, and what it is told to fail with."""

    there: set = field(default_factory=set)
    removed: list = field(default_factory=list)
    written: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    """Codes for the next removals, None for success."""
    largest: int = 0
    targets: list = field(default_factory=list)

    async def update(self, writes, *, timeout_ns=0):
        assert timeout_ns > 0
        await asyncio.sleep(0)
        self.largest = max(self.largest, len(writes))
        results = []
        for write in writes:
            if write.kind is UpdateKind.WRITE:
                results.append(self._write(write))
                continue
            assert write.kind is UpdateKind.REMOVE
            assert write.tagged
            assert write.chunk[0] == 0
            failure = self.failures.pop(0) if self.failures else None
            if failure is not None:
                results.append(UpdateResult(failure))
                continue
            self.removed.append((write.chunk, write.chain))
            self.there.discard((write.chunk, write.chain))
            results.append(UpdateResult(Code.OK))
        return results

    def _write(self, write):
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            return UpdateResult(failure)
        self.there.add((write.chunk, write.chain))
        self.written.append(write)
        return UpdateResult(Code.OK)

    async def find(self, keys, *, timeout_ns=0):
        assert timeout_ns > 0
        await asyncio.sleep(0)
        self.largest = max(self.largest, len(keys))
        return [FindOutcome(Code.OK, 1) if key in self.there else FindOutcome(Code.NOT_FOUND) for key in keys]

    async def find_next(self, keys, *, timeout_ns=0):
        assert timeout_ns > 0
        await asyncio.sleep(0)
        self.largest = max(self.largest, len(keys))
        return [self._following(*key) for key in keys]

    def _following(self, chunk, chain):
        found = [each for each, on in self.there if on == chain and each[:8] == chunk[:8] and each >= chunk]
        return FindOutcome(Code.OK, 1, chunk=min(found)) if found else FindOutcome(Code.NOT_FOUND)

    async def space(self, *, timeout_ns=0):
        await asyncio.sleep(0)
        return self.targets


def make_routing(*, chains=6, metas=("tcp://meta-1:1",), version=5):
    """One table; each chain has one serving target."""
    nodes = {NodeId(100): Node(NodeId(100), "storage-1", Role.STORAGE, ("tcp://storage:1",), "", 1, True)}
    for number, endpoint in enumerate(metas, 1):
        nodes[NodeId(number)] = Node(NodeId(number), f"meta-{number}", Role.META, (endpoint,), "", 1, True)
    slots = {
        ChainId(number): Chain(ChainId(number), 1, (Slot(TargetId(number), NodeId(100), PublicState.SERVING),))
        for number in range(1, chains + 1)
    }
    tables = {TableId(1): ChainTable(TableId(1), 1, 1, tuple(slots))} if chains else {}
    return Routing(b"c" * 16, version, nodes, slots, tables)


VERBS = {
    "lookup": Lookup,
    "stat": Stat,
    "list": List,
    "open": Open,
    "close_file": Close,
    "sync": Sync,
    "mkdir": Mkdir,
    "remove": Remove,
    "rename": Rename,
    "symlink": Symlink,
    "link": Link,
    "setattr": SetAttributes,
    "truncate": Truncate,
    "statfs": StatFs,
}


class VerbClient(MetaClient):
    """A client with a short way to ask for each verb: `meta.mkdir("d", mode=0o700)` asks `Mkdir(PathRef.of("d"), mode=0o700)`."""

    def __getattr__(self, name):
        if name not in VERBS:
            raise AttributeError(name)
        return partial(self._ask_for, VERBS[name])

    def _ask_for(self, record, *args, **options):
        fields = dict(zip(record.__struct_fields__, args, strict=False)) | options
        paths = {"path", "source", "publish"} | (set() if record is Symlink else {"target"})
        for name in paths & fields.keys():
            if fields[name] is not None:
                fields[name] = PathRef.of(fields[name])
        return self.ask(record(**fields))


class Cluster:
    """One store, one service at `tcp://meta-1:1`, any number of clients."""

    def __init__(self, directory, config=None):
        self.directory = directory
        self.clock = StepClock()
        self.wire = Wire()
        self.routing = StaticRouting(make_routing())
        self.chunks = FakeChunks()
        # The duties begin after most of an hour, so that tests can take their steps one by one.
        self.config = config or MetaConfig(garbage_delay_ms=0, garbage_interval_ms=3_600_000, stripe=3, chunk_size=65536)
        self.clients = 0

    async def start(self):
        self.kv = LmdbKV.open(self.directory, map_bytes=1 << 26)
        self.service = MetaService(
            self.kv, self.clock, self.routing, self.chunks, self.config, lambda count: b"\xff" * count, owner=ALICE
        )
        await self.service.start()
        self.wire.bindings["tcp://meta-1:1"] = self.service.bindings()

    async def stop(self):
        self.wire.bindings.pop("tcp://meta-1:1", None)
        await self.service.stop()
        await self.kv.close()

    def client(self, user=ALICE, **options):
        self.clients += 1
        return VerbClient(self.routing, self.wire, self.clock, ClientId(self.clients.to_bytes(16, "big")), user, **options)


@pytest.fixture
async def cluster(tmp_path):
    cluster = Cluster(tmp_path / "kv")
    await cluster.start()
    yield cluster
    with contextlib.suppress(Exception):
        await cluster.stop()


@pytest.fixture
def meta(cluster):
    return cluster.client()


@pytest.fixture
def make_routing_with():
    return make_routing


@pytest.fixture
def client_class():
    return VerbClient


@pytest.fixture
def target_space():
    return TargetSpace

"""The management service with its client, over a store in memory: what a cluster's life asks of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fs3 import __version__
from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.limits import watch_keepalive_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import LocalState, PublicState
from fs3.model.cluster import Heartbeat, NamespaceSettings, RegisterNode, RoleConfig
from fs3.model.routing import Role
from fs3.model.target_report import TargetReport
from fs3.services.mgmtd import MgmtdConfig, MgmtdService
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

WAIT = 10 * SECOND
ADDRESS = "tcp://m:1"


def registration(name: str, role: Role = Role.STORAGE, **more: Any) -> RegisterNode:
    values = {"cluster": b"", "incarnation": 1, "endpoints": (f"tcp://{name}:1",), "host": "h", "pid": 5} | more
    return RegisterNode(name, role, **values)  # type: ignore[arg-type]


async def form(client: Any, count: int = 3) -> None:
    for index in range(1, count + 1):
        await client.register(registration(f"storage-{index}"))


def beat(client: Any, node: int, seq: int, state: LocalState = LocalState.UPTODATE) -> Heartbeat:
    reports = tuple(
        TargetReport(slot.target, state, chain.version, used_bytes=100, free_bytes=900, chunks=3, reason="r" * 500)
        for chain in client.routing.chains.values()
        for slot in chain.slots
        if slot.node == node
    )
    return Heartbeat(NodeId(node), 1, seq, reports, client.routing.version)


async def refused(code: Code, words: str, asked: Any) -> None:
    with pytest.raises(FS3Error) as failure:
        await asked
    assert failure.value.code is code
    assert words in str(failure.value)


async def test_a_cluster_forms_and_everybody_is_told(world: Any) -> None:
    await world.serve()
    client, other = await world.started(), await world.started()
    seen: list[int] = []
    other.on_change(lambda routing: seen.append(routing.version))
    ack = await client.register(registration("storage-1"))
    assert (ack.node, ack.cluster, ack.heartbeat_ns, ack.lease_ns) == (1, b"c" * 16, 20 * MILLISECOND, 3 * SECOND)
    await client.register(registration("storage-2"))
    await client.register(registration("storage-3"))
    assert len(client.routing.chains) == 2
    routing = await other.wait_routing(lambda routing: bool(routing.tables), WAIT)
    assert routing == client.routing
    assert seen == [1, 2, 3]
    assert world.network.calls[ADDRESS, "GetRouting"] == 2, "only the first snapshots were asked for"


async def test_everything_survives_a_restart(world: Any) -> None:
    kv = MemoryKV()
    first = await world.serve(kv, schemas={Role.STORAGE: MgmtdConfig})
    client = await world.started()
    await form(client)
    table = await client.ensure_table(1)
    namespace = await client.open_namespace("dsv3", 1000)
    version = await client.set_config(Role.STORAGE, "replicas = 2")
    before = client.routing
    await first.stop()
    await world.serve(kv, cluster=b"x" * 16)
    again = await world.started()
    assert again.routing == before
    assert again.cluster == b"c" * 16
    assert await again.ensure_table(1) == table
    assert await again.open_namespace("dsv3", 1000) == namespace
    assert await again.get_config(Role.STORAGE) == RoleConfig(Role.STORAGE, version, "replicas = 2")
    assert (await again.register(registration("storage-2", incarnation=2))).node == 2


async def test_a_store_on_disk_survives_too(world: Any, tmp_path: Path) -> None:
    lmdb = pytest.importorskip("fs3.drivers.lmdb")
    kv = lmdb.LmdbKV.open(tmp_path / "kv", clock=world.clock)
    first = await world.serve(kv)
    client = await world.started()
    await form(client)
    before = client.routing
    await first.stop()
    await kv.close()
    kv = lmdb.LmdbKV.open(tmp_path / "kv", clock=world.clock)
    second = await world.serve(kv, cluster=b"x" * 16)
    assert (await world.started()).routing == before
    await second.stop()
    await kv.close()


async def test_a_store_of_another_cluster_or_format_is_refused(world: Any) -> None:
    kv = MemoryKV()
    await world.serve(kv)
    other = MgmtdService(kv, world.clock, MgmtdConfig(cluster="other"), bytes)
    await refused(Code.WRONG_CLUSTER, "the store holds cluster 'fs3' (63636363", other.start())

    async def change(txn: Any) -> None:
        txn.put(b"mgmtd/cluster", msgspec.msgpack.encode([2, "whatever"]))

    await kv.transact(change)
    service = MgmtdService(kv, world.clock, MgmtdConfig(), bytes)
    await refused(Code.UNSUPPORTED, "has format 2, this fs3 reads format 1", service.start())

    async def spoil(txn: Any) -> None:
        txn.put(b"mgmtd/cluster", b"\xc1garbage")

    await kv.transact(spoil)
    await refused(Code.DISK, "row b'mgmtd/cluster' cannot be read", MgmtdService(kv, world.clock, MgmtdConfig(), bytes).start())
    with pytest.raises(FS3Error, match="replicas: 9 replicas need 9 storage nodes"):
        MgmtdService(kv, world.clock, MgmtdConfig(replicas=9), bytes)


async def test_a_node_whose_lease_runs_out_is_shown_so(world: Any) -> None:
    await world.serve(config=MgmtdConfig(heartbeat_ns=20 * MILLISECOND, lease_ns=100 * MILLISECOND, drift_ns=10 * MILLISECOND))
    client = await world.started()
    await form(client)
    ack = await client.heartbeat(beat(client, 1, 1))
    assert (ack.seq, ack.lease_ns) == (1, 100 * MILLISECOND)
    routing = await client.wait_routing(lambda routing: not any(node.alive for node in routing.nodes.values()), WAIT)
    lost = [{slot.state for slot in chain.slots} for chain in routing.chains.values()]
    assert all(PublicState.LASTSRV in states and PublicState.SERVING not in states for states in lost)
    await client.heartbeat(beat(client, 2, 1))
    routing = await client.wait_routing(lambda routing: routing.nodes[NodeId(2)].alive, WAIT)
    assert not routing.nodes[NodeId(1)].alive


async def test_status_shows_what_people_ask_for(world: Any) -> None:
    await world.serve()
    client = await world.started()
    await form(client)
    await client.register(registration("meta-1", Role.META))
    await client.open_namespace("dsv3", 1000)
    await client.heartbeat(beat(client, 2, 1, LocalState.ONLINE))
    status = await client.status()
    assert (status.routing.cluster, status.software, status.routing.version) == (b"c" * 16, __version__, client.routing.version)
    assert [node.name for node in status.routing.nodes.values()] == ["storage-1", "storage-2", "storage-3", "meta-1"]
    assert all(0 < node.lease_left_ns <= 3 * SECOND for node in status.nodes)
    assert [node.node for node in status.nodes] == list(status.routing.nodes.values())
    assert len(status.nodes) == 4
    assert status.namespaces == 1
    assert len(status.targets) == 6
    for target in status.targets:
        assert target.slot.state is PublicState.SERVING
        heard = target.slot.node == 2
        assert target.local is (LocalState.ONLINE if heard else None)
        assert (target.used_bytes, target.free_bytes, target.chunks) == ((100, 900, 3) if heard else (0, 0, 0))
        assert len(target.reason) == (200 if heard else 0)


async def test_refusals_carry_their_code_and_name_the_thing(world: Any) -> None:
    await world.serve()
    client = await world.started()
    await refused(Code.UNKNOWN_NODE, "node 4 is not registered", client.heartbeat(beat(client, 4, 1)))
    await refused(Code.WRONG_CLUSTER, "this is 6363", client.register(registration("s", cluster=b"d" * 16)))
    await client.register(registration("s", incarnation=3))
    await refused(Code.OLD_INCARNATION, "incarnation 1 of node 's' is over", client.register(registration("s", incarnation=1)))
    for request, words in (
        (registration("s", Role.CLIENT), "RegisterNodeRequest.role: clients do not register"),
        (registration("", incarnation=1), "RegisterNodeRequest.name: is empty"),
        (registration("s", cluster=b"short"), "RegisterNodeRequest.cluster_id: 5 bytes"),
        (registration("s", endpoints=("x",)), "RegisterNodeRequest.endpoints[0]: 'x' is not an endpoint"),
        (registration("s", host="h" * 999), "RegisterNodeRequest.host"),
    ):
        await refused(Code.INVALID, words, client.register(request))
    await refused(Code.INVALID, "HeartbeatRequest.seq", client.heartbeat(Heartbeat(NodeId(1), 3, seq=0)))
    channel = world.network.connector().channel([ADDRESS])
    nonsense = pb.HeartbeatRequest(node_id=1, incarnation=3, seq=1, targets=[pb.TargetReport(target_id=1)])
    await refused(
        Code.INVALID, "HeartbeatRequest.targets[0].state: 0 is not a LocalState", channel.call(MGMTD.Heartbeat, nonsense)
    )
    await refused(Code.INVALID, "OpenNamespaceRequest.name", client.open_namespace("", 10))
    await refused(Code.INVALID, "GetConfigRequest.role", client.get_config(0))  # type: ignore[arg-type]


class Sample(msgspec.Struct, frozen=True):
    """A schema for tests."""

    size: int = 5

    def check(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: {self.size} is too small")


async def test_configuration_is_checked_and_distributed(world: Any) -> None:
    await world.serve(schemas={Role.STORAGE: Sample})
    client = await world.started()
    await client.register(registration("s"))
    assert (await client.get_config(Role.STORAGE)).version == 0
    for toml, words in (
        ("sise = 1", "unknown key 'sise'"),
        ("size = 'big'", "$.size"),
        ("size = 0", "size: 0 is too small"),
        ("size =", "is not TOML"),
    ):
        await refused(Code.CONFIG, words, client.set_config(Role.STORAGE, toml))
    await refused(Code.CONFIG, "role meta has no distributed configuration", client.set_config(Role.META, "size = 1"))
    await refused(Code.TOO_LARGE, "at most 65536 bytes", client.set_config(Role.STORAGE, "#" * 70_000))
    assert await client.set_config(Role.STORAGE, "size = 7") == 1
    assert (await client.heartbeat(beat(client, 1, 1))).config_version == 1
    await refused(Code.STALE, "has version 1, not 5", client.set_config(Role.STORAGE, "size = 8", expected_version=5))
    assert await client.set_config(Role.STORAGE, "size = 8", expected_version=1) == 2


async def test_tables_and_namespaces_are_in_routing_on_return(world: Any) -> None:
    await world.serve()
    client = await world.started()
    await form(client)
    assert await client.ensure_table(0) == 1
    table = await client.ensure_table(2)
    assert client.routing.tables[table].replicas == 2
    assert all(chain in client.routing.chains for chain in client.routing.tables[table].chains)
    namespace = await client.open_namespace("n", 4096, 1)
    assert client.routing.tables[namespace.table].replicas == 1
    await refused(Code.NAMESPACE_DIFFERS, "has pages of 4096 bytes", client.open_namespace("n", 4097))
    await refused(Code.INVALID, "4 replicas need 4 storage nodes", client.ensure_table(4))


async def test_namespaces_are_listed_cleared_set_and_deleted(world: Any) -> None:
    await world.serve()
    client = await world.started()
    watcher = await world.started()
    await form(client)
    opened = await client.open_namespace("models/new", 4096, 1)
    await client.open_namespace("models", 4096, 1)
    page = await client.list_namespaces("models")
    assert ([each.name for each in page.namespaces], page.more) == (["models", "models/new"], False)
    assert (await client.list_namespaces("models", "models")).namespaces == (opened,)
    assert await client.find_namespace("models/new") == opened
    assert await client.find_namespace("model") is None
    cleared = await client.clear_namespace("models/new", opened.id)
    assert (cleared.id, cleared.made_as) == (opened.id + 2, opened.id)
    assert client.routing.namespace_deletions == 1, "whoever asked for it hears of it first"
    await watcher.wait_routing(lambda routing: routing.namespace_deletions == 1, WAIT)
    limited = await client.set_namespace("models/new", NamespaceSettings(budget_bytes=1 << 20, owner="team"))
    assert await watcher.find_namespace("models/new") == limited == msgspec.structs.replace(
        cleared, budget_bytes=1 << 20, owner="team"
    )  # fmt: skip
    await client.delete_namespace("models/new", cleared.made_as)
    assert client.routing.namespace_deletions == 2
    assert await client.find_namespace("models/new") is None
    await refused(Code.NO_NAMESPACE, "never been a namespace with id 9", client.delete_namespace("models", 9))
    await refused(Code.NO_NAMESPACE, "no such namespace: 'models/new'", client.set_namespace("models/new", NamespaceSettings()))
    settings = NamespaceSettings(owner="\n")
    await refused(Code.INVALID, "SetNamespaceRequest.settings.owner", client.set_namespace("models", settings))
    late = await world.started()
    assert (late.routing.namespace_deletions, late.routing.namespaces_version) == (2, 6)


async def test_a_table_is_waited_for_while_the_cluster_forms(world: Any) -> None:
    await world.serve()
    client = await world.started()
    wanted = asyncio.create_task(client.ensure_table(0))
    await form(await world.started())
    assert await wanted == 1


# --- watching ------------------------------------------------------------------------------------------------------------


async def test_many_watchers_get_one_delta_each(world: Any) -> None:
    await world.serve()
    clients = [await world.started() for _ in range(50)]
    for index in range(4):
        await clients[0].register(registration(f"n{index}", Role.META))
    for client in clients:
        await client.wait_routing(lambda routing: routing.version == 4, WAIT)
    assert len(world.network.streams) == 50
    await asyncio.gather(*(client.close() for client in clients))
    assert world.network.streams == []


async def test_a_slow_watcher_is_dropped_and_comes_back_with_what_it_has(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    await world.network.opened.wait()
    [slow] = world.network.streams
    slow.slow = True
    other = await world.started()
    await other.register(registration("n", Role.META))
    await client.wait_routing(lambda routing: routing.version == 1, WAIT)
    assert world.network.calls[ADDRESS, "WatchRouting"] >= 2
    assert len(service._watchers) == 2


async def test_watchers_are_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.services.mgmtd.watchers.watchers_max", 0)
    await world.serve()
    client = await world.started()
    stream = client._selector.channel.stream(MGMTD.WatchRouting, pb.GetRoutingRequest())
    await refused(Code.BUSY, "0 streams watch", anext(stream))


async def test_a_quiet_stream_says_that_it_lives(world: Any) -> None:
    await world.serve(config=MgmtdConfig(manager_lease_ns=1000 * SECOND))
    stream = world.network.connector().channel([ADDRESS]).stream(MGMTD.WatchRouting, pb.GetRoutingRequest())
    this = pb.Manager(name="mgmtd", endpoints=[ADDRESS], is_primary=True)
    said = pb.RoutingUpdate(cluster_id=b"c" * 16, managers=[this])
    while await anext(stream) != said:
        pass
    world.clock.added += watch_keepalive_ns
    assert await anext(stream) == said
    await stream.aclose()


async def test_who_is_far_behind_gets_the_whole(world: Any) -> None:
    config = MgmtdConfig(deltas_kept=2)
    await world.serve(config=config)
    client = await world.started()
    for index in range(5):
        await client.register(registration(f"n{index}", Role.META))
    updates = {}
    for known in range(7):
        request = pb.GetRoutingRequest(known_version=known, cluster_id=client.cluster)
        reply = await world.network.connector().channel([ADDRESS]).call(MGMTD.GetRouting, request)
        updates[known] = (reply.message.from_version, len(reply.message.nodes))
    assert updates == {0: (0, 5), 1: (0, 5), 2: (0, 5), 3: (3, 2), 4: (4, 1), 5: (5, 0), 6: (0, 5)}
    stranger = pb.GetRoutingRequest(known_version=5, cluster_id=b"d" * 16)
    reply = await world.network.connector().channel([ADDRESS]).call(MGMTD.GetRouting, stranger)
    assert (reply.message.from_version, len(reply.message.nodes)) == (0, 5)


# --- the store ---------------------------------------------------------------------------------------------------------------


class FailingKV(MemoryKV):
    """Refuses to write while told so."""

    failing = False

    def submit(self, op: Any, done: Any) -> None:
        if self.failing:
            done(None, error(Code.NO_SPACE, "the disk is full"))
        else:
            super().submit(op, done)


async def test_a_store_that_fails_is_told_and_tried_again(world: Any) -> None:
    kv = FailingKV()
    await world.serve(kv)
    client = await world.started()
    kv.failing = True
    await refused(Code.INTERNAL, "the disk is full", client.register(registration("n", Role.META)))
    assert client.routing.version == 0
    kv.failing = False
    world.clock.added += SECOND
    routing = await client.wait_routing(lambda routing: routing.version == 1, WAIT)
    assert routing.nodes[NodeId(1)].name == "n"


async def test_stopping_ends_everything(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    channel = world.network.connector().channel([ADDRESS])
    stream = channel.stream(MGMTD.WatchRouting, pb.GetRoutingRequest())
    await anext(stream)
    await service.stop()
    await refused(Code.SHUTTING_DOWN, "is stopping", anext(stream))
    await refused(Code.SHUTTING_DOWN, "is not running", channel.call(MGMTD.GetRouting, pb.GetRoutingRequest()))
    assert client.routing.version == 0


async def test_every_method_is_bound(world: Any) -> None:
    service = MgmtdService(MemoryKV(), world.clock, MgmtdConfig(), bytes)
    assert set(service.bindings()) == set(MGMTD.methods)

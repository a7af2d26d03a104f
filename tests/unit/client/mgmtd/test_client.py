"""The client of the management service, mostly when things go wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fs3 import __version__
from fs3.base.errors import InvalidArgument, Unreachable, error
from fs3.base.ids import NodeId
from fs3.base.limits import managers_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.routing import StaticRouting
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.cluster import Heartbeat, ManagerInfo, RegisterNode
from fs3.model.routing import Role, Routing
from fs3.ports.rpc import Call
from fs3.services.mgmtd import MgmtdConfig
from fs3.wire.frames import PROTOCOL_VERSION
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

WAIT = 10 * SECOND
FIRST, SECOND_ONE = "tcp://m:1", "tcp://m:2"


def registration(name: str) -> RegisterNode:
    return RegisterNode(name, Role.META, b"", 1, (), "")


def answering(cluster: pb.GetClusterReply) -> Any:
    """Bindings of something that only says what it is."""
    return {MGMTD.GetCluster: lambda call: call.reply(cluster)}


# --- starting ------------------------------------------------------------------------------------------------------------


async def test_an_address_is_needed(world: Any) -> None:
    with pytest.raises(InvalidArgument, match="no address"):
        MgmtdClient(world.network.connector(), [], world.clock)


async def test_nobody_listens(world: Any) -> None:
    client = world.client(FIRST, SECOND_ONE, connect_timeout_ns=100 * MILLISECOND)
    with pytest.raises(Unreachable) as failure:
        await client.start()
    text = str(failure.value)
    assert f"{FIRST}: nothing listens there" in text
    assert f"{SECOND_ONE}: nothing listens there" in text
    assert world.network.calls[FIRST, "GetCluster"] > 1, "it was tried again within the timeout"


async def test_the_wrong_cluster(world: Any) -> None:
    await world.serve()
    client = world.client(expected_cluster=b"d" * 16, connect_timeout_ns=WAIT)
    with pytest.raises(Unreachable, match=f"another cluster.*{'63' * 16}, expected was {'64' * 16}") as failure:
        await client.start()
    assert failure.value.code is Code.WRONG_CLUSTER
    assert world.network.calls[FIRST, "GetCluster"] == 1, "asking again would not help"


async def test_something_else_listens(world: Any) -> None:
    world.network.faults[FIRST] = [error(Code.PROTOCOL, "not an fs3 frame (magic 0x5448)")]
    with pytest.raises(Unreachable, match=r"another fs3 version, or not the port of an fs3 management service.*magic 0x5448"):
        await world.client().start()


async def test_an_address_no_transport_understands(world: Any) -> None:
    client = world.client("rdma://h", connect_timeout_ns=WAIT)
    with pytest.raises(Unreachable, match="rdma://h: no common transport: the node offers rdma://h, this side speaks tcp"):
        await client.start()


async def test_another_protocol_names_both_versions(world: Any) -> None:
    old = pb.GetClusterReply(cluster_id=b"c" * 16, software="0.0.1", protocol=PROTOCOL_VERSION - 1, is_primary=True)
    await world.network.transport().serve(FIRST, answering(old))
    expected = (
        f"fs3 0.0.1 and speaks protocol {PROTOCOL_VERSION - 1}; "
        f"this is fs3 {__version__}, which speaks protocol {PROTOCOL_VERSION}"
    )
    with pytest.raises(Unreachable, match=expected):
        await world.client().start()


async def test_a_hanging_address_does_not_use_up_the_time_of_the_others(world: Any) -> None:
    world.network.frozen.add(FIRST)
    await world.serve(endpoint=SECOND_ONE)
    client = await world.started(FIRST, SECOND_ONE)
    assert client.cluster == b"c" * 16
    alone = world.client(FIRST, connect_timeout_ns=100 * MILLISECOND)
    with pytest.raises(Unreachable, match="no answer in time: the process hangs"):
        await alone.start()


async def test_a_manager_that_starts_late_is_waited_for(world: Any) -> None:
    client = world.client(connect_timeout_ns=WAIT)
    starting = asyncio.create_task(client.start())
    await world.network.next_call(FIRST, "GetCluster")
    await world.serve()
    await starting
    assert client.cluster == b"c" * 16


async def test_a_standby_names_the_primary(world: Any) -> None:
    standby = pb.GetClusterReply(cluster_id=b"c" * 16, software="x", protocol=PROTOCOL_VERSION, primary=[SECOND_ONE])
    await world.network.transport().serve(FIRST, answering(standby))
    await world.serve(endpoint=SECOND_ONE)
    client = await world.started(FIRST)
    await client.register(registration("n"))
    assert world.network.calls[SECOND_ONE, "RegisterNode"] == 1
    lost = pb.GetClusterReply(cluster_id=b"c" * 16, software="x", protocol=PROTOCOL_VERSION)
    await world.network.transport().serve("tcp://m:3", answering(lost))
    with pytest.raises(Unreachable, match="it is not the primary and knows none"):
        await world.client("tcp://m:3", connect_timeout_ns=50 * MILLISECOND).start()


async def test_as_a_context_manager(world: Any) -> None:
    await world.serve()
    async with world.client() as client:
        await world.network.opened.wait()
        assert client.cluster == b"c" * 16
    assert world.network.streams == []


# --- when the manager goes away --------------------------------------------------------------------------------------------


async def test_the_watch_comes_back_after_a_restart(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    kv = MemoryKV()
    service = await world.serve(kv)
    client = await world.started(connect_timeout_ns=50 * MILLISECOND)
    await client.register(registration("n1"))
    await world.network.opened.wait()
    with caplog.at_level(logging.INFO, "fs3.client"):
        world.network.stop(FIRST)
        await service.stop()
        for _ in range(5):
            await world.network.next_call(FIRST, "GetCluster")
        assert client.routing.version == 1, "the snapshot at hand stays usable"
        await world.serve(kv)
        other = await world.started()
        await other.register(registration("n2"))
        routing = await client.wait_routing(lambda routing: routing.version == 2, WAIT)
    assert routing.nodes[NodeId(2)].name == "n2"
    assert "using routing version 1 meanwhile" in caplog.text
    assert "the management service answers again" in caplog.text


async def test_requests_move_to_the_next_address(world: Any) -> None:
    kv = MemoryKV()
    service = await world.serve(kv)
    client = await world.started(FIRST, SECOND_ONE)
    await client.register(registration("n1"))
    world.network.stop(FIRST)
    await service.stop()
    await world.serve(kv, endpoint=SECOND_ONE)
    assert (await client.register(registration("n2"))).node == 2
    assert world.network.calls[SECOND_ONE, "RegisterNode"] == 1


async def test_what_may_have_happened_is_repeated_only_when_that_is_harmless(world: Any) -> None:
    await world.serve(schemas={Role.META: MgmtdConfig})
    client = await world.started()
    world.network.faults[FIRST] = [error(Code.DISCONNECTED, "torn")]
    with pytest.raises(Unreachable, match="torn"):
        await client.set_config(Role.META, "replicas = 1")
    world.network.faults[FIRST] = [error(Code.DISCONNECTED, "torn")]
    assert (await client.register(registration("n"))).node == 1
    world.network.faults[FIRST] = [error(Code.NOT_PRIMARY, "not any more")]
    assert await client.set_config(Role.META, "replicas = 1") == 1


async def test_a_call_without_manager_fails_in_time(world: Any) -> None:
    await world.serve()
    client = await world.started(connect_timeout_ns=50 * MILLISECOND)
    world.network.stop(FIRST)
    with pytest.raises(Unreachable):
        await client.heartbeat(Heartbeat(NodeId(1), 1, 1), timeout_ns=20 * MILLISECOND)


async def test_a_server_without_streams_is_polled(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.client.mgmtd.client.routing_poll_ns", MILLISECOND)
    service = await world.serve()

    def no_streams(call: Call) -> None:
        call.fail(Code.UNSUPPORTED, "no streams here")

    world.network.bindings[FIRST] = {**service.bindings(), MGMTD.WatchRouting: no_streams}
    client, other = await world.started(), await world.started()
    await other.register(registration("n"))
    await client.wait_routing(lambda routing: routing.version == 1, WAIT)


async def test_a_silent_watch_is_left(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection: nothing arrives and nothing breaks."""
    monkeypatch.setattr("fs3.client.mgmtd.client.watch_keepalive_ns", 10 * MILLISECOND)
    service = await world.serve()
    working = world.network.bindings[FIRST]
    world.network.bindings[FIRST] = {**service.bindings(), MGMTD.WatchRouting: lambda call: None}
    client = await world.started()
    await world.network.opened.wait()
    world.network.bindings[FIRST] = working
    other = await world.started()
    await other.register(registration("n"))
    await client.wait_routing(lambda routing: routing.version == 1, WAIT)


# --- refresh -----------------------------------------------------------------------------------------------------------------


async def test_refresh_is_shared_and_ends(world: Any) -> None:
    await world.serve()
    client = await world.started()
    before = world.network.calls[FIRST, "GetRouting"]
    found = await asyncio.gather(*(client.refresh(0) for _ in range(20)))
    assert {routing.version for routing in found} == {0}
    assert world.network.calls[FIRST, "GetRouting"] <= before + 2
    assert (await client.refresh(-1)).version == 0
    await client.register(registration("n"))
    before = world.network.calls[FIRST, "GetRouting"]
    assert (await client.refresh(0)).version == 1
    assert world.network.calls[FIRST, "GetRouting"] == before, "what is newer already is not asked for"


async def test_refresh_without_manager_gives_what_there_is(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.client.mgmtd.client.refresh_wait_ns", 10 * MILLISECOND)
    await world.serve()
    client = await world.started(connect_timeout_ns=50 * MILLISECOND)
    world.network.stop(FIRST)
    assert (await client.refresh(7)).version == 0


async def test_refresh_gets_what_is_pushed_while_its_pull_hangs(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    await world.network.opened.wait()
    unanswered = {**service.bindings(), MGMTD.GetRouting: lambda call: None}
    world.network.bindings[FIRST] = unanswered
    waiting = asyncio.create_task(client.refresh(0))
    await asyncio.sleep(0)
    request = pb.RegisterNodeRequest(name="n", role=int(Role.META), incarnation=1)  # type: ignore[arg-type]
    other = await world.network.connector().channel([FIRST]).call(MGMTD.RegisterNode, request)
    assert other.message.node_id == 1
    assert (await waiting).version == 1


async def test_callbacks_that_fail_do_not_hurt_others(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    await world.serve()
    client = await world.started()
    seen: list[int] = []

    def fails(routing: Routing) -> None:
        raise RuntimeError("no")

    client.on_change(fails)
    client.on_change(lambda routing: seen.append(routing.version))
    await client.register(registration("n"))
    assert seen == [1]
    assert "a callback failed on routing version 1" in caplog.text


async def test_waiting_for_what_does_not_come(world: Any) -> None:
    await world.serve()
    client = await world.started()
    with pytest.raises(TimeoutError, match="routing version 0 is not what was waited for"):
        await client.wait_routing(lambda routing: False, MILLISECOND)


async def test_an_update_with_a_gap_is_asked_for_again(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    await world.network.opened.wait()
    [stream] = world.network.streams
    stream.messages.put_nowait(pb.RoutingUpdate(cluster_id=b"c" * 16, from_version=5, version=6))
    world.network.opened.clear()
    await world.network.opened.wait()
    other = await world.started()
    await other.register(registration("n"))
    assert (await client.wait_routing(lambda routing: routing.version == 1, WAIT)).nodes
    assert service


async def test_closing_frees_whoever_waits(world: Any) -> None:
    service = await world.serve()
    client = await world.started()
    world.network.bindings[FIRST] = {**service.bindings(), MGMTD.GetRouting: lambda call: None}
    waiting = asyncio.create_task(client.refresh(0))
    await asyncio.sleep(0)
    await client.close()
    assert (await waiting).version == 0
    assert (await client.refresh(0)).version == 0


async def test_static_routing() -> None:
    source = StaticRouting(Routing(b"c", 3))
    seen: list[int] = []
    source.on_change(lambda routing: seen.append(routing.version))
    assert (await source.refresh(9)).version == 3
    source.set(Routing(b"c", 4))
    assert source.routing.version == 4
    assert seen == [4]


async def test_routing_older_than_ours_is_said_and_not_taken(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The manager's store was replaced by an old copy of it."""
    await world.serve()
    client = await world.started()
    for name in ("n1", "n2", "n3"):
        await client.register(registration(name))
    await world.network.opened.wait()
    old = pb.RoutingUpdate(cluster_id=b"c" * 16, version=1)
    service = world.network.bindings[FIRST]
    world.network.bindings[FIRST] = {**service, MGMTD.GetRouting: lambda call: call.reply(old)}
    with caplog.at_level(logging.ERROR, "fs3.client"):
        for _ in range(3):
            assert (await client.refresh(3)).version == 3
    assert caplog.text.count("the manager's routing version is 1, this process has 3 already and keeps it") == 1
    assert len(client.routing.nodes) == 3


async def test_addresses_of_managers_that_moved_do_not_pile_up(world: Any) -> None:
    await world.serve()
    client = await world.started()
    for index in range(200):
        client._selector.learn([ManagerInfo("m", (f"tcp://moved:{index}",))])
    known = client._selector._addresses
    assert len(known) <= 2 * managers_max + 1
    assert (FIRST,) in known
    assert ("tcp://moved:199",) in known

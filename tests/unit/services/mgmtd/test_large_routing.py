"""Routing info and status that are larger than a message: clients read them in parts, and those that cannot are told."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.routing import Role
from fs3.services.mgmtd import MgmtdConfig, admin_handlers, publisher
from fs3.wire import routing_parts
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

ADDRESS = "tcp://m:1"
WAIT = 10 * SECOND
NODES = 6


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_parts, "routing_part_bytes", 1000)
    monkeypatch.setattr(publisher, "routing_message_bytes_max", 3000)
    monkeypatch.setattr(admin_handlers, "status_message_bytes_max", 5000)


async def form(world: Any) -> Any:
    """A cluster of 120 chains, which are 5 KB of routing info; its client."""
    await world.serve(config=MgmtdConfig(storage_nodes=NODES, targets_per_node=60, heartbeat_ns=SECOND // 50))
    client = await world.started()
    for number in range(1, NODES + 1):
        await client.register(RegisterNode(f"storage-{number}", Role.STORAGE, b"", 1, (f"tcp://storage-{number}:1",), "h"))
    return client


async def test_a_client_that_comes_later_has_all_of_it(world: Any) -> None:
    first = await form(world)
    client = await world.started()
    assert client.routing == first.routing
    assert len(client.routing.chains) == 120
    assert world.network.calls[ADDRESS, "ReadRouting"] >= 1, "it is larger than a message"


async def test_those_that_watch_get_a_large_change_in_parts(world: Any) -> None:
    await world.serve(config=MgmtdConfig(storage_nodes=NODES, targets_per_node=60, heartbeat_ns=SECOND // 50))
    watching, client = await world.started(), await world.started()
    for number in range(1, NODES + 1):
        await client.register(RegisterNode(f"storage-{number}", Role.STORAGE, b"", 1, (f"tcp://storage-{number}:1",), "h"))
    routing = await watching.wait_routing(lambda routing: bool(routing.tables), WAIT)
    assert len(routing.chains) == 120
    assert world.network.calls[ADDRESS, "ReadRouting"] <= 1, "the one that registered may have read it"


async def test_a_small_change_travels_whole(world: Any) -> None:
    client = await form(world)
    watching = await world.started()
    read = world.network.calls[ADDRESS, "ReadRouting"]
    before = watching.routing.version
    await client.heartbeat(Heartbeat(NodeId(1), 1, 1, (), client.routing.version, leaving=True))
    await watching.wait_routing(lambda routing: routing.version > before, WAIT)
    assert world.network.calls[ADDRESS, "ReadRouting"] == read


async def test_the_status_is_read_in_parts(world: Any) -> None:
    client = await form(world)
    status = await client.status()
    assert len(status.targets) == 360
    assert status.routing == client.routing
    assert len(status.nodes) == NODES


async def test_a_client_that_takes_no_parts_is_told(world: Any) -> None:
    await form(world)
    channel = world.network.connector().channel((ADDRESS,))
    with pytest.raises(FS3Error, match="too many for one message") as refused:
        await channel.call(MGMTD.GetStatus, pb.GetStatusRequest(), timeout_ns=WAIT)
    assert refused.value.code is Code.TOO_LARGE
    reply = await channel.call(MGMTD.GetRouting, pb.GetRoutingRequest(), timeout_ns=WAIT)
    assert reply.message.from_version == reply.message.version > 0, "a gap: it has nothing that this leads on from"
    assert not reply.message.chains

"""Several managers over one store: who answers what, and how clients and nodes get from one to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.member import Member
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.cluster import RegisterNode
from fs3.model.routing import Role
from fs3.runtime.incarnation import GivenIncarnation
from fs3.services.mgmtd import MgmtdConfig
from fs3.services.mgmtd.service import manager_terms_failed_max
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

WAIT = 10 * SECOND
FIRST, OTHER, THIRD = "tcp://m:1", "tcp://m:2", "tcp://m:3"
CONFIG = MgmtdConfig(
    heartbeat_ns=20 * MILLISECOND, manager_lease_ns=150 * MILLISECOND, drift_ns=10 * MILLISECOND, lease_ns=SECOND
)


def registration(name: str) -> RegisterNode:
    return RegisterNode(name, Role.META, b"", 1, (), "")


def registration_to_pb(name: str) -> pb.RegisterNodeRequest:
    return pb.RegisterNodeRequest(name=name, role=int(Role.META), incarnation=1)  # type: ignore[arg-type]


class Stoppable(MemoryKV):
    """A process' own way to the shared store; `hang` is what SIGSTOP does to it."""

    def __init__(self, shared: MemoryKV) -> None:
        super().__init__()
        self._rows = shared._rows
        self.hanging: list[Any] | None = None

    def submit_read(self, op: Any, done: Any) -> None:
        if self.hanging is not None:
            self.hanging.append(lambda: self.submit_read(op, done))
        else:
            super().submit_read(op, done)

    def submit(self, op: Any, done: Any) -> None:
        if self.hanging is not None:
            self.hanging.append(lambda: self.submit(op, done))
        else:
            super().submit(op, done)

    def wake(self) -> None:
        hanging, self.hanging = self.hanging or [], None
        for action in hanging:
            action()


async def until(condition: Callable[[], bool]) -> None:
    """Until something that happens by itself has happened."""
    while not condition():  # noqa: ASYNC110 - nothing to be told by: what is looked at belongs to others
        await asyncio.sleep(0.005)


async def primary_at(world: Any, endpoint: str) -> pb.GetClusterReply:
    """What a manager says of itself, once it says that it is the primary."""
    while True:
        reply = await world.network.connector().channel([endpoint]).call(MGMTD.GetCluster, pb.GetClusterRequest())
        if reply.message.is_primary:
            return reply.message  # type: ignore[no-any-return]
        await asyncio.sleep(0.005)


async def test_a_second_manager_stands_by_and_names_the_first(world: Any) -> None:
    kv = MemoryKV()
    first = await world.serve(kv, CONFIG)
    second = await world.serve(kv, CONFIG, OTHER, name="mgmtd-2")
    assert (first.is_primary, second.is_primary) == (True, False)
    channel = world.network.connector().channel([OTHER])
    with pytest.raises(FS3Error) as failure:
        await channel.call(MGMTD.RegisterNode, registration_to_pb("n"))
    assert failure.value.code is Code.NOT_PRIMARY
    assert "mgmtd-2 is not the primary manager; mgmtd was when it looked last" in str(failure.value)
    client = await world.started(OTHER)
    await client.register(registration("n"))
    assert world.network.calls[FIRST, "RegisterNode"] == 1
    said = (await channel.call(MGMTD.GetCluster, pb.GetClusterRequest())).message
    assert (said.cluster_id, said.is_primary, list(said.primary), said.epoch) == (b"c" * 16, False, [FIRST], 1)
    assert {manager.name for manager in said.managers} == {"mgmtd", "mgmtd-2"}


async def test_when_the_primary_is_killed_the_next_one_goes_on(world: Any) -> None:
    kv = MemoryKV()
    await world.serve(kv, CONFIG)
    client = await world.started(FIRST)
    await client.register(registration("n1"))
    await world.serve(kv, CONFIG, OTHER, name="mgmtd-2")
    await client.wait_routing(lambda routing: True, WAIT)
    await until(lambda: len(client._selector._addresses) == 2)
    world.kill(FIRST)
    assert (await client.register(registration("n2"))).node == 2
    said = await primary_at(world, OTHER)
    assert said.epoch == 2
    status = await client.status()
    assert [(manager.name, manager.is_primary) for manager in status.managers] == [("mgmtd", False), ("mgmtd-2", True)]
    assert [node.name for node in status.routing.nodes.values()] == ["n1", "n2"]


async def test_one_that_stops_hands_over_at_once(world: Any) -> None:
    kv = MemoryKV()
    slow = MgmtdConfig(manager_lease_ns=15 * SECOND)
    first = await world.serve(kv, slow)
    await world.serve(kv, slow, OTHER, name="mgmtd-2")
    client = await world.started(FIRST)
    stopping = asyncio.create_task(first.stop())
    await stopping
    record = (await world.network.connector().channel([OTHER]).call(MGMTD.GetCluster, pb.GetClusterRequest())).message
    assert not record.is_primary
    world.clock.added += 1 * SECOND  # it looks at the record; the lease is not nearly over
    await primary_at(world, OTHER)
    assert client.cluster == b"c" * 16


async def test_a_stopped_primary_that_wakes_up_harms_nobody(world: Any) -> None:
    """SIGSTOP: its requests and its store hang. When it goes on, the next one has taken over; what it then tries to store is
    refused, and it stands by."""
    shared = MemoryKV()
    mine = Stoppable(shared)
    first = await world.serve(mine, CONFIG)
    client = await world.started(FIRST)
    await client.register(registration("n1"))
    mine.hanging = []
    request = asyncio.create_task(world.network.connector().channel([FIRST]).call(MGMTD.RegisterNode, registration_to_pb("lost")))
    await asyncio.sleep(0)
    second = await world.serve(Stoppable(shared), CONFIG, OTHER, name="mgmtd-2")
    await primary_at(world, OTHER)
    assert not first.is_primary, "its lease counted from before its renewal began"
    with pytest.raises(FS3Error) as failure:
        await request
    assert failure.value.code is Code.DISCONNECTED, "it may have been stored, for all anybody knows"
    mine.wake()
    assert (await client.register(registration("n2"))).node == 2
    assert second.is_primary
    assert not first.is_primary
    assert {node.name for node in client.routing.nodes.values()} == {"n1", "n2"}


async def test_streams_of_a_primary_that_steps_down_end(world: Any) -> None:
    shared = MemoryKV()
    mine = Stoppable(shared)
    await world.serve(mine, CONFIG)
    stream = world.network.connector().channel([FIRST]).stream(MGMTD.WatchRouting, pb.GetRoutingRequest())
    await anext(stream)
    mine.hanging = []
    with pytest.raises(FS3Error) as failure:
        [update async for update in stream]
    assert failure.value.code is Code.NOT_PRIMARY
    mine.wake()
    await primary_at(world, FIRST)


async def test_a_silent_primary_is_left_for_the_next_one_while_the_lease_runs(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node beats; the primary falls silent without closing anything. The node's lease never runs out, and its chain stays."""
    monkeypatch.setattr("fs3.client.mgmtd.member.heartbeat_attempt_ns", 50 * MILLISECOND)
    shared = MemoryKV()
    mine = Stoppable(shared)
    await world.serve(mine, CONFIG)
    client = await world.started(FIRST)
    member = Member(client, world.clock, GivenIncarnation(0), name="n", role=Role.META)
    await member.register(b"", ["tcp://n:1"], "h", 1)
    assert member.incarnation == 1
    member.start()
    await world.serve(Stoppable(shared), CONFIG, OTHER, name="mgmtd-2")
    await until(lambda: member.lease.may_serve(world.clock.now()) and len(client._selector._addresses) == 2)
    mine.hanging = []
    world.network.frozen.add(FIRST)
    registered = world.network.calls[FIRST, "RegisterNode"] + world.network.calls[OTHER, "RegisterNode"]
    while not world.network.calls[OTHER, "Heartbeat"]:
        assert member.lease.may_serve(world.clock.now())
        await asyncio.sleep(0.005)
    assert world.network.calls[OTHER, "RegisterNode"] + world.network.calls[FIRST, "RegisterNode"] == registered
    assert (await client.status()).nodes[0].node.alive
    await member.stop()


class Unreadable(Stoppable):
    """A way to the shared store on which the manager's state cannot be loaded, for a while; the election goes on."""

    def __init__(self, shared: MemoryKV) -> None:
        super().__init__(shared)
        self.problem: FS3Error | None = None
        self.loads = 0

    async def read(self, op: Any) -> Any:
        self.loads += 1
        if self.problem is not None:
            raise self.problem
        return await super().read(op)


async def test_an_elected_manager_that_cannot_load_the_state_stays_a_candidate(world: Any) -> None:
    shared = MemoryKV()
    await world.serve(shared, CONFIG)
    kv = Unreadable(shared)
    given_up: list[BaseException] = []
    second = await world.serve(kv, CONFIG, OTHER, name="mgmtd-2", on_given_up=given_up.append)
    kv.problem = error(Code.DISK, "the disk fails")
    world.kill(FIRST)
    failed = kv.loads + 2
    await until(lambda: kv.loads >= failed)
    assert not second.is_primary
    kv.problem = None
    said = await primary_at(world, OTHER)
    assert said.epoch > 3, "each attempt was a term of its own"
    assert given_up == []


async def test_a_manager_that_can_never_begin_a_term_says_so_once_and_leaves_it_to_others(world: Any) -> None:
    shared = MemoryKV()
    await world.serve(shared, CONFIG)
    kv = Unreadable(shared)
    given_up: list[BaseException] = []
    await world.serve(kv, CONFIG, OTHER, name="mgmtd-2", on_given_up=given_up.append)
    kv.problem = error(Code.DISK, "the disk fails")
    before = kv.loads
    world.kill(FIRST)
    await until(lambda: bool(given_up))
    assert given_up == [kv.problem]
    assert kv.loads - before == manager_terms_failed_max
    await world.serve(shared, CONFIG, THIRD, name="mgmtd-3")
    await primary_at(world, THIRD)
    assert kv.loads - before == manager_terms_failed_max

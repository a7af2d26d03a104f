"""The log of what happened: told, kept over takeovers, bounded, and in no one's way."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.ids import NodeId
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.routing import Role
from fs3.services.mgmtd import event_log


def registration(number: int) -> RegisterNode:
    return RegisterNode(f"storage-{number}", Role.STORAGE, b"", 0, ("tcp://127.0.0.1:1",), "")


async def test_what_happened_is_told_in_order(world: Any) -> None:
    await world.serve(keeps_events=True)
    client = await world.started()
    for number in (1, 2):
        await client.register(registration(number))
    await client.heartbeat(Heartbeat(NodeId(1), 1, 1, leaving=True))
    found = await client.list_events()
    assert [event.seq for event in found] == [1, 2, 3, 4]
    assert [event.code for event in found] == ["primary", "joined", "joined", "node-dead"]
    assert all(event.wall_ms > 0 for event in found)
    assert [event.seq for event in await client.list_events(after=2)] == [3, 4]
    assert [event.seq for event in await client.list_events(limit=1)] == [4]


async def test_the_next_primary_knows_what_happened_before(world: Any) -> None:
    kv = MemoryKV()
    first = await world.serve(kv=kv, keeps_events=True)
    client = await world.started()
    await client.register(registration(1))
    await first.stop()
    await client.close()
    await world.serve(kv=kv, keeps_events=True)
    found = await (await world.started()).list_events()
    assert [(event.seq, event.code) for event in found] == [(1, "primary"), (2, "joined"), (3, "primary")]
    assert found[-1].text.endswith("in epoch 2")


async def test_the_oldest_go_from_memory_and_store(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "events_max", 4)
    kv = MemoryKV()
    await world.serve(kv=kv, keeps_events=True)
    client = await world.started()
    for number in range(1, 10):
        await client.register(registration(number))
    assert [event.seq for event in await client.list_events()] == [8, 9, 10, 11]
    rows = await kv.read(lambda txn: txn.scan(b"mgmtd/event/", b"mgmtd/event0", 100))
    assert [int.from_bytes(key[-8:], "big") for key, _ in rows] == [8, 9, 10, 11]


async def test_a_manager_that_keeps_none_tells_none(world: Any) -> None:
    await world.serve()
    client = await world.started()
    await client.register(registration(1))
    assert await client.list_events() == []

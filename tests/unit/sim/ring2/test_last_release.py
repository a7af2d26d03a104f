"""Processes of the last release say, see and store what is recorded of it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from fs3.base.ids import NodeId
from fs3.core.membership.state import IdCounters
from fs3.core.meta import keys
from fs3.core.txn import Txn
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.domain import Domain
from fs3.model.routing import Node, Role
from fs3.sim.ring2.last_release import RELEASED, LastRelease, OldKV
from fs3.wire.methods import SERVICES
from fs3.wire.pb import mgmtd_pb2

COUNTERS = b"mgmtd/counters"


def test_messages_have_the_fields_that_are_recorded() -> None:
    release = LastRelease()
    known = {method for service in SERVICES for method in service.methods if release.serves(method)}
    assert len(known) > 50
    names = [line.split(" ", 1)[0] for line in _recorded()]
    for service in SERVICES:
        for method in service.methods:
            assert (f"{service.full_name}.{method.name}:" in names) == (method in known)
    node = mgmtd_pb2.Node(id=1, name="a", zone="z")
    update = mgmtd_pb2.HeartbeatRequest(node_id=3, seq=4, wall_ms=5)
    for message in (node, update):
        said = type(message).FromString(release.reword(type(message), message.SerializeToString()))
        kind, numbers = message.DESCRIPTOR.full_name, [field.number for field, _ in message.ListFields()]
        assert [field.number for field, _ in said.ListFields()] == [each for each in numbers if f"{kind} {each}:" in _keys()]


def test_rows_have_the_fields_that_are_recorded_and_others_are_not_there() -> None:
    kv, release = MemoryKV(), LastRelease()
    old = OldKV(cast(Any, kv), release)
    counters = IdCounters(routing=3, node=4, settings=5)
    node = Node(NodeId(1), "a", Role.STORAGE, (), "", 1, alive=True, domain=Domain("z"))

    async def write(txn: Txn) -> None:
        txn.put(COUNTERS, msgspec.msgpack.encode(counters))
        txn.put(b"mgmtd/node/0001", msgspec.msgpack.encode(node))
        txn.put(keys.LEASES, b"process")
        txn.put(keys.STORE, b"cluster")

    async def touch(txn: Txn) -> tuple[bytes | None, ...]:
        found = await txn.get_many([COUNTERS, b"mgmtd/node/0001", keys.LEASES, keys.STORE])
        assert found[0] is not None
        txn.put(COUNTERS, found[0])
        txn.put(b"DAT2 of another release", b"")
        txn.delete(keys.LEASES)
        return tuple(found)

    async def look(txn: Txn) -> dict[bytes, bytes]:
        return dict(await txn.scan(b"\0", b"\xff", 100))

    async def run() -> None:
        await kv.transact(write)
        seen = await old.transact(touch)
        assert seen[0] is not None
        assert seen[1] is not None
        fields = release.count_fields("IdCounters")
        assert len(msgspec.msgpack.decode(seen[0])) == fields
        assert len(msgspec.msgpack.decode(seen[1])) == release.count_fields("Node")
        assert seen[3] == b"cluster"
        stored = await kv.read(look)
        assert stored.keys() == {COUNTERS, b"mgmtd/node/0001", keys.LEASES, keys.STORE}
        assert msgspec.msgpack.decode(stored[COUNTERS]) == list(msgspec.structs.astuple(counters))[:fields]
        assert seen[2] == (stored[keys.LEASES] if release.has_row(keys.LEASES) else None)
        assert (await old.read(look)).keys() == {key for key in stored if release.has_row(key)}

    asyncio.run(run())


def _recorded() -> list[str]:
    return (RELEASED / "wire.txt").read_text().splitlines()


def _keys() -> set[str]:
    return {line.split(": ", 1)[0] + ":" for line in _recorded()}

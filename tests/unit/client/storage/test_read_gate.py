"""Bulk reads that wait: sent in turn, given up, failed, expired."""

from __future__ import annotations

import asyncio

import pytest

from fs3.base.errors import DeadlineExceeded, FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.storage.read_gate import ReadGate
from fs3.core.files.read_grants import ReadGrants
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Reply

WAIT_NS = 60 * SECOND


class Wire:
    """What was sent, in order."""

    def __init__(self, bytes_max: int = 10) -> None:
        self.grants = ReadGrants(bytes_max, 2)
        self.gate = ReadGate(self.grants, OsClock())
        self.sent: dict[str, asyncio.Future[Reply]] = {}

    def ask(
        self, name: str, node: int = 1, count: int = 10, *, fails: bool = False, left_ns: int = WAIT_NS
    ) -> asyncio.Future[Reply]:
        def begin() -> asyncio.Future[Reply]:
            if fails:
                raise error(Code.UNAVAILABLE, name)
            self.sent[name] = asyncio.get_running_loop().create_future()
            return self.sent[name]

        return self.gate.start(NodeId(node), count, begin, left_ns)


async def test_each_is_sent_when_the_one_before_has_arrived() -> None:
    wire = Wire()
    first, second = wire.ask("first"), wire.ask("second")
    assert list(wire.sent) == ["first"]
    wire.sent["first"].set_result(reply := Reply(None))
    assert await first is reply
    await asyncio.sleep(0)
    wire.sent["second"].set_exception(error(Code.BUSY, "not now"))
    with pytest.raises(FS3Error, match="not now"):
        await second
    assert (wire.grants.bytes, wire.grants.waiting_count) == (0, 0)


async def test_giving_up_gives_up_what_was_sent_and_lets_the_next_one_go() -> None:
    wire = Wire()
    names = ["first", "second", "third", "fourth"]
    first, second, third, fourth = (wire.ask(name) for name in names)
    assert second.cancel()
    assert not second.cancel()
    assert list(wire.sent) == ["first"]
    first.cancel()
    await asyncio.sleep(0)
    assert list(wire.sent) == ["first", "third"]
    third.cancel()
    assert wire.sent["third"].cancelled(), "at once: its buffers are the caller's again"
    await asyncio.sleep(0)
    wire.sent["fourth"].set_result(Reply(None))
    await fourth
    assert (wire.grants.bytes, wire.grants.waiting_count) == (0, 0)


async def test_one_that_cannot_be_sent_makes_room_for_the_next() -> None:
    wire = Wire()
    with pytest.raises(FS3Error, match="at once"):
        wire.ask("at once", fails=True)
    first = wire.ask("first")
    failing = [wire.ask(f"failing {number}", fails=True) for number in range(3_000)]
    last = wire.ask("last")
    wire.sent["first"].set_result(Reply(None))
    await first
    for one in failing:
        with pytest.raises(FS3Error, match="failing"):
            await one
    wire.sent["last"].set_result(Reply(None))
    await last
    assert (wire.grants.bytes, wire.grants.waiting_count) == (0, 0)


async def test_the_wait_ends_by_the_deadline() -> None:
    wire = Wire()
    first, late = wire.ask("first"), wire.ask("late", left_ns=MILLISECOND)
    with pytest.raises(DeadlineExceeded, match="waited for others until its deadline"):
        await late
    assert wire.grants.waiting_count == 0
    wire.sent["first"].set_result(Reply(None))
    await first
    assert "late" not in wire.sent


async def test_a_node_that_is_silent_keeps_nothing_from_the_others() -> None:
    wire = Wire()
    silent, other = wire.ask("silent", node=1), wire.ask("other", node=2)
    wire.gate.set_aside(silent)
    wire.gate.set_aside(None)
    wire.gate.set_aside(asyncio.get_running_loop().create_future())
    assert list(wire.sent) == ["silent", "other"]
    wire.sent["silent"].set_result(Reply(None))
    wire.sent["other"].set_result(Reply(None))
    await silent
    await other
    assert wire.grants.bytes == 0


async def test_one_that_fails_as_nothing_should_keeps_nothing_from_the_others() -> None:
    wire = Wire()

    def begin() -> asyncio.Future[Reply]:
        raise MemoryError("no room for its buffers")

    first = wire.ask("first")
    broken = wire.gate.start(NodeId(1), 10, begin, WAIT_NS)
    last = wire.ask("last")
    wire.sent["first"].set_result(Reply(None))
    await first
    with pytest.raises(MemoryError, match="no room"):
        await broken
    wire.sent["last"].set_result(Reply(None))
    await last
    assert (wire.grants.bytes, wire.grants.waiting_count) == (0, 0)

"""The network inside a process: what its policy decides, and that it never decides by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fs3.base.errors import DeadlineExceeded, Unreachable
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.drivers.memory.network import CUT, HOLD
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Channel
from fs3.sim.conformance.transport_harness import PLAIN, PULL, PUSH, WATCH, CallCollector, echo, failure, pattern, ping, replying
from fs3.wire.pb import mgmtd_pb2, storage_pb2


class Policy:
    """Verdicts by (source, target); everything it was asked is noted."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str, int]] = []

    def carry(self, source: str, target: str, size: int) -> int:
        self.asked.append((source, target, size))
        return self.verdicts.get((source, target), 0)


@asynccontextmanager
async def scene(bindings: Any) -> AsyncIterator[tuple[MemoryNetwork, Policy, Channel]]:
    """Host "a" talks to a server on host "b"."""
    policy = Policy()
    network = MemoryNetwork(OsClock(), policy)
    listener = await MemoryTransport(network, "b").serve("memory://server", bindings)
    channel = MemoryTransport(network, "a").connect("memory://server")
    try:
        yield network, policy, channel
    finally:
        await channel.close()
        await listener.close()


async def test_the_policy_is_asked_about_everything() -> None:
    async with scene({PLAIN: echo}) as (_, policy, channel):
        await channel.call(PLAIN, ping(1))
        assert [(source, target) for source, target, _ in policy.asked] == [("a", "b"), ("a", "b"), ("b", "a")]
        assert policy.asked[0][2] == 0
        assert all(size >= 28 for _, _, size in policy.asked[1:])


async def test_nothing_is_delivered_from_within_the_call_that_sends_it() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (_, _, channel):
        future = channel.start(PLAIN, ping(0))
        (call,) = await holder.wait_for_calls(1)
        call.reply(mgmtd_pb2.HeartbeatReply())
        assert not future.done()
        await future
        channel.start(PLAIN, ping(1))
        assert len(holder.calls) == 1


async def test_delays_keep_the_order() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (_, policy, channel):
        first = channel.start(PLAIN, ping(0))
        (await holder.wait_for_calls(1))[0].reply(mgmtd_pb2.HeartbeatReply())
        await first
        policy.verdicts["a", "b"] = 20 * MILLISECOND
        slow = channel.start(PLAIN, ping(1))
        policy.verdicts["a", "b"] = 0
        quick = channel.start(PLAIN, ping(2))
        calls = await holder.wait_for_calls(3)
        assert [call.request.seq for call in calls] == [0, 1, 2]
        for call in calls[1:]:
            call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq))
        assert [(await future).message.seq for future in (slow, quick)] == [1, 2]


async def test_what_is_held_arrives_when_it_is_released() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (network, policy, channel):
        policy.verdicts["a", "b"] = HOLD
        future = channel.start(PLAIN, ping(1))  # not even a connection
        for _ in range(10):
            await asyncio.sleep(0)
        network.release()
        assert not holder.calls
        policy.verdicts.clear()
        network.release()
        (call,) = await holder.wait_for_calls(1)
        policy.verdicts["b", "a"] = HOLD
        call.reply(mgmtd_pb2.HeartbeatReply(seq=9))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not future.done()
        policy.verdicts.clear()
        network.release()
        assert (await future).message.seq == 9


async def test_a_call_that_timed_out_may_still_happen() -> None:
    holder = CallCollector()
    async with scene({PUSH: holder, PLAIN: echo}) as (network, policy, channel):
        await channel.call(PLAIN, ping(1))
        policy.verdicts["a", "b"] = HOLD
        data = bytearray(pattern(100_000))
        with pytest.raises(DeadlineExceeded):
            await channel.call(PUSH, storage_pb2.UpdateRequest(), (data,), timeout_ns=10 * MILLISECOND)
        data[:] = bytes(len(data))
        policy.verdicts.clear()
        network.release()
        await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)
        assert holder.calls[0].payload == pattern(100_000)
        holder.calls[0].fail(Code.CANCELLED, "")


async def test_a_cut_breaks_the_connection_for_both() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (network, policy, channel):
        future = channel.start(PLAIN, ping(1))
        await holder.wait_for_calls(1)
        network.cut("b", "a")
        assert (await failure(future)).code is Code.DISCONNECTED
        assert holder.cancelled_calls == holder.calls
        policy.verdicts["a", "b"] = CUT
        problem = await failure(channel.call(PLAIN, ping(1)))
        assert problem.code is Code.UNAVAILABLE


async def test_a_cut_lets_go_of_what_is_on_the_way() -> None:
    gone: list[int] = []
    holder = CallCollector()
    async with scene({PULL: holder}) as (_, policy, channel):
        future = channel.start(PULL, storage_pb2.ReadRequest())
        (call,) = await holder.wait_for_calls(1)
        policy.verdicts["b", "a"] = CUT
        call.reply(storage_pb2.ReadReply(), (pattern(1000),), lambda: gone.append(1))
        assert (await failure(future)).code is Code.DISCONNECTED
        assert gone == [1]


async def test_a_crashed_server_is_noticed_and_gone() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (network, _, channel):
        future = channel.start(PLAIN, ping(1))
        (call,) = await holder.wait_for_calls(1)
        network.crash("b")
        assert isinstance(await failure(future), Unreachable)
        assert not holder.cancelled_calls  # its host is no more, it notices nothing
        call.reply(mgmtd_pb2.HeartbeatReply())
        assert (await failure(channel.call(PLAIN, ping(1)))).code is Code.UNAVAILABLE
        listener = await MemoryTransport(network, "b").serve("memory://server", {PLAIN: echo})
        await asyncio.sleep(0.01)  # the backoff of the refused call
        assert (await channel.call(PLAIN, ping(4))).message.seq == 4
        await listener.close()


async def test_a_crashed_client_is_noticed_by_its_server() -> None:
    holder = CallCollector()
    async with scene({WATCH: holder}) as (network, _, channel):
        stream = channel.stream(WATCH, mgmtd_pb2.GetRoutingRequest())
        task = asyncio.ensure_future(anext(stream))
        await holder.wait_for_calls(1)
        network.crash("a")
        await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_messages_are_copies() -> None:
    """Neither side sees what the other does to a message later."""
    holder = CallCollector()
    async with scene({PLAIN: holder, PULL: replying(b"x")}) as (_, _, channel):
        request = ping(1)
        future = channel.start(PLAIN, request)
        request.seq = 2
        (call,) = await holder.wait_for_calls(1)
        assert call.request.seq == 1
        answer = mgmtd_pb2.HeartbeatReply(seq=1)
        call.reply(answer)
        answer.seq = 2
        assert (await future).message.seq == 1

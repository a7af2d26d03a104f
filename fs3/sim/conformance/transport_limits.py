"""What every transport must do when there is too much: of calls, of payloads, of everything at once."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.ports.rpc import Call
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    CallCollector,
    TransportHarness,
    echo,
    eventually,
    failure,
    pattern,
    ping,
    replying,
    settled,
    summing,
    sums,
)
from fs3.wire.pb import mgmtd_pb2, storage_pb2


class LimitTests(TransportHarness):
    """Part of `TransportTests`."""

    async def test_callers_wait_their_turn(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}, calls_max=8) as (_, channel):
            futures = [channel.start(PLAIN, ping(seq)) for seq in range(50)]
            ended = 0
            while ended < 50:
                calls = await holder.wait_for_calls(min(ended + 8, 50))
                assert len(calls) - ended <= 8
                calls[ended].reply(mgmtd_pb2.HeartbeatReply(seq=calls[ended].request.seq))
                ended += 1
                await futures[calls[ended - 1].request.seq]
            if self.starts_leave_together:
                assert [call.request.seq for call in holder.calls] == list(range(50))

    async def test_waiting_callers_may_give_up(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}, calls_max=2) as (_, channel):
            futures = [channel.start(PLAIN, ping(seq)) for seq in range(6)]
            await holder.wait_for_calls(2)
            for seq in (3, 2, 0):  # the last one makes room
                futures[seq].cancel()
            calls = await holder.wait_for_calls(3)
            assert sorted(call.request.seq for call in calls) == [0, 1, 4]
            for call in calls:
                call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq))
            calls = await holder.wait_for_calls(4)
            calls[3].reply(mgmtd_pb2.HeartbeatReply(seq=5))
            outcomes = await settled(futures)
            assert [outcomes[seq].message.seq for seq in (1, 4, 5)] == [1, 4, 5]
            assert all(isinstance(outcomes[seq], asyncio.CancelledError) for seq in (0, 2, 3))

    async def test_a_server_refuses_more_than_it_takes(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder, PUSH: holder}, server_calls_max=4) as (_, channel):
            futures = [channel.start(PLAIN, ping(seq)) for seq in range(4)]
            await holder.wait_for_calls(4)
            more = [channel.start(PUSH, storage_pb2.UpdateRequest(), (pattern(MIB),)), channel.start(PLAIN, ping(9))]
            for problem in await settled(more):
                assert isinstance(problem, FS3Error)
                assert problem.code is Code.BUSY
            assert len(holder.calls) == 4
            for call in holder.calls:
                call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq))
            assert [reply.message.seq for reply in await asyncio.gather(*futures)] == [0, 1, 2, 3]
            future = channel.start(PLAIN, ping(5))
            (await holder.wait_for_calls(5))[4].fail(Code.NOT_FOUND, "but taken")
            assert (await failure(future)).code is Code.NOT_FOUND

    async def test_payloads_nobody_releases_are_bounded(self, tmp_path: Path) -> None:
        """Eight connections offer 2 MiB, the server holds 1 MiB; meanwhile calls without payload are answered."""
        holder = CallCollector()
        pool = ReceivePool(MIB, 0)
        data = [pattern(256 * KIB, seed) for seed in range(8)]
        async with self.serving(tmp_path, {PUSH: holder, PLAIN: echo}, pool=pool) as (listener, channel):
            transport = self.make()
            channels = [transport.connect(listener.endpoint) for _ in range(8)]
            try:
                futures = [one.start(PUSH, storage_pb2.UpdateRequest(), (data[seed],)) for seed, one in enumerate(channels)]
                await holder.wait_for_calls(4)
                for seq in range(20):
                    assert (await channel.call(PLAIN, ping(seq))).message.seq == seq
                assert len(holder.calls) == 4
                assert pool.held_bytes <= MIB
                ended = 0
                while ended < len(holder.calls) or (self.waits_for_buffers and ended < 8):
                    calls = await holder.wait_for_calls(ended + 1)
                    assert len(calls) - ended <= 4
                    summing(calls[ended])
                    ended += 1
                    if self.waits_for_buffers:
                        await holder.wait_for_calls(min(ended + 4, 8))
                for outcome, one in zip(await settled(futures), data, strict=True):
                    if isinstance(outcome, FS3Error):
                        assert not self.waits_for_buffers
                        assert outcome.code is Code.BUSY
                    else:
                        assert sums(outcome.message) == (len(one), zlib.crc32(one))
                assert pool.held_bytes == 0
            finally:
                for other in channels:
                    await other.close()

    async def test_a_client_that_goes_does_not_block_the_queue(self, tmp_path: Path) -> None:
        holder = CallCollector()
        pool = ReceivePool(MIB, 0)
        async with self.serving(tmp_path, {PUSH: holder}, pool=pool) as (listener, first):
            going, last = (self.make().connect(listener.endpoint) for _ in range(2))
            try:
                futures = [first.start(PUSH, storage_pb2.UpdateRequest(), (pattern(MIB),))]
                await holder.wait_for_calls(1)
                futures += [one.start(PUSH, storage_pb2.UpdateRequest(), (pattern(MIB),)) for one in (going, last)]
                if self.waits_for_buffers:
                    await eventually(lambda: pool.waiting_count == 2)
                await going.close()
                assert (await failure(futures[1])).code in (Code.DISCONNECTED, Code.BUSY)
                answered = 0
                while pool.held_bytes or not all(future.done() for future in futures):
                    # The server may have received all of what the one that left had sent, and hand it over, last perhaps.
                    for call in holder.calls[answered:]:
                        summing(call)
                        answered += 1
                    await asyncio.sleep(0)
                outcomes = await settled(futures)
                assert sums(outcomes[0].message) == (MIB, zlib.crc32(pattern(MIB)))
                if self.waits_for_buffers:
                    assert sums(outcomes[2].message) == (MIB, zlib.crc32(pattern(MIB)))
            finally:
                await going.close()
                await last.close()

    async def test_clients_and_forwards_fill_their_own_memory_only(self, tmp_path: Path) -> None:
        holder = CallCollector()
        pool = ReceivePool(MIB, 0, forward_bytes_max=MIB)

        def handle(call: Call) -> None:
            (summing if call.request.from_target else holder)(call)

        data = pattern(512 * KIB)
        async with self.serving(tmp_path, {PUSH: handle}, pool=pool) as (listener, channel):
            node = self.make().connect(listener.endpoint)
            try:
                futures = [channel.start(PUSH, storage_pb2.UpdateRequest(), (data,)) for _ in range(2)]
                await holder.wait_for_calls(2)
                for _ in range(4):
                    reply = await node.call(PUSH, storage_pb2.UpdateRequest(from_target=9), (data,))
                    assert sums(reply.message) == (len(data), zlib.crc32(data))
                assert pool.clients.held_bytes >= MIB
                assert pool.forwards.held_bytes == 0
                for call in holder.calls:
                    summing(call)
                await asyncio.gather(*futures)
                assert pool.held_bytes == 0
            finally:
                await node.close()

    async def test_replies_wait_for_room(self, tmp_path: Path) -> None:
        """Four clients ask for eight times what the replies of the process may take; each is served in its turn."""
        if not self.bounds_replies:
            return
        replies = ReplyBudget(2 * MIB, 256 * KIB)
        data = pattern(512 * KIB)
        most = 0

        def serve(call: Call) -> None:
            nonlocal most
            most = max(most, replies.held_bytes)
            call.reply(storage_pb2.ReadReply(), (data,))

        batch = storage_pb2.ReadRequest(lengths=[32 * KIB] * 16)
        async with self.serving(tmp_path, {PULL: serve}, replies=replies) as (listener, _):
            channels = [self.make().connect(listener.endpoint) for _ in range(4)]
            try:
                for reply in await asyncio.gather(*[one.call(PULL, batch) for one in channels for _ in range(8)]):
                    assert bytes(reply.payload or b"") == data
                assert 512 * KIB <= most <= 2 * MIB
                await eventually(lambda: replies.held_bytes == 0)
                assert replies.waiting_count == 0
            finally:
                for one in channels:
                    await one.close()

    async def test_everything_at_once(self, tmp_path: Path) -> None:
        """Small calls, payloads in both directions, cancellations and failures on one connection do not disturb each other."""
        data = pattern(700 * KIB)
        bindings = {PLAIN: echo, PUSH: summing, PULL: replying(data[:1000], data[1000:])}
        async with self.serving(tmp_path, bindings, calls_max=32) as (_, channel):
            futures = []
            for seq in range(200):
                match seq % 5:
                    case 0:
                        futures.append(channel.start(PULL, storage_pb2.ReadRequest()))
                    case 1:
                        futures.append(channel.start(PUSH, storage_pb2.UpdateRequest(), (data[: seq * 3000],)))
                    case _:
                        futures.append(channel.start(PLAIN, ping(seq)))
                if seq % 7 == 3:
                    futures[-1].cancel()
                if seq % 50 == 49:
                    await asyncio.sleep(0)
            for seq, outcome in enumerate(await settled(futures)):
                if seq % 7 == 3:
                    assert isinstance(outcome, asyncio.CancelledError)
                elif seq % 5 == 0:
                    assert outcome.payload == data
                elif seq % 5 == 1:
                    assert sums(outcome.message) == (min(seq * 3000, len(data)), zlib.crc32(data[: seq * 3000]))
                else:
                    assert outcome.message.seq == seq

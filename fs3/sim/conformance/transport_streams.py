"""What every transport must do with streamed answers, with deadlines, and when somebody gives up or goes away."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fs3.base.errors import DeadlineExceeded, FS3Error, Unreachable
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.ports.rpc import Call
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    WATCH,
    CallCollector,
    TransportHarness,
    echo,
    eventually,
    failure,
    into,
    pattern,
    ping,
)
from fs3.wire.pb import mgmtd_pb2, storage_pb2


class StreamTests(TransportHarness):
    """Part of `TransportTests`."""

    # --- streams -------------------------------------------------------------------------------------------------------

    async def test_a_stream_arrives_in_order_and_ends(self, tmp_path: Path) -> None:
        def handle(call: Call) -> None:
            for version in range(call.request.known_version):
                assert call.send(mgmtd_pb2.RoutingUpdate(version=version))
            call.reply(None)

        async with self.serving(tmp_path, {WATCH: handle, PLAIN: echo}) as (_, channel):
            for count in (0, 1, 300):
                request = mgmtd_pb2.GetRoutingRequest(known_version=count)
                assert [update.version async for update in channel.stream(WATCH, request)] == list(range(count))
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    async def test_a_stream_may_end_with_a_message(self, tmp_path: Path) -> None:
        def handle(call: Call) -> None:
            call.send(mgmtd_pb2.RoutingUpdate())  # empty, which is a message too
            call.reply(mgmtd_pb2.RoutingUpdate(version=9))

        async with self.serving(tmp_path, {WATCH: handle}) as (_, channel):
            assert [update.version async for update in channel.stream(WATCH, mgmtd_pb2.GetRoutingRequest())] == [0, 9]

    async def test_a_stream_goes_on_for_as_long_as_the_server_likes(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {WATCH: holder}) as (_, channel), aclosing(_watch(channel)) as stream:
            first = asyncio.ensure_future(anext(stream))
            (call,) = await holder.wait_for_calls(1)
            assert not first.done()
            call.send(mgmtd_pb2.RoutingUpdate(version=1))
            assert (await first).version == 1
            call.send(mgmtd_pb2.RoutingUpdate(version=2))
            assert (await anext(stream)).version == 2

    async def test_a_stream_may_fail(self, tmp_path: Path) -> None:
        def handle(call: Call) -> None:
            call.send(mgmtd_pb2.RoutingUpdate(version=1))
            call.fail(Code.NOT_PRIMARY, "ask the other one", routing_version=3)

        async with self.serving(tmp_path, {WATCH: handle}) as (_, channel), aclosing(_watch(channel)) as stream:
            assert (await anext(stream)).version == 1
            problem = await failure(anext(stream))
            assert problem.code is Code.NOT_PRIMARY
            assert str(problem) == "ask the other one"
            assert problem.routing_version == 3

    async def test_a_stream_too_full_for_its_last_message_fails(self, tmp_path: Path) -> None:
        """It must not look as if it had ended well."""
        message = mgmtd_pb2.RoutingUpdate(cluster_id=bytes(64 * KIB))

        def handle(call: Call) -> None:
            while call.send(message):
                pass
            call.reply(message)

        async with self.serving(tmp_path, {WATCH: handle}) as (_, channel), aclosing(_watch(channel)) as stream:
            with_end = asyncio.ensure_future(_drained(stream))
            assert (await failure(with_end)).code is Code.BUSY

    async def test_a_consumer_that_leaves_ends_the_stream(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {WATCH: holder, PLAIN: echo}) as (_, channel):
            async with aclosing(_watch(channel)) as stream:
                first = asyncio.ensure_future(anext(stream))
                (call,) = await holder.wait_for_calls(1)
                call.send(mgmtd_pb2.RoutingUpdate(version=1))
                await first
            await holder.wait_until(lambda: holder.cancelled_calls == [call])
            assert call.is_cancelled
            assert not call.send(mgmtd_pb2.RoutingUpdate(version=2))
            call.reply(None)
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    async def test_a_stream_breaks_with_its_server(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {WATCH: holder}) as (listener, channel), aclosing(_watch(channel)) as stream:
            first = asyncio.ensure_future(anext(stream))
            await holder.wait_for_calls(1)
            await listener.close()
            assert isinstance(await failure(first), Unreachable)

    async def test_a_slow_consumer_cannot_fill_the_memory(self, tmp_path: Path) -> None:
        """64 MiB are offered to a consumer that takes one message. Somebody must say stop: the server's `send`, or the client."""
        message = mgmtd_pb2.RoutingUpdate(cluster_id=bytes(64 * KIB))
        sent = 0
        stopped = asyncio.Event()

        def handle(call: Call) -> None:
            loop = asyncio.get_running_loop()

            def more() -> None:
                nonlocal sent
                if sent == 1024 or not call.send(message):
                    call.fail(Code.BUSY, "you are too slow")
                    stopped.set()
                else:
                    sent += 1
                    loop.call_soon(more)

            more()

        async with self.serving(tmp_path, {WATCH: handle, PLAIN: echo}) as (_, channel):
            async with aclosing(_watch(channel)) as stream:
                await anext(stream)
                await stopped.wait()
                assert sent < 512
                problem: FS3Error | None = None
                try:
                    async for _ in stream:
                        pass
                except FS3Error as found:
                    problem = found
                assert problem is not None
                assert problem.code is Code.BUSY
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    # --- deadlines -----------------------------------------------------------------------------------------------------

    async def test_a_call_that_is_not_answered_in_time_fails(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder, PULL: holder}) as (listener, channel):
            await _until_connected(channel, holder)
            slow = channel.start(PULL, storage_pb2.ReadRequest(), timeout_ns=60 * SECOND)
            # Long enough to arrive, on a machine that has other work too: what is not sent is not cancelled there.
            quick = channel.start(PLAIN, ping(2), timeout_ns=500 * MILLISECOND)
            problem = await failure(quick)
            assert isinstance(problem, DeadlineExceeded)
            assert listener.endpoint in str(problem)
            assert "Heartbeat" in str(problem)
            await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)
            assert holder.cancelled_calls[0].method is PLAIN
            assert not slow.done()
            held = next(call for call in holder.calls if call.method is PULL)
            held.reply(storage_pb2.ReadReply(), (b"late but in time",))
            assert bytes((await slow).payload or b"") == b"late but in time"

    async def test_every_deadline_counts(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            await _until_connected(channel, holder)
            futures = [channel.start(PLAIN, ping(1), timeout_ns=after * MILLISECOND) for after in (60, 20, 90)]
            ended: list[int] = []
            for index, future in enumerate(futures):
                future.add_done_callback(lambda _done, index=index: ended.append(index))  # type: ignore[misc]
            for future in futures:
                assert isinstance(await failure(future), DeadlineExceeded)
            await eventually(lambda: len(ended) == 3)
            assert ended == [1, 0, 2]

    async def test_handlers_know_the_deadline(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            futures = [channel.start(PLAIN, ping(1), timeout_ns=seconds * SECOND) for seconds in (5, 50)]
            first, second = await holder.wait_for_calls(2)
            if first.deadline > second.deadline:
                first, second = second, first
            assert 40 * SECOND < second.deadline - first.deadline < 50 * SECOND
            for call in (first, second):
                call.reply(mgmtd_pb2.HeartbeatReply())
            await asyncio.gather(*futures)

    # --- giving up -----------------------------------------------------------------------------------------------------

    async def test_a_cancelled_call_is_cancelled_at_the_server(self, tmp_path: Path) -> None:
        holder = CallCollector()
        gone: list[int] = []
        async with self.serving(tmp_path, {PULL: holder, PLAIN: echo}) as (_, channel):
            future = channel.start(PULL, storage_pb2.ReadRequest())
            (call,) = await holder.wait_for_calls(1)
            assert future.cancel()
            await holder.wait_until(lambda: holder.cancelled_calls == [call])
            assert call.is_cancelled
            call.add_cancel_callback(lambda: gone.append(1))
            call.reply(storage_pb2.ReadReply(), (pattern(MIB),), lambda: gone.append(2))
            assert gone == [1, 2]
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    async def test_a_cancelled_task_gives_its_call_up(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            task = asyncio.ensure_future(channel.call(PLAIN, ping(1)))
            await holder.wait_for_calls(1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)

    async def test_buffers_are_not_written_to_once_the_call_is_given_up(self, tmp_path: Path) -> None:
        size = 64 * MIB
        ones = b"\1" * size
        buffer = bytearray(size)
        async with self.serving(tmp_path, {PULL: lambda call: call.reply(storage_pb2.ReadReply(), (ones,)), PLAIN: echo}) as (
            _,
            channel,
        ):
            future = channel.start(PULL, storage_pb2.ReadRequest(), into=into(buffer))
            await eventually(lambda: buffer[0] == 1 or future.done())
            future.cancel()
            there = buffer.count(1)
            # The rest of the payload passes by before this answer.
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1
            assert buffer.count(1) == there

    async def test_parts_are_not_read_once_the_call_is_given_up(self, tmp_path: Path) -> None:
        """Whatever part of a request was sent when it was given up: the server sees it whole, or not at all."""
        size = 48 * MIB
        holder = CallCollector()
        async with self.serving(tmp_path, {PUSH: holder, PLAIN: echo}) as (_, channel):
            await channel.call(PLAIN, ping(0))
            for turns in (0, 1, 2, 3):
                data = bytearray(b"\1" * size)
                future = channel.start(PUSH, storage_pb2.UpdateRequest(), (data,))
                for _ in range(turns):
                    await asyncio.sleep(0)
                future.cancel()
                data[:] = bytes(size)
                assert (await channel.call(PLAIN, ping(1))).message.seq == 1
                for call in holder.calls:
                    if call.payload is not None:
                        assert bytes(call.payload).count(1) == size
                    call.fail(Code.CANCELLED, "")
                holder.calls.clear()

    # --- servers that go and come back ---------------------------------------------------------------------------------

    async def test_a_server_that_closes_lets_calls_finish(self, tmp_path: Path) -> None:
        holder = CallCollector()
        data = pattern(3 * MIB)
        async with self.serving(tmp_path, {PULL: holder, PLAIN: echo}) as (listener, channel):
            future = channel.start(PULL, storage_pb2.ReadRequest())
            (call,) = await holder.wait_for_calls(1)
            closing = asyncio.ensure_future(listener.close(20 * SECOND))
            await asyncio.sleep(0)
            refused = await failure(channel.call(PLAIN, ping(1)))
            assert refused.code in (Code.SHUTTING_DOWN, Code.UNAVAILABLE, Code.DISCONNECTED)
            assert not closing.done()
            call.reply(storage_pb2.ReadReply(), (data,))
            assert bytes((await future).payload or b"") == data
            await closing

    async def test_a_server_that_closes_at_once_breaks_calls(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (listener, channel):
            future = channel.start(PLAIN, ping(1))
            await holder.wait_for_calls(1)
            await listener.close()
            problem = await failure(future)
            assert problem.code is Code.DISCONNECTED
            assert listener.endpoint in str(problem)
            await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)

    async def test_a_grace_that_runs_out_breaks_calls(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (listener, channel):
            future = channel.start(PLAIN, ping(1))
            await holder.wait_for_calls(1)
            await listener.close(20 * MILLISECOND)
            assert (await failure(future)).code is Code.DISCONNECTED

    async def test_a_channel_finds_a_restarted_server(self, tmp_path: Path) -> None:
        transport = self.make()
        listener = await transport.serve(self.endpoint(tmp_path), {PLAIN: echo})
        channel = transport.connect(listener.endpoint)
        try:
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1
            await listener.close()
            assert isinstance(await failure(channel.call(PLAIN, ping(2))), Unreachable)
            listener = await transport.serve(listener.endpoint, {PLAIN: echo})
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert (await channel.call(PLAIN, ping(3))).message.seq == 3
                        break
                    except Unreachable:
                        await asyncio.sleep(0.01)
        finally:
            await channel.close()
            await listener.close()


def _watch(channel: Any) -> Any:
    return channel.stream(WATCH, mgmtd_pb2.GetRoutingRequest())


async def _drained(stream: Any) -> int:
    count = 0
    async for _ in stream:
        count += 1
    return count


async def _until_connected(channel: Any, holder: CallCollector) -> None:
    """One call there and back, so that what follows measures the call and not the connecting."""
    future = channel.start(PLAIN, ping(0))
    (call,) = await holder.wait_for_calls(1)
    call.reply(mgmtd_pb2.HeartbeatReply())
    await future
    holder.calls.clear()

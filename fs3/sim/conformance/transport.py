"""What every `Transport` must do. Subclass `TransportTests` and say how a transport is made and where it listens."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fs3.base.errors import InvalidArgument, Unreachable
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.ports.rpc import Call, FileRange, FlatBuffers, Part
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    SIZES,
    CallCollector,
    echo,
    failure,
    into,
    pattern,
    ping,
    replying,
    scattered,
    settled,
    summing,
    sums,
)
from fs3.sim.conformance.transport_limits import LimitTests
from fs3.sim.conformance.transport_streams import StreamTests
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2, storage_pb2


class TransportTests(StreamTests, LimitTests):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path` and an asyncio mode."""

    # --- calls ---------------------------------------------------------------------------------------------------------

    async def test_a_call_is_answered(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PLAIN: echo}) as (_, channel):
            reply = await channel.call(PLAIN, ping(7))
            assert reply.message == mgmtd_pb2.HeartbeatReply(seq=7)
            assert reply.payload is None
            assert (await channel.call(PLAIN, ping(0))).message == mgmtd_pb2.HeartbeatReply()

    async def test_a_submitted_call_is_called_back(self, tmp_path: Path) -> None:
        holder = CallCollector()
        told: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

        def finished(reply: Any, why: Any) -> None:
            told.put_nowait((reply and reply.message.seq, why and why.code))

        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            assert not channel.submit(PLAIN, ping(1), finished)  # there is no connection yet
            first = channel.start(PLAIN, ping(1))
            (call,) = await holder.wait_for_calls(1)
            assert all(channel.submit(PLAIN, ping(number), finished) for number in (2, 3, 4))
            calls = {call.request.seq: call for call in await holder.wait_for_calls(4)}
            assert told.empty()
            calls[3].fail(Code.BUSY, "not now")
            calls[2].reply(mgmtd_pb2.HeartbeatReply(seq=20))
            assert {await told.get(), await told.get()} == {(None, Code.BUSY), (20, None)}
            call.reply(mgmtd_pb2.HeartbeatReply(seq=10))
            assert (await first).message.seq == 10
            await channel.close()
            assert await told.get() == (None, Code.DISCONNECTED)
            assert not channel.submit(PLAIN, ping(5), finished)

    async def test_what_a_callback_raises_harms_no_other_call(self, tmp_path: Path) -> None:
        def finished(reply: Any, why: Any) -> None:
            raise ZeroDivisionError

        async with self.serving(tmp_path, {PLAIN: echo}) as (_, channel):
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1
            assert channel.submit(PLAIN, ping(2), finished)
            assert (await channel.call(PLAIN, ping(3))).message.seq == 3

    async def test_a_call_tells_its_handler_everything(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            future = channel.start(PLAIN, ping(3))
            (call,) = await holder.wait_for_calls(1)
            assert call.method is PLAIN
            assert call.request == ping(3)
            assert call.payload is None
            assert call.peer
            assert not call.is_cancelled
            call.reply(mgmtd_pb2.HeartbeatReply(seq=4))
            assert (await future).message.seq == 4

    async def test_many_calls_find_their_own_answers(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PLAIN: echo}) as (_, channel):
            futures = [channel.start(PLAIN, ping(seq)) for seq in range(3000)]
            assert [reply.message.seq for reply in await asyncio.gather(*futures)] == list(range(3000))

    async def test_answers_may_come_in_any_order(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            futures = [channel.start(PLAIN, ping(seq)) for seq in range(200)]
            calls = list(await holder.wait_for_calls(200))
            Prng(1).shuffle(calls)
            for call in calls:
                call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq))
            assert [reply.message.seq for reply in await asyncio.gather(*futures)] == list(range(200))

    async def test_calls_started_in_one_turn_arrive_in_one_turn(self, tmp_path: Path) -> None:
        """Together, but for the first of them: a channel that is idle may send it before it knows of the others."""
        arrived: list[int] = []  # in which turn of the loop
        turn = 0

        def note(call: Call) -> None:
            arrived.append(turn)
            asyncio.get_running_loop().call_soon(advance)
            echo(call)

        def advance() -> None:
            nonlocal turn
            turn += 1

        async with self.serving(tmp_path, {PLAIN: note}) as (_, channel):
            await channel.call(PLAIN, ping(0))
            arrived.clear()
            await asyncio.gather(*(channel.start(PLAIN, ping(seq)) for seq in range(50)))
        if self.starts_leave_together:
            assert len(set(arrived[1:])) == 1

    async def test_large_messages_travel(self, tmp_path: Path) -> None:
        seen: list[str] = []

        def note(call: Call) -> None:
            seen.append(call.request.toml)
            call.reply(mgmtd_pb2.SetConfigReply(version=len(call.request.toml)))

        async with self.serving(tmp_path, {MGMTD.SetConfig: note}) as (_, channel):
            texts = ["x" * length for length in (0, 100, 17 * KIB, 255 * KIB, MIB - 100)]
            for text in texts:
                reply = await channel.call(MGMTD.SetConfig, mgmtd_pb2.SetConfigRequest(toml=text))
                assert reply.message.version == len(text)
            assert seen == texts
            too_large = mgmtd_pb2.SetConfigRequest(toml="x" * (MIB + 1))
            assert (await failure(_soon(lambda: channel.start(MGMTD.SetConfig, too_large)))).code is Code.TOO_LARGE

    # --- payloads ------------------------------------------------------------------------------------------------------

    async def test_request_payloads_arrive(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PUSH: summing}) as (_, channel):
            for size in SIZES:
                data = pattern(size)
                reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (data,))
                assert sums(reply.message) == (size, zlib.crc32(data))

    async def test_request_payloads_arrive_from_any_parts(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(pattern(MIB))
        file = os.open(path, os.O_RDONLY)
        try:
            words = memoryview(pattern(80_000)).cast("Q")
            parts: list[Part] = [
                b"",
                b"ab",
                bytearray(b"cde"),
                words,
                FileRange(file, 1000, 700_000),
                FileRange(file, 5, 0),
                b"z",
            ]
            whole = b"abcde" + pattern(80_000) + pattern(MIB)[1000:701_000] + b"z"
            async with self.serving(tmp_path, {PUSH: summing}) as (_, channel):
                reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), parts)
                assert sums(reply.message) == (len(whole), zlib.crc32(whole))
        finally:
            os.close(file)

    async def test_many_request_payloads_at_once(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PUSH: summing}) as (_, channel):
            data = [pattern(size, seed) for seed, size in enumerate((100, 5000, 70_000, 3 * MIB, 0, 200_000) * 8)]
            replies = await asyncio.gather(*(channel.start(PUSH, storage_pb2.UpdateRequest(), (one,)) for one in data))
            assert [sums(reply.message) for reply in replies] == [(len(one), zlib.crc32(one)) for one in data]

    async def test_the_payload_is_the_handlers_until_it_releases_it(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PUSH: holder}) as (_, channel):
            futures = [channel.start(PUSH, storage_pb2.UpdateRequest(), (pattern(70_000, seed),)) for seed in range(10)]
            calls = await holder.wait_for_calls(10)
            assert {bytes(call.payload or b"") for call in calls} == {pattern(70_000, seed) for seed in range(10)}
            calls[0].release()
            calls[0].release()
            assert calls[0].payload is None
            for call in calls:
                call.reply(storage_pb2.UpdateReply())
            await asyncio.gather(*futures)

    async def test_reply_payloads_arrive(self, tmp_path: Path) -> None:
        for size in SIZES:
            data = pattern(size)
            async with self.serving(tmp_path, {PULL: replying(data)}) as (_, channel):
                reply = await channel.call(PULL, storage_pb2.ReadRequest())
                assert reply.message.routing_version == 5
                assert (reply.payload if reply.payload is not None else b"") == data

    async def test_reply_payloads_land_in_the_callers_buffers(self, tmp_path: Path) -> None:
        for size in SIZES:
            data = pattern(size)
            async with self.serving(tmp_path, {PULL: replying(data[: size // 3], data[size // 3 :])}) as (_, channel):
                for pieces in (0, 1, 5, 100):
                    buffers = scattered(size, pieces)
                    asked: list[tuple[int, int]] = []

                    def give(message: Any, length: int, buffers: Any = buffers, asked: Any = asked) -> list[memoryview]:
                        asked.append((message.routing_version, length))
                        return [memoryview(buffer) for buffer in buffers]

                    await channel.call(PULL, storage_pb2.ReadRequest(), into=give)
                    assert asked == [(5, size)]
                    assert b"".join(buffers) == data

    async def test_large_and_small_buffers_take_turns(self, tmp_path: Path) -> None:
        sizes = (MIB + MIB // 2, 5, *(64, 4 * KIB) * 150, 2 * MIB, 1)
        data = pattern(sum(sizes))
        async with self.serving(tmp_path, {PULL: replying(data)}) as (_, channel):
            for is_flat in (False, True):
                buffers = [bytearray(size) for size in sizes]
                views = [memoryview(buffer) for buffer in buffers]
                given = FlatBuffers(views) if is_flat else views

                def give(_message: Any, _length: int, given: list[memoryview] = given) -> list[memoryview]:
                    return given

                await channel.call(PULL, storage_pb2.ReadRequest(), into=give)
                assert b"".join(buffers) == data

    async def test_files_arrive(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(pattern(5 * MIB))
        file = os.open(path, os.O_RDONLY)
        try:
            gone: list[str] = []

            def answer(call: Call) -> None:
                parts: list[Part] = [b"head", FileRange(file, 3, 4 * MIB), FileRange(file, MIB, 10), b"tail"]
                call.reply(storage_pb2.ReadReply(), parts, lambda: gone.append("sent"))

            whole = b"head" + pattern(5 * MIB)[3 : 3 + 4 * MIB] + pattern(5 * MIB)[MIB : MIB + 10] + b"tail"
            async with self.serving(tmp_path, {PULL: answer}) as (_, channel):
                buffers = scattered(len(whole), 7)
                futures = [channel.start(PULL, storage_pb2.ReadRequest(), into=into(*buffers))]
                futures += [channel.start(PULL, storage_pb2.ReadRequest()) for _ in range(3)]
                replies = await asyncio.gather(*futures)
                assert b"".join(buffers) == whole
                assert all(bytes(reply.payload or b"") == whole for reply in replies[1:])
                assert gone == ["sent"] * 4
        finally:
            os.close(file)

    async def test_the_largest_payloads_travel(self, tmp_path: Path) -> None:
        data = pattern(64 * MIB)
        buffer = bytearray(64 * MIB)
        async with self.serving(tmp_path, {PUSH: summing, PULL: replying(data)}) as (_, channel):
            reply = await channel.call(PULL, storage_pb2.ReadRequest(), into=into(buffer))
            assert buffer == data
            assert reply.payload is not None
            assert reply.payload.obj is buffer
            reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (data,))
            assert sums(reply.message) == (64 * MIB, zlib.crc32(data))

    async def test_a_refused_payload_harms_nobody(self, tmp_path: Path) -> None:
        data = pattern(3 * MIB)

        def refuse(message: Any, length: int) -> list[memoryview]:
            raise KeyError("no room")

        async with self.serving(tmp_path, {PULL: replying(data), PLAIN: echo}) as (_, channel):
            futures = [
                channel.start(PULL, storage_pb2.ReadRequest(), into=refuse),
                channel.start(PULL, storage_pb2.ReadRequest(), into=into(bytearray(3 * MIB - 1))),
                channel.start(PULL, storage_pb2.ReadRequest(), into=into(bytes(3 * MIB))),
                channel.start(PULL, storage_pb2.ReadRequest()),
                channel.start(PLAIN, ping(1)),
            ]
            refused, short, read_only, whole, plain = await settled(futures)
            assert isinstance(refused, KeyError)
            assert isinstance(short, InvalidArgument)
            assert "3145727" in str(short)
            assert isinstance(read_only, InvalidArgument)
            assert whole.payload == data
            assert plain.message.seq == 1

    async def test_calls_that_cannot_be_sent_are_refused_at_once(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PLAIN: echo, PUSH: summing}) as (_, channel):
            wrong: list[Callable[[], Any]] = [
                lambda: channel.start(PLAIN, storage_pb2.ReadRequest()),
                lambda: channel.start(PLAIN, ping(1), (b"payload",)),
                lambda: channel.start(PUSH, storage_pb2.UpdateRequest(), (FileRange(0, -1, 5),)),
                lambda: channel.start(PUSH, storage_pb2.UpdateRequest(), (memoryview(b"abcd")[::2],)),
            ]
            for start in wrong:
                assert (await failure(_soon(start))).code is Code.INVALID
            assert (await failure(_soon(lambda: channel.start(PUSH, storage_pb2.UpdateRequest(), (bytes(MIB),) * 66)))).code is (
                Code.TOO_LARGE
            )
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    # --- failures ------------------------------------------------------------------------------------------------------

    async def test_every_code_arrives(self, tmp_path: Path) -> None:
        codes = iter([code for code in Code if code])

        def fail(call: Call) -> None:
            code = next(codes)
            call.fail(code, f"because of {code.name} ☂", routing_version=int(code))

        async with self.serving(tmp_path, {PLAIN: fail}) as (_, channel):
            for code in Code:
                if code:
                    problem = await failure(channel.call(PLAIN, ping(1)))
                    assert problem.code is code
                    assert str(problem) == f"because of {code.name} ☂"
                    assert problem.routing_version == code

    async def test_a_failing_handler_fails_its_call_only(self, tmp_path: Path) -> None:
        def handle(call: Call) -> None:
            if call.request.seq == 2:
                raise LookupError("not that one")
            if call.request.seq == 3:
                call.reply(storage_pb2.ReadReply())  # of another method
                return
            if call.request.seq == 4:
                call.reply(mgmtd_pb2.HeartbeatReply(), (b"payload",))
                return
            echo(call)

        async with self.serving(tmp_path, {PLAIN: handle}) as (_, channel):
            first, second, third, fourth, fifth = await settled([channel.start(PLAIN, ping(seq)) for seq in range(1, 6)])
            assert first.message.seq == 1
            assert second.code is Code.INTERNAL
            assert "Heartbeat" in str(second)
            assert "not that one" in str(second)
            assert third.code is Code.INTERNAL
            assert fourth.code is Code.INTERNAL
            assert fifth.message.seq == 5

    async def test_only_the_first_answer_counts(self, tmp_path: Path) -> None:
        gone: list[int] = []

        def handle(call: Call) -> None:
            call.reply(storage_pb2.ReadReply(), (b"first",), lambda: gone.append(1))
            call.reply(storage_pb2.ReadReply(), (b"second",), lambda: gone.append(2))
            call.fail(Code.DISK, "third")

        async with self.serving(tmp_path, {PULL: handle, PLAIN: echo}) as (_, channel):
            reply = await channel.call(PULL, storage_pb2.ReadRequest())
            assert bytes(reply.payload or b"") == b"first"
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1
            assert sorted(gone) == [1, 2]

    async def test_an_unknown_method_is_unsupported(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PLAIN: echo}) as (_, channel):
            assert (await failure(channel.call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest()))).code is Code.UNSUPPORTED
            problem = await failure(channel.call(PUSH, storage_pb2.UpdateRequest(), (pattern(3 * MIB),)))
            assert problem.code is Code.UNSUPPORTED
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    # --- endpoints -----------------------------------------------------------------------------------------------------

    async def test_nobody_listens(self, tmp_path: Path) -> None:
        transport = self.make()
        listener = await transport.serve(self.endpoint(tmp_path), {PLAIN: echo})
        await listener.close()
        channel = transport.connect(listener.endpoint)
        try:
            for _ in range(3):
                problem = await failure(channel.call(PLAIN, ping(1)))
                assert isinstance(problem, Unreachable)
                assert problem.code is Code.UNAVAILABLE
                assert listener.endpoint in str(problem)
        finally:
            await channel.close()

    async def test_a_taken_endpoint_is_refused_by_name(self, tmp_path: Path) -> None:
        async with self.serving(tmp_path, {PLAIN: echo}) as (listener, channel):
            problem = await failure(self.make().serve(listener.endpoint, {}))
            assert problem.code is Code.EXISTS
            assert listener.endpoint in str(problem)
            assert (await channel.call(PLAIN, ping(1))).message.seq == 1

    async def test_endpoints_of_others_are_refused(self, tmp_path: Path) -> None:
        transport = self.make()
        for bad in ("", "nonsense", "carrier-pigeon://coop:1", f"{transport.scheme}://"):
            problem = await failure(_soon(lambda bad=bad: transport.connect(bad)))  # type: ignore[misc]
            assert isinstance(problem, InvalidArgument)
            assert repr(bad) in str(problem)
            assert isinstance(await failure(transport.serve(bad, {})), InvalidArgument)

    async def test_a_closed_channel_says_so(self, tmp_path: Path) -> None:
        holder = CallCollector()
        async with self.serving(tmp_path, {PLAIN: holder}) as (_, channel):
            future = channel.start(PLAIN, ping(1))
            await holder.wait_for_calls(1)
            await channel.close()
            await channel.close()
            assert (await failure(future)).code is Code.DISCONNECTED
            assert (await failure(channel.call(PLAIN, ping(1)))).code is Code.DISCONNECTED
            await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)


async def _soon(start: Callable[[], Any]) -> Any:
    """What `start` raises or returns, as a coroutine."""
    return start()

"""The framed wire among peers that send slowly or read nothing: they hold what they have sent, the others go on."""

import asyncio
import logging
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.base.limits import receive_step_bytes, wake_bytes_max
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.ports.rpc import Channel, FileRange
from fs3.sim.conformance.transport_harness import PLAIN, PULL, PUSH, CallCollector, echo, eventually, pattern, ping, summing, sums
from fs3.wire.errors import decode_error
from fs3.wire.frames import FrameKind, pack
from fs3.wire.pb import storage_pb2
from tests.unit.drivers.framed.test_bad_peers import RawPeer, request

PATIENCE_S = 20
"""A guard against hanging, far beyond what any of these takes."""


@asynccontextmanager
async def scene(bindings: Any, peers: int, **options: Any) -> AsyncIterator[tuple[Channel, list[RawPeer]]]:
    """A server with a well-behaved client and raw ones."""
    transport = TcpTransport(OsClock(), **options)
    listener = await transport.serve("tcp://127.0.0.1:0", bindings)
    channel = transport.connect(listener.endpoint)
    raw = [await RawPeer.to(listener.endpoint) for _ in range(peers)]
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield channel, raw
    finally:
        for peer in raw:
            await peer.close()
        await channel.close()
        await listener.close()


def announcement(length: int, request_id: int = 1) -> bytes:
    """The beginning of an update whose bytes come later."""
    return pack(FrameKind.REQUEST, PUSH.id, request_id, 0, length)


async def push(channel: Channel, length: int, seed: int = 0, **fields: Any) -> None:
    data = pattern(length, seed)
    reply = await channel.call(PUSH, storage_pb2.UpdateRequest(**fields), (data,))
    assert sums(reply.message) == (length, zlib.crc32(data))


async def test_two_slow_peers_do_not_stop_the_writes_of_the_others() -> None:
    pool = ReceivePool()
    async with scene({PUSH: summing}, 2, pool=pool) as (channel, slow):
        for peer in slow:
            peer.send(announcement(64 * MIB) + bytes(75_000))
        await eventually(lambda: pool.held_bytes >= 2 * receive_step_bytes)
        for seed in range(20):
            await push(channel, 4 * MIB, seed)
        assert pool.waiting_count == 0


async def test_memory_is_taken_by_bytes_that_have_arrived() -> None:
    pool = ReceivePool()
    async with scene({PUSH: summing, PLAIN: echo}, 60, pool=pool) as (channel, slow):
        for peer in slow:
            peer.send(announcement(64 * MIB) + bytes(1000))
        await eventually(lambda: pool.held_bytes >= 60 * receive_step_bytes)
        assert pool.held_bytes == 60 * receive_step_bytes
        slow[0].send(bytes(3 * MIB))
        await eventually(lambda: pool.held_bytes >= 60 * receive_step_bytes + 2 * MIB)
        await channel.call(PLAIN, ping(1))
        assert pool.held_bytes <= 59 * receive_step_bytes + 3 * MIB + KIB + wake_bytes_max
        await push(channel, 8 * MIB)
    assert pool.held_bytes == 0


async def test_a_large_request_lands_in_one_buffer_however_it_comes() -> None:
    holder = CallCollector()
    data = pattern(5 * MIB + 17)
    async with scene({PUSH: holder}, 1) as (_, (peer,)):
        peer.send(announcement(len(data)))
        for at in range(0, len(data), 700_001):
            peer.send(data[at : at + 700_001])
            await asyncio.sleep(0)
        (call,) = await holder.wait_for_calls(1)
        assert call.payload is not None
        assert call.payload.c_contiguous
        assert call.payload == data
        summing(call)
        await peer.frame()


@pytest.mark.parametrize("full", [0, 7])
async def test_forwards_and_clients_do_not_wait_for_each_other(full: int) -> None:
    """One kind fills its budget with requests nobody answers; the other kind goes on."""
    holder = CallCollector()
    pool = ReceivePool(MIB, 0, forward_bytes_max=MIB)

    def handle(call: Any) -> None:
        (holder if call.request.from_target == full else summing)(call)

    async with scene({PUSH: handle}, 5, pool=pool) as (channel, peers):
        for peer in peers:
            peer.send(request(PUSH, storage_pb2.UpdateRequest(from_target=full), 1, bytes(256 * KIB)))
        await holder.wait_for_calls(4)
        await eventually(lambda: pool.waiting_count == 1)
        for seed in range(10):
            await push(channel, 700 * KIB, seed, from_target=7 - full)
        assert len(holder.calls) == 4
        for call in holder.calls:
            summing(call)
        summing((await holder.wait_for_calls(5))[4])


async def test_no_peer_holds_more_than_its_share() -> None:
    holder = CallCollector()
    pool = ReceivePool(4 * MIB, 0)
    async with scene({PUSH: holder}, 2, pool=pool, bounds=ServerLimits(receive_share_bytes_max=MIB)) as (_, (greedy, other)):
        for index in range(20):
            greedy.send(request(PUSH, storage_pb2.UpdateRequest(), 1 + index, bytes(256 * KIB)))
        await holder.wait_for_calls(4)
        other.send(request(PUSH, storage_pb2.UpdateRequest(), 1, bytes(3 * MIB)))  # one that is larger than the share, alone
        await holder.wait_for_calls(5)
        assert holder.calls[4].payload is not None
        assert len(holder.calls[4].payload) == 3 * MIB
        assert pool.held_bytes == 4 * MIB
        assert pool.waiting_count == 0
        answered = 0
        while answered < 21:
            calls = await holder.wait_for_calls(answered + 1)
            assert pool.held_bytes <= 4 * MIB
            summing(calls[answered])
            answered += 1
        assert pool.held_bytes == 0


async def test_who_sends_too_slowly_while_others_wait_is_disconnected_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    bounds = ServerLimits(receive_rate_min=10 * MIB, patience_ns=50 * MILLISECOND, sweep_ns=10 * MILLISECOND)
    pool = ReceivePool(MIB, 0)
    holder = CallCollector()
    with caplog.at_level(logging.WARNING, "fs3.transport"):
        async with scene({PUSH: holder}, 1, pool=pool, bounds=bounds) as (channel, (slow,)):
            slow.send(announcement(900 * KIB, 5) + bytes(890 * KIB))
            await eventually(lambda: pool.held_bytes > 600 * KIB)
            answer = asyncio.ensure_future(slow.frame())
            await asyncio.sleep(0.1)
            assert not answer.done(), "nobody waits"
            waiting = asyncio.ensure_future(push(channel, 512 * KIB))
            frame, header, _ = await answer
            assert (frame.request_id, frame.code) == (5, Code.BUSY)
            assert "slower than 10485760 bytes per second, and others wait for memory" in str(
                decode_error(frame.code, header, "")
            )
            assert await slow.goodbye() == ""
            summing((await holder.wait_for_calls(1))[0])
            await waiting
    assert "others wait for memory" in caplog.text
    assert pool.held_bytes == 0


async def test_large_requests_of_many_peers_do_not_wait_for_each_other() -> None:
    """Together they need sixteen times the memory there is; each gets some of it at the same time as the others."""
    pool = ReceivePool(2 * MIB, 0)
    async with scene({PUSH: summing}, 16, pool=pool) as (_, peers):
        data = pattern(2 * MIB)
        for at in range(0, len(data), 64 * KIB):
            for peer in peers:
                peer.send((announcement(len(data)) if not at else b"") + data[at : at + 64 * KIB])
            await asyncio.sleep(0)
        for peer in peers:
            frame, header, _ = await peer.frame()
            assert frame.code == Code.OK
            assert sums(PUSH.reply.FromString(header)) == (len(data), zlib.crc32(data))
    assert pool.held_bytes == 0


# --- peers that read nothing -----------------------------------------------------------------------------------------

BATCH = storage_pb2.ReadRequest(lengths=[32 * KIB] * 256)
"""Many small pieces, 8 MiB of memory together."""
SINGLE = storage_pb2.ReadRequest(lengths=[4 * KIB])
_ZEROS = bytes(8 * MIB)


def serving_zeros(call: Any) -> None:
    call.reply(storage_pb2.ReadReply(), (memoryview(_ZEROS)[: sum(call.request.lengths)],))


def deaf(peer: RawPeer) -> None:
    """From here on it takes nothing."""
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sock = peer.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)


async def test_replies_that_nobody_takes_are_bounded_over_the_process_and_the_others_go_on() -> None:
    replies = ReplyBudget(32 * MIB, 4 * MIB)
    served = most = 0

    def serve(call: Any) -> None:
        nonlocal served, most
        served += len(call.request.lengths) > 1
        most = max(most, replies.held_bytes)
        serving_zeros(call)

    async with scene({PULL: serve, PLAIN: echo}, 12, replies=replies) as (channel, peers):
        for peer in peers:
            deaf(peer)
            peer.send(b"".join(request(PULL, BATCH, 1 + index) for index in range(3)))
        await eventually(lambda: replies.waiting_count >= 6)
        for seq in range(50):
            assert (await channel.call(PLAIN, ping(seq))).message.seq == seq
            assert len((await channel.call(PULL, SINGLE)).payload) == 4 * KIB
            most = max(most, replies.held_bytes)
        assert replies.waiting_count >= 6
        assert served < 3 * 12
        assert most <= 32 * MIB
        for peer in peers:  # who reads is served to the end
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]

        async def take(peer: RawPeer) -> None:
            for index in range(3):
                frame, _, payload = await peer.frame()
                assert (frame.request_id, frame.code, len(payload)) == (1 + index, Code.OK, 8 * MIB)

        await asyncio.gather(*map(take, peers))
        assert served == 3 * 12
        assert most <= 32 * MIB
        await eventually(lambda: replies.held_bytes == 0)


async def test_who_takes_nothing_while_others_wait_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    replies = ReplyBudget(16 * MIB, MIB)
    bounds = ServerLimits(patience_ns=50 * MILLISECOND, sweep_ns=10 * MILLISECOND)
    with caplog.at_level(logging.WARNING, "fs3.transport"):
        async with scene({PULL: serving_zeros}, 2, replies=replies, bounds=bounds) as (channel, peers):
            for peer in peers:
                deaf(peer)
                peer.send(b"".join(request(PULL, BATCH, 1 + index) for index in range(4)))
            await eventually(lambda: replies.waiting_count >= 1)
            assert len((await channel.call(PULL, BATCH)).payload) == 8 * MIB
            await eventually(lambda: replies.held_bytes <= 8 * MIB)
    assert "others wait for reply memory" in caplog.text
    assert replies.held_bytes == 0


async def test_files_that_leave_by_themselves_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(_ZEROS)
    replies = ReplyBudget()
    with path.open("rb") as file:

        def serve(call: Any) -> None:
            call.reply(storage_pb2.ReadReply(), (FileRange(file.fileno(), 0, len(_ZEROS)),))

        async with scene({PULL: serve, PLAIN: echo}, 1, replies=replies) as (channel, (peer,)):
            deaf(peer)
            peer.send(request(PULL, storage_pb2.ReadRequest(lengths=[len(_ZEROS)]), 1))
            await channel.call(PLAIN, ping(1))
            assert replies.held_bytes < KIB
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert (await peer.frame())[2] == _ZEROS
        assert replies.held_bytes == 0

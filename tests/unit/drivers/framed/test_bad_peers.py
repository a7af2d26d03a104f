"""The framed wire against peers that do not play by the rules: each is disconnected, the others notice nothing."""

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fs3.base.errors import DeadlineExceeded, FS3Error, Unreachable
from fs3.base.limits import frame_header_bytes_max, frame_payload_bytes_max, wake_bytes_max
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.drivers.framed import forks
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.server import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.ports.rpc import Call, Channel, FileRange
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    WATCH,
    CallCollector,
    echo,
    eventually,
    failure,
    pattern,
    ping,
    summing,
)
from fs3.wire.endpoints import parse_host_port
from fs3.wire.errors import decode_error
from fs3.wire.frames import HEADER_BYTES, Frame, FrameKind, pack, unpack
from fs3.wire.pb import mgmtd_pb2, storage_pb2

HASTY = ServerLimits(receive_stall_ns=60 * MILLISECOND, send_stall_ns=60 * MILLISECOND, sweep_ns=10 * MILLISECOND)


class RawPeer:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, endpoint: str) -> "RawPeer":
        return cls(*await asyncio.open_connection(*parse_host_port(endpoint, "tcp")))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[Frame, bytes, bytes]:
        """The next frame of the server."""
        frame = unpack(await self.reader.readexactly(HEADER_BYTES))
        return frame, await self.reader.readexactly(frame.header_length), await self.reader.readexactly(frame.payload_length)

    async def goodbye(self) -> str:
        """What the server says before it disconnects us; "" when it says nothing."""
        said = ""
        try:
            while True:
                frame, header, _ = await self.frame()
                if frame.request_id == 0:
                    said = str(decode_error(frame.code, header, "server"))
                    assert frame.code == Code.PROTOCOL
        except (asyncio.IncompleteReadError, ConnectionError):
            return said

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def scene(bindings: Any, **options: Any) -> AsyncIterator[tuple[Channel, RawPeer]]:
    """A server with a well-behaved client and a raw one."""
    transport = TcpTransport(OsClock(), **options)
    listener = await transport.serve("tcp://127.0.0.1:0", bindings)
    channel = transport.connect(listener.endpoint)
    peer = await RawPeer.to(listener.endpoint)
    try:
        yield channel, peer
    finally:
        await peer.close()
        await channel.close()
        await listener.close()


async def alive(channel: Channel) -> None:
    assert (await channel.call(PLAIN, ping(5))).message.seq == 5


def request(method: Any, message: Any, request_id: int, payload: bytes = b"", **fields: Any) -> bytes:
    data = message.SerializeToString()
    return pack(FrameKind.REQUEST, method.id, request_id, len(data), len(payload), **fields) + data + payload


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "gRPC (HTTP/2) client: this port speaks the framed wire"),
        (b"PRI * HT", "gRPC (HTTP/2) client"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "an HTTP client"),
        (b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03", "a TLS client"),
        (b"\x00" * 100, "not an fs3 peer"),
        (b"?", "not an fs3 peer"),
        (bytes(range(256)) * 100, "not an fs3 peer"),
    ],
)
async def test_strangers_are_shown_the_door(sent: bytes, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fs3.transport"):
        async with scene({PLAIN: echo}) as (channel, peer):
            await alive(channel)
            peer.send(sent)
            assert await peer.goodbye() == ""
            await alive(channel)
    assert [logged in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"S?\x02\x01" + bytes(24), "frame of protocol 2, this side speaks 1"),
        (pack(FrameKind.REQUEST, 1, 1, frame_header_bytes_max + 1), "header of 1048577 bytes"),
        (pack(FrameKind.REQUEST, 1, 1, 0, frame_payload_bytes_max + 1), "payload of 68157441 bytes"),
        (pack(FrameKind.REQUEST, 1, 1, 0xFFFF_FFFF, 0xFFFF_FFFF), "header of 4294967295 bytes"),
        (pack(FrameKind.REPLY, 1, 1, 0), "a client sends no frames of kind 2"),
        (pack(9, 1, 1, 0), "a client sends no frames of kind 9"),
        (pack(13, 1, 1, 0), "unknown kind of frame 13"),
        (pack(FrameKind.CANCEL, 1, 1, 0, 10), "a CANCEL with a payload"),
        (pack(FrameKind.REQUEST, PLAIN.id, 0, 0), "request id 0"),
    ],
)
async def test_broken_frames_end_the_connection_with_a_reason(frame: bytes, said: str) -> None:
    async with scene({PLAIN: echo}) as (channel, peer):
        await alive(channel)
        peer.send(request(PLAIN, ping(1), 7))
        answer, _, _ = await peer.frame()
        assert answer.request_id == 7
        peer.send(frame)
        assert said in await peer.goodbye()
        await alive(channel)


async def test_a_request_id_is_used_once_at_a_time() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder}) as (_, peer):
        peer.send(request(PLAIN, ping(1), 7) * 2)
        assert "request id 7 is under way" in await peer.goodbye()
        await holder.wait_until(lambda: len(holder.cancelled_calls) == 1)


async def test_huge_lengths_cost_nothing() -> None:
    """A frame that announces 65 MiB and brings nothing takes no more than its place in the pool, and that only for a while."""
    pool = ReceivePool()
    async with scene({PUSH: summing, PLAIN: echo}, pool=pool, bounds=HASTY) as (channel, peer):
        peer.send(pack(FrameKind.REQUEST, PUSH.id, 1, 0, frame_payload_bytes_max))
        assert await peer.goodbye() == ""
        assert pool.held_bytes == 0
        await alive(channel)


async def test_what_is_not_protobuf_fails_its_call_only() -> None:
    async with scene({PLAIN: echo, PUSH: summing}) as (_, peer):
        peer.send(pack(FrameKind.REQUEST, PLAIN.id, 1, 3) + b"\xff\xff\xff")
        peer.send(pack(FrameKind.REQUEST, PUSH.id, 2, 3, 100_000) + b"\xff\xff\xff" + bytes(100_000))
        peer.send(pack(FrameKind.REQUEST, 0x7777, 3, 3, 100_000) + b"\xff\xff\xff" + bytes(100_000))
        peer.send(request(PLAIN, ping(1), 4, b"payload"))
        peer.send(request(PLAIN, ping(9), 5))
        codes = {}
        for _ in range(5):
            frame, header, _ = await peer.frame()
            codes[frame.request_id] = Code(frame.code)
            if frame.request_id == 4:
                assert "carry no payload" in str(decode_error(frame.code, header, ""))
        assert codes == {1: Code.INVALID, 2: Code.INVALID, 3: Code.UNSUPPORTED, 4: Code.INVALID, 5: Code.OK}


async def test_too_many_calls_of_one_peer_are_refused() -> None:
    holder = CallCollector()
    async with scene({PLAIN: holder, PUSH: holder}, bounds=ServerLimits(calls_per_connection_max=3)) as (_, peer):
        peer.send(b"".join(request(PLAIN, ping(seq), seq) for seq in range(1, 4)))
        peer.send(request(PUSH, storage_pb2.UpdateRequest(), 4, bytes(MIB)))
        peer.send(request(PLAIN, ping(5), 5))
        for request_id in (4, 5):
            frame, _, _ = await peer.frame()
            assert (frame.request_id, frame.code) == (request_id, Code.BUSY)
        # A call that was given up counts until its handler has ended it.
        peer.send(pack(FrameKind.CANCEL, PLAIN.id, 1, 0) + request(PLAIN, ping(6), 6))
        frame, _, _ = await peer.frame()
        assert (frame.request_id, frame.code) == (6, Code.BUSY)
        holder.calls[0].fail(Code.CANCELLED, "")
        peer.send(request(PLAIN, ping(7), 7))
        await holder.wait_for_calls(4)


async def test_half_a_frame_is_waited_for_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    for half in (b"S", pack(FrameKind.REQUEST, PLAIN.id, 1, 100), pack(FrameKind.REQUEST, PLAIN.id, 1, 100_000) + bytes(50_000)):
        async with scene({PLAIN: echo}, bounds=HASTY) as (channel, peer):
            peer.send(half)
            assert await peer.goodbye() == ""
            await alive(channel)
    assert "it stopped in the middle of a frame" in caplog.text


async def test_a_server_that_stood_still_does_not_blame_its_peers() -> None:
    """As after SIGSTOP: the rest of the frame has been waiting in the socket for longer than a peer may take."""
    frame = request(PUSH, storage_pb2.UpdateRequest(), 1, bytes(100_000))
    bounds = ServerLimits(receive_stall_ns=50 * MILLISECOND, sweep_ns=5 * MILLISECOND)
    for loop in ("asyncio", "uvloop"):
        pool = ReceivePool()

        async def main(pool: ReceivePool = pool) -> None:
            async with scene({PUSH: summing}, bounds=bounds, pool=pool) as (_, peer):
                peer.send(frame[:1000])
                await eventually(lambda: pool.held_bytes > 0)
                peer.send(frame[1000:])
                time.sleep(0.15)
                answer, _, _ = await peer.frame()
                assert (answer.request_id, answer.code) == (1, Code.OK)

        await asyncio.to_thread((uvloop if loop == "uvloop" else asyncio).run, main())


async def test_a_peer_that_trickles_is_not_waited_for_for_ever() -> None:
    bounds = ServerLimits(receive_stall_ns=100 * MILLISECOND, receive_rate_min=10 * MIB, sweep_ns=10 * MILLISECOND)
    pool = ReceivePool()
    async with scene({PUSH: summing}, bounds=bounds, pool=pool) as (_, peer):
        peer.send(pack(FrameKind.REQUEST, PUSH.id, 1, 0, MIB))
        gone = asyncio.ensure_future(peer.goodbye())
        while not gone.done():  # a byte now and then: never a stall, always too slow
            peer.send(b"x")
            await asyncio.wait([gone], timeout=0.01)
        assert pool.held_bytes == 0


async def test_an_idle_peer_is_left_alone() -> None:
    async with scene({PLAIN: echo}, bounds=HASTY) as (_, peer):
        peer.send(request(PLAIN, ping(1), 1))
        await peer.frame()
        await asyncio.sleep(5 * HASTY.receive_stall_ns / SECOND)
        peer.send(request(PLAIN, ping(2), 2))
        frame, _, _ = await peer.frame()
        assert frame.request_id == 2


async def test_a_peer_that_stalls_gives_its_buffer_to_the_others() -> None:
    pool = ReceivePool(MIB, 0)
    async with scene({PUSH: summing, PLAIN: echo}, bounds=HASTY, pool=pool) as (channel, peer):
        peer.send(pack(FrameKind.REQUEST, PUSH.id, 1, 0, MIB) + b"a little of it")
        await eventually(lambda: pool.held_bytes > 0)
        reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (pattern(MIB),))
        assert reply.message.lengths == [MIB]


async def test_a_peer_that_reads_nothing_is_disconnected_and_its_parts_are_let_go() -> None:
    gone: list[int] = []

    def flood(call: Call) -> None:
        number = len(gone)
        gone.append(-1)
        call.reply(storage_pb2.ReadReply(), (bytes(8 * MIB),), lambda: gone.__setitem__(number, gone[number] + 1))

    async with scene({PULL: flood, PLAIN: echo}, bounds=HASTY) as (channel, peer):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(b"".join(request(PULL, storage_pb2.ReadRequest(), 1 + index) for index in range(4)))
        await eventually(lambda: gone == [0, 0, 0, 0])
        await alive(channel)


async def test_requests_of_a_peer_that_reads_nothing_wait() -> None:
    """Its replies are bounded; once it reads, everything is answered."""
    asked = 0

    def flood(call: Call) -> None:
        nonlocal asked
        asked += 1
        call.reply(storage_pb2.ReadReply(), (bytes(MIB),))

    async with scene({PULL: flood, PLAIN: echo}, bounds=ServerLimits(send_queue_bytes_max=4 * MIB)) as (channel, peer):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for index in range(100):
            peer.send(request(PULL, storage_pb2.ReadRequest(), 1 + index))
            if index % 10 == 0:
                await alive(channel)
        before = -1
        while before != asked:
            before = asked
            for _ in range(20):
                await alive(channel)
        assert asked < 60
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for index in range(100):
            frame, _, payload = await peer.frame()
            assert frame.request_id == 1 + index
            assert len(payload) == MIB


async def test_errors_nobody_reads_are_bounded(tmp_path: Path) -> None:
    """Requests that are declined are answered too; a peer that never reads the answers is not listened to for ever."""
    # A Unix socket, whose buffers are small.
    transport = LocalTransport(OsClock(), bounds=ServerLimits(send_queue_bytes_max=64 * KIB))
    listener = await transport.serve(f"local://{tmp_path}/s", {PLAIN: echo})
    flood = pack(FrameKind.REQUEST, 0x7777, 1, 0) * 10_000
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/s")
        sock.setblocking(False)
        accepted = quiet = 0
        while quiet < 200:
            quiet += 1
            with suppress(BlockingIOError):
                accepted += sock.send(flood[accepted % HEADER_BYTES :])
                quiet = 0
            await asyncio.sleep(0)
            assert accepted < 8 * MIB
    await listener.close()


async def test_a_stream_nobody_reads_is_bounded() -> None:
    sent = 0
    refused = asyncio.Event()

    def watch(call: Call) -> None:
        def more() -> None:
            nonlocal sent
            if sent == 10_000 or not call.send(mgmtd_pb2.RoutingUpdate(cluster_id=bytes(16 * KIB))):
                refused.set()
                call.fail(Code.BUSY, "too slow")
            else:
                sent += 1
                asyncio.get_running_loop().call_soon(more)

        more()

    async with scene({WATCH: watch, PLAIN: echo}) as (channel, peer):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(request(WATCH, mgmtd_pb2.GetRoutingRequest(), 1))
        await refused.wait()
        assert sent < 5_000
        await alive(channel)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(sent):
            frame, _, _ = await peer.frame()
            assert frame.kind == FrameKind.MORE
        frame, _, _ = await peer.frame()
        assert (frame.kind, frame.code) == (FrameKind.REPLY, Code.BUSY)


async def test_a_busy_peer_leaves_the_others_their_turn() -> None:
    """One peer sends as fast as it can, from a thread; between two turns of the loop only so much of it is taken."""
    frame = request(PUSH, storage_pb2.UpdateRequest(), 1, bytes(16 * MIB))
    gone = asyncio.Event()
    bindings = {PUSH: lambda call: call.fail(Code.BUSY, ""), PLAIN: echo}
    async with scene(bindings) as (channel, _):
        loop = asyncio.get_running_loop()
        most = seen = 0
        others = set(forks._owners)

        def served() -> list[Any]:
            """The server's side of the peer; none once it has hung up, which is before it says so."""
            return [held for held in set(forks._owners) - others if getattr(held, "frames", 0) and hasattr(held, "pool")]

        def tick() -> None:
            nonlocal most, seen
            for connection in served():
                most, seen = max(most, connection.received_bytes - seen), connection.received_bytes
            if not gone.is_set():
                loop.call_soon(tick)

        def flood() -> None:
            with socket.create_connection(parse_host_port(channel.endpoint, "tcp")) as sock:  # type: ignore[attr-defined]
                for _ in range(8):
                    sock.sendall(frame)
                    sock.recv(100)
            loop.call_soon_threadsafe(gone.set)

        thread = loop.run_in_executor(None, flood)
        await eventually(lambda: bool(served()))
        tick()
        await gone.wait()
        await thread
        assert 0 < most <= 2 * wake_bytes_max


async def test_an_answer_given_before_closing_still_leaves() -> None:
    transport = TcpTransport(OsClock())
    holder = CallCollector()
    listener = await transport.serve("tcp://127.0.0.1:0", {PLAIN: holder})
    channel = transport.connect(listener.endpoint)
    future = channel.start(PLAIN, ping(1))
    (call,) = await holder.wait_for_calls(1)
    call.reply(mgmtd_pb2.HeartbeatReply(seq=8))
    await listener.close()
    assert (await future).message.seq == 8
    await channel.close()


async def test_too_many_connections_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    transport = TcpTransport(OsClock(), bounds=ServerLimits(connections_max=2))
    listener = await transport.serve("tcp://127.0.0.1:0", {PLAIN: echo})
    peers = [await RawPeer.to(listener.endpoint) for _ in range(3)]
    assert await peers[2].goodbye() == ""
    peers[0].send(request(PLAIN, ping(1), 1))
    await peers[0].frame()
    for peer in peers:
        await peer.close()
    await listener.close()
    assert "has 2 connections already" in caplog.text


async def test_a_file_that_turns_out_short_breaks_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    file = os.open(path, os.O_RDONLY)
    gone: list[int] = []
    bindings = {
        PULL: lambda call: call.reply(storage_pb2.ReadReply(), (FileRange(file, 0, 100_000),), lambda: gone.append(1)),
        PLAIN: echo,
    }
    try:
        async with scene(bindings) as (channel, _):
            assert (await failure(channel.call(PULL, storage_pb2.ReadRequest()))).code is Code.DISCONNECTED
            assert gone == [1]
            await alive(channel)
    finally:
        os.close(file)


async def test_complaints_are_rationed(caplog: pytest.LogCaptureFixture) -> None:
    transport = TcpTransport(OsClock())
    listener = await transport.serve("tcp://127.0.0.1:0", {PLAIN: echo})
    for _ in range(50):
        peer = await RawPeer.to(listener.endpoint)
        peer.send(b"nonsense" * 10)
        await peer.goodbye()
        await peer.close()
    await listener.close()
    assert len(caplog.records) <= 5


# --- clients and their bad servers -----------------------------------------------------------------------------------


async def test_a_large_reply_does_not_wait_for_the_next_request_of_its_turn() -> None:
    sent: list[int] = []
    seen: list[tuple[int, list[int]]] = []

    def serve(call: Call) -> None:
        which = len(seen)
        seen.append((which, list(sent)))
        call.reply(storage_pb2.ReadReply(), (bytes(64 * KIB),), lambda: sent.append(which))

    async with scene({PULL: serve}) as (_, peer):
        peer.send(b"".join(request(PULL, storage_pb2.ReadRequest(), 1 + index) for index in range(3)))
        for index in range(3):
            frame, _, payload = await peer.frame()
            assert (frame.request_id, len(payload)) == (1 + index, 64 * KIB)
    assert seen == [(0, []), (1, [0]), (2, [0, 1])]


@asynccontextmanager
async def bad_server(answer: bytes, *, stays: bool = False) -> AsyncIterator[Channel]:
    """A channel to a server that answers the first bytes it gets with `answer`."""

    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = asyncio.Event()
        ended.append(end)
        await reader.read(HEADER_BYTES)
        writer.write(answer)
        if stays:
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        end.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    channel = TcpTransport(OsClock()).connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield channel
    finally:
        await channel.close()
        server.close()
        for end in ended:
            await end.wait()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"", Code.DISCONNECTED, "the peer closed it"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Code.PROTOCOL, "an HTTP server"),
        (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00" + bytes(24), Code.PROTOCOL, "gRPC (HTTP/2) server"),
        (pack(FrameKind.REQUEST, 1, 1, 0), Code.PROTOCOL, "a server sends no frames of kind 1"),
        (pack(FrameKind.MORE, 1, 1, 0), Code.PROTOCOL, "a streamed message where none is due"),
        (pack(FrameKind.REPLY, 1, 1, 0, 10, code=106) + bytes(10), Code.PROTOCOL, "a payload where none is due"),
        (pack(FrameKind.REPLY, 1, 1, 3) + b"\xff\xff\xff", Code.PROTOCOL, "cannot be read"),
        (pack(FrameKind.REPLY, 1, 1, 3, code=106) + b"\xff\xff\xff", Code.PROTOCOL, "unreadable reason"),
        (pack(FrameKind.REPLY, 1, 99, 0, 100_000), Code.DISCONNECTED, "in the middle of a frame"),
        (pack(FrameKind.REPLY, 1, 1, 0, 100_000) + bytes(1000), Code.DISCONNECTED, "in the middle of a frame"),
    ],
)
async def test_a_client_survives_its_server(answer: bytes, code: Code, said: str) -> None:
    async with bad_server(answer) as channel:
        problem = await failure(channel.call(PLAIN, ping(1)))
        assert problem.code is code
        assert said in str(problem)


async def test_a_server_that_falls_silent_costs_a_deadline() -> None:
    async with bad_server(pack(FrameKind.REPLY, 1, 1, 0, 100_000) + bytes(1000), stays=True) as channel:
        with pytest.raises(DeadlineExceeded):
            await channel.call(PLAIN, ping(1), timeout_ns=100 * MILLISECOND)


async def test_a_host_without_address_is_unreachable() -> None:
    channel = TcpTransport(OsClock()).connect("tcp://no-such-host.invalid:80")
    with pytest.raises(Unreachable, match=r"no address is known for 'no-such-host.invalid'"):
        await channel.call(PLAIN, ping(1))
    await channel.close()


async def test_refusals_are_repeated_without_asking_again() -> None:
    """While the backoff lasts, callers learn at once that nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    channel = TcpTransport(OsClock()).connect(f"tcp://127.0.0.1:{port}")
    problems = [await failure(channel.call(PLAIN, ping(seq))) for seq in range(50)]
    assert {problem.code for problem in problems} == {Code.UNAVAILABLE}
    assert {problem.errno for problem in problems} == {errno.ECONNREFUSED}
    assert all("nobody listens" in str(problem) for problem in problems)
    await channel.close()


async def test_a_channel_belongs_to_one_loop() -> None:
    channel = TcpTransport(OsClock()).connect("tcp://127.0.0.1:1")
    with pytest.raises(Unreachable):
        await channel.call(PLAIN, ping(1))

    def elsewhere() -> FS3Error:
        return asyncio.run(failure(channel.call(PLAIN, ping(1))))

    problem = await asyncio.to_thread(elsewhere)
    assert problem.code is Code.UNSUPPORTED
    assert "another event loop" in str(problem)
    await channel.close()


async def test_staged_bytes_of_one_connection_do_not_leak_into_another() -> None:
    """Connections share one staging buffer; half frames of many of them interleave."""
    async with scene({PLAIN: echo, PUSH: summing}) as (channel, first):
        peers = [first] + [await RawPeer.to(channel.endpoint) for _ in range(9)]  # type: ignore[attr-defined]
        frames = [request(PLAIN, ping(1000 + index), 1 + index) * 1 for index in range(10)]
        for at in range(max(map(len, frames))):
            for peer, frame in zip(peers, frames, strict=True):
                peer.send(frame[at : at + 1])
            await asyncio.sleep(0)
        for index, peer in enumerate(peers):
            frame, header, _ = await peer.frame()
            assert frame.request_id == 1 + index
            assert PLAIN.reply.FromString(header).seq == 1000 + index
        for peer in peers[1:]:
            await peer.close()


def test_sizes_are_as_the_tests_assume() -> None:
    assert HEADER_BYTES == 28
    assert frame_payload_bytes_max == 65 * MIB
    assert 4 * KIB < frame_header_bytes_max == MIB


async def test_a_submitted_call_whose_connection_breaks_as_it_is_sent_is_told_later() -> None:
    loop = asyncio.get_running_loop()
    told: list[Code] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        channel = TcpTransport(OsClock()).connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        first = channel.start(PLAIN, ping(1))
        peer, _ = await loop.sock_accept(server)
        await loop.sock_recv(peer, 1000)
        await loop.sock_sendall(peer, pack(FrameKind.REPLY, PLAIN.id, 1, 0, 0))
        await first
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # with a reset, which the next send meets
        assert channel.submit(PLAIN, ping(2), lambda reply, why: told.append(why.code if why else Code.OK))
        assert not told
        await eventually(lambda: bool(told))
        assert told == [Code.DISCONNECTED]
        await channel.close()

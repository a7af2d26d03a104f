"""The framed wire under random bytes, damaged frames and every way of cutting a stream into pieces.

Whatever arrives: the server answers or disconnects, never hangs and never harms another connection, and the same bytes mean the
same however they are cut.
"""

import asyncio
import socket
import zlib
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs3.base.errors import FS3Error
from fs3.base.units import SECOND
from fs3.drivers.framed.listener import FramedListener
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.ports.rpc import Call, Channel
from fs3.sim.conformance.transport_harness import PLAIN, PULL, PUSH, echo, pattern, ping, summing
from fs3.wire.endpoints import parse_host_port
from fs3.wire.frames import HEADER_BYTES, FrameKind, pack, unpack
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2, storage_pb2

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(call: Call) -> None:
    call.reply(storage_pb2.ReadReply(), (pattern(call.request.lengths[0] if call.request.lengths else 0),))


def configure(call: Call) -> None:
    call.reply(mgmtd_pb2.SetConfigReply(version=len(call.request.toml)))


BINDINGS = {PLAIN: echo, PUSH: summing, PULL: read, MGMTD.SetConfig: configure}


def request(method: Any, message: Any, request_id: int, payload: bytes = b"") -> bytes:
    data = message.SerializeToString()
    return pack(FrameKind.REQUEST, method.id, request_id, len(data), len(payload)) + data + payload


SESSION = b"".join(
    (
        request(PLAIN, ping(1), 1),
        request(PUSH, storage_pb2.UpdateRequest(), 2, pattern(50)),
        request(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest(), 3, b"nobody takes this"),
        pack(FrameKind.CANCEL, PLAIN.id, 1, 0),
        request(PULL, storage_pb2.ReadRequest(lengths=[20]), 4),
        request(PLAIN, ping(2), 5),
    )
)
"""One of everything, small."""

LONG_SESSION = b"".join(
    (
        request(MGMTD.SetConfig, mgmtd_pb2.SetConfigRequest(toml="x" * 40_000), 1),
        request(PUSH, storage_pb2.UpdateRequest(), 2, pattern(300_000)),
        request(PLAIN, ping(2), 3),
        request(PUSH, storage_pb2.UpdateRequest(), 4, pattern(70_000)),
        request(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest(), 5, bytes(90_000)),
        request(PULL, storage_pb2.ReadRequest(lengths=[100_000]), 6),
    )
)
"""With a header of its own buffer, and payloads that do not fit what is staged."""


def run(scene: Callable[[FramedListener, Channel, ReceivePool], Awaitable[None]]) -> None:
    """Run a scene with a server and a well-behaved client, on a loop of its own."""

    async def main() -> None:
        pool = ReceivePool()
        transport = TcpTransport(OsClock(), pool=pool)
        listener = await transport.serve("tcp://127.0.0.1:0", BINDINGS)
        channel = transport.connect(listener.endpoint)
        try:
            async with asyncio.timeout(60):
                await scene(listener, channel, pool)  # type: ignore[arg-type]
                assert (await channel.call(PLAIN, ping(5))).message.seq == 5
        finally:
            await channel.close()
            await listener.close()
        assert pool.held_bytes == 0

    asyncio.run(main())


async def raw(listener: FramedListener) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, parse_host_port(listener.endpoint, "tcp"))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def until_closed(sock: socket.socket) -> bytes:
    """Everything the server sends until it disconnects us."""
    data = b""
    while True:
        try:
            piece = await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
        except ConnectionError:
            return data
        if not piece:
            return data
        data += piece


async def answers(sock: socket.socket, count: int) -> dict[int, tuple[int, int, int]]:
    """Request id -> (code, CRC of the protobuf, CRC of the payload), once so many have come."""
    data = b""
    found: dict[int, tuple[int, int, int]] = {}
    while len(found) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
        assert piece, "disconnected"
        data += piece
        while len(data) >= HEADER_BYTES:
            frame = unpack(data)
            stop = HEADER_BYTES + frame.header_length
            end = stop + frame.payload_length
            if len(data) < end:
                break
            found[frame.request_id] = (frame.code, zlib.crc32(data[HEADER_BYTES:stop]), zlib.crc32(data[stop:end]))
            data = data[end:]
    return found


async def told(listener: FramedListener, pieces: list[bytes], count: int) -> dict[int, tuple[int, int, int]]:
    sock = await raw(listener)
    try:
        for piece in pieces:
            await asyncio.get_running_loop().sock_sendall(sock, piece)
            await asyncio.sleep(0)
        return await answers(sock, count)
    finally:
        sock.close()


def test_a_session_may_be_cut_anywhere() -> None:
    async def scene(listener: FramedListener, channel: Channel, pool: ReceivePool) -> None:
        whole = await told(listener, [SESSION], 5)
        assert sorted(whole) == [1, 2, 3, 4, 5]
        for cut in range(1, len(SESSION)):
            assert await told(listener, [SESSION[:cut], SESSION[cut:]], 5) == whole
        assert await told(listener, [SESSION[at : at + 1] for at in range(len(SESSION))], 5) == whole

    run(scene)


@FUZZ
@given(st.lists(st.integers(0, len(LONG_SESSION)), max_size=12))
def test_a_long_session_may_be_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(LONG_SESSION)]
    pieces = [LONG_SESSION[start:stop] for start, stop in pairwise(edges) if start < stop]

    async def scene(listener: FramedListener, channel: Channel, pool: ReceivePool) -> None:
        assert await told(listener, pieces, 6) == await told(listener, [LONG_SESSION], 6)

    run(scene)


@FUZZ
@given(st.binary(min_size=1, max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    async def scene(listener: FramedListener, channel: Channel, pool: ReceivePool) -> None:
        sock = await raw(listener)
        await asyncio.get_running_loop().sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)
        await until_closed(sock)
        sock.close()

    run(scene)


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(SESSION) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_damaged_frames_are_refused_or_answered(damage: list[tuple[int, int]], data: st.DataObject) -> None:
    session = bytearray(SESSION)
    for at, value in damage:
        session[at] = value
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(session)))
        session[at:at] = data.draw(st.binary(max_size=40))

    async def scene(listener: FramedListener, channel: Channel, pool: ReceivePool) -> None:
        sock = await raw(listener)
        await asyncio.get_running_loop().sock_sendall(sock, bytes(session))
        sock.shutdown(socket.SHUT_WR)
        await until_closed(sock)
        sock.close()

    run(scene)


REPLIES = b"".join(
    (
        pack(FrameKind.REPLY, PLAIN.id, 1, 2) + mgmtd_pb2.HeartbeatReply(seq=1).SerializeToString(),
        pack(FrameKind.REPLY, PULL.id, 2, 0, 300) + pattern(300),
        pack(FrameKind.REPLY, PLAIN.id, 3, 2) + mgmtd_pb2.HeartbeatReply(seq=3).SerializeToString(),
    )
)


@FUZZ
@given(
    st.lists(st.tuples(st.integers(0, len(REPLIES) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(REPLIES)),
    st.lists(st.integers(0, len(REPLIES)), max_size=5),
)
def test_a_client_of_a_damaged_server_gets_answers_or_errors(damage: list[tuple[int, int]], length: int, cuts: list[int]) -> None:
    replies = bytearray(REPLIES[:length])
    for at, value in damage:
        if at < length:
            replies[at] = value

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(HEADER_BYTES)
            edges = [0, *sorted(cuts), len(replies)]
            for start, stop in pairwise(edges):
                writer.write(bytes(replies[start:stop]))
                await asyncio.sleep(0)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        channel = TcpTransport(OsClock()).connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        buffer = bytearray(300)
        futures = [
            channel.start(PLAIN, ping(1), timeout_ns=20 * SECOND),
            channel.start(PULL, storage_pb2.ReadRequest(), into=lambda _message, length: [memoryview(buffer)[:length]]),
            channel.start(PLAIN, ping(3), timeout_ns=20 * SECOND),
        ]
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
        if not damage and length == len(REPLIES):
            assert buffer == pattern(300)
            assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, FS3Error), repr(outcome)
        await channel.close()
        server.close()

    asyncio.run(main())

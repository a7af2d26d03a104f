"""Calls without an event loop: the answer, and everything that can come instead of it."""

import asyncio
import os
import socket
import struct
import threading

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.framed.blocking import BlockingConnection
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.wire.frames import FrameKind, pack
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2

REQUEST = storage_pb2.ReadRequest(chunks=bytes(16), chains=[1], lengths=[5])
REPLY = storage_pb2.ReadReply(codes=[0], lengths=[5]).SerializeToString()
LATE = 20 * SECOND
"""Longer than any test: an answer that is waited for."""
SOON = 50 * MILLISECOND
"""Of a call that is to end without one."""


def frame(payload=b"bytes", *, request_id=1, kind=FrameKind.REPLY, code=0, header=REPLY):
    return pack(kind, STORAGE.Read.id, request_id, len(header), len(payload), code) + header + payload


class Peer:
    """The other end of a connection: sends what it is told once a request has arrived."""

    def __init__(self, timeout_ns):
        mine, self.sock = socket.socketpair()
        self.connection = BlockingConnection("test://peer", mine, timeout_ns)

    def answers(self, *pieces, closes=False):
        def run():
            self.sock.recv(4096)
            for piece in pieces:
                self.sock.sendall(piece)
            if closes:
                self.sock.close()

        threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def peer():
    made = []

    def make(timeout_ns=LATE):
        made.append(Peer(timeout_ns))
        return made[-1]

    yield make
    for one in made:
        one.connection.close()
        one.sock.close()


@pytest.mark.parametrize("cut", [1, 20, 28, 30, 28 + len(REPLY), 28 + len(REPLY) + 2])
def test_an_answer_may_come_in_pieces(peer, cut):
    one = peer()
    whole = frame()
    one.answers(whole[:cut], whole[cut:])
    into = memoryview(bytearray(5))
    message, got = one.connection.call(STORAGE.Read, REQUEST, into)
    assert (list(message.lengths), got, bytes(into)) == ([5], 5, b"bytes")
    assert not one.connection.is_closed


def test_a_payload_that_is_larger_than_what_is_received_at_once(peer):
    one = peer()
    payload = os.urandom(60_000)
    one.answers(frame(payload))
    into = memoryview(bytearray(60_000))
    assert one.connection.call(STORAGE.Read, REQUEST, into)[1] == 60_000
    assert into == payload


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "not an fs3 frame"),
        ((frame(request_id=7),), "is no answer to it"),
        ((frame(kind=FrameKind.MORE),), "is no answer to it"),
        ((frame(b"more bytes"),), "is no answer to it"),
        ((frame(header=bytes(40_000)),), "Error parsing message"),
        ((frame() + b"and then some",), "nobody has asked for"),
        ((frame(header=b"\xff\xff\xff"),), "Error parsing message"),
    ],
)
def test_nonsense_ends_the_connection(peer, pieces, why):
    one = peer()
    one.answers(*pieces)
    with pytest.raises(Exception, match=why):
        one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))
    assert one.connection.is_closed
    with pytest.raises(FS3Error, match="was closed"):
        one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))


def test_a_refusal_and_a_peer_that_goes(peer):
    one = peer()
    one.answers(frame(b"", code=Code.BUSY, header=b""))
    with pytest.raises(FS3Error) as refused:
        one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))
    assert refused.value.code is Code.BUSY
    assert not one.connection.is_closed, "a refusal is an answer"
    another = peer()
    another.answers(frame()[:30], closes=True)
    with pytest.raises(FS3Error, match="closed the connection"):
        another.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))


def test_no_answer_in_time_and_one_that_stops_in_the_middle(peer):
    one = peer(SOON)
    with pytest.raises(OSError):  # noqa: PT011 - the system says EAGAIN
        one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))
    another = peer(SOON)
    another.answers(frame()[:-1])
    with pytest.raises(OSError):  # noqa: PT011
        another.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))
    assert one.connection.is_closed
    assert another.connection.is_closed


def test_a_call_is_broken_off_from_another_thread(peer):
    one = peer()
    arrived = threading.Event()

    def interrupt():
        one.sock.recv(4096)
        arrived.set()
        one.connection.abort()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(FS3Error, match="closed the connection"):
        one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))
    assert arrived.is_set()


async def test_over_both_kinds_of_sockets(tmp_path):
    def read(call):
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[5]), (b"bytes",))

    for transport, endpoint in (
        (TcpTransport(OsClock()), "tcp://127.0.0.1:0"),
        (LocalTransport(OsClock()), f"local://{tmp_path}/s"),
    ):
        listener = await transport.serve(endpoint, {STORAGE.Read: read})

        def ask(transport=transport, listener=listener):
            connection = transport.connect_blocking(listener.endpoint, LATE)
            into = memoryview(bytearray(5))
            for _ in range(3):
                assert connection.call(STORAGE.Read, REQUEST, into)[1] == 5
            connection.close()
            return bytes(into)

        assert await asyncio.to_thread(ask) == b"bytes"
        await listener.close()
    assert TcpTransport(OsClock()).connect_blocking("tcp://localhost:1", LATE) is None, "a name has to be looked up"
    with pytest.raises(ConnectionRefusedError):
        TcpTransport(OsClock()).connect_blocking(listener_gone(), LATE)


def listener_gone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_forked_child_has_no_part_in_it(peer):
    one = peer()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if one.connection.is_closed else 1)
    assert os.waitpid(pid, 0)[1] == 0
    one.answers(frame())
    assert one.connection.call(STORAGE.Read, REQUEST, memoryview(bytearray(5)))[1] == 5


def test_a_lingering_timeout_of_zero_is_not_forever(peer):
    one = peer(SOON)
    bound = one.connection._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.calcsize("@ll"))
    assert struct.unpack("@ll", bound) != (0, 0)

"""One user floods a server over a hundred connections, and another one's requests go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.core.security.revocations import Revocations
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import seal_ticket
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.model.metrics import catalogue
from fs3.model.share import Limit, Share
from fs3.ports.rpc import Bindings, Call, Channel
from fs3.runtime.ticket_gate import GateLimits, TicketGate
from fs3.sim.conformance.transport_harness import eventually
from fs3.wire.endpoints import parse_host_port
from fs3.wire.frames import FrameKind, pack
from fs3.wire.methods import PROCESS, STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.process import authenticate_to_pb
from tests.conformance.test_authentication import ANN, BOB, RING, Wallet

CONNECTIONS = 100
PIECE = 256 * KIB
READS = [small_read_bytes // 2] * 16
"""Of one request: pieces that are copied, so that the reply is memory."""
BOUNDS = GateLimits(principal_request_bytes_max=4 * MIB, principal_reply_bytes_max=8 * MIB)
PATIENCE_NS = 60 * SECOND


class Told:
    """An audit log that is kept."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, Any]] = []

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        """See `Audit`."""
        self.lines.append((what, who, result, details.get("about")))


class Server:
    """It keeps Ann's updates until it is told, and answers Bob's at once. Reads are answered with bytes."""

    def __init__(self, wire: str = "tcp") -> None:
        self.clock = OsClock()
        self.security = SecurityState()
        self.security.time.learn(1_000, self.clock.now())
        self.security.update(is_on=True, ring=RING, revoked=Revocations())
        self.audit = Told()
        self.gate = TicketGate(self.security, self.clock, BOUNDS, self.audit)
        self.pool = ReceivePool(16 * MIB)
        self.replies = ReplyBudget(32 * MIB, 1 * MIB)
        self.kept: list[Call] = []
        self.is_over = False
        self.keeps_reads = False
        kind = TcpTransport if wire == "tcp" else GrpcTransport
        self._transport = kind(self.clock, gate=self.gate, pool=self.pool, replies=self.replies)
        self._clients = {name: kind(self.clock, tickets=Wallet(seal_ticket(RING, who))) for name, who in USERS.items()}
        self._channels: list[Channel] = []
        self.endpoint = f"{wire}://127.0.0.1:0"

    def _update(self, call: Call) -> None:
        principal = call.auth.principal
        if principal is not None and principal.name == "ann" and not self.is_over:
            self.kept.append(call)
        else:
            answer(call)

    def _read(self, call: Call) -> None:
        if self.keeps_reads:
            self.kept.append(call)
        else:
            answer_read(call)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Until the end, when nothing may be left of anything."""
        bindings: Bindings = {STORAGE.Update: self._update, STORAGE.Read: self._read}
        listener = await self._transport.serve(self.endpoint, bindings)
        self.endpoint = listener.endpoint
        try:
            yield
        finally:
            for channel in self._channels:
                await channel.close()
            await eventually(lambda: self.pool.held_bytes == 0 and self.replies.held_bytes == 0)
            await listener.close()
        for share in self.gate._shares.values():
            for held in (share.requests, share.replies):
                assert (held.held_bytes, held.waiting_count) == (0, 0)

    def channel(self, name: str) -> Channel:
        """A connection of its own."""
        channel = self._clients[name].connect(self.endpoint)
        self._channels.append(channel)
        return channel

    def share(self, name: str) -> Share:
        return self.gate._shares[USERS[name].kind, name]

    def samples(self, limit: Limit) -> float:
        """What the metric of this limit says."""
        return sum(
            each.value
            for each in self.gate.samples()
            if each.metric is catalogue.PRINCIPALS_LIMITED and each.labels == (limit.value,)
        )


USERS = {"ann": ANN, "bob": BOB}


def answer(call: Call) -> None:
    call.release()
    call.reply(pb.UpdateReply())


def answer_read(call: Call) -> None:
    call.reply(pb.ReadReply(), [memoryview(bytes(length)) for length in call.request.lengths])


def update(channel: Channel, length: int = PIECE) -> asyncio.Future[Any]:
    return channel.start(STORAGE.Update, pb.UpdateRequest(lengths=[length]), [memoryview(bytes(length))], timeout_ns=PATIENCE_NS)


async def test_payloads_of_one_user_leave_room_for_those_of_another() -> None:
    server = Server()
    async with server.serving():
        ann = [server.channel("ann") for _ in range(CONNECTIONS)]
        bob = server.channel("bob")
        await update(bob)
        asked = [update(channel) for channel in ann for _ in range(2)]
        full = BOUNDS.principal_request_bytes_max // PIECE
        await eventually(lambda: len(server.kept) == full and server.share("ann").requests.waiting_count >= CONNECTIONS - full)
        assert server.share("ann").requests.held_bytes <= BOUNDS.principal_request_bytes_max
        for _ in range(20):
            await update(bob)
        await asyncio.gather(*(update(bob) for _ in range(8)))
        assert len(server.kept) == full
        assert server.pool.held_bytes < server.pool.clients.bytes_max
        assert server.samples(Limit.REQUEST_BYTES) >= CONNECTIONS - full
        assert server.audit.lines.count(("limit", "ann", "BUSY", "request bytes")) == 1, "once a minute"
        # Everything that waited is served in the end.
        server.is_over = True
        for call in server.kept:
            answer(call)
        await asyncio.gather(*asked)


async def test_connections_that_close_while_they_wait_leave_nothing_behind() -> None:
    server = Server()
    async with server.serving():
        ann = [server.channel("ann") for _ in range(CONNECTIONS)]
        asked = [update(channel) for channel in ann]
        full = BOUNDS.principal_request_bytes_max // PIECE
        await eventually(lambda: len(server.kept) == full and server.share("ann").requests.waiting_count == CONNECTIONS - full)
        share = server.share("ann").requests
        for channel in ann[: CONNECTIONS // 2]:
            await channel.close()
        for call in server.kept:
            answer(call)
        server.is_over = True
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.gather(*(update(channel) for channel in ann[CONNECTIONS // 2 :]))
        await eventually(lambda: share.held_bytes == 0)


def flood_of_reads(endpoint: str, count: int) -> socket.socket:
    """A connection that proves to be Ann's, asks for bytes, and takes none of them."""
    sock = socket.create_connection(parse_host_port(endpoint, "tcp"))
    data = authenticate_to_pb(seal_ticket(RING, ANN)).SerializeToString()
    frames = [pack(FrameKind.REQUEST, PROCESS.Authenticate.id, 1, len(data)) + data]
    asked = pb.ReadRequest(lengths=READS).SerializeToString()
    frames += [pack(FrameKind.REQUEST, STORAGE.Read.id, number, len(asked)) + asked for number in range(2, count + 2)]
    sock.sendall(b"".join(frames))
    return sock


async def read(channel: Channel) -> None:
    buffer = bytearray(sum(READS))
    await channel.call(
        STORAGE.Read, pb.ReadRequest(lengths=READS), into=lambda _, length: [memoryview(buffer)[:length]],
        timeout_ns=PATIENCE_NS,
    )  # fmt: skip


async def test_replies_that_one_user_does_not_take_leave_room_for_those_of_another() -> None:
    server = Server()
    async with server.serving():
        bob = server.channel("bob")
        await read(bob)
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(flood_of_reads(server.endpoint, 32))
            await eventually(
                lambda: len(server.gate._shares) == 2 and server.share("ann").replies.waiting_count > CONNECTIONS // 4
            )
            replies = server.share("ann").replies
            assert replies.held_bytes <= BOUNDS.principal_reply_bytes_max
            for _ in range(20):
                await read(bob)
            await asyncio.gather(*(read(bob) for _ in range(8)))
            assert replies.held_bytes <= BOUNDS.principal_reply_bytes_max
            assert replies.waiting_count > CONNECTIONS // 4
            assert not server.replies.waiting_count, "the budget of the process is not what is short"
            assert server.samples(Limit.REPLY_BYTES)
        await eventually(lambda: replies.held_bytes == 0)


async def test_replies_that_waited_arrive_when_there_is_room() -> None:
    server = Server()
    async with server.serving():
        server.keeps_reads = True
        ann = [server.channel("ann") for _ in range(CONNECTIONS)]
        asked = [asyncio.ensure_future(read(channel)) for channel in ann for _ in range(2)]
        full = BOUNDS.principal_reply_bytes_max // sum(READS)
        await eventually(lambda: len(server.kept) == full and server.share("ann").replies.waiting_count >= CONNECTIONS - full)
        server.keeps_reads = False
        await read(server.channel("bob"))
        for channel in ann[-10:]:
            await channel.close()
        for call in server.kept:
            answer_read(call)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert not any(outcomes[: 2 * (CONNECTIONS - 10)])
        assert all(outcomes[2 * (CONNECTIONS - 10) :])
        assert server.samples(Limit.REPLY_BYTES) >= CONNECTIONS - full


async def test_a_reply_that_waits_for_the_process_leaves_nothing_behind_when_its_user_is_revoked() -> None:
    server = Server()
    others = server.replies.bytes_max
    async with server.serving():
        ann = server.channel("ann")
        await read(ann)
        replies = server.share("ann").replies
        await eventually(lambda: replies.held_bytes == 0 and server.replies.held_bytes == 0)
        server.replies.change(others)
        try:
            asked = asyncio.ensure_future(read(ann))
            await eventually(lambda: server.replies.waiting_count == 1)
            assert replies.held_bytes == sum(READS), "it is counted while it waits"
            server.security.update(is_on=True, ring=RING, revoked=Revocations(1, {"ann": 1}))
            with pytest.raises(FS3Error):
                await asked
            await eventually(lambda: not server.replies.waiting_count)
            assert replies.held_bytes == 0
            assert server.replies.held_bytes == others
        finally:
            server.replies.change(-others)


async def test_on_grpc_what_is_too_much_is_refused_for_now() -> None:
    server = Server("grpc")
    async with server.serving():
        ann, bob = server.channel("ann"), server.channel("bob")
        full = BOUNDS.principal_request_bytes_max // PIECE
        asked = [update(ann) for _ in range(full)]
        await eventually(lambda: len(server.kept) == full)
        with pytest.raises(FS3Error) as refused:
            await update(ann)
        assert refused.value.code is Code.BUSY
        await update(bob)
        assert server.samples(Limit.REQUEST_BYTES) == 1
        for call in server.kept:
            answer(call)
        await asyncio.gather(*asked)
        server.is_over = True
        await update(ann)


async def test_a_cluster_without_security_counts_nothing() -> None:
    server = Server()
    server.security.update(is_on=False, ring=RING, revoked=Revocations())
    server.is_over = True
    async with server.serving():
        ann = [server.channel("ann") for _ in range(CONNECTIONS)]
        await asyncio.gather(*(update(channel) for channel in ann for _ in range(2)))
        await asyncio.gather(*(read(channel) for channel in ann))
        assert not any(server.gate.limited.values())

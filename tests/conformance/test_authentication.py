"""Who may ask what, on every wire: the same answers whatever carries the ticket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fs3.base.errors import NoPermission
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import seal_ticket
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.principal import ALL_RIGHTS, AuthContext, Principal, PrincipalKind, Right
from fs3.ports.rpc import Bindings, Call, Channel, Transport
from fs3.runtime.ticket_gate import GateLimits, TicketGate, TicketRefusal, origin_of
from fs3.sim.conformance.transport_harness import WATCH, eventually, failure
from fs3.wire.endpoints import parse_host_port
from fs3.wire.methods import META, MGMTD
from fs3.wire.pb import meta_pb2, mgmtd_pb2

KEYS = {3: b"k" * 32, 4: b"l" * 32}
RING = KeyRing(bytes(range(16)), KEYS, 4)
ANN = Principal(PrincipalKind.USER, "ann", Right.USER, uid=1000, expires_ms=60_000, epoch=5)
BOB = Principal(PrincipalKind.USER, "bob", Right.USER, uid=1001, expires_ms=60_000, epoch=5)
STORE = Principal(PrincipalKind.SERVICE, "storage-1", Right.STORAGE, node=7, expires_ms=60_000)


class SteppedClock(OsClock):
    """The real clock, which a test sets ahead."""

    ahead_ns = 0

    def now(self) -> int:
        """See `Clock.now`."""
        return super().now() + self.ahead_ns


class Wallet:
    """The tickets of a client."""

    def __init__(self, ticket: bytes = b"", *, can_renew: bool = False) -> None:
        self.ticket = ticket
        self.refused: list[bytes] = []
        self._can_renew = can_renew
        self._callbacks: list[Callable[[], None]] = []

    def subscribe(self, on_ticket: Callable[[], None]) -> Callable[[], None]:
        """See `TicketSource.subscribe`."""
        self._callbacks.append(on_ticket)
        return lambda: self._callbacks.remove(on_ticket)

    def on_refused(self, ticket: bytes, server: str) -> bool:
        """See `TicketSource.on_refused`."""
        self.refused.append(ticket)
        return self._can_renew

    def put(self, ticket: bytes) -> None:
        """A newer one."""
        self.ticket = ticket
        for callback in self._callbacks:
            callback()


class Scene:
    """A server with a gate, and clients of it."""

    def __init__(self, wire: str, directory: Path, bounds: GateLimits | None = None) -> None:
        self.clock = SteppedClock()
        self.security = SecurityState()
        self.security.time.learn(1_000, self.clock.now())
        self.security.update(is_on=True, ring=RING, revoked=Revocations())
        self.gate = TicketGate(self.security, self.clock, bounds)
        self.wire = wire
        self._network = MemoryNetwork(self.clock)
        self._endpoint = {
            "tcp": "tcp://127.0.0.1:0",
            "grpc": "grpc://127.0.0.1:0",
            "local": f"local://{directory}/s",
            "memory": "memory://s",
        }[wire]
        self._streams: list[Call] = []
        self.asked_by: list[str | None] = []
        self._channels: list[Channel] = []

    def transport(self, gate: TicketGate | None, wallet: Wallet | None) -> Transport:
        """Of one side."""
        if self.wire == "tcp":
            return TcpTransport(self.clock, gate=gate, tickets=wallet)
        if self.wire == "local":
            return LocalTransport(self.clock, gate=gate, tickets=wallet)
        if self.wire == "grpc":
            return GrpcTransport(self.clock, gate=gate, tickets=wallet)
        return MemoryTransport(self._network, "client", gate=gate, tickets=wallet)

    def bindings(self) -> Bindings:
        """A method for anyone, one for users, one for services, and a stream for users."""

        def told(call: Call) -> None:
            self.asked_by.append(call.auth.principal.name if call.auth.principal is not None else None)
            call.reply(call.method.reply())

        return {MGMTD.GetCluster: told, META.Stat: told, MGMTD.Heartbeat: told, WATCH: self._streams.append}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Until the end."""
        listener = await self.transport(self.gate, None).serve(self._endpoint, self.bindings())
        self._endpoint = listener.endpoint
        try:
            yield
        finally:
            for channel in self._channels:
                await channel.close()
            await listener.close()

    def client(self, wallet: Wallet | None = None) -> Channel:
        """A channel with these tickets."""
        channel = self.transport(None, wallet).connect(self._endpoint)
        self._channels.append(channel)
        return channel


@pytest.fixture(params=["tcp", "local", "grpc", "memory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """On each wire."""
    return Scene(request.param, tmp_path)


async def stat(channel: Channel) -> None:
    """What users may ask."""
    await channel.call(META.Stat, meta_pb2.StatRequest())


async def test_strangers_may_ask_only_what_anyone_may(scene: Scene) -> None:
    async with scene.serving():
        channel = scene.client()
        await channel.call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest())
        for refused in (stat(channel), channel.call(MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest())):
            problem = await failure(refused)
            assert isinstance(problem, NoPermission)
            assert problem.code is Code.NOT_AUTHENTICATED
        assert scene.asked_by == [None]


async def test_users_and_services_may_ask_what_is_theirs_and_are_known(scene: Scene) -> None:
    async with scene.serving():
        user, service = scene.client(Wallet(seal_ticket(RING, ANN))), scene.client(Wallet(seal_ticket(RING, STORE)))
        await stat(user)
        await service.call(MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest())
        assert scene.asked_by == ["ann", "storage-1"]
        assert (await failure(user.call(MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest()))).code is Code.PERMISSION
        assert (await failure(stat(service))).code is Code.PERMISSION


@pytest.mark.parametrize(
    ("ticket", "reason"),
    [
        (seal_ticket(RING, ANN)[:-1] + b"?", TicketRefusal.BROKEN),
        (b"x" * 5000, TicketRefusal.BROKEN),
        (seal_ticket(KeyRing(b"another cluster!", KEYS, 4), ANN), TicketRefusal.BROKEN),
        (seal_ticket(KeyRing(RING.cluster, {4: b"m" * 32}, 4), ANN), TicketRefusal.BROKEN),
        (seal_ticket(RING, Principal(PrincipalKind.USER, "ann", Right.USER, expires_ms=999)), TicketRefusal.EXPIRED),
    ],
    ids=["altered", "long", "other cluster", "other key", "expired"],
)
async def test_a_ticket_that_is_none_proves_nothing_and_is_not_told_why(
    scene: Scene, ticket: bytes, reason: TicketRefusal
) -> None:
    async with scene.serving():
        with_none = await failure(stat(scene.client()))
        problem = await failure(stat(scene.client(Wallet(ticket))))
        assert (problem.code, problem.strerror) == (with_none.code, with_none.strerror)
        assert scene.gate.refused[reason] == 1
        assert not scene.asked_by


async def test_a_revoked_user_is_refused_at_once_and_streams_of_it_end(scene: Scene) -> None:
    async with scene.serving():
        ann, bob = scene.client(Wallet(seal_ticket(RING, ANN))), scene.client(Wallet(seal_ticket(RING, BOB)))
        await stat(ann)
        await stat(bob)
        stream = asyncio.ensure_future(anext(ann.stream(WATCH, mgmtd_pb2.GetRoutingRequest())))
        await eventually(lambda: bool(scene._streams))
        scene.security.update(is_on=True, ring=RING, revoked=Revocations(6, {"ann": 6}))
        await failure(stream)
        assert (await failure(stat(ann))).code in (Code.NOT_AUTHENTICATED, Code.DISCONNECTED)
        assert (await failure(stat(ann))).code is Code.NOT_AUTHENTICATED
        await stat(bob)


async def test_what_was_verified_with_a_key_ends_with_the_key(scene: Scene) -> None:
    async with scene.serving():
        channel = scene.client(Wallet(seal_ticket(RING, ANN)))
        await stat(channel)
        scene.security.update(is_on=True, ring=KeyRing(RING.cluster, {3: KEYS[3], 5: b"n" * 32}, 5), revoked=Revocations())
        assert (await failure(stat(channel))).code in (Code.NOT_AUTHENTICATED, Code.DISCONNECTED)
        assert (await failure(stat(channel))).code is Code.NOT_AUTHENTICATED


async def test_rights_end_with_the_ticket_unless_it_is_renewed(scene: Scene) -> None:
    async with scene.serving():
        wallets = Wallet(seal_ticket(RING, ANN)), Wallet(seal_ticket(RING, BOB))
        ann, bob = map(scene.client, wallets)
        await stat(ann)
        await stat(bob)
        scene.clock.ahead_ns = 50 * SECOND
        scene.security.time.learn(51_000, scene.clock.now())
        later = Principal(PrincipalKind.USER, "bob", Right.USER, uid=1001, expires_ms=110_000, epoch=5)
        wallets[1].put(seal_ticket(RING, later))
        await stat(bob)
        scene.clock.ahead_ns = 59 * SECOND
        scene.security.time.learn(60_000, scene.clock.now())
        assert (await failure(stat(ann))).code in (Code.NOT_AUTHENTICATED, Code.DISCONNECTED)
        assert (await failure(stat(ann))).code is Code.NOT_AUTHENTICATED
        await stat(bob)
        assert scene.asked_by == ["ann", "bob", "bob", "bob"]


async def test_a_client_that_will_have_a_newer_ticket_asks_again(scene: Scene) -> None:
    async with scene.serving():
        wallet = Wallet(b"", can_renew=True)
        channel = scene.client(wallet)
        problem = await failure(stat(channel))
        assert problem.code is Code.TICKET_LAPSED
        assert wallet.refused == [b""]
        wallet.put(seal_ticket(RING, ANN))
        await stat(channel)


async def test_without_security_every_connection_may_ask_everything(scene: Scene) -> None:
    scene.security.update(is_on=False, ring=RING, revoked=Revocations())
    async with scene.serving():
        stranger, ann = scene.client(), scene.client(Wallet(seal_ticket(RING, ANN)))
        await stat(stranger)
        await stat(ann)
        await ann.call(MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest())
        assert scene.asked_by == [None, None, None]
        # From here on it has security: who had authenticated goes on, the others are asked to.
        scene.security.update(is_on=True, ring=RING, revoked=Revocations())
        await stat(ann)
        assert scene.asked_by[3:] == ["ann"]
        assert (await failure(stat(stranger))).code is Code.NOT_AUTHENTICATED


@pytest.mark.parametrize("wire", ["tcp", "local", "grpc"])
async def test_streams_of_strangers_end_when_the_cluster_gets_security(tmp_path: Path, wire: str) -> None:
    scene = Scene(wire, tmp_path)
    scene.security.update(is_on=False, ring=RING, revoked=Revocations())
    async with scene.serving():
        stream = asyncio.ensure_future(anext(scene.client().stream(WATCH, mgmtd_pb2.GetRoutingRequest())))
        await eventually(lambda: bool(scene._streams))
        scene.security.update(is_on=True, ring=RING, revoked=Revocations())
        scene.clock.ahead_ns = 11 * SECOND
        async with asyncio.timeout(5):
            await failure(stream)


async def test_a_process_that_hears_nothing_of_the_manager_takes_no_tickets(scene: Scene) -> None:
    async with scene.serving():
        scene.clock.ahead_ns = 3600 * SECOND
        assert (await failure(stat(scene.client(Wallet(seal_ticket(RING, ANN)))))).code is Code.NOT_AUTHENTICATED
        assert scene.gate.refused[TicketRefusal.TIME_UNKNOWN] == 1


@pytest.mark.parametrize("wire", ["tcp", "local", "memory"])
async def test_strangers_and_principals_have_so_many_connections(tmp_path: Path, wire: str) -> None:
    scene = Scene(wire, tmp_path, GateLimits(stranger_connections_max=3, principal_connections_max=2))
    async with scene.serving():
        known = [scene.client(Wallet(seal_ticket(RING, ANN))) for _ in range(2)]
        for channel in known:
            await stat(channel)
        strangers = [scene.client() for _ in range(3)]
        for channel in strangers:
            await channel.call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest())
        # One more: the oldest of them goes.
        await scene.client().call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest())
        assert scene.gate.refused[TicketRefusal.TOO_MANY] == 1
        assert scene.gate._strangers.connections == 3
        third = scene.client(Wallet(seal_ticket(RING, ANN)))
        assert (await failure(stat(third))).code is Code.NOT_AUTHENTICATED
        await known[0].close()
        await third.close()
        await eventually(lambda: scene.gate._shares[ANN.kind, ANN.name].connections == 1)
        await stat(scene.client(Wallet(seal_ticket(RING, ANN))))


async def test_a_connection_that_tries_many_tickets_is_closed(tmp_path: Path) -> None:
    scene = Scene("tcp", tmp_path, GateLimits(authentication_failures_max=3))
    async with scene.serving():
        wallet = Wallet(b"wrong")
        channel = scene.client(wallet)
        await failure(stat(channel))
        wallet.put(b"wrong, too")
        wallet.put(b"and again")
        assert (await failure(stat(channel))).code in (Code.DISCONNECTED, Code.NOT_AUTHENTICATED)
        await eventually(lambda: not channel._is_open)  # type: ignore[attr-defined]


async def test_a_principal_has_so_many_requests_under_way_over_all_its_connections(tmp_path: Path) -> None:
    scene = Scene("tcp", tmp_path, GateLimits(principal_calls_max=2))
    async with scene.serving():
        wallet = Wallet(seal_ticket(RING, ANN))
        streams = [asyncio.ensure_future(anext(scene.client(wallet).stream(WATCH, mgmtd_pb2.GetRoutingRequest()))) for _ in "12"]
        await eventually(lambda: len(scene._streams) == 2)
        third = scene.client(wallet)
        assert (await failure(stat(third))).code is Code.BUSY
        await stat(scene.client(Wallet(seal_ticket(RING, BOB))))
        streams[0].cancel()
        await eventually(lambda: scene._streams[0].is_cancelled)
        scene._streams[0].fail(Code.CANCELLED, "")
        await stat(third)
        streams[1].cancel()


@pytest.mark.parametrize("wire", ["tcp", "local", "memory"])
async def test_a_connection_says_who_asks_however_busy_its_caller_or_strangers_are(tmp_path: Path, wire: str) -> None:
    scene = Scene(wire, tmp_path, GateLimits(stranger_calls_max=2, principal_calls_max=3))
    held: list[Call] = []
    scene.bindings = lambda: {MGMTD.GetCluster: held.append, META.Stat: held.append}  # type: ignore[method-assign]
    async with scene.serving():
        stranger, wallet = scene.client(), Wallet(seal_ticket(RING, ANN))
        asked = [stranger.start(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest()) for _ in range(2)]
        await eventually(lambda: len(held) == 2)
        assert (await failure(stranger.call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest()))).code is Code.BUSY
        ann = scene.client(wallet)
        asked += [ann.start(META.Stat, meta_pb2.StatRequest()) for _ in range(3)]
        await eventually(lambda: len(held) == 5)
        assert (await failure(stat(ann))).code is Code.BUSY
        scene.security.time.learn(2_000, scene.clock.now())
        wallet.put(seal_ticket(RING, Principal(ANN.kind, "ann", Right.USER, expires_ms=90_000, epoch=5)))
        assert (await failure(stat(ann))).code is Code.BUSY
        assert held[-1].auth.until - scene.clock.now() > 60 * SECOND, "it was renewed all the same"
        for call in held:
            call.reply(call.method.reply())
        await asyncio.gather(*asked)


async def test_a_connection_that_proves_nothing_is_closed_in_time(tmp_path: Path) -> None:
    scene = Scene("tcp", tmp_path)
    async with scene.serving():
        channel = scene.client()
        await channel.call(MGMTD.GetCluster, mgmtd_pb2.GetClusterRequest())
        known = scene.client(Wallet(seal_ticket(RING, ANN)))
        await stat(known)
        scene.clock.ahead_ns = 11 * SECOND
        await eventually(lambda: not channel._is_open)  # type: ignore[attr-defined]
        assert known._is_open  # type: ignore[attr-defined]


async def test_a_thousand_idle_connections_and_halves_of_frames_slow_no_user_down(tmp_path: Path) -> None:
    scene = Scene("tcp", tmp_path)
    async with scene.serving():
        host, port = parse_host_port(scene._endpoint, "tcp")
        opened = [await asyncio.open_connection(host, port) for _ in range(1000)]
        for _, writer in opened[::2]:
            writer.write(b"\x53\x3f\x01")  # the begin of a frame, and no more
        known = [scene.client(Wallet(seal_ticket(RING, ANN))) for _ in range(3)]
        for channel in known:
            await stat(channel)
        assert scene.gate._strangers.connections <= GateLimits().stranger_connections_per_origin_max
        assert scene.gate.refused[TicketRefusal.TOO_MANY] >= 1000 - GateLimits().stranger_connections_per_origin_max
        scene.clock.ahead_ns = 11 * SECOND
        await eventually(lambda: not scene.gate._strangers.connections)
        for channel in known:
            await stat(channel)
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("wire", ["tcp", "local"])
async def test_a_caller_that_blocks_proves_who_it_is(tmp_path: Path, wire: str) -> None:
    scene = Scene(wire, tmp_path)
    async with scene.serving():
        wallet = Wallet(seal_ticket(RING, ANN))
        transport = scene.transport(None, wallet)
        channel = transport.connect_blocking(scene._endpoint, SECOND)  # type: ignore[attr-defined]

        def ask() -> None:
            channel.call(META.Stat, meta_pb2.StatRequest(), memoryview(bytearray()))

        await asyncio.to_thread(ask)
        wallet.ticket = seal_ticket(RING, BOB)
        await asyncio.to_thread(ask)
        assert scene.asked_by == ["ann", "bob"]
        wallet.ticket = b"wrong"
        await asyncio.to_thread(ask)  # what was proved before still holds
        channel.close()


def test_the_rights_of_an_open_cluster_are_all_rights() -> None:
    assert sum(Right) == ALL_RIGHTS
    # Enumerations are combined ten times as slowly as numbers, and this is done for every request.
    auth = AuthContext(Right.ANYONE)
    assert type(AuthContext().rights) is type(auth.rights) is int
    auth.prove(STORE, 1)
    assert type(auth.rights) is int


@pytest.mark.parametrize(
    ("peer", "origin"),
    [
        ("tcp://10.0.0.1:4711", "tcp://10.0.0.1"),
        ("tcp://[::1]:4711", "tcp://[::1]"),
        ("local:pid=12,uid=1000", "uid=1000"),
        ("ipv4:127.0.0.1:55", "ipv4:127.0.0.1"),
    ],
)
def test_strangers_are_counted_by_where_they_come_from(peer: str, origin: str) -> None:
    assert origin_of(peer) == origin

"""Thousands of requests with capabilities that do not count, on every wire: not one is served."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, file_chunk
from fs3.base.status import Code
from fs3.core.security.capability import READ, WRITE, Capability, Subject, SubjectKind, seal_capability
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import DIGEST_BYTES, HEAD_BYTES, KeyRing
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import seal_ticket
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.ports.rpc import Call, Channel, Transport
from fs3.runtime.ticket_gate import TicketGate
from fs3.services.storage.capability_guard import CapabilityGuard
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2
from tests.conformance.test_authentication import Wallet

REQUESTS = int(os.environ.get("FS3_ALTERED_REQUESTS", "1200"))
"""Per wire; 100 000 and more when asked for."""
AT_ONCE = 64
RING = KeyRing(bytes(16), {1: b"k" * 32, 2: b"l" * 32}, 2)
OTHER_CLUSTER = KeyRing(b"another cluster!", RING.keys, 2)
NOW_MS = 100_000
SECRET, OWN = 5, 6
"""Files of bob and of ann."""


def sealed(holder: str, content: int, rights: int = READ, expires_ms: int = NOW_MS + 50_000, ring: KeyRing = RING) -> bytes:
    return seal_capability(ring, Capability(Subject(SubjectKind.CONTENT, content), rights, expires_ms, holder))


def draw_shown(prng: random.Random) -> list[bytes]:
    """What ann shows to read what is bob's: altered, swapped, expired, replayed, or nothing."""
    own, replayed = sealed("ann", OWN), sealed("bob", SECRET)
    match prng.randrange(8):
        case 0:
            return []
        case 1:
            return [own]
        case 2:
            return [replayed, own]
        case 3:
            altered = bytearray(prng.choice((own, replayed)))
            for _ in range(prng.randint(1, 4)):
                altered[prng.randrange(len(altered))] ^= 1 << prng.randrange(8)
            return [bytes(altered)]
        case 4:
            cut = prng.randrange(HEAD_BYTES, len(own) - DIGEST_BYTES)
            return [own[:cut] + replayed[cut:], replayed[:cut] + own[cut:]]
        case 5:
            return [sealed("ann", SECRET, expires_ms=prng.randint(0, NOW_MS))]
        case 6:
            return [sealed("ann", SECRET, ring=OTHER_CLUSTER), sealed("ann", SECRET, rights=WRITE)]
        case _:
            return [prng.randbytes(prng.randint(0, 200)) for _ in range(prng.randint(1, 3))]


class Node:
    """A storage node that would serve everything."""

    def __init__(self, wire: str, directory: Path) -> None:
        self.clock = OsClock()
        self.security = SecurityState()
        self.hear()
        self.security.update(is_on=True, ring=RING, revoked=Revocations())
        self.gate = TicketGate(self.security, self.clock)
        self.guard = CapabilityGuard(self.security, self.clock)
        self.served = 0
        self._wire = wire
        self._network = MemoryNetwork(self.clock)
        self.endpoint = {
            "tcp": "tcp://127.0.0.1:0",
            "grpc": "grpc://127.0.0.1:0",
            "local": f"local://{directory}/s",
            "memory": "memory://s",
        }[wire]

    def hear(self) -> None:
        """The manager says the time, which stands still."""
        now = self.clock.now()
        self.security.time.learn(NOW_MS, now, now)

    def transport(self, gate: TicketGate | None, wallet: Wallet | None) -> Transport:
        """Of one side."""
        match self._wire:
            case "tcp":
                return TcpTransport(self.clock, gate=gate, tickets=wallet)
            case "local":
                return LocalTransport(self.clock, gate=gate, tickets=wallet)
            case "grpc":
                return GrpcTransport(self.clock, gate=gate, tickets=wallet)
        return MemoryTransport(self._network, "client", gate=gate, tickets=wallet)

    def read(self, call: Call) -> None:
        """Serves."""
        self.served += 1
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[6]), (b"secret",))

    def channel(self, user: str) -> Channel:
        """Of a user that has authenticated."""
        principal = Principal(PrincipalKind.USER, user, int(Right.USER), expires_ms=NOW_MS + 3_600_000)
        return self.transport(None, Wallet(seal_ticket(RING, principal))).connect(self.endpoint)


async def ask(channel: Channel, content: int, shown: list[bytes]) -> Code:
    """What comes of a read."""
    request = storage_pb2.ReadRequest(chunks=file_chunk(InodeId(content), 0), capabilities=shown)
    try:
        await channel.call(STORAGE.Read, request)
    except FS3Error as refusal:
        return refusal.code
    return Code.OK


@pytest.mark.parametrize("wire", ["tcp", "local", "grpc", "memory"])
async def test_nothing_is_served_to_who_may_not(wire: str, tmp_path: Path) -> None:
    node, prng = Node(wire, tmp_path), random.Random(wire)
    listener = await node.transport(node.gate, None).serve(
        node.endpoint, {STORAGE.Read: node.guard.guard(STORAGE.Read, node.read)}
    )
    node.endpoint = listener.endpoint
    ann, bob = node.channel("ann"), node.channel("bob")
    try:
        assert await ask(bob, SECRET, [sealed("bob", SECRET)]) is Code.OK
        assert node.served == 1
        for _ in range(0, REQUESTS, AT_ONCE):
            node.hear()
            codes = await asyncio.gather(*(ask(ann, SECRET, draw_shown(prng)) for _ in range(AT_ONCE)))
            assert set(codes) == {Code.NO_CAPABILITY}
        assert node.served == 1
        # Nor has any of it taken away, or added to, what the connections have.
        assert await ask(ann, OWN, [sealed("ann", OWN)]) is Code.OK
        assert await ask(bob, SECRET, [sealed("bob", SECRET)]) is Code.OK
    finally:
        await ann.close()
        await bob.close()
        await listener.close()

"""An intruder: `python -m fs3.drill.intruder PLAN [--requests N]`.

It sends every verb to every endpoint of a secured cluster, on the framed wire and on gRPC, with tickets that prove nothing (none,
random bytes, altered, expired, swapped, replayed after they were revoked, of another cluster) and with a good one of a user
to whom the data do not belong. What it may not have is refused, in the same words whatever is wrong; and nothing that it receives
has the mark that stands in what it is after.

PLAN is a JSON file (`IntruderPlan`). The report is JSON on standard output; the exit status is 1 when anything was answered that
must not be. It looks at answers alone: whether all is as it was is for those to say who own the cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drill.intruder_requests import Crafter
from fs3.drill.tickets import fetch_ticket
from fs3.model.method import Method
from fs3.model.principal import Right
from fs3.wire.endpoints import parse_host_port, parse_socket_path, strip_scheme
from fs3.wire.errors import decode_error
from fs3.wire.frames import HEADER_BYTES, FrameKind, pack, unpack
from fs3.wire.methods import METHODS, PROCESS
from fs3.wire.process import authenticate_to_pb

requests_per_connection = 40
_ANSWER_NS = 10 * SECOND
_WAITS = frozenset({"Mgmtd.WatchRouting", "Meta.Watch", "Meta.Lock", "Storage.CacheEvents"})
"""Verbs that are answered when something happens: the intruder asks, and goes."""
_BREACHES_MAX = 20
_TICKET_SECONDS = 15.0
"""How long a ticket is used."""

Asked = tuple[Method, bytes, bytes]
"""A method, the message, the payload."""
Answer = tuple[Method, Code, str, bytes]
"""A method, how it ended and in which words, everything that came."""


class IntruderPlan(msgspec.Struct):
    """What the intruder knows, and has."""

    endpoints: list[str]
    """Of every process of the cluster, on every wire."""
    mark: str
    """Stands in every file and page that it may not read. Hexadecimal digits."""
    knowledge: dict[str, Any]
    """Of the data it is after: see `Crafter`."""
    bad_tickets: dict[str, list[str]]
    """Kind -> tickets that prove nothing, as hexadecimal digits. "": none is shown at all."""
    manager: str = ""
    """ "host:port"."""
    token: str = ""
    """Of another user, who has nothing but the right of users. Altered tickets are made of its tickets too."""
    private_files: list[str] = []
    """That it may neither open nor connect to."""


@dataclass
class Findings:
    """What became of all that."""

    answers: Counter[str] = field(default_factory=Counter)
    """"WIRE KIND CODE" -> how often."""
    breaches: list[str] = field(default_factory=list)
    breach_count: int = 0
    words: dict[str, str] = field(default_factory=dict)
    """Method -> how it was refused to one that is not known."""

    def breach(self, what: str) -> None:
        """Something was answered that must not be."""
        self.breach_count += 1
        if len(self.breaches) < _BREACHES_MAX:
            self.breaches.append(what)

    def examine(self, wire: str, kind: str, method: Method, code: Code, message: str, data: bytes, mark: bytes) -> None:
        """One answer. `data`: everything that came with it."""
        self.answers[f"{wire} {kind} {code.name}"] += 1
        told = f"{method!r} on {wire} with a ticket that is {kind}"
        if mark in data:
            self.breach(f"{told}: the answer has what it must not tell")
        if kind == GOOD:
            if not method.rights & (Right.USER | Right.ANYONE) and code is not Code.PERMISSION:
                self.breach(f"{told}: {code.name}, where the caller has no right")
            return
        if method.rights & Right.ANYONE:
            return
        if code is not Code.NOT_AUTHENTICATED:
            self.breach(f"{told}: {code.name} {message!r}")
        elif self.words.setdefault(method.full_name, message) != message:
            self.breach(f"{told}: refused in other words: {message!r}")


GOOD = "good"
"""The kind of a ticket that is one, of a user with nothing but the right of users."""


class FramedAttack:
    """Requests on one connection of the framed wire, all sent before any answer is read."""

    wire = "framed"

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def send(
        self, ticket: bytes | None, asked: Sequence[tuple[Method, bytes, bytes]]
    ) -> Iterator[tuple[Method, Code, str, bytes]]:
        """What each of them was answered. Those that a closed connection left unanswered are not among them."""
        frames = []
        if ticket is not None:
            data = authenticate_to_pb(ticket).SerializeToString()
            frames.append(pack(FrameKind.REQUEST, PROCESS.Authenticate.id, len(asked) + 1, len(data)) + data)
        for number, (method, data, payload) in enumerate(asked, 1):
            frames.append(pack(FrameKind.REQUEST, method.id, number, len(data), len(payload), 0, 2000) + data + payload)
        left = {number for number, (method, _, _) in enumerate(asked, 1) if method.full_name not in _WAITS}
        with self._connect() as sock:
            sock.settimeout(_ANSWER_NS / SECOND)
            try:
                sock.sendall(b"".join(frames))
                while left:
                    frame = unpack(_receive(sock, HEADER_BYTES))
                    body = _receive(sock, frame.header_length + frame.payload_length)
                    if not 1 <= frame.request_id <= len(asked):
                        continue
                    method = asked[frame.request_id - 1][0]
                    if frame.kind != FrameKind.MORE:
                        left.discard(frame.request_id)
                    code = Code.from_wire(frame.code)
                    message = decode_error(frame.code, body, "it").strerror if code else ""
                    yield method, code, message or "", body
            except (ConnectionError, TimeoutError):
                return

    def _connect(self) -> socket.socket:
        if self._endpoint.startswith("local://"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(parse_socket_path(self._endpoint))
            return sock
        return socket.create_connection(parse_host_port(self._endpoint, "tcp"))


class GrpcAttack:
    """The same on gRPC, where each call brings its ticket."""

    wire = "grpc"

    def __init__(self, endpoint: str) -> None:
        import grpc

        self._grpc = grpc
        self._channel = grpc.insecure_channel(strip_scheme(endpoint, "grpc"))

    def send(
        self, ticket: bytes | None, asked: Sequence[tuple[Method, bytes, bytes]]
    ) -> Iterator[tuple[Method, Code, str, bytes]]:
        """As `FramedAttack.send`; payloads stay away, since admission does not come to them."""
        metadata = None if ticket is None else (("fs3-ticket-bin", ticket),)
        begun = []
        for method, data, _ in asked:
            path = f"/{method.service}/{method.name}"
            if method.streaming:
                continue
            call = self._channel.unary_unary(path).future(data, timeout=2.0, metadata=metadata)
            begun.append((method, call))
        for method, call in begun:
            problem = call.exception()
            if problem is None:
                yield method, Code.OK, "", call.result()
                continue
            trailer = dict(problem.trailing_metadata() or ())
            detail = trailer.get("fs3-error-bin")
            if detail is not None:
                failure = decode_error(0, detail, "it")
                yield method, failure.code, failure.strerror or "", detail
            elif problem.code() is self._grpc.StatusCode.UNIMPLEMENTED:
                yield method, Code.UNSUPPORTED, "", b""
            elif method.full_name not in _WAITS:
                yield method, Code.INTERNAL, str(problem.details()), b""


def _receive(sock: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return bytes(data)


def alter(ticket: bytes, chance: random.Random) -> bytes:
    """The ticket with one thing changed: a bit, its length, two halves of it, or bytes of it by others."""
    changed = bytearray(ticket)
    match chance.randrange(4):
        case 0:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        case 1:
            del changed[chance.randrange(len(changed)) :]
        case 2:
            middle = chance.randrange(1, len(changed))
            changed = changed[middle:] + changed[:middle]
        case _:
            at = chance.randrange(len(changed))
            changed[at : at + 4] = bytes(byte ^ chance.randrange(1, 256) for byte in changed[at : at + 4])
    return bytes(changed)


def intrude(plan: IntruderPlan, requests: int, seed: int = 1) -> Findings:
    """Send about so many requests. Kinds of tickets, endpoints and verbs take turns."""
    findings, chance, crafter = Findings(), random.Random(seed), Crafter(plan.knowledge, seed)
    mark = bytes.fromhex(plan.mark)
    for path in plan.private_files:
        try_file(path, findings)
    attacks: list[Any] = [
        GrpcAttack(each) if each.startswith("grpc://") else FramedAttack(each)
        for each in plan.endpoints
        if each.startswith(("tcp://", "grpc://"))
    ]
    wallet = FreshTickets(plan)
    kinds = [*plan.bad_tickets, *(["altered", GOOD] if plan.token else [])]
    served = [chance.sample(list(METHODS.values()), len(METHODS)) for _ in attacks]
    """Of each endpoint, less what it has said that it does not serve."""
    sent = turn = 0
    # Each kind of ticket, at every endpoint, with all verbs.
    turns_min = 2 * len(kinds) * len(attacks) * (len(METHODS) // requests_per_connection + 1)
    while sent < requests or turn < turns_min:
        kind, place = kinds[turn % len(kinds)], turn // len(kinds) % len(attacks)
        verbs, attack = served[place], attacks[place]
        begin = turn // (len(kinds) * len(attacks)) * requests_per_connection
        turn += 1
        asked = [crafter.request(verbs[(begin + index) % len(verbs)]) for index in range(requests_per_connection)]
        sent += len(asked)
        for method, code, message, data in attack.send(_ticket_of(plan, kind, wallet, chance), asked):
            if code is not Code.UNSUPPORTED:
                findings.examine(attack.wire, kind, method, code, message, data, mark)
            elif method in verbs:
                verbs.remove(method)
    return findings


class FreshTickets:
    """The good tickets of the intruder, which last a minute."""

    def __init__(self, plan: IntruderPlan) -> None:
        self._plan = plan
        self._ticket = b""
        self._fetched_at = 0.0

    @property
    def ticket(self) -> bytes:
        """One that is good for a while."""
        if not self._ticket or time.monotonic() - self._fetched_at > _TICKET_SECONDS:
            self._fetched_at = time.monotonic()
            self._ticket = asyncio.run(fetch_ticket(self._plan.manager, self._plan.token))
        return self._ticket


def _ticket_of(plan: IntruderPlan, kind: str, wallet: FreshTickets, chance: random.Random) -> bytes | None:
    if kind == GOOD:
        return wallet.ticket
    if kind == "altered":
        return alter(wallet.ticket, chance)
    ticket = chance.choice(plan.bad_tickets[kind])
    return bytes.fromhex(ticket) if ticket else None


def try_file(path: str, findings: Findings) -> None:
    """A file or socket of the cluster that only its owner may use."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
        findings.breach(f"{path}: a connection was accepted")
    except OSError:
        findings.answers["host socket refused"] += 1
    try:
        os.close(os.open(path, os.O_RDONLY))
        findings.breach(f"{path}: it can be read")
    except OSError:
        findings.answers["host file refused"] += 1


def become(name: str) -> None:
    """Give up everything that root has. The libraries are loaded before: where they are, the user may not be allowed to look."""
    import encodings.idna  # what the loop of asyncio loads when it connects
    import pwd

    import grpc

    assert encodings.idna
    assert grpc
    found = pwd.getpwnam(name)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
    os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m fs3.drill.intruder", description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--user", default="", help="begun as root: become this user of the machine before anything else")
    options = parser.parse_args(arguments)
    plan = msgspec.json.decode(options.plan.read_bytes(), type=IntruderPlan)
    if options.user:
        become(options.user)
    findings = intrude(plan, options.requests, options.seed)
    report = {
        "answers": dict(sorted(findings.answers.items())),
        "refused_verbs": sorted(findings.words),
        "breaches": findings.breaches,
        "breach_count": findings.breach_count,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if findings.breach_count else 0


if __name__ == "__main__":
    sys.exit(main())

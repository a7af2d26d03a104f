"""Joining, tokens and registrations as a manager takes them: what proves them, what is refused, and what a listener sees."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.core.membership.machines import digest_of, format_token
from fs3.core.membership.state import FORMAT, ClusterRow
from fs3.core.security.login import make_proof, recover_secret, transcript_of
from fs3.core.security.proved import ASK, JOIN, REGISTER, digest_of_registration, lock_request, unlock_answer
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.os.clock import OsClock
from fs3.model.machine import (
    CertificateAuthority,
    CertificateWish,
    IssuedCertificate,
    JoinCluster,
    Joined,
    JoinToken,
    JoinWish,
    Machine,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
)
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.model.routing import Role
from fs3.model.security import BeginLogin, Claimant, Login, LoginKind, ProvedRequest, SecurityPhase, SetSecurity
from fs3.model.settings import SettingsVersion
from fs3.services.mgmtd import MgmtdConfig, MgmtdService
from fs3.services.mgmtd.store import initialise
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_machines import join_to_pb, make_token_to_pb, remove_machine_to_pb, revoke_token_to_pb
from fs3.wire.mgmtd_proved import (
    join_wish_to_bytes,
    joined_from_bytes,
    machine_reply_from_bytes,
    machine_wish_to_bytes,
    proved_reply_from_pb,
    proved_to_pb,
)
from fs3.wire.mgmtd_security import begin_login_to_pb, challenge_from_pb, login_to_pb
from tests.unit.services.mgmtd.test_service import refused, registration

CLUSTER = b"c" * 16
SECRET = "0123456789abcdef" * 2
TOKEN = format_token(CLUSTER, "aaaaaaaa", SECRET)
KEY, NEW_KEY = b"K" * 32, bytes(range(200, 232))
FIRST, SECOND = MachineProof("h1", KEY), MachineProof("h2", NEW_KEY)


async def closed_store(token: JoinToken | None = None) -> MemoryKV:
    """What `fs3 cluster init` on machine h1 leaves, with a token for two machines."""
    kv = MemoryKV()
    token = token or JoinToken("aaaaaaaa", digest_of(SECRET.encode()), 2)
    row = ClusterRow(FORMAT, CLUSTER, "fs3", closed=True)
    await initialise(kv, row, Machine("h1", digest_of(KEY)), token, SettingsVersion(1, 0, "", {}))
    return kv


async def members(client: MgmtdClient) -> list[str]:
    return [machine.name for machine in (await client.list_machines()).machines]


class Asked:
    """A request that came to a manager, each from an address of its own, and what it was answered."""

    count = 0

    def __init__(self, method: Any, request: Any) -> None:
        Asked.count += 1
        self.method = method
        self.request = request
        self.peer = f"tcp://10.{Asked.count >> 16}.{Asked.count >> 8 & 255}.{Asked.count & 255}:4711"
        self.auth = AuthContext()
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def reply(self, message: Any) -> None:
        self.answer.set_result(message)

    def fail(self, code: Code, message: str, *_: object) -> None:
        self.answer.set_result(code)


async def ask(service: MgmtdService, method: Any, request: Any) -> Any:
    """The answer to a message, or the code of the refusal."""
    asked = Asked(method, request)
    service.bindings()[method](cast("Any", asked))
    return await asked.answer


async def proved(
    service: MgmtdService, claimant: Claimant, secret: bytes, purpose: bytes, body: bytes, what: bytes = b""
) -> ProvedRequest:
    """A request as one makes it that knows the secret."""
    begin = BeginLogin(claimant, os.urandom(32))
    nonce = challenge_from_pb(await ask(service, MGMTD.BeginLogin, begin_login_to_pb(begin))).server_nonce
    transcript = transcript_of(CLUSTER, begin, nonce, purpose, what)
    login = Login(claimant, begin.client_nonce, nonce, make_proof(secret, transcript))
    return ProvedRequest(login, lock_request(secret, transcript, body))


async def joining(service: MgmtdService, machine: str = "h2", secret: str = SECRET) -> Any:
    claimant = Claimant(LoginKind.JOIN_TOKEN, "aaaaaaaa", machine)
    body = join_wish_to_bytes(JoinWish(digest_of(NEW_KEY)))
    return proved_to_pb(await proved(service, claimant, secret.encode(), JOIN, body))


async def test_a_machine_joins_makes_tokens_and_is_removed(world: Any) -> None:
    await world.serve(await closed_store())
    client = await world.started()
    joined = await client.join(TOKEN, "h2", NEW_KEY)
    assert (joined.cluster, joined.name, joined.certificate) == (CLUSTER, "fs3", None)
    assert (await client.join(TOKEN, "h2", NEW_KEY)) == joined, "the answer may have been lost"
    drawn = JoinToken("bbbbbbbb", digest_of(b"x" * 32), 3, addresses=("h9",))
    made = await client.make_token(FIRST, drawn, 60_000)
    assert (made.id, made.uses_max, made.addresses, made.digest) == ("bbbbbbbb", 3, ("h9",), b"")
    assert (await client.revoke_token(FIRST, "bbbbbbbb")).revoked
    ack = await client.register(registration("h2-storage", proof=SECOND))
    assert ack.cluster == CLUSTER
    await client.join(TOKEN, "h3", b"3" * 32)
    await client.remove_machine(FIRST, "h3")
    assert await members(client) == ["h1", "h2"]


async def test_tokens_and_keys_that_are_no_good(world: Any) -> None:
    await world.serve(await closed_store())
    client = await world.started()
    other = format_token(b"d" * 16, "aaaaaaaa", SECRET)
    await refused(Code.NOT_ADMITTED, "this is no token: a token is fs3-CLUSTER-ID-SECRET", client.join("sesame", "h2", NEW_KEY))
    await refused(Code.WRONG_CLUSTER, "the token is of cluster 64646464…, this is 63636363…", client.join(other, "h2", NEW_KEY))
    for number, secret in (("aaaaaaaa", "1" * 32), ("bbbbbbbb", SECRET)):
        token = format_token(CLUSTER, number, secret)
        await refused(Code.NOT_ADMITTED, f"token {number} is not known here, or its secret", client.join(token, "h2", NEW_KEY))
    await refused(Code.INVALID, "a name has", client.join(TOKEN, "no name", NEW_KEY))
    stranger, forger = MachineProof("h7", KEY), MachineProof("h1", NEW_KEY)
    await refused(Code.NOT_ADMITTED, "'h7' has not joined cluster 'fs3'", client.revoke_token(stranger, "aaaaaaaa"))
    await refused(Code.NOT_ADMITTED, "'h1' of cluster 'fs3' is another one", client.revoke_token(forger, "aaaaaaaa"))
    node = registration("h1-storage", proof=forger)
    await refused(Code.NOT_ADMITTED, "'h1' of cluster 'fs3' is another one", client.register(node))
    await client.join(TOKEN, "h2", NEW_KEY)
    await refused(Code.EXISTS, "has a machine 'h2' already", client.join(TOKEN, "h2", KEY))
    await client.join(TOKEN, "h3", b"3" * 32)
    await refused(Code.NOT_ADMITTED, "was used 2 times already, by h2, h3", client.join(TOKEN, "h4", b"4" * 32))
    await client.revoke_token(FIRST, "aaaaaaaa")
    await refused(Code.NOT_ADMITTED, "token aaaaaaaa was revoked", client.join(TOKEN, "h4", b"4" * 32))
    assert await members(client) == ["h1", "h2", "h3"]


async def test_a_token_that_has_expired(world: Any) -> None:
    await world.serve(await closed_store(JoinToken("aaaaaaaa", digest_of(SECRET.encode()), 2, expires_ms=1)))
    client = await world.started()
    await refused(Code.NOT_ADMITTED, "token aaaaaaaa has expired", client.join(TOKEN, "h2", NEW_KEY))
    assert await members(client) == ["h1"]


async def test_a_request_that_was_recorded_is_refused_when_it_comes_again(world: Any) -> None:
    kv = await closed_store()
    service = await world.serve(kv)
    client = await world.started()
    recorded = await joining(service)
    assert not isinstance(await ask(service, MGMTD.JoinMachine, recorded), Code)
    removal = machine_wish_to_bytes(RemoveMachine(FIRST, "h2"))
    request = proved_to_pb(await proved(service, Claimant(LoginKind.NODE, "h1"), KEY, ASK, removal))
    assert not isinstance(await ask(service, MGMTD.AskAsMachine, request), Code)
    assert await ask(service, MGMTD.JoinMachine, recorded) is Code.STALE, "it was taken out, and stays so"
    assert await members(client) == ["h1"]
    await client.join(TOKEN, "h2", NEW_KEY)
    assert await ask(service, MGMTD.AskAsMachine, request) is Code.STALE
    assert await members(client) == ["h1", "h2"]
    await service.stop()
    assert await ask(await world.serve(kv, endpoint="tcp://m:2"), MGMTD.AskAsMachine, request) is Code.STALE, "at no manager"


async def test_a_request_that_was_altered_changes_nothing(world: Any) -> None:
    service = await world.serve(await closed_store())
    client = await world.started()
    good = await joining(service)
    for field in ("body", "proof.proof", "proof.client_nonce", "proof.server_nonce"):
        *path, name = field.split(".")
        for at in range(len(getattr(good.proof if path else good, name))):
            bad = type(good).FromString(good.SerializeToString())
            message = bad.proof if path else bad
            data = bytearray(getattr(message, name))
            data[at] ^= 1 << at % 8
            setattr(message, name, bytes(data))
            answer = await ask(service, MGMTD.JoinMachine, bad)
            assert answer in (Code.INVALID, Code.NOT_ADMITTED, Code.STALE), (field, at, answer)
            # A challenge is answered once: also by one who only altered what is locked.
            if field == "body":
                good = await joining(service)
    for change in ({"identity": "bbbbbbbb"}, {"node": "h3"}, {"kind": LoginKind.NODE}):
        bad = type(good).FromString(good.SerializeToString())
        for name, value in change.items():
            setattr(bad.proof.claimant, name, value)
        assert await ask(service, MGMTD.JoinMachine, bad) in (Code.INVALID, Code.STALE), change
    assert await members(client) == ["h1"]
    assert not isinstance(await ask(service, MGMTD.JoinMachine, good), Code)
    assert await members(client) == ["h1", "h2"]


async def test_a_proof_is_for_one_purpose(world: Any) -> None:
    """A proof that was recorded of a login registers no node, and the other way round; a token logs no user in."""
    service = await world.serve(await closed_store())
    node = registration("h1-storage")
    what = digest_of_registration(node)
    claimant = Claimant(LoginKind.NODE, "h1", "h1-storage")

    async def register(purpose: bytes, what: bytes) -> Any:
        request = (await proved(service, claimant, KEY, purpose, b"", what)).login
        message = pb_of(node)
        message.machine_proof.CopyFrom(login_to_pb(request))
        return await ask(service, MGMTD.RegisterNode, message)

    assert await register(b"fs3 login 1", b"") is Code.NOT_ADMITTED
    assert await register(REGISTER, digest_of_registration(registration("h1-storage", host="other"))) is Code.NOT_ADMITTED
    assert not isinstance(await register(REGISTER, what), Code)
    for other, secret in ((Claimant(LoginKind.JOIN_TOKEN, "aaaaaaaa", "h2"), SECRET.encode()), (claimant, KEY)):
        for purpose in (JOIN, ASK, REGISTER, b"fs3 login 1")[: 4 if other.kind is LoginKind.JOIN_TOKEN else 3]:
            login = (await proved(service, other, secret, purpose, b"")).login
            assert await ask(service, MGMTD.Login, login_to_pb(login)) is Code.NOT_ADMITTED, (other, purpose)
    wrong_body = await proved(service, Claimant(LoginKind.NODE, "h1"), KEY, ASK, b"\xff\xff")
    assert await ask(service, MGMTD.AskAsMachine, proved_to_pb(wrong_body)) is Code.INVALID
    nothing = await proved(service, Claimant(LoginKind.NODE, "h1"), KEY, ASK, b"")
    assert await ask(service, MGMTD.AskAsMachine, proved_to_pb(nothing)) is Code.INVALID


def pb_of(request: Any) -> Any:
    from fs3.wire.mgmtd_verbs import VERBS

    return VERBS[type(request)].to_pb(request)


CLEAR: list[tuple[Any, Callable[[], Any]]] = [
    (MGMTD.JoinCluster, lambda: join_to_pb(JoinCluster(TOKEN, "h2", NEW_KEY))),
    (MGMTD.MakeToken, lambda: make_token_to_pb(MakeToken(FIRST, "bbbbbbbb", b"d" * 32, 1, 0))),
    (MGMTD.RevokeToken, lambda: revoke_token_to_pb(RevokeToken(FIRST, "bbbbbbbb"))),
    (MGMTD.RemoveMachine, lambda: remove_machine_to_pb(RemoveMachine(FIRST, "h2"))),
    (MGMTD.RegisterNode, lambda: pb_of(registration("h1-meta", Role.META, proof=FIRST))),
]


async def test_what_shows_a_secret_is_taken_while_security_is_off_and_refused_then(world: Any) -> None:
    service = await world.serve(await closed_store())
    client = await world.started()
    for method, message in CLEAR:
        assert not isinstance(await ask(service, method, message()), Code), method
    await client.ask(SetSecurity(SecurityPhase.ON, unready=True))
    for method, message in CLEAR:
        assert await ask(service, method, message()) is Code.UNSUPPORTED, method
    assert not isinstance(await ask(service, MGMTD.JoinMachine, await joining(service)), Code)


async def test_a_manager_of_a_release_without_proofs(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown to it, whatever it says: it is said what is to be upgraded."""
    service = await world.serve(await closed_store())
    handler = world.network.bindings["tcp://m:1"][MGMTD.GetCluster]

    def forget(call: Any) -> None:
        reply = call.reply

        def answer(message: Any, *rest: Any) -> None:
            message.takes_proofs = False
            reply(message, *rest)

        call.reply = answer
        handler(call)

    world.network.bindings["tcp://m:1"] = {**service.bindings(), MGMTD.GetCluster: forget}
    client = await world.started()
    told = "shown tokens and keys of machines as they are: upgrade the managers"
    await refused(Code.UNSUPPORTED, told, client.join(TOKEN, "h2", NEW_KEY))
    await refused(Code.UNSUPPORTED, told, client.remove_machine(FIRST, "h2"))
    await refused(Code.UNSUPPORTED, told, client.register(registration("h1-storage", proof=FIRST)))
    assert world.network.calls["tcp://m:1", "BeginLogin"] == 0


async def test_what_answers_without_knowing_the_secret_is_no_manager(world: Any) -> None:
    service = await world.serve(await closed_store())
    real = service.bindings()

    def answer(call: Any) -> None:
        call.reply(MGMTD.JoinMachine.reply(body=bytes(64)))

    world.network.bindings["tcp://m:1"] = {**real, MGMTD.JoinMachine: answer, MGMTD.AskAsMachine: answer}
    client = await world.started()
    await refused(Code.PROTOCOL, "what answers is no manager of this cluster", client.join(TOKEN, "h2", NEW_KEY))
    await refused(Code.PROTOCOL, "what answers is no manager of this cluster", client.revoke_token(FIRST, "aaaaaaaa"))


async def test_an_answer_that_was_lost_is_asked_for_again(world: Any) -> None:
    service = await world.serve(await closed_store())
    lost = []

    def lose(call: Any) -> None:
        if not lost:
            lost.append(call)
            call.reply = lambda *_: call.fail(Code.DISCONNECTED, "the connection broke")
        service.bindings()[MGMTD.JoinMachine](call)

    world.network.bindings["tcp://m:1"] = {**service.bindings(), MGMTD.JoinMachine: lose}
    client = await world.started()
    assert (await client.join(TOKEN, "h2", NEW_KEY)).cluster == CLUSTER
    assert lost
    assert (await client.list_machines()).tokens[0].used_by == ("h2",), "and it has joined once"


# --- certificates ----------------------------------------------------------------------------------------------------


class Issuer:
    """Issues what says for whom it is. h2 leads to 10.9.0.2."""

    async def resolve(self, name: str) -> frozenset[str]:
        return frozenset({"10.9.0.2"}) if name == "h2" else frozenset()

    async def issue(self, authority: CertificateAuthority, request: bytes, name: str, addresses: Sequence[str]) -> bytes:
        if request == b"fails":
            raise RuntimeError("as it should")
        return b" ".join((authority.key, request, name.encode(), *(each.encode() for each in addresses)))


async def certified_store() -> MemoryKV:
    """As `closed_store`, made with `--tls`, of a machine h1 at 10.9.0.1; the token allows "alias"."""
    kv = MemoryKV()
    token = JoinToken("aaaaaaaa", digest_of(SECRET.encode()), 2, addresses=("alias",))
    row = ClusterRow(FORMAT, CLUSTER, "fs3", closed=True)
    machine = Machine("h1", digest_of(KEY), addresses=("10.9.0.1",))
    await initialise(kv, row, machine, token, SettingsVersion(1, 0, "", {}), CertificateAuthority(b"CA", b"CAKEY"))
    return kv


class Wish:
    """A machine that asks for a certificate, from an address."""

    def __init__(self, service: MgmtdService, source: str = "10.9.0.2") -> None:
        self.service = service
        self.source = source

    async def join(self, *addresses: str, machine: str = "h2", request: bytes = b"CSR") -> Any:
        """What joining gives; the code of the refusal."""
        claimant = Claimant(LoginKind.JOIN_TOKEN, "aaaaaaaa", machine)
        body = join_wish_to_bytes(JoinWish(digest_of(NEW_KEY), CertificateWish(request, addresses)))
        opened = await self._ask(MGMTD.JoinMachine, claimant, SECRET.encode(), JOIN, body)
        return joined_from_bytes(opened) if isinstance(opened, bytes) else opened

    async def renew(self, *addresses: str) -> Any:
        body = machine_wish_to_bytes(CertificateWish(b"CSR", addresses))
        opened = await self._ask(MGMTD.AskAsMachine, Claimant(LoginKind.NODE, "h2"), NEW_KEY, ASK, body)
        return machine_reply_from_bytes(opened) if isinstance(opened, bytes) else opened

    async def _ask(self, method: Any, claimant: Claimant, secret: bytes, purpose: bytes, body: bytes) -> Any:
        request = await proved(self.service, claimant, secret, purpose, body)
        asked = Asked(method, proved_to_pb(request))
        asked.peer = f"tls://{self.source}:4711"
        self.service.bindings()[method](cast("Any", asked))
        answer = await asked.answer
        if isinstance(answer, Code):
            return answer
        login = request.login
        transcript = transcript_of(CLUSTER, BeginLogin(claimant, login.client_nonce), login.server_nonce, purpose)
        return unlock_answer(secret, transcript, proved_reply_from_pb(answer))


async def test_joining_brings_a_certificate_and_the_authority(world: Any) -> None:
    told: list[tuple[str, str, str]] = []

    class Audit:
        def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
            told.append((what, result, str(details.get("about"))))

    kv = await certified_store()
    service = await world.serve(kv, issuer=Issuer(), audit=Audit())
    joined = await Wish(service).join("h2", "10.9.0.2", "alias")
    assert joined.certificate == IssuedCertificate(b"CAKEY CSR h2 h2 10.9.0.2 alias", b"CA")
    assert told == [("IssueCertificate", "ok", "h2 h2, 10.9.0.2, alias"), ("JoinMachine", "ok", "h2")]
    assert (await Wish(service).join("h2")).certificate is not None, "the answer may have been lost"
    renewed = await Wish(service, "10.9.0.77").renew("alias", "10.9.0.77")
    assert renewed == IssuedCertificate(b"CAKEY CSR h2 alias 10.9.0.77", b"CA"), "what it has joined with, and where it is now"
    assert await Wish(service, "10.9.0.77").renew("10.9.0.78") is Code.NOT_ADMITTED
    await service.stop()
    again = await world.serve(kv, endpoint="tcp://m:2", issuer=Issuer())
    assert isinstance(await Wish(again).renew("h2"), IssuedCertificate), "the authority and what was allowed are stored"


async def test_a_machine_that_gets_no_certificate_does_not_join(world: Any) -> None:
    service = await world.serve(await certified_store(), issuer=Issuer())
    client = await world.started()
    for addresses in ((), ("h1",), ("10.9.0.1",), ("10.9.0.2", "10.9.0.1"), ("nowhere",)):
        assert await Wish(service).join(*addresses) is Code.NOT_ADMITTED, addresses
    assert await Wish(service, "10.9.0.3").join("h2") is Code.NOT_ADMITTED
    assert await Wish(service).join(*(f"10.9.1.{at}" for at in range(17))) is Code.INVALID
    assert await Wish(service).join("h2", request=b"") is Code.INVALID
    assert await Wish(service).join("h2", request=b"x" * 5000) is Code.INVALID
    assert await Wish(service).join("h2", machine="h1") is Code.EXISTS, "and nothing is issued under its name"
    assert await members(client) == ["h1"]


async def test_a_machine_that_has_joined_allows_itself_nothing(world: Any) -> None:
    """By a token of its own, or an authority of its own, it could sit in front of a manager."""
    service = await world.serve(await certified_store(), issuer=Issuer())
    client = await world.started()
    assert (await Wish(service).join("h2")).certificate is not None
    own = JoinToken("bbbbbbbb", digest_of(SECRET.encode()), 9, addresses=("10.9.0.1",))
    await refused(
        Code.PERMISSION, "only the machine that made the cluster (h1) makes tokens", client.make_token(SECOND, own, 60_000)
    )
    authority = CertificateAuthority(b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----")
    await refused(Code.PERMISSION, "only the machine that made the cluster (h1)", client.set_authority(SECOND, authority))
    await client.revoke_token(FIRST, "aaaaaaaa")
    assert await Wish(service, "10.9.0.3").join("alias") is Code.NOT_ADMITTED, "a token that was revoked allows nothing"
    assert isinstance(await Wish(service).join("h2"), Joined)

    async def asks(kind: PrincipalKind, rights: int) -> Any:
        """Over a connection that has logged in as well."""
        body = machine_wish_to_bytes(MakeToken(SECOND, own.id, own.digest, 1, 0, addresses=own.addresses))
        asked = Asked(MGMTD.AskAsMachine, proved_to_pb(await proved(service, Claimant(LoginKind.NODE, "h2"), NEW_KEY, ASK, body)))
        asked.auth = AuthContext(rights, Principal(kind, "ann", rights))
        service.bindings()[MGMTD.AskAsMachine](cast("Any", asked))
        return await asked.answer

    admin = int(Right.ANYONE | Right.USER | Right.ADMIN)
    assert await asks(PrincipalKind.USER, admin) is Code.PERMISSION, "any caller can have a user without security"
    await client.ask(SetSecurity(SecurityPhase.ON, unready=True))
    assert await asks(PrincipalKind.USER, int(Right.ANYONE | Right.USER)) is Code.PERMISSION
    assert await asks(PrincipalKind.SERVICE, admin) is Code.PERMISSION, "the machine as its own operator"
    assert not isinstance(await asks(PrincipalKind.USER, admin), Code)


async def test_managers_without_an_authority(world: Any) -> None:
    service = await world.serve(await closed_store(), issuer=Issuer())
    client = await world.started()
    assert await Wish(service).join("h2") is Code.UNSUPPORTED
    wish = CertificateWish(b"CSR", ("h2",))
    await refused(Code.UNSUPPORTED, "have no authority to issue certificates with", client.join(TOKEN, "h2", NEW_KEY, wish))
    await refused(Code.UNSUPPORTED, "have no authority", client.renew_certificate(FIRST, wish))
    assert await members(client) == ["h1"]


async def test_managers_take_another_authority(world: Any) -> None:
    """Where there was none, and in place of one that leaked; the key is in nothing that travels."""
    for store in (certified_store, closed_store):
        kv = await store()
        service = await world.serve(kv, endpoint="tcp://m:1", issuer=Issuer())
        client = await world.started()
        other = CertificateAuthority(b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----")
        await refused(Code.NOT_ADMITTED, "is another one", client.set_authority(MachineProof("h1", NEW_KEY), other))
        await client.set_authority(FIRST, other)
        await client.set_authority(FIRST, other)
        await refused(
            Code.INVALID, "set_authority.key", client.set_authority(FIRST, CertificateAuthority(other.certificate, b"x"))
        )
        await service.stop()
        await client.close()
        again = await world.serve(kv, endpoint="tcp://m:1", issuer=Issuer())
        joined = await Wish(again).join("h2")
        assert joined.certificate == IssuedCertificate(other.key + b" CSR h2 h2", other.certificate), store
        await again.stop()


async def test_an_issuer_that_breaks_answers_all_the_same(world: Any) -> None:
    service = await world.serve(await certified_store(), issuer=Issuer())
    assert await Wish(service).join("h2", request=b"fails") is Code.INTERNAL


# --- what a listener sees --------------------------------------------------------------------------------------------


@asynccontextmanager
async def listener_between(port: int) -> AsyncIterator[tuple[int, bytearray]]:
    """A port that leads to another one, and everything that goes through it."""
    seen = bytearray()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.extend(data)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(relay(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_secret_is_in_the_bytes_that_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither tokens and keys, nor what is stored of them, nor what is derived from them on either side."""
    derived: set[bytes] = set()

    def note(module: Any, name: str) -> None:
        real = getattr(module, name)

        def noting(*arguments: Any) -> Any:
            made = real(*arguments)
            derived.add(made)
            return made

        monkeypatch.setattr(module, name, noting)

    import fs3.core.security.login as login_module
    import fs3.core.security.proved as proved_module

    note(proved_module, "_key")
    note(login_module, "_derive")
    clock = OsClock()
    service = MgmtdService(await closed_store(), clock, MgmtdConfig(), lambda count: CLUSTER[:1] * count)
    await service.start()
    transport = TcpTransport(clock)
    listening = await transport.serve("tcp://127.0.0.1:0", service.bindings())
    new_token = JoinToken("bbbbbbbb", digest_of(b"x" * 32), 1)
    async with listener_between(int(listening.endpoint.rpartition(":")[2])) as (port, seen):
        connector = Connector([TcpTransport(clock)], host="")
        client = MgmtdClient(connector, [f"tcp://127.0.0.1:{port}"], clock)
        await client.start()
        await client.join(TOKEN, "h2", NEW_KEY)
        await client.make_token(SECOND, new_token, 0)
        await client.revoke_token(FIRST, "bbbbbbbb")
        await client.register(registration("h2-storage", proof=SECOND))
        await client.join(TOKEN, "h3", b"3" * 32)
        await client.remove_machine(FIRST, "h3")
        await client.close()
        await connector.close()
        assert b"h2-storage" in seen, "it was listened to"
    await listening.close(0)
    await service.stop()
    secrets = {SECRET.encode(), bytes.fromhex(SECRET), KEY, NEW_KEY, b"3" * 32, b"x" * 32}
    stored = {digest_of(each) for each in secrets}
    assert len(derived) > 20
    found = [each for each in secrets | stored | derived if each in seen or each.hex().encode() in seen]
    assert found == []


async def test_a_listener_cannot_find_the_secret_of_a_proof_that_it_has_not_the_digest_of(world: Any) -> None:
    """Why digests travel locked: with one, what was recorded is enough."""
    service = await world.serve(await closed_store())
    request = await proved(service, Claimant(LoginKind.NODE, "h1"), KEY, ASK, b"")
    transcript = transcript_of(
        CLUSTER, BeginLogin(request.login.claimant, request.login.client_nonce), request.login.server_nonce, ASK
    )
    assert recover_secret(digest_of(KEY), transcript, request.login.proof) == KEY
    assert recover_secret(digest_of(NEW_KEY), transcript, request.login.proof) is None


async def test_a_machine_whose_key_is_said_to_be_nothing(world: Any) -> None:
    """Who joins may say any digest, also that of no bytes at all: it is refused as any other that proves nothing."""
    service = await world.serve(await closed_store())
    claimant = Claimant(LoginKind.JOIN_TOKEN, "aaaaaaaa", "h2")
    body = join_wish_to_bytes(JoinWish(digest_of(b"")))
    request = await proved(service, claimant, SECRET.encode(), JOIN, body)
    assert not isinstance(await ask(service, MGMTD.JoinMachine, proved_to_pb(request)), Code)
    forged = await proved(service, Claimant(LoginKind.NODE, "h2"), NEW_KEY, ASK, b"")
    assert await ask(service, MGMTD.AskAsMachine, proved_to_pb(forged)) is Code.NOT_ADMITTED


async def test_failing_proofs_are_told_of_and_slowed_as_failing_logins(world: Any) -> None:
    told: list[tuple[str, str]] = []

    class Audit:
        def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
            told.append((what, result))

    await world.serve(await closed_store(), audit=Audit())
    client = await world.started()
    with pytest.raises(FS3Error):
        await client.join(format_token(CLUSTER, "aaaaaaaa", "1" * 32), "h2", NEW_KEY)
    await client.join(TOKEN, "h2", NEW_KEY)
    assert ("login", "NOT_ADMITTED") in told
    assert ("JoinMachine", "ok") in told

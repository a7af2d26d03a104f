"""Logins at the manager, and requests that are proved as logins are: challenges, proofs, what is granted, and how failures are
slowed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.limits import stranger_calls_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, MINUTE, SECOND
from fs3.core.membership.machines import token_unknown
from fs3.core.membership.manager import Manager
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.security.login import (
    LOGIN,
    Challenges,
    Entropy,
    LoginError,
    lock_grant,
    recover_secret,
    transcript_of,
)
from fs3.core.security.proved import SpentChallenges
from fs3.core.security.seal import SealError
from fs3.core.security.throttle import LoginThrottle, source_of
from fs3.model.machine import MachineProof
from fs3.model.principal import Principal
from fs3.model.security import BeginLogin, Challenge, Claimant, Login, LoginKind
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call
from fs3.runtime.audit import Audit
from fs3.wire.mgmtd_security import begin_login_from_pb, challenge_to_pb, grant_to_pb, login_from_pb

refusals_waiting_max = stranger_calls_max // 2
"""Answers to failed logins that are kept back at one time; further ones are given at once, as BUSY. Each is a request of a
stranger under way: who fails to log in leaves places to those that do not."""

login_told_ns = 10 * MINUTE
logins_told_max = 4096

_REFUSED = "the login is refused: its token or key is not known here, or is not the right one"
"""Whatever was wrong: one that does not know the secret learns no more."""


class Proof(NamedTuple):
    """A secret that a request has shown to know."""

    secret: bytes
    transcript: bytes
    """What the proof holds for."""

    def __repr__(self) -> str:
        return "<Proof>"


class Logins:
    """Of one manager process."""

    def __init__(self, clock: Clock, entropy: Entropy, audit: Audit) -> None:
        self._clock = clock
        self._entropy = entropy
        self._audit = audit
        self._challenges = Challenges(entropy(32))
        self._spent = SpentChallenges()
        self._throttle = LoginThrottle()
        self._waiting = 0
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()
        """Claimant and place -> when the audit log was told of a login."""

    def begin(self, call: Call, manager: Manager) -> None:
        """Give a challenge: whether there is such a claimant or not."""
        try:
            begin = begin_login_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        nonce = self._challenges.make(begin, self._entropy(16), self._clock.now() // MILLISECOND)
        call.reply(challenge_to_pb(Challenge(manager.cluster, nonce)))

    def login(self, call: Call, manager: Manager) -> None:
        """Look at the proof, and grant a ticket."""
        try:
            login = login_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return
        try:
            principal, grant = self._grant(call, manager, login)
        except LoginError as wrong:
            self.refuse(call, login.claimant, Code.NOT_ADMITTED, str(wrong))
        except RequestRejected as refusal:
            self.refuse(call, login.claimant, refusal.rejection.code, refusal.rejection.message)
        except SealError as problem:
            call.fail(Code.BUSY, str(problem))
        else:
            self._tell(call, principal.name, login.claimant)
            call.reply(grant_to_pb(grant))

    def _grant(self, call: Call, manager: Manager, login: Login) -> tuple[Principal, bytes]:
        security, now, claimant = manager.security, self._clock.now(), login.claimant
        if claimant.kind is LoginKind.CERTIFICATE:
            if not call.auth.subject:
                raise LoginError("the connection has no client certificate")
            principal = security.admit_certificate(call.auth.subject)
            return principal, msgspec.msgpack.encode(security.grant(now, principal))
        proof = self._recover(manager, login, LOGIN)
        if proof is None or claimant.kind is LoginKind.JOIN_TOKEN:
            raise LoginError(_REFUSED)
        principal = security.admit(claimant, self._clock.wall() // MILLISECOND)
        return principal, lock_grant(proof.secret, proof.transcript, security.grant(now, principal))

    def _recover(self, manager: Manager, login: Login, purpose: bytes, what: bytes = b"") -> Proof | None:
        """What was proved for a purpose; None: nothing was. RequestRejected STALE: the challenge is over, or was never given."""
        begin = BeginLogin(login.claimant, login.client_nonce)
        try:
            self._challenges.check(begin, login.server_nonce, self._clock.now() // MILLISECOND)
        except LoginError as wrong:
            # The manager was replaced between the two halves: the claimant begins again.
            raise RequestRejected(Code.STALE, str(wrong)) from None
        stored = manager.security.stored_for(login.claimant)
        transcript = transcript_of(manager.cluster, begin, login.server_nonce, purpose, what)
        secret = recover_secret(stored or self._challenges.unknown(login.claimant), transcript, login.proof)
        return Proof(secret, transcript) if secret is not None else None

    def prove(self, manager: Manager, login: Login, purpose: bytes, what: bytes = b"") -> Proof:
        """What a request of a machine was proved with, which no other request is proved with again. RequestRejected: why it was
        not; STALE: begin again."""
        proof, claimant = self._recover(manager, login, purpose, what), login.claimant
        if proof is None:
            if claimant.kind is LoginKind.JOIN_TOKEN:
                raise token_unknown(claimant.identity)
            manager.machines.check_proof(MachineProof(claimant.identity, b""))
            raise RequestRejected(Code.NOT_ADMITTED, _REFUSED)
        try:
            self._spent.spend(login.server_nonce, self._clock.now() // MILLISECOND)
        except LoginError as again:
            raise RequestRejected(Code.STALE, str(again)) from None
        return proof

    def _tell(self, call: Call, name: str, claimant: Claimant) -> None:
        """The audit log has one line for logins of one claimant from one place within `login_told_ns`, and not each renewal."""
        now, key = self._clock.now(), (_described(claimant), source_of(call.peer))
        told_at = self._told.get(key)
        if told_at is not None and now - told_at < login_told_ns:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > logins_told_max:
            self._told.popitem(last=False)
        self._audit.record("login", who=name, source=call.peer, by=key[0])

    def refuse(self, call: Call, claimant: Claimant, code: Code, why: str) -> None:
        """Answer a login, or a request that was not proved: later, the more of them fail from there."""
        source = source_of(call.peer)
        wait_ns = self._throttle.on_failure(source, self._clock.now())
        self._audit.record("login", source=call.peer, result=code.name, by=_described(claimant), why=why)
        if not wait_ns:
            call.fail(code, why)
        elif self._waiting >= refusals_waiting_max:
            call.fail(Code.BUSY, f"too many logins from {source} have failed")
        else:
            self._waiting += 1
            asyncio.get_running_loop().call_later(wait_ns / SECOND, self._answer, call, code, why)

    def _answer(self, call: Call, code: Code, why: str) -> None:
        self._waiting -= 1
        call.fail(code, why)


def _described(claimant: Claimant) -> str:
    """Who wanted to log in, without anything secret."""
    match claimant.kind:
        case LoginKind.TOKEN:
            return f"token {claimant.identity}"
        case LoginKind.NODE:
            return f"key of {claimant.identity}" + (f" for {claimant.node}" if claimant.node else "")
        case LoginKind.CERTIFICATE:
            return "certificate"
        case LoginKind.JOIN_TOKEN:
            return f"token {claimant.identity} for machine {claimant.node}"

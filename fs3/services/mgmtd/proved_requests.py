"""Requests of machines that are proved and locked: joining, tokens, certificates. See docs/protocols/joining.md."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.core.membership.manager import Manager
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.security.login import LoginError
from fs3.core.security.machine_names import names_to_resolve, why_not_for
from fs3.core.security.proved import ASK, JOIN, lock_answer, unlock_request
from fs3.core.security.throttle import source_of
from fs3.model.machine import (
    AdmitMachine,
    CertificateWish,
    IssuedCertificate,
    JoinAck,
    Joined,
    JoinToken,
    JoinWish,
    MachineProof,
    MakeToken,
    SetAuthority,
)
from fs3.model.principal import PrincipalKind, Right
from fs3.model.security import LoginKind, ProvedRequest, SecurityPhase
from fs3.ports.rpc import Bindings, Call
from fs3.ports.security import CertificateIssuer
from fs3.runtime.audit import Audit
from fs3.runtime.tasks import TaskSet
from fs3.services.mgmtd.logins import Logins, Proof
from fs3.services.mgmtd.machine_requests import MachineRequests
from fs3.services.mgmtd.primary import Primary
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_proved import (
    MachineReply,
    MachineWish,
    join_wish_from_bytes,
    joined_to_bytes,
    machine_reply_to_bytes,
    machine_wish_from_bytes,
    proved_from_pb,
    proved_reply_to_pb,
)

NO_AUTHORITY = (
    "the managers of this cluster have no authority to issue certificates with: make one with `fs3 certs issue`, or as was done "
    "for the other machines"
)


def _is_by_admin(call: Call, manager: Manager) -> bool:
    """A user who is an administrator asks, not a machine as its own operator; without security that can be anyone."""
    principal = call.auth.principal
    is_user = principal is not None and principal.kind is PrincipalKind.USER
    return is_user and manager.security.phase is SecurityPhase.ON and bool(call.auth.rights & Right.ADMIN)


class ProvedRequests:
    """Answers for the primary."""

    def __init__(
        self, primary: Primary, requests: MachineRequests, logins: Logins, audit: Audit, issuer: CertificateIssuer | None
    ) -> None:
        """`requests`: what the machine is asked by. `issuer`: None where no certificates are made."""
        self._primary = primary
        self._requests = requests
        self._logins = logins
        self._audit = audit
        self._issuer = issuer
        self._issuing = TaskSet()
        """Requests that wait for certificates."""

    def bindings(self) -> Bindings:
        """One handler for every method of the group."""
        return {MGMTD.JoinMachine: self._join, MGMTD.AskAsMachine: self._ask}

    async def stop(self) -> None:
        """No certificate is issued any more."""
        await self._issuing.cancel()

    def _open(self, call: Call, manager: Manager, purpose: bytes) -> tuple[ProvedRequest, Proof, bytes] | None:
        """The request, what it was proved with, and its body. None: it is refused, and answered."""
        try:
            request = proved_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return None
        claimant = request.login.claimant
        if claimant.kind is not (LoginKind.JOIN_TOKEN if purpose == JOIN else LoginKind.NODE):
            call.fail(Code.INVALID, f"{call.method!r} is not proved by a secret of kind {claimant.kind.name}")
            return None
        try:
            proof = self._logins.prove(manager, request.login, purpose)
            return request, proof, unlock_request(proof.secret, proof.transcript, request.body)
        except RequestRejected as refusal:
            if refusal.rejection.code is Code.STALE:
                call.fail(Code.STALE, refusal.rejection.message)
            else:
                self._logins.refuse(call, claimant, refusal.rejection.code, refusal.rejection.message)
        except LoginError as altered:
            self._logins.refuse(call, claimant, Code.INVALID, str(altered))
        return None

    # --- joining -----------------------------------------------------------------------------------------------------

    def _join(self, call: Call) -> None:
        manager = self._primary.admit(call)
        opened = self._open(call, manager, JOIN) if manager is not None else None
        if manager is None or opened is None:
            return
        request, proof, body = opened
        try:
            wish = join_wish_from_bytes(body)
            manager.machines.check_admission(self._admission(request, wish))
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
        except RequestRejected as refusal:
            call.fail(refusal.rejection.code, refusal.rejection.message)
        else:
            if wish.certificate is None:
                self._admit(call, request, proof, wish)
            else:
                self._issuing.start(self._join_with_certificate(call, manager, request, proof, wish, wish.certificate))

    async def _join_with_certificate(
        self, call: Call, manager: Manager, request: ProvedRequest, proof: Proof, wish: JoinWish, wanted: CertificateWish
    ) -> None:
        """Before it is admitted: what cannot be issued keeps a machine out of a cluster in which it could not serve."""
        claimant = request.login.claimant
        allowed = manager.machines.allowed_for(claimant.node, claimant.identity, self._requests.wall_ms())
        issued = await self._issue(call, manager, claimant.node, wanted, allowed)
        if issued is None or (now := self._primary.admit(call)) is None:
            return
        if now is manager:
            self._admit(call, request, proof, wish, issued)
        else:
            call.fail(Code.STALE, "the manager has begun another term meanwhile")

    def _admit(
        self, call: Call, request: ProvedRequest, proof: Proof, wish: JoinWish, issued: IssuedCertificate | None = None
    ) -> None:
        def answer(ack: JoinAck) -> object:
            joined = joined_to_bytes(Joined(ack.cluster, ack.name, issued))
            return proved_reply_to_pb(lock_answer(proof.secret, proof.transcript, joined))

        self._requests.post(call, self._admission(request, wish), answer, request.login.claimant.node)

    def _admission(self, request: ProvedRequest, wish: JoinWish) -> AdmitMachine:
        claimant = request.login.claimant
        addresses = wish.certificate.addresses if wish.certificate is not None else ()
        return AdmitMachine(claimant.identity, claimant.node, wish.key_digest, addresses, self._requests.wall_ms())

    # --- machines that have joined -----------------------------------------------------------------------------------

    def _ask(self, call: Call) -> None:
        manager = self._primary.admit(call)
        opened = self._open(call, manager, ASK) if manager is not None else None
        if manager is None or opened is None:
            return
        request, proof, body = opened
        machine = MachineProof(request.login.claimant.identity, proof.secret)
        try:
            manager.machines.check_proof(machine)
            wish: MachineWish = machine_wish_from_bytes(body, machine)
        except RequestRejected as refusal:
            call.fail(refusal.rejection.code, refusal.rejection.message)
            return
        except FS3Error as wrong:
            call.fail(wrong.code, str(wrong))
            return

        def answer(reply: MachineReply | int) -> object:
            said = reply if isinstance(reply, JoinToken | IssuedCertificate) else None
            return proved_reply_to_pb(lock_answer(proof.secret, proof.transcript, machine_reply_to_bytes(said)))

        if isinstance(wish, MakeToken | SetAuthority):
            wish = msgspec.structs.replace(wish, is_by_admin=_is_by_admin(call, manager))
        if not isinstance(wish, CertificateWish):
            self._requests.post(call, wish, answer, machine.machine)
            return

        async def renew(wanted: CertificateWish) -> None:
            allowed = manager.machines.allowed_for(machine.machine)
            issued = await self._issue(call, manager, machine.machine, wanted, allowed)
            if issued is not None:
                call.reply(answer(issued))

        self._issuing.start(renew(wish))

    # --- certificates ------------------------------------------------------------------------------------------------

    async def _issue(
        self, call: Call, manager: Manager, machine: str, wanted: CertificateWish, allowed: Sequence[str]
    ) -> IssuedCertificate | None:
        """A certificate of a machine. None: it is refused, and answered."""
        issued, code = None, Code.OK
        try:
            issued = await self._make(call, manager, machine, wanted, allowed)
        except FS3Error as refusal:
            code = refusal.code
            call.fail(code, str(refusal))
        except Exception:
            call.fail(Code.INTERNAL, "the certificate could not be made")
            raise
        result, about = "ok" if issued is not None else code.name, f"{machine} {', '.join(wanted.addresses)}"
        self._audit.record("IssueCertificate", who=machine, source=call.peer, result=result, about=about)
        return issued

    async def _make(
        self, call: Call, manager: Manager, machine: str, wanted: CertificateWish, allowed: Sequence[str]
    ) -> IssuedCertificate:
        authority, issuer = manager.machines.authority, self._issuer
        if authority is None or issuer is None:
            raise error(Code.UNSUPPORTED, NO_AUTHORITY)
        resolved = {name: await issuer.resolve(name) for name in names_to_resolve(wanted.addresses, allowed)}
        if why := why_not_for(wanted.addresses, source_of(call.peer), resolved, allowed):
            raise error(Code.NOT_ADMITTED, why)
        certificate = await issuer.issue(authority, wanted.request, machine, wanted.addresses)
        return IssuedCertificate(certificate, authority.certificate)

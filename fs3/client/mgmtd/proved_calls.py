"""The calls of a manager's client that are proved with a token or the key of a machine, and locked under it: nothing of what was
proved can be found from what travels (`fs3.core.security.proved`)."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from fs3.base.errors import error
from fs3.base.limits import manager_read_ns
from fs3.base.status import Code
from fs3.client.mgmtd.calls import ManagerCalls
from fs3.core.membership.machines import digest_of, parse_join_token
from fs3.core.security.login import NONCE_BYTES, LoginError, make_proof, transcript_of
from fs3.core.security.proved import ASK, JOIN, REGISTER, digest_of_registration, lock_request, unlock_answer
from fs3.model.cluster import RegisterNode, RegistrationAck
from fs3.model.machine import (
    CertificateAuthority,
    CertificateWish,
    IssuedCertificate,
    Joined,
    JoinToken,
    JoinWish,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
    SetAuthority,
)
from fs3.model.method import Method
from fs3.model.security import BeginLogin, Claimant, Login, LoginKind, ProvedRequest
from fs3.ports.rpc import Channel
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd_proved import (
    MachineReply,
    MachineWish,
    join_wish_to_bytes,
    joined_from_bytes,
    machine_reply_from_bytes,
    machine_wish_to_bytes,
    proved_reply_from_pb,
    proved_to_pb,
)
from fs3.wire.mgmtd_security import begin_login_to_pb, challenge_from_pb
from fs3.wire.mgmtd_verbs import set_machine_proof


class ProvedCalls(ManagerCalls):
    """A part of `fs3.client.mgmtd.client.MgmtdClient`."""

    async def join(self, token: str, machine: str, key: bytes, certificate: CertificateWish | None = None) -> Joined:
        """Have a machine join the cluster. NOT_ADMITTED, EXISTS, WRONG_CLUSTER: why not; UNSUPPORTED: the managers are too
        old, or issue no certificates."""
        try:
            cluster, number, secret = parse_join_token(token)
        except ValueError as wrong:
            raise error(Code.NOT_ADMITTED, str(wrong)) from None
        claimant = Claimant(LoginKind.JOIN_TOKEN, number, machine)
        wish = join_wish_to_bytes(JoinWish(digest_of(key), certificate))
        return joined_from_bytes(await self._ask_proved(MGMTD.JoinMachine, JOIN, claimant, secret, wish, cluster))

    async def make_token(self, proof: MachineProof, token: JoinToken, lifetime_ms: int) -> JoinToken:
        """Have a token remembered. NOT_ADMITTED when the machine that asks is none of the cluster."""
        wish = MakeToken(proof, token.id, token.digest, token.uses_max, lifetime_ms, addresses=token.addresses)
        made = await self._ask_as_machine(proof, wish)
        assert isinstance(made, JoinToken)
        return made

    async def revoke_token(self, proof: MachineProof, number: str) -> JoinToken:
        """No machine joins with a token any more. NOT_FOUND."""
        revoked = await self._ask_as_machine(proof, RevokeToken(proof, number))
        assert isinstance(revoked, JoinToken)
        return revoked

    async def remove_machine(self, proof: MachineProof, machine: str, *, comes_back: bool = False) -> None:
        """A machine belongs to the cluster no more. NOT_FOUND; BUSY while one of its nodes is alive, or holds targets and the
        machine is not to join again (`comes_back`)."""
        await self._ask_as_machine(proof, RemoveMachine(proof, machine, comes_back))

    async def renew_certificate(self, proof: MachineProof, wish: CertificateWish) -> IssuedCertificate:
        """Another certificate of a machine. UNSUPPORTED: the managers issue none; NOT_ADMITTED naming an address that it is not
        issued for."""
        issued = await self._ask_as_machine(proof, wish)
        assert isinstance(issued, IssuedCertificate)
        return issued

    async def set_authority(self, proof: MachineProof, authority: CertificateAuthority) -> None:
        """Have the managers issue certificates of machines with an authority, whose key they have from then on."""
        await self._ask_as_machine(proof, SetAuthority(proof, authority))

    async def register(self, request: RegisterNode) -> RegistrationAck:
        """Announce this process. The routing info in the answer is applied. WRONG_CLUSTER, OLD_INCARNATION: do not go on."""
        proof = request.proof
        if proof is None:
            ack: RegistrationAck = await self._ask(request)
            return ack
        claimant, what = Claimant(LoginKind.NODE, proof.machine, request.name), digest_of_registration(request)

        async def prepare(channel: Channel, asked: Any) -> Any:
            self._check_takes_proofs()
            login, _ = await self._prove(channel, claimant, proof.key, REGISTER, what)
            return set_machine_proof(asked, login)

        ack = await self._ask(msgspec.structs.replace(request, proof=None), prepare=prepare)
        return ack

    def _check_takes_proofs(self) -> None:
        """UNSUPPORTED when the primary says that it has to be shown what is secret: it is not, whatever answers."""
        if not self._selector.takes_proofs:
            shown = f"the manager runs {self._selector.manager_release}, which is shown tokens and keys of machines as they are"
            raise error(Code.UNSUPPORTED, f"{shown}: upgrade the managers to fs3 {self.release.software} first")

    async def _ask_as_machine(self, proof: MachineProof, wish: MachineWish) -> MachineReply:
        claimant = Claimant(LoginKind.NODE, proof.machine)
        body = machine_wish_to_bytes(wish)
        return machine_reply_from_bytes(await self._ask_proved(MGMTD.AskAsMachine, ASK, claimant, proof.key, body))

    async def _ask_proved(
        self, method: Method, purpose: bytes, claimant: Claimant, secret: bytes, body: bytes, cluster: str = ""
    ) -> bytes:
        """The body of the answer to a request. `cluster`: first digits of the id of the one that it is for, "": of any. Raises
        FS3Error; PROTOCOL when what answers does not know the secret."""
        transcript = b""

        async def prepare(channel: Channel, _: Any) -> Any:
            nonlocal transcript
            own = self._selector.cluster.hex()[: len(cluster)]
            if cluster != own:
                raise error(Code.WRONG_CLUSTER, f"the token is of cluster {cluster}…, this is {own}…")
            self._check_takes_proofs()
            login, transcript = await self._prove(channel, claimant, secret, purpose)
            return proved_to_pb(ProvedRequest(login, lock_request(secret, transcript, body)))

        message = await self._call(method, None, prepare=prepare)
        try:
            return unlock_answer(secret, transcript, proved_reply_from_pb(message))
        except LoginError as wrong:
            raise error(Code.PROTOCOL, str(wrong)) from None

    async def _prove(
        self, channel: Channel, claimant: Claimant, secret: bytes, purpose: bytes, what: bytes = b""
    ) -> tuple[Login, bytes]:
        """The answer to a new challenge of the manager at the other end, and what it holds for. Raises FS3Error."""
        begin = BeginLogin(claimant, os.urandom(NONCE_BYTES))
        reply = await channel.call(MGMTD.BeginLogin, begin_login_to_pb(begin), timeout_ns=manager_read_ns)
        nonce = challenge_from_pb(reply.message).server_nonce
        # The cluster that this process talks to, whatever the challenge says.
        transcript = transcript_of(self._selector.cluster, begin, nonce, purpose, what)
        return Login(claimant, begin.client_nonce, nonce, make_proof(secret, transcript)), transcript

"""Requests that are proved and locked, and what is under the lock, to and from protobuf.

What arrives is not trusted: `*_from_pb` and `*_from_bytes` of requests raise InvalidArgument naming the malformed field. Who has
the key may be a machine of a later release: fields that are not known are ignored, as on the wire.
"""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.message import DecodeError, Message

from fs3.core.security.login import PROOF_BYTES
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
from fs3.model.security import ProvedRequest
from fs3.wire.malformed import malformed
from fs3.wire.mgmtd_machines import (
    addresses_from_pb,
    make_token_from_pb,
    make_token_to_pb,
    remove_machine_from_pb,
    remove_machine_to_pb,
    revoke_token_from_pb,
    revoke_token_to_pb,
    token_from_pb,
    token_to_pb,
)
from fs3.wire.mgmtd_security import login_from_pb, login_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb

machine_body_bytes_max = 16 * 1024
"""Of what a machine asks for under the lock of its token or key."""
certificate_request_bytes_max = 4 * 1024
"""Of a PKCS #10 request, PEM. Those that fs3 makes have 400."""

_DIGEST_BYTES = 32

MachineWish: TypeAlias = MakeToken | RevokeToken | RemoveMachine | CertificateWish | SetAuthority
"""What a machine that has joined asks for."""

MachineReply: TypeAlias = JoinToken | IssuedCertificate | None
"""The answer: to `RemoveMachine` and `SetAuthority`, None."""


def proved_to_pb(request: ProvedRequest) -> pb.ProvedRequest:
    """The request of JoinMachine and AskAsMachine."""
    return pb.ProvedRequest(proof=login_to_pb(request.login), body=request.body)


def proved_from_pb(message: pb.ProvedRequest) -> ProvedRequest:
    """The request of JoinMachine and AskAsMachine."""
    login = login_from_pb(message.proof)
    if len(login.proof) != PROOF_BYTES:
        raise malformed("ProvedRequest.proof.claimant.kind", "a certificate proves no request")
    if len(message.body) > machine_body_bytes_max:
        raise malformed("ProvedRequest.body", f"longer than {machine_body_bytes_max} bytes")
    return ProvedRequest(login, message.body)


def proved_reply_to_pb(body: bytes) -> pb.ProvedReply:
    """The answer to JoinMachine and AskAsMachine."""
    return pb.ProvedReply(body=body)


def proved_reply_from_pb(message: pb.ProvedReply) -> bytes:
    """The answer to JoinMachine and AskAsMachine."""
    return message.body


# --- what is under the lock ------------------------------------------------------------------------------------------


def _parse(message: Message, body: bytes, field: str) -> None:
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise malformed(field, "it cannot be read") from None


def _wish_to_pb(wish: CertificateWish) -> pb.CertificateRequest:
    return pb.CertificateRequest(request=wish.request, addresses=wish.addresses)


def _wish_from_pb(message: pb.CertificateRequest, field: str) -> CertificateWish:
    if not 0 < len(message.request) <= certificate_request_bytes_max:
        raise malformed(f"{field}.request", f"{len(message.request)} bytes, must be 1 to {certificate_request_bytes_max}")
    return CertificateWish(message.request, addresses_from_pb(message.addresses, f"{field}.addresses"))


def _issued_to_pb(issued: IssuedCertificate | None) -> pb.IssuedCertificate | None:
    if issued is None:
        return None
    return pb.IssuedCertificate(certificate=issued.certificate, authority=issued.authority)


def _authority_from_pb(message: pb.SetAuthorityRequest) -> CertificateAuthority:
    for name in ("certificate", "key"):
        if b"-----BEGIN " not in getattr(message, name):
            raise malformed(f"MachineBody.set_authority.{name}", "it is no PEM")
    return CertificateAuthority(message.certificate, message.key)


def join_wish_to_bytes(wish: JoinWish) -> bytes:
    """The body of a request of JoinMachine."""
    certificate = _wish_to_pb(wish.certificate) if wish.certificate is not None else None
    return pb.JoinBody(key_digest=wish.key_digest, certificate=certificate).SerializeToString()


def join_wish_from_bytes(body: bytes) -> JoinWish:
    """The body of a request of JoinMachine."""
    message = pb.JoinBody()
    _parse(message, body, "JoinBody")
    if len(message.key_digest) != _DIGEST_BYTES:
        raise malformed("JoinBody.key_digest", f"{len(message.key_digest)} bytes, must be {_DIGEST_BYTES}")
    certificate = _wish_from_pb(message.certificate, "JoinBody.certificate") if message.HasField("certificate") else None
    return JoinWish(message.key_digest, certificate)


def joined_to_bytes(joined: Joined) -> bytes:
    """The body of the answer to JoinMachine."""
    certificate = _issued_to_pb(joined.certificate)
    return pb.JoinedBody(cluster_id=joined.cluster, cluster_name=joined.name, certificate=certificate).SerializeToString()


def joined_from_bytes(body: bytes) -> Joined:
    """The body of the answer to JoinMachine."""
    message = pb.JoinedBody()
    _parse(message, body, "JoinedBody")
    issued = None
    if message.HasField("certificate"):
        issued = IssuedCertificate(message.certificate.certificate, message.certificate.authority)
    return Joined(message.cluster_id, message.cluster_name, issued)


def machine_wish_to_bytes(wish: MachineWish) -> bytes:
    """The body of a request of AskAsMachine."""
    match wish:
        case MakeToken():
            body = pb.MachineBody(make_token=make_token_to_pb(wish))
        case RevokeToken():
            body = pb.MachineBody(revoke_token=revoke_token_to_pb(wish))
        case RemoveMachine():
            body = pb.MachineBody(remove_machine=remove_machine_to_pb(wish))
        case CertificateWish():
            body = pb.MachineBody(certificate=_wish_to_pb(wish))
        case SetAuthority(authority=authority):
            said = pb.SetAuthorityRequest(certificate=authority.certificate, key=authority.key)
            body = pb.MachineBody(set_authority=said)
    for name in ("make_token", "revoke_token", "remove_machine"):
        if body.HasField(name):
            getattr(body, name).ClearField("proof")
    return body.SerializeToString()


def machine_wish_from_bytes(body: bytes, proof: MachineProof) -> MachineWish:
    """The body of a request of AskAsMachine, which was proved."""
    message = pb.MachineBody()
    _parse(message, body, "MachineBody")
    match message.WhichOneof("request"):
        case "make_token":
            return make_token_from_pb(message.make_token, proof)
        case "revoke_token":
            return revoke_token_from_pb(message.revoke_token, proof)
        case "remove_machine":
            return remove_machine_from_pb(message.remove_machine, proof)
        case "certificate":
            return _wish_from_pb(message.certificate, "MachineBody.certificate")
        case "set_authority":
            return SetAuthority(proof, _authority_from_pb(message.set_authority))
    raise malformed("MachineBody", "it asks for nothing that this manager knows")


def machine_reply_to_bytes(reply: MachineReply) -> bytes:
    """The body of the answer to AskAsMachine."""
    token = token_to_pb(reply) if isinstance(reply, JoinToken) else None
    issued = _issued_to_pb(reply) if isinstance(reply, IssuedCertificate) else None
    return pb.MachineReplyBody(token=token, certificate=issued).SerializeToString()


def machine_reply_from_bytes(body: bytes) -> MachineReply:
    """The body of the answer to AskAsMachine."""
    message = pb.MachineReplyBody()
    _parse(message, body, "MachineReplyBody")
    if message.HasField("token"):
        return token_from_pb(message.token)
    if message.HasField("certificate"):
        return IssuedCertificate(message.certificate.certificate, message.certificate.authority)
    return None

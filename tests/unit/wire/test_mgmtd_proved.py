"""Requests that are proved and locked, and what is under the lock, to and from protobuf."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.errors import InvalidArgument
from fs3.base.limits import machine_addresses_max
from fs3.model.cluster import RegisterNode
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
from fs3.model.routing import Role
from fs3.model.security import Claimant, Login, LoginKind, ProvedRequest
from fs3.wire.mgmtd_proved import (
    certificate_request_bytes_max,
    join_wish_from_bytes,
    join_wish_to_bytes,
    joined_from_bytes,
    joined_to_bytes,
    machine_body_bytes_max,
    machine_reply_from_bytes,
    machine_reply_to_bytes,
    machine_wish_from_bytes,
    machine_wish_to_bytes,
    proved_from_pb,
    proved_reply_from_pb,
    proved_reply_to_pb,
    proved_to_pb,
)
from fs3.wire.mgmtd_verbs import VERBS, set_machine_proof

PROOF = MachineProof("h1", b"k" * 32)
LOGIN = Login(Claimant(LoginKind.JOIN_TOKEN, "0123abcd", "h2"), b"n" * 32, b"c" * 56, b"p" * 32)
CERTIFICATE = CertificateWish(b"CSR", ("h2", "10.9.0.2"))


def sent(message: Any) -> Any:
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


def test_requests_and_answers_survive() -> None:
    request = ProvedRequest(LOGIN, b"locked")
    assert proved_from_pb(sent(proved_to_pb(request))) == request
    assert proved_reply_from_pb(sent(proved_reply_to_pb(b"locked"))) == b"locked"


@pytest.mark.parametrize(
    "wish",
    [
        MakeToken(PROOF, "0123abcd", b"d" * 32, 3, 60_000, addresses=("h2",)),
        RevokeToken(PROOF, "0123abcd"),
        RemoveMachine(PROOF, "h2", comes_back=True),
        CERTIFICATE,
        SetAuthority(PROOF, CertificateAuthority(b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----")),
    ],
)
def test_what_a_machine_asks_for_survives_and_shows_no_key(wish: Any) -> None:
    body = machine_wish_to_bytes(wish)
    assert PROOF.key not in body
    assert machine_wish_from_bytes(body, PROOF) == wish


@pytest.mark.parametrize("wish", [JoinWish(b"d" * 32), JoinWish(b"d" * 32, CERTIFICATE)])
def test_what_a_machine_says_when_it_joins_survives(wish: JoinWish) -> None:
    assert join_wish_from_bytes(join_wish_to_bytes(wish)) == wish


def test_what_is_answered_survives() -> None:
    issued = IssuedCertificate(b"CERT", b"CA")
    for joined in (Joined(b"c" * 16, "prod"), Joined(b"c" * 16, "prod", issued)):
        assert joined_from_bytes(joined_to_bytes(joined)) == joined
    token = JoinToken("0123abcd", b"", 3, 5, 4, ("h2",), addresses=("h3",))
    for reply in (token, issued, None):
        assert machine_reply_from_bytes(machine_reply_to_bytes(reply)) == reply


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (MakeToken(PROOF, "0123abcd", b"short", 3, 0), "MakeTokenRequest.digest"),
        (MakeToken(PROOF, "0123abcd", b"d" * 32, 3, 0, addresses=("x",) * (machine_addresses_max + 1)), "addresses"),
        (RevokeToken(PROOF, "xyz"), "RevokeTokenRequest.id"),
        (RemoveMachine(PROOF, ""), "RemoveMachineRequest.machine"),
        (CertificateWish(b"", ("h2",)), "MachineBody.certificate.request"),
        (CertificateWish(b"x" * (certificate_request_bytes_max + 1), ("h2",)), "MachineBody.certificate.request"),
        (SetAuthority(PROOF, CertificateAuthority(b"", b"-----BEGIN PRIVATE KEY-----")), "set_authority.certificate"),
        (CertificateWish(b"CSR", ("x" * 300,)), "MachineBody.certificate.addresses"),
    ],
)
def test_what_no_machine_asks_for_is_refused(wish: Any, field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        machine_wish_from_bytes(machine_wish_to_bytes(wish), PROOF)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff"])
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="MachineBody"):
        machine_wish_from_bytes(body, PROOF)
    with pytest.raises(InvalidArgument, match="JoinBody"):
        join_wish_from_bytes(body)


def test_requests_that_prove_nothing_or_are_too_long() -> None:
    certificate = ProvedRequest(Login(Claimant(LoginKind.CERTIFICATE, ""), b"", b"", b""), b"")
    with pytest.raises(InvalidArgument, match="a certificate proves no request"):
        proved_from_pb(sent(proved_to_pb(certificate)))
    with pytest.raises(InvalidArgument, match=r"ProvedRequest\.body"):
        proved_from_pb(sent(proved_to_pb(ProvedRequest(LOGIN, bytes(machine_body_bytes_max + 1)))))


def test_a_registration_is_proved_and_shows_no_key() -> None:
    node = RegisterNode("h1-storage", Role.STORAGE, b"", 1, ("tcp://h1:1",), "h1")
    verb = VERBS[RegisterNode]
    proved = verb.from_pb(sent(set_machine_proof(verb.to_pb(node), LOGIN)))
    assert (proved.proof, proved.login) == (None, LOGIN)

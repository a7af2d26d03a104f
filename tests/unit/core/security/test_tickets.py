from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.core.security.revocations import Revocations, revocation_name
from fs3.core.security.seal import KeyRing, SealError, SealKind, seal
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import open_ticket, seal_ticket
from fs3.model.principal import Principal, PrincipalKind, Right

CLUSTER = bytes(range(16))
RING = KeyRing(CLUSTER, {3: b"k" * 32, 4: b"l" * 32}, 4)
ANN = Principal(PrincipalKind.USER, "ann", Right.USER, uid=1000, gid=100, groups=(7, 8), tenant="t", expires_ms=60_000, epoch=5)


def test_a_ticket_says_whose_it_is_until_it_expires() -> None:
    ticket = seal_ticket(RING, ANN)
    assert open_ticket(RING, ticket, 59_999) == ANN
    with pytest.raises(SealError, match="expired"):
        open_ticket(RING, ticket, 60_000)


@given(st.integers(0))
def test_no_bit_of_a_ticket_can_be_changed(position: int) -> None:
    ticket = bytearray(seal_ticket(RING, ANN))
    position %= len(ticket) * 8
    ticket[position // 8] ^= 1 << position % 8
    with pytest.raises(SealError):
        open_ticket(RING, bytes(ticket), 0)


def test_a_ticket_of_another_cluster_or_an_older_key_means_nothing() -> None:
    ticket = seal_ticket(RING, ANN)
    for ring in (KeyRing(b"x" * 16, RING.keys, 4), KeyRing(CLUSTER, {3: RING.keys[3]}, 3), KeyRing(CLUSTER, {4: b"m" * 32}, 4)):
        with pytest.raises(SealError):
            open_ticket(ring, ticket, 0)


def test_a_capability_is_no_ticket_and_a_body_of_something_else_is_none() -> None:
    body = msgspec.msgpack.encode(ANN)
    with pytest.raises(SealError):
        open_ticket(RING, seal(RING, SealKind.CAPABILITY, body), 0)
    with pytest.raises(SealError, match="another version"):
        open_ticket(RING, seal(RING, SealKind.TICKET, b"\xc1"), 0)


def test_a_ticket_with_more_fields_than_this_version_knows_is_read() -> None:
    longer = msgspec.msgpack.encode([*msgspec.to_builtins(ANN), "of the next version"])
    assert open_ticket(RING, seal(RING, SealKind.TICKET, longer), 0) == ANN


def test_tickets_from_before_a_revocation_do_not_count() -> None:
    revoked = Revocations(7, {"ann": 6, revocation_name(PrincipalKind.SERVICE, "bob"): 6})
    assert revoked.is_revoked(ANN)
    assert not revoked.is_revoked(msgspec.structs.replace(ANN, epoch=6))
    assert not revoked.is_revoked(msgspec.structs.replace(ANN, name="bob"))
    assert revoked.is_revoked(msgspec.structs.replace(ANN, name="bob", kind=PrincipalKind.SERVICE))


def test_what_a_service_knows_says_whose_a_ticket_is() -> None:
    state, changes = SecurityState(), []
    state.subscribe(lambda: changes.append(state.revoked.epoch))
    state.update(is_on=True, ring=RING, revoked=Revocations())
    state.update(is_on=True, ring=RING, revoked=Revocations())
    assert changes == [0]
    ticket = seal_ticket(RING, ANN)
    with pytest.raises(SealError, match="not heard"):
        state.open_ticket(ticket, 0)
    state.time.learn(1_000, 0)
    assert state.open_ticket(ticket, 0) == ANN
    state.update(is_on=True, ring=RING, revoked=Revocations(6, {"ann": 6}))
    assert changes == [0, 6]
    with pytest.raises(SealError, match="revoked"):
        state.open_ticket(ticket, 0)

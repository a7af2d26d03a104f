"""Who gets a capability, with what keys and time, and who gets the same again."""

from __future__ import annotations

import pytest

from fs3.base.limits import capability_lifetime_ms, security_silence_ns
from fs3.base.status import Code
from fs3.core.security.capability import READ, WRITE, Capability, Subject, SubjectKind, open_capability, seal_capability
from fs3.core.security.issue import holder_for, issue, renew
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing
from fs3.core.security.state import SecurityState
from fs3.model.principal import ALL_RIGHTS, AuthContext, Principal, PrincipalKind, Right

RING = KeyRing(bytes(16), {1: b"k" * 32, 2: b"l" * 32}, 2)
OLD = KeyRing(bytes(16), {1: b"k" * 32}, 1)
FILE = Subject(SubjectKind.CONTENT, 5)
NOW, NOW_MS = 1 << 40, 7000
ANN = AuthContext(int(Right.USER), Principal(PrincipalKind.USER, "ann", int(Right.USER), epoch=3))


@pytest.fixture
def security() -> SecurityState:
    """Of a service that heard of the manager just now."""
    state = SecurityState()
    state.time.learn(NOW_MS, NOW, NOW)
    state.update(is_on=True, ring=RING, revoked=Revocations())
    return state


def test_it_is_made_out_to_who_has_authenticated_until_a_time_of_the_cluster(security: SecurityState) -> None:
    message = issue(security, NOW, "ann", FILE, READ)
    assert isinstance(message, bytes)
    assert open_capability(RING, message) == Capability(FILE, READ, NOW_MS + capability_lifetime_ms, "ann", key=2)


@pytest.mark.parametrize(
    ("auth", "holder"),
    [
        (ANN, "ann"),
        (AuthContext(ALL_RIGHTS), ""),
        (AuthContext(int(Right.ANYONE)), ""),
        (AuthContext(int(Right.USER | Right.ADMIN), Principal(PrincipalKind.USER, "root", 0)), ""),
        (AuthContext(int(Right.META), Principal(PrincipalKind.SERVICE, "meta-1", 0)), ""),
        (AuthContext(int(Right.USER), Principal(PrincipalKind.SERVICE, "meta-1", 0)), ""),
    ],
    ids=["user", "open cluster", "stranger", "administrator", "service", "service with a user's rights"],
)
def test_who_needs_none_gets_none(auth: AuthContext, holder: str) -> None:
    assert holder_for(auth) == holder


def test_without_time_or_key_there_is_none_for_now(security: SecurityState) -> None:
    assert issue(security, NOW + security_silence_ns, "ann", FILE, READ) is Code.BUSY
    security.update(is_on=True, ring=KeyRing(bytes(16), {}, 0), revoked=Revocations())
    assert issue(security, NOW, "ann", FILE, READ) is Code.BUSY


def shown(rights: int = READ, subject: Subject = FILE, holder: str = "ann", ring: KeyRing = OLD) -> bytes:
    """One that has ended."""
    return seal_capability(ring, Capability(subject, rights, 1, holder))


def test_one_that_was_had_is_had_again_with_its_rights(security: SecurityState) -> None:
    message = renew(security, NOW, ANN, FILE, READ, shown(READ | WRITE))
    assert isinstance(message, bytes)
    assert open_capability(RING, message) == Capability(FILE, READ | WRITE, NOW_MS + capability_lifetime_ms, "ann", key=2)


@pytest.mark.parametrize(
    ("rights", "message"),
    [
        (READ, b""),
        (READ, shown()[:-1] + b"?"),
        (READ, shown(subject=Subject(SubjectKind.CONTENT, 6))),
        (READ, shown(subject=Subject(SubjectKind.NAMESPACE, 5))),
        (READ, shown(holder="bob")),
        (WRITE, shown(READ)),
        (READ, shown(WRITE)),
        (READ, shown(ring=KeyRing(bytes(16), {9: b"m" * 32}, 9))),
    ],
    ids=["none", "altered", "other file", "namespace", "another's", "reads only", "writes only", "key out of use"],
)
def test_what_proves_nothing_is_not_renewed(security: SecurityState, rights: int, message: bytes) -> None:
    assert renew(security, NOW, ANN, FILE, rights, message) is None


def test_who_was_changed_and_has_logged_in_again_has_nothing_renewed_from_before(security: SecurityState) -> None:
    """Also when the revocation is not remembered any more."""
    changed = AuthContext(int(Right.USER), Principal(PrincipalKind.USER, "ann", int(Right.USER), epoch=9, since=8))
    assert renew(security, NOW, changed, FILE, READ, shown()) is None
    message = issue(security, NOW, holder_for(changed), FILE, READ)
    assert isinstance(message, bytes)
    assert isinstance(renew(security, NOW, changed, FILE, READ, message), bytes)
    assert renew(security, NOW, ANN, FILE, READ, message) is None


def test_the_revoked_and_the_trusted_have_none_renewed(security: SecurityState) -> None:
    security.update(is_on=True, ring=RING, revoked=Revocations(4, {"ann": 4}))
    assert renew(security, NOW, ANN, FILE, READ, shown()) is None
    assert renew(security, NOW, AuthContext(ALL_RIGHTS), FILE, READ, shown()) is None

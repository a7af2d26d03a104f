"""Requests that are locked under what was proved, and challenges that are answered once."""

from __future__ import annotations

import pytest

from fs3.core.security.login import LoginError, challenge_ms_max, transcript_of
from fs3.core.security.proved import (
    ASK,
    JOIN,
    REGISTER,
    SpentChallenges,
    digest_of_registration,
    lock_answer,
    lock_request,
    spent_max,
    unlock_answer,
    unlock_request,
)
from fs3.model.cluster import RegisterNode
from fs3.model.routing import Role
from fs3.model.security import BeginLogin, Claimant, LoginKind

SECRET, OTHER = b"s" * 32, b"t" * 32
BEGIN = BeginLogin(Claimant(LoginKind.NODE, "h1"), b"n" * 32)
SAID = transcript_of(b"c" * 16, BEGIN, b"x" * 56, ASK)


def test_what_is_locked_opens_with_the_same_secret_and_transcript() -> None:
    assert unlock_request(SECRET, SAID, lock_request(SECRET, SAID, b"body")) == b"body"
    assert unlock_answer(SECRET, SAID, lock_answer(SECRET, SAID, b"")) == b""
    assert b"body" not in lock_request(SECRET, SAID, b"body")


@pytest.mark.parametrize(
    ("secret", "transcript"),
    [
        (OTHER, SAID),
        (SECRET, transcript_of(b"c" * 16, BEGIN, b"y" * 56, ASK)),
        (SECRET, transcript_of(b"c" * 16, BEGIN, b"x" * 56)),
    ],
)
def test_nothing_else_opens_it(secret: bytes, transcript: bytes) -> None:
    with pytest.raises(LoginError, match="altered on its way"):
        unlock_request(secret, transcript, lock_request(SECRET, SAID, b"body"))


def test_a_request_is_no_answer() -> None:
    with pytest.raises(LoginError, match="no manager of this cluster"):
        unlock_answer(SECRET, SAID, lock_request(SECRET, SAID, b"body"))


def test_purposes_are_told_apart() -> None:
    said = {transcript_of(b"c" * 16, BEGIN, b"x" * 56, purpose) for purpose in (JOIN, ASK, REGISTER)}
    assert len(said | {transcript_of(b"c" * 16, BEGIN, b"x" * 56)}) == 4


def test_a_proof_of_a_registration_holds_for_what_is_registered() -> None:
    node = RegisterNode("h1-storage", Role.STORAGE, b"", 1, ("tcp://h1:8010",), "h1", 5)
    others = [
        RegisterNode("h1-storage", Role.STORAGE, b"", 2, ("tcp://h1:8010",), "h1", 5),
        RegisterNode("h1-storage", Role.META, b"", 1, ("tcp://h1:8010",), "h1", 5),
        RegisterNode("h1-storage", Role.STORAGE, b"", 1, ("tcp://h9:8010",), "h1", 5),
    ]
    assert digest_of_registration(node) not in map(digest_of_registration, others)


def test_a_challenge_is_answered_once_for_as_long_as_it_is_good() -> None:
    spent = SpentChallenges()
    spent.spend(b"one", 1000)
    with pytest.raises(LoginError, match="answered already"):
        spent.spend(b"one", 1000 + challenge_ms_max)
    spent.spend(b"two", 2000)
    spent.spend(b"three", 1001 + challenge_ms_max)
    assert len(spent) == 2, "the first is forgotten: it is over anyway"


def test_what_is_remembered_has_a_limit() -> None:
    spent = SpentChallenges()
    for number in range(spent_max):
        spent.spend(number.to_bytes(4, "big"), 0)
    with pytest.raises(LoginError):
        spent.spend(b"more", 0)
    spent.spend(b"more", challenge_ms_max + 1)

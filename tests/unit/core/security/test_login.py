from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.core.security.login import (
    Challenges,
    LoginError,
    challenge_ms_max,
    format_user_token,
    lock,
    lock_grant,
    make_proof,
    parse_user_token,
    recover_secret,
    stored_of,
    transcript_of,
    unlock,
    unlock_grant,
)
from fs3.model.security import BeginLogin, Claimant, Grant, KeyBundle, LoginKind, SecurityPhase

CLUSTER = bytes(range(16))
SECRET = b"s" * 32
BEGIN = BeginLogin(Claimant(LoginKind.NODE, "h1", "h1-storage"), b"n" * 32)
BUNDLE = KeyBundle(SecurityPhase.ON, 3, {1: b"k" * 32}, 1, 2, {"ann": 2})
GRANT = Grant(b"ticket", 5, 60_000, "h1-storage", 33, BUNDLE)


def test_a_proof_shows_the_secret_and_the_answer_is_for_its_holder() -> None:
    transcript = transcript_of(CLUSTER, BEGIN, b"c" * 32)
    proof = make_proof(SECRET, transcript)
    assert SECRET not in proof
    assert recover_secret(stored_of(SECRET), transcript, proof) == SECRET
    locked = lock_grant(SECRET, transcript, GRANT)
    assert b"k" * 32 not in locked
    assert b"ticket" not in locked
    assert unlock_grant(SECRET, transcript, locked) == GRANT


def test_a_login_that_is_sent_again_tells_nothing_by_its_second_answer() -> None:
    transcript = transcript_of(CLUSTER, BEGIN, b"c" * 32)
    other = msgspec.structs.replace(GRANT, ticket=b"TICKET", now_ms=6)
    first, second = (lock_grant(SECRET, transcript, grant) for grant in (GRANT, other))
    assert len(first) == len(second)
    # What both say, as the keys of the cluster, would cancel out if both were hidden alike.
    same = sum(one == two for one, two in zip(first, second, strict=True))
    assert same < len(first) // 8
    assert unlock_grant(SECRET, transcript, second) == other


def test_what_is_stored_is_not_enough_to_log_in_with() -> None:
    transcript = transcript_of(CLUSTER, BEGIN, b"c" * 32)
    stored = stored_of(SECRET)
    assert recover_secret(stored, transcript, make_proof(stored, transcript)) is None


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_no_other_proof_counts(secret: bytes, proof: bytes) -> None:
    transcript = transcript_of(CLUSTER, BEGIN, b"c" * 32)
    assert recover_secret(stored_of(SECRET), transcript, proof) is None
    assert secret == SECRET or recover_secret(stored_of(SECRET), transcript, make_proof(secret, transcript)) is None


def test_a_proof_is_for_one_cluster_claimant_and_challenge() -> None:
    proof = make_proof(SECRET, transcript_of(CLUSTER, BEGIN, b"c" * 32))
    others = (
        transcript_of(b"x" * 16, BEGIN, b"c" * 32),
        transcript_of(CLUSTER, BEGIN, b"d" * 32),
        transcript_of(CLUSTER, BeginLogin(BEGIN.claimant, b"m" * 32), b"c" * 32),
        transcript_of(CLUSTER, BeginLogin(Claimant(LoginKind.NODE, "h1", "h1-meta"), b"n" * 32), b"c" * 32),
        transcript_of(CLUSTER, BeginLogin(Claimant(LoginKind.NODE, "h1h", "1-storage"), b"n" * 32), b"c" * 32),
        transcript_of(CLUSTER, BeginLogin(Claimant(LoginKind.TOKEN, "h1", "h1-storage"), b"n" * 32), b"c" * 32),
    )
    for transcript in others:
        assert recover_secret(stored_of(SECRET), transcript, proof) is None


@given(st.binary(max_size=300), st.integers(0))
def test_what_is_locked_comes_back_and_no_bit_of_it_can_be_changed(body: bytes, position: int) -> None:
    locked = bytearray(lock(SECRET, body))
    assert unlock(SECRET, bytes(locked)) == body
    position %= len(locked) * 8
    locked[position // 8] ^= 1 << position % 8
    with pytest.raises(LoginError):
        unlock(SECRET, bytes(locked))
    with pytest.raises(LoginError):
        unlock(b"t" * 32, lock(SECRET, body))
    with pytest.raises(LoginError):
        unlock(SECRET, body[:31])


def test_a_challenge_is_answered_by_the_one_it_was_given_to_and_in_time() -> None:
    challenges = Challenges(b"m" * 32)
    nonce = challenges.make(BEGIN, b"r" * 16, 1_000)
    challenges.check(BEGIN, nonce, 1_000 + challenge_ms_max)
    with pytest.raises(LoginError, match="too late"):
        challenges.check(BEGIN, nonce, 1_001 + challenge_ms_max)
    with pytest.raises(LoginError, match="not one of this manager"):
        challenges.check(BeginLogin(Claimant(LoginKind.NODE, "h2"), BEGIN.client_nonce), nonce, 1_000)
    with pytest.raises(LoginError, match="not one of this manager"):
        Challenges(b"o" * 32).check(BEGIN, nonce, 1_000)
    with pytest.raises(LoginError, match="not one of this manager"):
        challenges.check(BEGIN, b"", 1_000)


def test_a_token_says_its_cluster_and_what_is_wrong_with_it_repeats_nothing() -> None:
    text = format_user_token(CLUSTER, "0123abcd", SECRET)
    assert parse_user_token(f" {text}\n") == (CLUSTER.hex()[:8], "0123abcd", SECRET)
    for wrong in ("", "hunter2hunter2", text[:-1], f"fs3-{text}"):
        with pytest.raises(ValueError, match="token") as told:
            parse_user_token(wrong)
        assert not wrong or wrong not in str(told.value)


def test_secrets_are_in_no_repr() -> None:
    assert "k" * 32 not in repr(GRANT) + repr(BUNDLE)

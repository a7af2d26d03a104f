"""Logins by challenge and response: the secret never travels, and what the manager stores is not enough to log in with.

    stored = SHA-256(secret)                                  what the manager keeps
    proof  = secret XOR HMAC-SHA-256(stored, transcript)      what travels
    lock   = HMAC-SHA-256(secret, "lock" + transcript)        what the answer is encrypted under

`transcript` holds the id of the cluster, who wants to log in, and 32 random bytes of each side. Who sees the proof learns
nothing without `stored`; who has `stored` alone cannot make a proof (the idea of SCRAM, RFC 5802: secrets are random, so
that neither salt nor iterations are needed). Only who knows the secret can read the answer, and only who knew `stored`, and so
recovered the secret, can have written it: the manager has proved itself as well.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from hashlib import blake2b, sha256

import msgspec

from fs3.core.security.seal import KeyRing
from fs3.model.security import BeginLogin, Claimant, Grant, KeyBundle

SECRET_BYTES = 32
NONCE_BYTES = 32
PROOF_BYTES = 32
_TAG_BYTES = 32
_BLOCK_BYTES = 64
LOGIN = b"fs3 login 1"
"""What a transcript begins with that logs in."""
challenge_ms_max = 30_000
"""A challenge is answered so soon, or not at all; counted by the clock of the manager that gave it."""

_TOKEN = re.compile(r"fs3u-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{64})")
USER_TOKEN_FORM = "fs3u-CLUSTER-ID-SECRET, as `fs3 user token` prints it"


Entropy = Callable[[int], bytes]
"""So many random bytes."""


class LoginError(ValueError):
    """A proof, a challenge or an answer is not what it should be."""


def stored_of(secret: bytes) -> bytes:
    """What is stored of a secret."""
    return sha256(secret).digest()


def format_user_token(cluster: bytes, number: str, secret: bytes) -> str:
    """A token as its user gets it."""
    return f"fs3u-{cluster.hex()[:8]}-{number}-{secret.hex()}"


def parse_user_token(text: str) -> tuple[str, str, bytes]:
    """(first digits of the cluster's id, id of the token, secret). Raises ValueError, which does not repeat the text."""
    parts = _TOKEN.fullmatch(text.strip())
    if parts is None:
        if text.strip().startswith("fs3-"):
            raise ValueError("this is a token for machines to join a cluster with, not a user's: those begin with fs3u-")
        raise ValueError(f"this is no token of a user: a token is {USER_TOKEN_FORM}")
    return parts[1], parts[2], bytes.fromhex(parts[3])


def transcript_of(cluster: bytes, begin: BeginLogin, server_nonce: bytes, purpose: bytes = LOGIN, what: bytes = b"") -> bytes:
    """What both sides have said. Each part has its length in front of it, so that no two logins have the same. `purpose`: what is
    proved by it; `what`: what else it is to hold for."""
    claimant = begin.claimant
    parts = (cluster, claimant.identity.encode(), claimant.node.encode(), begin.client_nonce, server_nonce)
    return purpose + bytes((claimant.kind,)) + b"".join(len(part).to_bytes(2, "big") + part for part in parts) + what


def make_proof(secret: bytes, transcript: bytes) -> bytes:
    """What shows that the secret is known."""
    return _xor(secret, _hmac(stored_of(secret), transcript))


def recover_secret(stored: bytes, transcript: bytes, proof: bytes) -> bytes | None:
    """The secret that a proof was made with; None when it is not the one that is stored."""
    if len(proof) != PROOF_BYTES:
        return None
    secret = _xor(proof, _hmac(stored, transcript))
    return secret if hmac.compare_digest(stored_of(secret), stored) else None


def lock_grant(secret: bytes, transcript: bytes, grant: Grant) -> bytes:
    """A grant that only the holder of the secret can read."""
    return lock(_lock_key(secret, transcript), msgspec.msgpack.encode(grant))


def unlock_grant(secret: bytes, transcript: bytes, locked: bytes) -> Grant:
    """The same. Raises LoginError: it was not written by a manager that knows the secret."""
    return decode_grant(unlock(_lock_key(secret, transcript), locked))


def decode_grant(body: bytes) -> Grant:
    """A grant that was not locked, or not any more. Raises LoginError."""
    try:
        return msgspec.msgpack.decode(body, type=Grant)
    except msgspec.MsgspecError as wrong:
        raise LoginError("the answer of the manager is of another version of the software") from wrong


def lock(key: bytes, body: bytes) -> bytes:
    """Encrypt and authenticate: keyed BLAKE2b of the body marks it, and of a counter, under that mark, hides it.

    The mark stands in for a nonce (as in AES-SIV, RFC 5297). A login that is repeated, by anyone who has seen it, is answered
    with another ticket under the same key: two bodies must not be hidden by the same bytes.
    """
    tag = _tag(key, body)
    return _hide(key, tag, body) + tag


def unlock(key: bytes, locked: bytes) -> bytes:
    """The same, back. Raises LoginError."""
    hidden, tag = locked[:-_TAG_BYTES], locked[-_TAG_BYTES:]
    body = _hide(key, tag, hidden)
    if len(locked) < _TAG_BYTES or not hmac.compare_digest(tag, _tag(key, body)):
        raise LoginError("what answers is no manager of this cluster: it does not know the secret either")
    return body


class Challenges:
    """Challenges that need not be remembered: a challenge shows itself that it was given by this manager, for whom, and when."""

    def __init__(self, key: bytes) -> None:
        """`key`: random, of this process alone."""
        self._key = key

    def make(self, begin: BeginLogin, entropy: bytes, now_ms: int) -> bytes:
        """A server's nonce. `entropy`: 16 random bytes."""
        head = now_ms.to_bytes(8, "big") + entropy[:16]
        return head + self._mark(begin, head)

    def check(self, begin: BeginLogin, server_nonce: bytes, now_ms: int) -> None:
        """Raises LoginError unless the nonce was given to this claimant not long ago."""
        head, mark = server_nonce[:24], server_nonce[24:]
        if not hmac.compare_digest(mark, self._mark(begin, head)):
            raise LoginError("the challenge is not one of this manager")
        if not 0 <= now_ms - int.from_bytes(head[:8], "big") <= challenge_ms_max:
            raise LoginError("the challenge was answered too late")

    def unknown(self, claimant: Claimant) -> bytes:
        """What is taken for `stored` where there is nothing: a login of one that does not exist takes as long as any other."""
        return _hmac(self._key, b"unknown" + claimant.identity.encode())

    def _mark(self, begin: BeginLogin, head: bytes) -> bytes:
        claimant = begin.claimant
        parts = (claimant.identity.encode(), claimant.node.encode(), begin.client_nonce)
        said = bytes((claimant.kind,)) + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return _hmac(self._key, head + said)


def ring_of(cluster: bytes, bundle: KeyBundle) -> KeyRing:
    """The key ring of a bundle."""
    return KeyRing(cluster, bundle.keys, bundle.newest)


def _lock_key(secret: bytes, transcript: bytes) -> bytes:
    return _hmac(secret, b"lock" + transcript)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _derive(key: bytes, what: bytes) -> bytes:
    return blake2b(what, key=key, digest_size=32).digest()


def _tag(key: bytes, body: bytes) -> bytes:
    return blake2b(body, key=_derive(key, b"fs3 mark"), digest_size=_TAG_BYTES).digest()


def _hide(key: bytes, tag: bytes, body: bytes) -> bytes:
    """Its own inverse."""
    return _xor(body, _stream(_derive(key, b"fs3 hide" + tag), len(body)))


def _stream(key: bytes, length: int) -> bytes:
    blocks = (
        blake2b(number.to_bytes(8, "big"), key=key, digest_size=_BLOCK_BYTES).digest()
        for number in range(-(-length // _BLOCK_BYTES))
    )
    return b"".join(blocks)[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")

"""Requests that are proved and locked: only one that knows a secret can have made them, and only a manager that knows what is
stored of the secret can read and answer them.

    proof   = as of a login (`login`), over a transcript that names what is asked
    request = locked under HMAC-SHA-256(secret, "request" + transcript)
    answer  = locked under HMAC-SHA-256(secret, "answer" + transcript)

The manager recovers the secret from the proof, and so can open the request: one that was altered does not open. Who listens
learns neither the secret nor what is asked, which often holds the digest of another secret. A challenge is answered once: a
request that was recorded and is sent again is refused, as long as its challenge would be good.

Who only stands in front of the manager can lose requests, and nothing else.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from hashlib import sha256

import msgspec

from fs3.core.security.login import LoginError, challenge_ms_max, lock, unlock
from fs3.model.cluster import RegisterNode

JOIN, ASK, REGISTER = b"fs3 join 1", b"fs3 machine 1", b"fs3 register 1"
"""What a proof is for: a transcript begins with it, so that one is of no use for another."""

spent_max = 65_536
"""Challenges that were answered and would still be good."""


def lock_request(secret: bytes, transcript: bytes, body: bytes) -> bytes:
    """A request that only the manager can read."""
    return lock(_key(secret, b"request", transcript), body)


def unlock_request(secret: bytes, transcript: bytes, locked: bytes) -> bytes:
    """The same, back. Raises LoginError: it is not what the holder of the secret has sent."""
    try:
        return unlock(_key(secret, b"request", transcript), locked)
    except LoginError:
        raise LoginError("the request was altered on its way") from None


def lock_answer(secret: bytes, transcript: bytes, body: bytes) -> bytes:
    """An answer that only who has asked can read."""
    return lock(_key(secret, b"answer", transcript), body)


def unlock_answer(secret: bytes, transcript: bytes, locked: bytes) -> bytes:
    """The same, back. Raises LoginError: what answers is no manager of the cluster."""
    return unlock(_key(secret, b"answer", transcript), locked)


def digest_of_registration(request: RegisterNode) -> bytes:
    """What a proof of a registration holds for: which node registers, and where it is to be reached."""
    said = (request.name, int(request.role), request.cluster, request.incarnation, request.endpoints, request.host, request.pid)
    return sha256(msgspec.msgpack.encode(said)).digest()


def _key(secret: bytes, what: bytes, transcript: bytes) -> bytes:
    return hmac.digest(secret, what + transcript, "sha256")


class SpentChallenges:
    """Challenges that were answered, for as long as they could be answered again."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, int] = OrderedDict()
        """Server's nonce -> when it ends, the oldest first."""

    def spend(self, server_nonce: bytes, now_ms: int) -> None:
        """It is answered. Raises LoginError when it was before, or when there are more than can be remembered."""
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] >= now_ms:
                break
            del self._until[oldest]
        if server_nonce in self._until or len(self._until) >= spent_max:
            raise LoginError("the challenge was answered already")
        self._until[server_nonce] = now_ms + challenge_ms_max

    def __len__(self) -> int:
        return len(self._until)

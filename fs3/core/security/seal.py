"""Messages that only services of the cluster can make: a body and its authenticator, by one of a few shared keys.

    0         1      2        6      6 + n     22 + n
    | version | kind | key id | body | BLAKE2b |

Keyed BLAKE2b (RFC 7693) with 16 bytes of digest, over everything before it and the id of the cluster, so that nothing of one
cluster means anything in another. `kind` is in it too: an identity is never taken for a capability.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from hmac import compare_digest

VERSION = 1
_HEAD = struct.Struct("<BBI")
HEAD_BYTES = _HEAD.size
DIGEST_BYTES = 16
KEY_BYTES = 32
sealed_bytes_max = 4096
"""A longer message is refused before anything is computed."""


class SealKind(IntEnum):
    """What a sealed message is."""

    TICKET = 1
    """Who a caller is: a `fs3.model.principal.Principal`."""
    CAPABILITY = 2
    """What its holder may do to the chunks of one inode or namespace."""


class SealError(ValueError):
    """The message was not made with a key of this cluster that is still in use. Says no more than that to a peer."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys in use: the newest signs, all of them verify."""

    cluster: bytes
    """Id of the cluster."""
    keys: Mapping[int, bytes]
    """By their ids, `KEY_BYTES` each."""
    newest: int
    """Id of the key that signs; 0: there is none, and nothing can be sealed."""

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self.keys)} keys, newest {self.newest}>"


def seal(ring: KeyRing, kind: SealKind, body: bytes) -> bytes:
    """Sign with the newest key. Raises SealError when the ring has none."""
    key = ring.keys.get(ring.newest)
    if key is None:
        raise SealError("there is no key to sign with yet")
    signed = _HEAD.pack(VERSION, kind, ring.newest) + body
    return signed + _digest(key, ring.cluster, signed)


def unseal(ring: KeyRing, kind: SealKind, message: bytes) -> bytes:
    """The body of a message of this kind. Raises SealError."""
    if not HEAD_BYTES + DIGEST_BYTES <= len(message) <= sealed_bytes_max:
        raise SealError("no sealed message")
    version, found, key_id = _HEAD.unpack_from(message)
    key = ring.keys.get(key_id)
    if version != VERSION or found != kind or key is None:
        raise SealError("its key is not in use")
    if not compare_digest(_digest(key, ring.cluster, message[:-DIGEST_BYTES]), message[-DIGEST_BYTES:]):
        raise SealError("its seal is broken")
    return message[HEAD_BYTES:-DIGEST_BYTES]


def _digest(key: bytes, cluster: bytes, signed: bytes) -> bytes:
    return blake2b(signed, digest_size=DIGEST_BYTES, key=key, salt=cluster[:16]).digest()

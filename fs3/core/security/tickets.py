"""Tickets: who a caller is, signed by the manager for a minute. Its holder is taken for that caller until it expires."""

from __future__ import annotations

import msgspec

from fs3.core.security.seal import KeyRing, SealError, SealKind, seal, unseal
from fs3.model.principal import Principal

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Principal).decode


def seal_ticket(ring: KeyRing, principal: Principal) -> bytes:
    """A ticket. Raises SealError when the ring has no key to sign with."""
    return seal(ring, SealKind.TICKET, _encode(principal))


def open_ticket(ring: KeyRing, data: bytes, now_ms: int) -> Principal:
    """Whose ticket it is. Raises SealError: it is none of this cluster, its key is not in use any more, or it has expired."""
    body = unseal(ring, SealKind.TICKET, data)
    try:
        principal = _decode(body)
    except msgspec.MsgspecError as wrong:
        raise SealError("it was made by another version of the software") from wrong
    if now_ms >= principal.expires_ms:
        raise SealError("it has expired")
    return principal

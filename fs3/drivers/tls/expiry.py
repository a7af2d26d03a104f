"""When a certificate ends, read from its bytes: processes that only use certificates need no library for that.

Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer, validity, … }, … }
Validity    ::= SEQUENCE { notBefore Time, notAfter Time }          RFC 5280, in DER
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_END = "-----END CERTIFICATE-----"


def certificate_ends_ms(pem: bytes) -> int:
    """When the first certificate in a PEM file ends, in milliseconds since 1970; 0 when it cannot be read."""
    try:
        text = pem.decode("ascii")
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(_END) + len(_END)]
        (whole,) = _parts(ssl.PEM_cert_to_DER_cert(first))
        signed = _parts(_parts(whole[1])[0][1])
        validity = signed[4 if signed[0][0] == _VERSION else 3]
        kind, moment = _parts(validity[1])[1]
        form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[kind]
        return int(datetime.strptime(moment.decode("ascii"), form).replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, IndexError, KeyError):
        return 0


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """(tag, contents) of what stands one after the other. IndexError, ValueError when it is cut short."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(der[at : at + count], "big"), at + count
        if at + length > len(der):
            raise ValueError("it is cut short")
        found.append((tag, der[at : at + length]))
        at += length
    return found

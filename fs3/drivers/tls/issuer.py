"""Certificates of machines, made by a manager process: a `CertificateIssuer`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from fs3.drivers.tls.private_authority import sign_request
from fs3.model.machine import CertificateAuthority


class MachineIssuer:
    """`fs3.ports.security.CertificateIssuer` by `fs3.drivers.tls.private_authority`, on a thread: the first certificate reads a
    library in, and names are looked up."""

    async def resolve(self, name: str) -> frozenset[str]:
        """See `CertificateIssuer.resolve`."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return frozenset()
        return frozenset(str(address[0]) for *_, address in found)

    async def issue(self, authority: CertificateAuthority, request: bytes, name: str, addresses: Sequence[str]) -> bytes:
        """See `CertificateIssuer.issue`."""
        return await asyncio.to_thread(sign_request, (authority.certificate, authority.key), request, name, addresses)

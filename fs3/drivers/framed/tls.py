"""The framed wire over TLS 1.3 over TCP: "tls://host:port"."""

from __future__ import annotations

import socket
from typing import Any

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.tls.credentials import TlsCredentials, UnverifiedTls
from fs3.drivers.tls.socket import TlsError, TlsSocket
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Listener
from fs3.wire.endpoints import parse_host_port

__all__ = ["TlsTransport"]


class TlsTransport(TcpTransport):
    """`fs3.ports.rpc.Transport` for hosts that do not trust the network between them."""

    scheme = "tls"

    def __init__(self, clock: Clock, credentials: TlsCredentials | UnverifiedTls, **options: Any) -> None:
        """`options`: see `FramedTransport`."""
        super().__init__(clock, **options)
        self._credentials = credentials

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`. FS3Error CONFIG without a certificate to show."""
        self._credentials.server_context()
        return await super().serve(endpoint, bindings)

    async def dial(self, endpoint: str) -> StreamSocket:
        """See `StreamSockets.dial`."""
        sock = await self._dial(endpoint)
        try:
            secured = self._secure_client(endpoint, sock)
            await secured.shake_hands()
        except TlsError as problem:
            sock.close()
            raise error(Code.UNAVAILABLE, f"{endpoint}: {problem}") from None
        except BaseException:
            sock.close()
            raise
        return secured

    def secure(self, sock: socket.socket) -> StreamSocket:
        """See `StreamSockets.secure`."""
        return TlsSocket(sock, self._credentials.server_context())

    def _secure_blocking(self, endpoint: str, sock: socket.socket) -> StreamSocket:
        secured = self._secure_client(endpoint, sock)
        try:
            secured.shake_hands_blocking()
        except TlsError as problem:
            raise error(Code.UNAVAILABLE, f"{endpoint}: {problem}") from None
        return secured

    def _secure_client(self, endpoint: str, sock: socket.socket) -> TlsSocket:
        return TlsSocket(sock, self._credentials.client_context(), parse_host_port(endpoint, self.scheme)[0])

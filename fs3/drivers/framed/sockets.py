"""What the framed wire needs to know of its kind of socket; `tcp` and `local` say it."""

from __future__ import annotations

import socket
from typing import Protocol, TypeAlias

from fs3.drivers.tls.socket import TlsSocket

StreamSocket: TypeAlias = socket.socket | TlsSocket
"""A connected socket, with or without encryption."""


class StreamSockets(Protocol):
    """One kind of stream socket."""

    async def dial(self, endpoint: str) -> StreamSocket:
        """A connected, non-blocking socket with its options set. Raises OSError, or FS3Error when it has more to say."""
        ...

    def adopt(self, sock: socket.socket) -> str:
        """Set the options of an accepted socket; returns the client's name. Raises OSError when the client has gone already."""
        ...

    def secure(self, sock: socket.socket) -> StreamSocket:
        """What speaks for an accepted socket: it, or what encrypts on it. Raises FS3Error."""
        ...

    def may_pass_files(self, sock: StreamSocket) -> bool:
        """The other end of a connected socket is on this host, and could open the files of this process itself, or this process
        its files."""
        ...

    def has_vanished(self, sock: StreamSocket) -> bool:
        """The host at the other end has gone, although the connection looks open."""
        ...

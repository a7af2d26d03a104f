"""What the framed wire needs to know of its kind of socket; `tcp` and `local` say it."""

from __future__ import annotations

import socket
from typing import Protocol


class StreamSockets(Protocol):
    """One kind of stream socket."""

    async def dial(self, endpoint: str) -> socket.socket:
        """A connected, non-blocking socket with its options set. Raises OSError, or FS3Error when it has more to say."""
        ...

    def adopt(self, sock: socket.socket) -> str:
        """Set the options of an accepted socket; returns the client's name. Raises OSError when the client has gone already."""
        ...

    def may_pass_files(self, sock: socket.socket) -> bool:
        """The other end of a connected socket is on this host, and could open the files of this process itself, or this process
        its files."""
        ...

    def has_vanished(self, sock: socket.socket) -> bool:
        """The host at the other end has gone, although the connection looks open."""
        ...

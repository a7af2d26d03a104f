"""The framed wire over a Unix stream socket, for processes of one host: "local:///absolute/path.sock"."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.drivers.framed.listener import FramedListener
from fs3.drivers.framed.server import ServerContext
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.framed.transport import Address, FramedTransport
from fs3.ports.clock import Clock
from fs3.ports.rpc import Bindings, Listener
from fs3.runtime.private_files import check_own_directory
from fs3.wire.endpoints import parse_socket_path, strip_scheme

__all__ = ["EmbeddedTransport", "LocalTransport"]

local_send_buffer_bytes = 1 * MIB
"""Of a Unix socket; the system may grant less."""


class LocalTransport(FramedTransport):
    """`fs3.ports.rpc.Transport` for processes of one host."""

    scheme = "local"

    def __init__(self, clock: Clock, *, mode: int = 0o600, passes_files: bool = True, **options: Any) -> None:
        """`mode`: permissions of the socket files served; 0o600 admits the server's own user, 0o666 all users. `passes_files`:
        see `fs3.drivers.framed.passed_files`; it takes both ends. `options`: see `FramedTransport`."""
        super().__init__(clock, **options)
        self._mode = mode
        self._passes_files = passes_files

    def _check(self, endpoint: str) -> None:
        parse_socket_path(endpoint)

    def _literal_address(self, endpoint: str) -> Address:
        return socket.AF_UNIX, parse_socket_path(endpoint)

    async def _resolve(self, endpoint: str) -> Sequence[Address]:
        return [self._literal_address(endpoint)]

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`. A socket file that a dead server left is replaced."""
        path = parse_socket_path(endpoint)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            check_own_directory(Path(path).parent)
            # The file is made with it: there is no moment at which others could connect.
            os.fchmod(sock.fileno(), self._mode)
            try:
                sock.bind(path)
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
                _remove_stale(path, endpoint)
                sock.bind(path)
            if self._mode & 0o077:
                os.chmod(path, self._mode)  # whatever the umask has taken away
            return LocalListener(sock, self._server_context(endpoint, bindings), path)
        except OSError as problem:
            sock.close()
            if isinstance(problem, FS3Error) and problem.code is not Code.NOT_FOUND:
                raise
            raise error(Code.INVALID, f"cannot listen at {endpoint}: {problem.strerror}") from None

    async def dial(self, endpoint: str) -> StreamSocket:
        """See `StreamSockets.dial`. UNAVAILABLE when another user listens there, who is neither this one nor root."""
        sock = await self._dial(endpoint)
        return self._check_listener(endpoint, sock)

    def _secure_blocking(self, endpoint: str, sock: socket.socket) -> StreamSocket:
        return self._check_listener(endpoint, sock)

    @staticmethod
    def _check_listener(endpoint: str, sock: socket.socket) -> socket.socket:
        uid = _credentials(sock)[1]
        if uid not in (os.geteuid(), 0):
            sock.close()
            raise error(Code.UNAVAILABLE, f"{endpoint}: another user (uid {uid}) listens there, and is not believed")
        return sock

    def _tune(self, sock: socket.socket) -> None:
        # The default of 208 KiB makes sender and receiver take turns: 3 GB/s. With room for a megabyte they overlap: 14 GB/s.
        # (The system caps it at net.core.wmem_max. Only the sender's buffer counts on a Unix socket.)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, local_send_buffer_bytes)

    def _peer(self, sock: socket.socket) -> str:
        pid, uid = _credentials(sock)
        return f"local:pid={pid},uid={uid}"

    def may_pass_files(self, sock: StreamSocket) -> bool:
        """See `StreamSockets.may_pass_files`."""
        return self._passes_files and _credentials(sock)[1] in (os.geteuid(), 0)


class EmbeddedTransport(LocalTransport):
    """The same between the threads of one process: "embedded:///absolute/path.sock".

    A scheme of its own, because such an endpoint needs no comparing of hosts, and no other process is to use it.
    """

    scheme = "embedded"

    def _check(self, endpoint: str) -> None:
        parse_socket_path(_as_local(endpoint))

    def _literal_address(self, endpoint: str) -> Address:
        return super()._literal_address(_as_local(endpoint))

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `LocalTransport.serve`."""
        return await super().serve(_as_local(endpoint), bindings)


def _credentials(sock: StreamSocket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end, when it connected or listened. Raises OSError."""
    pid, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return pid, uid


def _as_local(endpoint: str) -> str:
    return f"{LocalTransport.scheme}://{strip_scheme(endpoint, EmbeddedTransport.scheme)}"


class LocalListener(FramedListener):
    """A listener whose socket file goes when it closes, unless another server has put its own there since."""

    def __init__(self, sock: socket.socket, context: ServerContext, path: str) -> None:
        """`sock` is bound to `path`."""
        self._path = path
        self._file = _identity(path)
        super().__init__(sock, context)

    def _on_closed(self) -> None:
        if _identity(self._path) == self._file:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _remove_stale(path: str, endpoint: str) -> None:
    """Remove a socket file that a dead server left. Raises FS3Error EXISTS when a server listens there, or for another kind of
    file."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise error(Code.EXISTS, f"cannot listen at {endpoint}: there is a file of another kind")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass  # a full backlog, or no permission: there is a server
    raise error(Code.EXISTS, f"{endpoint} is taken: another server listens there")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

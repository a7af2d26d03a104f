"""The sending half of a connection. Frames queued during one turn of the loop leave together at its end, and before when there
are `flush_bytes` of them: the peer has something to do while the rest is made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import sys
import termios
from collections.abc import Sequence

from fs3.base.limits import wake_bytes_max
from fs3.base.units import KIB
from fs3.drivers.framed import forks
from fs3.drivers.framed.send_queue import FileEnded, OutgoingFrame, SendQueue
from fs3.drivers.framed.sockets import StreamSocket, StreamSockets
from fs3.drivers.rpc.server_call import run_guarded
from fs3.drivers.tls.socket import TlsSocket
from fs3.ports.rpc import OnSent, Part

log = logging.getLogger("fs3.transport")

_IDLE, _DUE, _BLOCKED = range(3)
flush_bytes = 64 * KIB
"""So much is worth a system call of its own: what is queued leaves at once, whatever else the turn will bring."""


class FrameSender:
    """Owns a connected, non-blocking socket on the running loop, what is queued for it, and its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: StreamSocket) -> None:
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._tls = sock if isinstance(sock, TlsSocket) else None
        self._out = SendQueue()
        self._encrypted_bytes = 0  # on the way into the socket
        self._flush_state = _IDLE
        self._corked = False  # a flush follows anyway
        self.is_closed = False
        forks.register(self)

    # --- what a subclass says ------------------------------------------------------------------------------------------

    def _on_sent(self) -> None:
        """Some of what was queued has left."""

    def _discard_received(self) -> None:
        """The connection is closed: drop what was received and not consumed."""

    def _on_closed(self, reason: str) -> None:
        """The connection is closed, and what was queued is dropped."""
        raise NotImplementedError

    # --- sending -------------------------------------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Not yet in the socket."""
        return self._out.queued_bytes + self._encrypted_bytes

    @property
    def queued_memory_bytes(self) -> int:
        """Not yet in the socket, and not in files."""
        return self._out.queued_bytes - self._out.file_bytes + self._encrypted_bytes

    @property
    def is_blocked(self) -> bool:
        """The socket takes no more at the moment."""
        return self._flush_state == _BLOCKED

    @property
    def sent_bytes(self) -> int:
        """Ever taken by the socket."""
        return self._out.sent_bytes

    @property
    def unread_bytes(self) -> int:
        """Arrived in the socket, and not received."""
        pending = self._tls.pending_bytes if self._tls is not None else 0
        try:
            return pending + int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def send(self, frame: bytes) -> None:
        """Queue a whole small frame."""
        if self.is_closed:
            return
        self._out.add_small(frame)
        if self._flush_state == _IDLE:
            self._flush_state = _DUE
            if not self._corked:
                self._loop.call_soon(self.flush)

    def send_parts(self, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> OutgoingFrame | None:
        """Queue a frame of `length` bytes whose parts are not copied. None when it is closed; `on_sent` was called."""
        if self.is_closed:
            if on_sent is not None:
                run_guarded(on_sent)
            return None
        outgoing = self._out.add(parts, length, on_sent)
        if self._flush_state == _IDLE:
            self._flush_state = _DUE
            if not self._corked:
                self._loop.call_soon(self.flush)
        if self._out.queued_bytes >= flush_bytes:
            self.flush()
        return outgoing

    def take_back(self, outgoing: OutgoingFrame) -> bool:
        """Give the parts of a frame back to their owner. True: nothing of it was sent, and it is forgotten. False: what was left
        is copied and sent still, because a frame cannot be broken off."""
        if self.is_closed or not outgoing.parts:
            return False
        if outgoing.is_started:
            self._out.snapshot(outgoing)
            return False
        self._out.remove(outgoing)
        return True

    def has_vanished(self, sockets: StreamSockets) -> bool:
        """The peer's host has gone; False when the connection is closed."""
        return not self.is_closed and sockets.has_vanished(self._socket)

    def flush(self) -> None:
        """Send now what would leave at the end of this turn."""
        if self._flush_state == _DUE and not self.is_closed:
            self._send_now()

    def _on_writable(self) -> None:
        if not self.is_closed:
            self._send_now()

    def _send_now(self) -> None:
        blocked = self._flush_state == _BLOCKED
        try:
            if self._tls is None:
                done = self._out.send(self._socket, wake_bytes_max)
            else:
                done = self._send_encrypted(self._tls)
        except (BlockingIOError, InterruptedError):
            done = False
        except FileEnded as problem:
            log.error("%r: %s", self, problem)
            self.close(str(problem))
            return
        except OSError as problem:
            if problem.errno in (errno.EIO, errno.EBADF):  # of a file, not of the socket
                log.error("%r: a part cannot be sent: %s", self, problem.strerror)
            self.close(problem.strerror or type(problem).__name__)
            return
        if self.is_closed:  # by a callback
            return
        if done and blocked:
            self._loop.remove_writer(self._fd)
        elif not done and not blocked:
            # Also when the socket would take more: the others' turn comes first, then the loop calls again.
            self._loop.add_writer(self._fd, self._on_writable)
        self._flush_state = _IDLE if done else _BLOCKED
        self._on_sent()

    def _send_encrypted(self, tls: TlsSocket) -> bool:
        """As `SendQueue.send`; what is encrypted already leaves first."""
        try:
            tls.push()
            done = self._out.send(tls, wake_bytes_max)
        finally:
            self._encrypted_bytes = tls.unsent_bytes
        return done and not self._encrypted_bytes

    # --- the end -------------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Disconnect; what is queued is dropped. Harmless when closed already."""
        if self.is_closed:
            return
        self.is_closed = True
        forks.unregister(self)
        self._loop.remove_reader(self._fd)
        if self._flush_state == _BLOCKED:
            self._loop.remove_writer(self._fd)
        # A forked child may hold a copy of the descriptor: only shutdown tells the peer.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._discard_received()
        self._out.drop()
        self._on_closed(reason)

    def close_in_child(self) -> None:
        """See `forks`: the connection is the parent's."""
        self.is_closed = True
        os.close(self._socket.detach())

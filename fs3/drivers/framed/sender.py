"""The sending half of a connection. Frames queued during one turn of the loop leave together at its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence

from fs3.base.limits import wake_bytes_max
from fs3.drivers.framed import forks
from fs3.drivers.framed.outgoing import FileEnded, Outgoing, SendQueue
from fs3.drivers.serving import run_guarded
from fs3.ports.rpc import Part

log = logging.getLogger("fs3.transport")

_IDLE, _DUE, _BLOCKED = range(3)


class FrameSender:
    """Owns a connected, non-blocking socket on the running loop, what is queued for it, and its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._out = SendQueue()
        self._flush_state = _IDLE
        self._corked = False  # a flush follows anyway
        self.closed = False
        forks.register(self)

    # --- what a subclass says ------------------------------------------------------------------------------------------

    def _sent(self) -> None:
        """Some of what was queued has left."""

    def _let_go(self) -> None:
        """The connection is closed: drop what was received and not consumed."""

    def _gone(self, reason: str) -> None:
        """The connection is closed, and everything that was queued has been let go."""
        raise NotImplementedError

    # --- sending -------------------------------------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Not yet in the socket."""
        return self._out.queued_bytes

    @property
    def sent_bytes(self) -> int:
        """Ever taken by the socket."""
        return self._out.sent_bytes

    def send(self, frame: bytes) -> None:
        """Queue a whole small frame."""
        if self.closed:
            return
        self._out.add_small(frame)
        if self._flush_state == _IDLE:
            self._flush_state = _DUE
            if not self._corked:
                self._loop.call_soon(self.flush)

    def send_parts(self, parts: Sequence[Part], length: int, sent: Callable[[], None] | None) -> Outgoing | None:
        """Queue a frame of `length` bytes whose parts are not copied. None when the connection is closed (`sent` was called)."""
        if self.closed:
            if sent is not None:
                run_guarded(sent)
            return None
        outgoing = self._out.add(parts, length, sent)
        if self._flush_state == _IDLE:
            self._flush_state = _DUE
            if not self._corked:
                self._loop.call_soon(self.flush)
        return outgoing

    def take_back(self, outgoing: Outgoing) -> bool:
        """The owner of the parts wants them back. True: nothing of the frame was sent and it is forgotten; False: what was left
        has been copied and is sent still, because a frame cannot be broken off."""
        if self.closed or not outgoing.parts:
            return False
        if outgoing.started:
            outgoing.snapshot()
            return False
        self._out.remove(outgoing)
        return True

    def asks(self, question: Callable[[socket.socket], bool]) -> bool:
        """The answer to a question about the socket; False when it is closed."""
        return not self.closed and question(self._socket)

    def flush(self) -> None:
        """Send now what would leave at the end of this turn."""
        if self._flush_state == _DUE and not self.closed:
            self._send_now()

    def _on_writable(self) -> None:
        if not self.closed:
            self._send_now()

    def _send_now(self) -> None:
        blocked = self._flush_state == _BLOCKED
        try:
            done = self._out.send(self._socket, wake_bytes_max)
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
        if self.closed:  # by a callback
            return
        if done and blocked:
            self._loop.remove_writer(self._fd)
        elif not done and not blocked:
            # Also when the socket would take more: the others' turn comes first, then the loop calls again.
            self._loop.add_writer(self._fd, self._on_writable)
        self._flush_state = _IDLE if done else _BLOCKED
        self._sent()

    # --- the end -------------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Disconnect; what is queued is dropped. Harmless when closed already."""
        if self.closed:
            return
        self.closed = True
        forks.unregister(self)
        self._loop.remove_reader(self._fd)
        if self._flush_state == _BLOCKED:
            self._loop.remove_writer(self._fd)
        # A forked child may hold a copy of the descriptor: only shutdown tells the peer.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._let_go()
        self._out.drop()
        self._gone(reason)

    def drop_copy(self) -> None:
        """See `forks`: the connection is the parent's."""
        self.closed = True
        os.close(self._socket.detach())

"""The framed wire without an event loop: one call at a time, on the thread that wants the answer.

A caller that blocks has to be woken twice when its call runs on the loop of another thread, which costs as much as a small read.
Here it sends and receives itself: two system calls. There are no streams, no request payloads, and nothing is retried.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from typing import Any

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB, MICROSECOND, MILLISECOND, SECOND
from fs3.drivers.framed import forks
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.method import Method
from fs3.ports.security import TicketSource
from fs3.runtime.tracing import OpenSpan, begin_call, current_span
from fs3.wire.errors import decode_error
from fs3.wire.frames import HEADER_BYTES, FrameError, FrameKind, pack, unpack
from fs3.wire.methods import PROCESS
from fs3.wire.process import authenticate_to_pb
from fs3.wire.trace_context import with_contexts

_STAGING_BYTES = 32 * KIB
"""Received in one system call: the header of a single read, and all of a small one, or of an open that brings a file's bytes."""
_REQUEST, _REPLY = FrameKind.REQUEST.value, FrameKind.REPLY.value
_current_span = current_span.get
_TIMEVAL = struct.Struct("@ll")
"""Of SO_RCVTIMEO: seconds, microseconds."""


class BlockingConnection:
    """A connected socket of whichever thread calls; the callers take turns. Anything that goes wrong closes it, but a refusal."""

    def __init__(
        self,
        endpoint: str,
        sock: StreamSocket,
        timeout_ns: int,
        counts: RpcCounts | None = None,
        tickets: TicketSource | None = None,
    ) -> None:
        """`timeout_ns`: how long a call may take. `sock` is blocking, and becomes this object's. `counts`: where its calls are
        counted; when threads count at the same instant, one of them may be missed. `tickets`: what it proves itself with; None:
        nothing."""
        self._tickets = tickets
        self._shown = b""  # the ticket that was sent last
        self._counts = counts
        self._endpoint = endpoint
        self._socket = sock
        self._timeout_ns = timeout_ns
        self._timeout_ms = timeout_ns // MILLISECOND + 1
        self._view = memoryview(bytearray(_STAGING_BYTES))
        self._last_id = 0
        self.is_closed = False
        # As options of the socket: with a timeout of Python's own every receive would be preceded by a poll.
        bound = _TIMEVAL.pack(timeout_ns // SECOND, timeout_ns % SECOND // MICROSECOND)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
        forks.register(self)

    def __repr__(self) -> str:
        return f"<blocking connection to {self._endpoint}{', closed' if self.is_closed else ''}>"

    def call(self, method: Method, request: Any, into: memoryview) -> tuple[Any, int]:
        """Send a request and wait: the reply's message, and how many bytes of payload are in `into` now.

        Raises FS3Error for an answer that is none, OSError (TimeoutError, BlockingIOError) when there is none in time or the
        connection breaks, ValueError for bytes that make no sense. After any of these `into` is the caller's again.
        """
        if self.is_closed:
            raise error(Code.DISCONNECTED, f"the connection to {self._endpoint} was closed")
        parent = _current_span()
        span = None if parent is None or parent.is_ended else begin_call(parent, method.full_name, self._endpoint)
        counts = None if self._counts is None else self._counts.of_called(method)
        begun_at = 0
        if counts is not None:
            counts.begun += 1
            begun_at = counts.now()
        try:
            code, header, count = self._exchange(method, request, into, span)
            message = None if code else method.reply.FromString(header)
        except BaseException:  # an interrupt as well: where in the stream it came is not known
            if counts is not None:
                counts.end(Code.DISCONNECTED, begun_at)
            if span is not None:
                span.end(Code.DISCONNECTED)
            self.close()
            raise
        if span is not None:
            span.end(code)
        if counts is not None:
            counts.received_bytes += count
            counts.end(code, begun_at)
        if code:
            problem = decode_error(code, header, self._endpoint)
            tickets, lapsed = self._tickets, problem.code is Code.NOT_AUTHENTICATED
            if lapsed and tickets is not None and tickets.on_refused(self._shown, self._endpoint):
                problem = error(Code.TICKET_LAPSED, f"the ticket for {self._endpoint} has lapsed; a new one is on its way")
            raise problem
        return message, count

    def _exchange(self, method: Method, request: Any, into: memoryview, span: OpenSpan | None) -> tuple[int, bytes, int]:
        """The code of the reply, its header, and how many bytes of payload are in `into` now."""
        if self._tickets is not None and self._tickets.ticket != self._shown:
            self._authenticate(self._tickets.ticket)
        return self._ask(method, request.SerializeToString(), into, span)

    def _authenticate(self, ticket: bytes) -> None:
        """Say who calls. What comes of it shows in the call behind it."""
        self._shown = ticket
        self._ask(PROCESS.Authenticate, authenticate_to_pb(ticket).SerializeToString(), memoryview(bytearray()), None)

    def _ask(self, method: Method, data: bytes, into: memoryview, span: OpenSpan | None) -> tuple[int, bytes, int]:
        """See `_exchange`, for a request that is serialised."""
        self._last_id = request_id = self._last_id + 1
        code = 0
        if span is not None:
            data, code = with_contexts(data, span.contexts, code)
        sock, staged = self._socket, self._view
        give_up_at = time.monotonic_ns() + self._timeout_ns
        sock.sendall(pack(_REQUEST, method.id, request_id, len(data), 0, code, self._timeout_ms) + data)
        have = self._receive(staged)
        while have < HEADER_BYTES:
            have += self._receive(staged[have:], give_up_at)
        frame = unpack(staged)
        body = HEADER_BYTES + frame.header_length
        count = frame.payload_length
        if frame.kind != _REPLY or frame.request_id not in (0, request_id) or count > len(into):
            raise FrameError(f"{self._endpoint} answered {method!r} with a frame that is no answer to it: {frame}")
        if body > len(staged):
            longer = memoryview(bytearray(body))
            longer[:have] = staged[:have]
            staged = longer
        while have < body:
            have += self._receive(staged[have:], give_up_at)
        if have > body + count:
            raise FrameError(f"{self._endpoint} sent {have - body - count} bytes that nobody has asked for")
        header = bytes(staged[HEADER_BYTES:body])
        if frame.request_id != request_id:  # to the connection as a whole: it ends
            raise decode_error(frame.code, header, self._endpoint)
        done = have - body
        if done:
            into[:done] = staged[body:have]
        while done < count:
            done += self._receive(into[done:count], give_up_at)
        return frame.code, header, count

    def _receive(self, into: memoryview, give_up_at: int = 0) -> int:
        """Some bytes. `give_up_at`: of a frame that has begun to arrive, when the rest must be there."""
        if give_up_at and time.monotonic_ns() >= give_up_at:
            raise TimeoutError(f"{self._endpoint} stopped in the middle of a frame")
        count = self._socket.recv_into(into)
        if not count:
            raise error(Code.DISCONNECTED, f"{self._endpoint} closed the connection")
        return count

    def abort(self) -> None:
        """From any thread: a call that waits, and every later one, fails. The thread that calls closes it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect. Harmless when it is closed; not while another thread calls."""
        if not self.is_closed:
            self.is_closed = True
            forks.unregister(self)
            self.abort()
            self._socket.close()

    def close_in_child(self) -> None:
        """See `forks`: the connection is the parent's."""
        self.is_closed = True
        os.close(self._socket.detach())

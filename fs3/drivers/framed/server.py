"""A client as the framed wire's server sees it: dispatching, answering, and keeping a bad peer from hurting the others."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from fs3.base import limits
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.drivers.framed.connection import Connection
from fs3.drivers.rpc.channel import NEVER
from fs3.drivers.rpc.receive_pool import Claim
from fs3.drivers.rpc.server_call import MethodBinding, ServerCall, run_guarded
from fs3.model.method import Method
from fs3.ports.rpc import FileRange, Part
from fs3.wire.errors import encode_error
from fs3.wire.frames import MAGIC_BYTES, Frame, FrameError, FrameKind, pack

if TYPE_CHECKING:
    from fs3.drivers.framed.listener import FramedListener

log = logging.getLogger("fs3.transport")

_REQUEST, _REPLY, _MORE, _CANCEL = FrameKind.REQUEST.value, FrameKind.REPLY.value, FrameKind.MORE.value, FrameKind.CANCEL.value
_NO_BUFFER, _QUEUE_FULL = 1, 2  # why a connection is not read


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one peer may take; see `fs3.base.limits` for each. Tests make them smaller."""

    calls_per_connection_max: int = limits.calls_per_connection_max
    connections_max: int = limits.connections_max
    send_queue_bytes_max: int = 64 * MIB
    """Reply bytes in memory that one connection may have queued before its requests are no longer read."""
    stream_queue_bytes_max: int = limits.stream_queue_bytes_max
    receive_stall_ns: int = limits.receive_stall_ns
    receive_rate_min: int = 1 * MIB
    """Bytes per second: a frame may take `receive_stall_ns` and the time this rate needs for it, then the peer is
    disconnected."""
    send_stall_ns: int = limits.send_stall_ns
    connection_idle_ns_max: int = limits.connection_idle_ns_max
    sweep_ns: int = limits.transport_sweep_ns


class FramedCall(ServerCall):
    """One request of one connection."""

    __slots__ = ("_connection", "_queued_bytes", "request_id")

    def __init__(self, connection: ServerConnection, method: Method, request: object, deadline: int, request_id: int) -> None:
        super().__init__(method, request, connection.peer, deadline)
        self._connection = connection
        self._queued_bytes = 0  # messages of a stream that have not left
        self.request_id = request_id

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        payload, self.payload = self.payload, None
        if payload is not None:
            self._connection.pool.release(payload)

    def _on_end(self) -> None:
        self._connection.on_call_ended(self)
        if self.payload is not None:
            self.release()

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: Callable[[], None] | None) -> None:
        connection = self._connection
        head = pack(_REPLY, self.method.id, self.request_id, len(data), length) + data
        if not length:
            connection.send(head)
        elif length <= limits.copied_parts_bytes_max and not any(type(part) is FileRange for part in parts):
            connection.send(b"".join((head, *parts)))  # type: ignore[arg-type]
        else:
            connection.send_parts((head, *parts), len(head) + length, on_sent)
            connection.check_queue()
            return
        if on_sent is not None:
            run_guarded(on_sent)

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        self._connection.send_error(self.method.id, self.request_id, code, message, routing_version)

    def _send_message(self, data: bytes) -> bool:
        connection = self._connection
        head = pack(_MORE, self.method.id, self.request_id, len(data))
        length = len(head) + len(data)
        if connection.is_closed or (
            self._queued_bytes and self._queued_bytes + length > connection.limits.stream_queue_bytes_max
        ):
            return False
        self._queued_bytes += length

        def left() -> None:
            self._queued_bytes -= length

        connection.send_parts((head, data), length, left)
        return True

    def _send_end(self) -> None:
        self._connection.send(pack(_REPLY, self.method.id, self.request_id, 0))


class ServerConnection(Connection):
    """A client, as its server sees it."""

    def __init__(self, listener: FramedListener, sock: socket.socket, peer: str) -> None:
        self._listener = listener
        self._table = listener.table
        self._now = listener.clock.now
        self.limits = listener.limits
        self.pool = listener.pool
        self.peer = peer
        self._calls: dict[int, FramedCall] = {}
        self._open_calls = 0  # not ended by their handlers, cancelled ones too
        self._incoming: tuple[FramedCall, MethodBinding] | None = None  # whose payload is being received
        self._buffer: memoryview | None = None  # of the pool, being received into
        self._claim: Claim | None = None
        self._last_frames = self._last_received_bytes = self._last_sent_bytes = 0
        self._frame_since = self._received_since = self._sent_since = self._idle_since = listener.clock.now()
        super().__init__(listener.loop, sock)

    def __repr__(self) -> str:
        return f"<connection of {self.peer}, {self._open_calls} calls under way, {self.queued_bytes} bytes queued>"

    @property
    def is_idle(self) -> bool:
        """No call under way and nothing left to send."""
        return not self._open_calls and not self.queued_bytes and self._incoming is None

    # --- requests ------------------------------------------------------------------------------------------------------

    def _on_header(self, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        if type(header) is memoryview:  # a long one, in a buffer of the pool
            header = bytes(header)
            self._release_buffer()
        kind, method_id, _, request_id, _, length, timeout_ms = frame
        if kind != _REQUEST:
            if kind != _CANCEL:
                raise FrameError(f"a client sends no frames of kind {kind}")
            if length:
                raise FrameError(f"a CANCEL with a payload of {length} bytes")
            call = self._calls.pop(request_id, None)
            if call is not None:
                call.cancel()
            return
        if request_id in self._calls or not request_id:
            raise FrameError(f"request id {request_id} is under way already")
        served = self._table.get(method_id)
        if served is None:
            self._decline(frame, Code.UNSUPPORTED, f"no method {method_id:#06x} is served here")
        elif length and not served.takes_payload:
            self._decline(frame, Code.INVALID, f"requests of {served.method!r} carry no payload")
        elif self._open_calls >= self.limits.calls_per_connection_max:
            self._decline(frame, Code.BUSY, f"{self._open_calls} calls of this connection are under way")
        elif self._listener.is_closing:
            self._decline(frame, Code.SHUTTING_DOWN, f"{self._listener.endpoint} is shutting down")
        else:
            try:
                request = served.parse(header)
            except DecodeError as problem:
                self._decline(frame, Code.INVALID, f"the request of {served.method!r} cannot be read: {problem}")
            else:
                deadline = self._now() + timeout_ms * MILLISECOND if timeout_ms else NEVER
                call = FramedCall(self, served.method, request, deadline, request_id)
                if length:
                    self._incoming = (call, served)
                    self._acquire_buffer(length)
                else:
                    self._admit(call, served)

    def _decline(self, frame: Frame, code: Code, message: str) -> None:
        """Answer without a handler, and throw the payload away."""
        self.send_error(frame.method, frame.request_id, code, message, 0)
        if frame.payload_length:
            self._expect(frame.payload_length, [])
        self.check_queue()

    def _admit(self, call: FramedCall, binding: MethodBinding) -> None:
        self._calls[call.request_id] = call
        self._open_calls += 1
        call.dispatch(binding.handler)
        self.check_queue()

    def _on_payload(self) -> None:
        assert self._incoming is not None
        (call, served), self._incoming = self._incoming, None
        call.payload, self._buffer = self._buffer, None
        if self._now() >= call.deadline:
            # Nobody waits any more: the work would be for nothing.
            self.send_error(call.method.id, call.request_id, Code.DEADLINE, f"{call.method!r} arrived too late", 0)
            call.release()
        else:
            self._admit(call, served)

    def _reserve_header(self, length: int) -> None:
        self._acquire_buffer(length)

    def _acquire_buffer(self, length: int) -> None:
        """Receive into a buffer of the pool, now or when it is our turn."""
        self._buffer = self.pool.acquire(length)
        if self._buffer is not None:
            self._expect(length, [self._buffer])
        else:
            self._wait_for(length, _NO_BUFFER)
            self._claim = self.pool.claim(length, self._on_buffer_granted)

    def _on_buffer_granted(self, buffer: memoryview) -> None:
        self._claim = None
        self._buffer = buffer
        self._provide(buffer, _NO_BUFFER)

    def _release_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self.pool.release(buffer)

    # --- answers -------------------------------------------------------------------------------------------------------

    def send_error(self, method_id: int, request_id: int, code: Code, message: str, routing_version: int) -> None:
        """A REPLY that is not OK."""
        data = encode_error(code, message, routing_version)
        self.send(pack(_REPLY, method_id, request_id, len(data), 0, code) + data)

    def check_queue(self) -> None:
        """A peer that does not read its answers is not asked for more requests."""
        if self.queued_bytes > self.limits.send_queue_bytes_max:
            self.pause(_QUEUE_FULL)

    def on_call_ended(self, call: FramedCall) -> None:
        """The handler has done with a call."""
        self._open_calls -= 1
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]
        if self._listener.is_closing:  # not before the answer is queued
            self._loop.call_soon(self._listener.on_progress)

    def _on_sent(self) -> None:
        if self._paused and self.queued_bytes <= self.limits.send_queue_bytes_max // 2:
            self.resume(_QUEUE_FULL)
        if self._listener.is_closing:
            self._listener.on_progress()

    # --- bad peers and the end -----------------------------------------------------------------------------------------

    def _on_bad_frame(self, problem: FrameError, first_bytes: bytes | None) -> None:
        self._listener.peer_log.warning("%s disconnects %s: %s", self._listener.endpoint, self.peer, problem)
        if first_bytes is None or first_bytes.startswith(MAGIC_BYTES):
            self.send_error(0, 0, Code.PROTOCOL, str(problem), 0)
            self.flush()
        self.close(str(problem))

    def sweep(self, now: int) -> None:
        """Called about once a second: disconnects a peer that owes us the rest of a frame, that takes nothing of ours, that says
        nothing at all, or whose host has vanished."""
        bounds = self.limits
        if not self.is_mid_frame or self.frames != self._last_frames:
            self._last_frames = self.frames
            self._frame_since = self._received_since = now
        if self.received_bytes != self._last_received_bytes:
            self._last_received_bytes = self.received_bytes
            self._received_since = self._idle_since = now
        if not self.queued_bytes or self.sent_bytes != self._last_sent_bytes:
            self._last_sent_bytes = self.sent_bytes
            self._sent_since = now
        expected = self._expected if self._remaining else limits.long_header_bytes
        if now - self._received_since >= bounds.receive_stall_ns:
            self._give_up(f"it stopped in the middle of a frame, {bounds.receive_stall_ns / SECOND:.3g} s ago")
        elif now - self._frame_since >= bounds.receive_stall_ns + expected * SECOND // bounds.receive_rate_min:
            self._give_up(f"it sends a frame of {expected} bytes slower than {bounds.receive_rate_min} bytes per second")
        elif now - self._sent_since >= bounds.send_stall_ns:
            self._give_up(f"it has taken none of {self.queued_bytes} bytes for {bounds.send_stall_ns / SECOND:.3g} s")
        elif self.check_socket(self._listener.has_vanished):
            self._give_up(f"its host has acknowledged nothing for {limits.peer_unresponsive_ns / SECOND:.3g} s")
        elif now - self._idle_since >= bounds.connection_idle_ns_max and not self._has_streams():
            log.debug("%s closes the connection of %s: nothing has arrived for long", self._listener.endpoint, self.peer)
            self.close("it was idle for too long")

    def _has_streams(self) -> bool:
        return any(call.method.streaming for call in self._calls.values())

    def on_process_paused(self, gap_ns: int) -> None:
        """This process itself stood still for so long: that must not count against the peer. (Being idle is nothing that counts
        against it: what has not been heard of for so long may be closed whoever slept.)"""
        self._frame_since += gap_ns
        self._received_since += gap_ns
        self._sent_since += gap_ns

    def _give_up(self, reason: str) -> None:
        self._listener.peer_log.warning("%s disconnects %s: %s", self._listener.endpoint, self.peer, reason)
        self.close(reason)

    def _on_closed(self, reason: str) -> None:
        log.debug("%s: %s has gone: %s", self._listener.endpoint, self.peer, reason)
        if self._claim is not None:
            self.pool.cancel(self._claim)
            self._claim = None
        self._incoming = None
        self._release_buffer()
        self._listener.forget(self)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.cancel()

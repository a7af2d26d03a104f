"""A client as the framed wire's server sees it: dispatching, answering, and keeping a bad peer from hurting the others."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fs3.base import limits
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND, NEVER, SECOND
from fs3.drivers.framed.connection import Connection
from fs3.drivers.framed.sockets import StreamSockets
from fs3.drivers.rpc.admission import RequestAdmission, RequestRefused
from fs3.drivers.rpc.rate_limited_log import RateLimitedLog
from fs3.drivers.rpc.receive_pool import Claim, ReceivePool
from fs3.drivers.rpc.server_call import MethodBinding, ServerCall, run_guarded
from fs3.model.method import Method
from fs3.ports.clock import Clock
from fs3.ports.rpc import FileRange, OnSent, Part
from fs3.wire.errors import encode_error
from fs3.wire.frames import MAGIC_BYTES, Frame, FrameError, FrameKind, pack

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


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a listener and its connections have in common."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    admission: RequestAdmission
    """Knows the endpoint, and that the listener closes."""
    limits: ServerLimits
    pool: ReceivePool
    peer_log: RateLimitedLog
    sockets: StreamSockets


class ConnectionOwner(Protocol):
    """The listener that has accepted a connection."""

    def on_progress(self) -> None:
        """The listener closes, and a call has ended or something was sent."""
        ...

    def on_connection_closed(self, connection: ServerConnection) -> None:
        """The connection is closed; it calls back no more."""
        ...


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

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> None:
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

    def __init__(self, owner: ConnectionOwner, context: ServerContext, sock: socket.socket, peer: str) -> None:
        self._owner = owner
        self._context = context
        # What is looked at for every request is kept here.
        self._admission = context.admission
        self._now = context.clock.now
        self.limits = context.limits
        self.pool = context.pool
        self.peer = peer
        self._calls: dict[int, FramedCall] = {}
        self._open_calls = 0  # not ended by their handlers, cancelled ones too
        self._incoming: tuple[FramedCall, MethodBinding] | None = None  # whose payload is being received
        self._buffer: memoryview | None = None  # of the pool, being received into
        self._claim: Claim | None = None
        self._last_frames = self._last_received_bytes = self._last_sent_bytes = 0
        self._frame_since = self._received_since = self._sent_since = self._idle_since = self._now()
        super().__init__(context.loop, sock)

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
        try:
            binding, request = self._admission.admit(method_id, header, length, self._open_calls)
        except RequestRefused as refusal:
            self._decline(frame, refusal)
            return
        deadline = self._now() + timeout_ms * MILLISECOND if timeout_ms else NEVER
        call = FramedCall(self, binding.method, request, deadline, request_id)
        if length:
            self._incoming = (call, binding)
            self._acquire_buffer(length)
        else:
            self._admit(call, binding)

    def _decline(self, frame: Frame, refusal: RequestRefused) -> None:
        """Answer without a handler, and throw the payload away."""
        self.send_error(frame.method, frame.request_id, refusal.code, refusal.message, 0)
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
        (call, binding), self._incoming = self._incoming, None
        call.payload, self._buffer = self._buffer, None
        if self._now() >= call.deadline:
            # The client has given the call up: the work would be for nothing.
            self.send_error(call.method.id, call.request_id, Code.DEADLINE, f"{call.method!r} arrived too late", 0)
            call.release()
        else:
            self._admit(call, binding)

    def _reserve_header(self, length: int) -> None:
        self._acquire_buffer(length)

    def _acquire_buffer(self, length: int) -> None:
        """Receive `length` bytes into a buffer of the pool, now or when the pool grants one."""
        self._buffer = self.pool.acquire(length)
        if self._buffer is not None:
            self._expect(length, [self._buffer])
        else:
            self._wait_for(length, _NO_BUFFER)
            self._claim = self.pool.claim(length, self)

    def on_buffer_granted(self, buffer: memoryview) -> None:
        """See `BufferWaiter.on_buffer_granted`."""
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
        """Read no more requests of a client that does not read its answers."""
        if self.queued_bytes > self.limits.send_queue_bytes_max:
            self.pause(_QUEUE_FULL)

    def on_call_ended(self, call: FramedCall) -> None:
        """The handler has ended a call; its answer is not queued yet."""
        self._open_calls -= 1
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]
        if self._admission.is_closing:  # not before the answer is queued
            self._loop.call_soon(self._owner.on_progress)

    def _on_sent(self) -> None:
        if self._paused and self.queued_bytes <= self.limits.send_queue_bytes_max // 2:
            self.resume(_QUEUE_FULL)
        if self._admission.is_closing:
            self._owner.on_progress()

    # --- bad peers and the end -----------------------------------------------------------------------------------------

    def _on_bad_frame(self, problem: FrameError, first_bytes: bytes | None) -> None:
        self._context.peer_log.warning("%s disconnects %s: %s", self._admission.endpoint, self.peer, problem)
        if first_bytes is None or first_bytes.startswith(MAGIC_BYTES):
            self.send_error(0, 0, Code.PROTOCOL, str(problem), 0)
            self.flush()
        self.close(str(problem))

    def sweep(self, now: int) -> None:
        """Called every `sweep_ns`: disconnects a client that owes the rest of a frame, that takes none of what is queued for it,
        that is idle for too long, or whose host has vanished."""
        bounds = self.limits
        # A frame has two clocks: since its last byte, which finds a client that has stopped, and since its beginning, which finds
        # one that sends a byte now and then for ever.
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
        elif self.has_vanished(self._context.sockets):
            self._give_up(f"its host has acknowledged nothing for {limits.peer_unresponsive_ns / SECOND:.3g} s")
        elif now - self._idle_since >= bounds.connection_idle_ns_max and not self._has_streams():
            log.debug("%s closes the connection of %s: nothing has arrived for long", self._admission.endpoint, self.peer)
            self.close("it was idle for too long")

    def _has_streams(self) -> bool:
        return any(call.method.streaming for call in self._calls.values())

    def on_process_paused(self, gap_ns: int) -> None:
        """This process itself stood still for `gap_ns`, which must not count against the client. (It may count as idle time: an
        idle connection can be closed at no harm.)"""
        self._frame_since += gap_ns
        self._received_since += gap_ns
        self._sent_since += gap_ns

    def _give_up(self, reason: str) -> None:
        self._context.peer_log.warning("%s disconnects %s: %s", self._admission.endpoint, self.peer, reason)
        self.close(reason)

    def _on_closed(self, reason: str) -> None:
        log.debug("%s: %s has gone: %s", self._admission.endpoint, self.peer, reason)
        if self._claim is not None:
            self.pool.cancel(self._claim)
            self._claim = None
        self._incoming = None
        self._release_buffer()
        self._owner.on_connection_closed(self)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.cancel()

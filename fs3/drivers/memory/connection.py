"""A connection between a client and a server of one process, over two pipes of a `MemoryNetwork`.

What travels are the frames at the end of this file: each knows what happens where it arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextvars import Context
from typing import Protocol

from fs3.base.limits import stream_queue_bytes_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, NEVER
from fs3.drivers.memory.network import MemoryFrame, MemoryNetwork, MemoryPipe
from fs3.drivers.rpc.admission import RequestAdmission, RequestRefused
from fs3.drivers.rpc.payload import copy_parts, join_parts
from fs3.drivers.rpc.pending_call import PendingCall
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.server_call import MethodBinding, ServerCall, run_guarded
from fs3.drivers.rpc.traced_call import TracedServerCall, begin_served
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.ports.rpc import OnSent, Part
from fs3.wire.errors import encode_error
from fs3.wire.frames import HEADER_BYTES


class ClientEnd(Protocol):
    """The channel at one end of a connection."""

    host: str
    context: Context
    """In which its side of the connection is handled."""

    def on_reply(self, request_id: int, data: bytes, parts: Sequence[Part], length: int) -> None:
        """The last or only answer of a call: the message, serialised, and a payload of `length` bytes."""
        ...

    def on_error(self, request_id: int, code: Code, data: bytes) -> None:
        """The error that ends a call, as `encode_error` makes it."""
        ...

    def on_message(self, request_id: int, data: bytes) -> None:
        """One message of a stream, serialised."""
        ...

    def on_connection_lost(self, connection: MemoryConnection, reason: str) -> None:
        """The connection has ended, and not by `hang_up`."""
        ...


class ServerEnd(Protocol):
    """The listener at the other end."""

    host: str
    context: Context
    """In which its side of the connection is handled."""
    admission: RequestAdmission
    pool: ReceivePool
    connections: dict[MemoryConnection, None]

    def on_progress(self) -> None:
        """A call has ended or an answer has arrived, or a connection has gone."""
        ...


class MemoryCall(ServerCall):
    """One request, as its server sees it."""

    __slots__ = ("connection", "queued_bytes", "request_id")

    def __init__(self, connection: MemoryConnection, method: Method, request: object, deadline: int, request_id: int) -> None:
        super().__init__(method, request, connection.peer, deadline, connection.auth)
        self.connection = connection
        self.queued_bytes = 0
        """Messages of a stream that have not arrived."""
        self.request_id = request_id

    @property
    def request_number(self) -> int:
        """Of its request."""
        return self.request_id

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        payload, self.payload = self.payload, None
        if payload is not None:
            self._on_released()
            self.connection.server.pool.release(payload)

    def _on_end(self) -> None:
        self.connection.on_call_ended(self)
        self.release()

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> None:
        self.connection.down.push(_ReplyFrame(self.connection, self.request_id, data, parts, length, on_sent))

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        self.connection.send_error(self.request_id, code, message, routing_version)

    def _send_message(self, data: bytes) -> bool:
        down = self.connection.down
        frame = _MessageFrame(self, data)
        if down.is_closed or (self.queued_bytes and self.queued_bytes + frame.size > stream_queue_bytes_max):
            return False
        self.queued_bytes += frame.size
        down.push(frame)
        return True

    def _send_end(self) -> None:
        self.connection.down.push(_ReplyFrame(self.connection, self.request_id, b"", (), 0, None))


class TracedMemoryCall(TracedServerCall, MemoryCall):
    """One that belongs to a trace."""

    __slots__ = ("span",)


class MemoryConnection:
    """A client and a server that talk to each other."""

    def __init__(self, network: MemoryNetwork, client: ClientEnd, server: ServerEnd, auth: AuthContext) -> None:
        self.client = client
        self.server = server
        self.peer = f"memory:{client.host or 'client'}"
        self.calls: dict[int, MemoryCall] = {}
        """By request id: neither ended by their handlers nor cancelled."""
        self.open_calls = 0
        """Not ended by their handlers, cancelled ones too."""
        self._network = network
        self.up = MemoryPipe(network, self, client.host, server.host, server.context)
        self.down = MemoryPipe(network, self, server.host, client.host, client.context)
        self.pipes = (self.up, self.down)
        network.connections[self] = None
        self.auth: AuthContext = auth
        """What the client has proved."""
        auth.on_lost.append(self._on_rights_lost)
        server.connections[self] = None

    # --- towards the server --------------------------------------------------------------------------------------------

    def request(self, call: PendingCall, timeout_ms: int) -> None:
        """Send a request. `timeout_ms` 0: it has no deadline."""
        payload = call.wire_state = _RequestPayload(call.parts) if call.length else None
        self.up.push(_RequestFrame(self, call, payload, timeout_ms))

    def cancel_request(self, call: PendingCall) -> None:
        """The client has given a call up. The request may still arrive, as over any network."""
        if call.wire_state is not None:
            call.wire_state.snapshot()
        self.up.push(_CancelFrame(self, call.request_id))

    def on_request(self, frame: _RequestFrame) -> None:
        """A request arrives."""
        server, request_id, length = self.server, frame.request_id, frame.length
        now = self._network.clock.now()
        if now >= self.auth.until and self.auth.principal is not None:
            self.disconnect("its ticket has lapsed")
            return
        try:
            binding, request = server.admission.admit(frame.method_id, frame.data, length, self.open_calls, self.auth, now)
        except RequestRefused as refusal:
            self.send_error(request_id, refusal.code, refusal.message)
            return
        deadline = now + frame.timeout_ms * MILLISECOND if frame.timeout_ms else NEVER
        if frame.contexts and binding.tracer is not None:
            traced = TracedMemoryCall(self, binding.method, request, deadline, request_id)
            traced.span = begin_served(traced, binding.tracer, frame.contexts, now)
            call: MemoryCall = traced
        else:
            call = MemoryCall(self, binding.method, request, deadline, request_id)
        call.arrived_at = now
        if frame.payload is None:
            self._admit(call, binding, now)
            return
        is_forward = binding.method.is_forward(request)
        buffer = server.pool.acquire(length, is_forward=is_forward)
        if buffer is not None:
            self.take_payload(call, binding, frame.payload, buffer)
            return
        # As on a socket: nothing more is read from this connection until there is room.
        self.up.pause()
        server.pool.claim(length, _WaitingRequest(call, binding, frame.payload), is_forward=is_forward)

    def take_payload(self, call: MemoryCall, binding: MethodBinding, payload: _RequestPayload, buffer: memoryview) -> None:
        """Copy the payload of a request into a buffer of the pool, and go on with it."""
        call.payload = buffer
        try:
            copy_parts(payload.parts, [buffer])
        except OSError as problem:
            call.release()
            self.disconnect(f"a part of a request could not be read: {problem}")
            return
        payload.parts = ()
        now = self._network.clock.now()
        if now >= call.deadline:
            call.release()
            self.send_error(call.request_id, Code.DEADLINE, f"{call.method!r} arrived too late")
        else:
            self._admit(call, binding, now)

    def _admit(self, call: MemoryCall, binding: MethodBinding, now: int) -> None:
        self.calls[call.request_id] = call
        self.open_calls += 1
        if binding.counts is not None:
            if now != call.arrived_at:
                binding.counts.waited.add(now - call.arrived_at)
            call.count(binding.counts, now, binding.slow)
        call.dispatch(binding.handler)

    def on_call_ended(self, call: MemoryCall) -> None:
        """The handler has ended a call; its answer is not sent yet."""
        self.open_calls -= 1
        if self.calls.get(call.request_id) is call:
            del self.calls[call.request_id]
        # Its answer is pushed after this, and the listener must not close before it has arrived.
        if self.server.admission.is_closing:
            asyncio.get_running_loop().call_soon(self.server.on_progress)

    # --- towards the client --------------------------------------------------------------------------------------------

    def send_error(self, request_id: int, code: Code, message: str, routing_version: int = 0) -> None:
        """Send the error that ends a call."""
        self.down.push(_ErrorFrame(self, request_id, code, encode_error(code, message, routing_version)))

    # --- the end -------------------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """The client closes. What it has sent arrives first, then the server notices."""
        self.down.close()
        self.up.push(_HangUpFrame(self))

    def on_hang_up(self) -> None:
        """The client has closed, and everything it sent has arrived."""
        self._forget()
        self._cancel_calls()

    def on_cut(self) -> None:
        """See `NetworkConnection.on_cut`."""
        self.disconnect(f"the network between {self.client.host!r} and {self.server.host!r} broke")

    def disconnect(self, reason: str) -> None:
        """See `NetworkConnection.disconnect`."""
        self._forget()
        loop = asyncio.get_running_loop()
        loop.call_soon(self.client.on_connection_lost, self, reason, context=self.client.context)
        loop.call_soon(self._cancel_calls, context=self.server.context)

    def on_host_crash(self, host: str) -> None:
        """See `NetworkConnection.on_host_crash`."""
        reason = f"host {host!r} crashed"
        self._forget()
        if self.client.host != host:
            asyncio.get_running_loop().call_soon(self.client.on_connection_lost, self, reason, context=self.client.context)
        if self.server.host != host:
            asyncio.get_running_loop().call_soon(self._cancel_calls, context=self.server.context)

    def _on_rights_lost(self) -> None:
        """See `AuthContext.on_lost`. Not at once: this may run within a call of this connection."""
        if not self.up.is_closed:
            asyncio.get_running_loop().call_soon(self.disconnect, "its principal has lost its rights")

    def _forget(self) -> None:
        if self.server.admission.gate is not None:
            self.server.admission.gate.close(self.auth)
        self.up.close()
        self.down.close()
        self._network.connections.pop(self, None)
        self.server.connections.pop(self, None)

    def _cancel_calls(self) -> None:
        calls, self.calls = list(self.calls.values()), {}
        for call in calls:
            call.cancel()
        self.server.on_progress()


class _RequestPayload:
    """The payload of a request on the way."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def snapshot(self) -> None:
        """Copy what has not arrived, so that the caller can have its memory back."""
        if self.parts:
            with contextlib.suppress(OSError):
                self.parts = (join_parts(self.parts),)


class _WaitingRequest:
    """A request that has arrived and waits for a buffer; its connection is paused meanwhile."""

    __slots__ = ("_binding", "_call", "_payload")

    def __init__(self, call: MemoryCall, binding: MethodBinding, payload: _RequestPayload) -> None:
        self._call = call
        self._binding = binding
        self._payload = payload

    def on_buffer_granted(self, buffer: memoryview) -> None:
        """See `BufferWaiter.on_buffer_granted`."""
        connection = self._call.connection
        if connection.up.is_closed:
            connection.server.pool.release(buffer)
        else:  # later: this runs within the `release` of another request, of another connection perhaps
            asyncio.get_running_loop().call_soon(self._resume, buffer)

    def _resume(self, buffer: memoryview) -> None:
        connection = self._call.connection
        connection.take_payload(self._call, self._binding, self._payload, buffer)
        connection.up.resume()


class _RequestFrame(MemoryFrame):
    __slots__ = ("_connection", "contexts", "data", "length", "method_id", "payload", "request_id", "timeout_ms")

    def __init__(self, connection: MemoryConnection, call: PendingCall, payload: _RequestPayload | None, timeout_ms: int) -> None:
        super().__init__(HEADER_BYTES + len(call.data) + call.length)
        self._connection = connection
        self.request_id = call.request_id
        self.method_id = call.method.id
        self.data = call.data
        self.contexts = () if call.span is None else call.span.contexts
        """What it belongs to; (), nearly always: to no trace."""
        self.length = call.length
        self.payload = payload
        self.timeout_ms = timeout_ms

    def deliver(self) -> None:
        self._connection.on_request(self)


class _CancelFrame(MemoryFrame):
    __slots__ = ("_connection", "_request_id")

    def __init__(self, connection: MemoryConnection, request_id: int) -> None:
        super().__init__(HEADER_BYTES)
        self._connection = connection
        self._request_id = request_id

    def deliver(self) -> None:
        call = self._connection.calls.pop(self._request_id, None)
        if call is not None:
            call.cancel()


class _HangUpFrame(MemoryFrame):
    __slots__ = ("_connection",)

    def __init__(self, connection: MemoryConnection) -> None:
        super().__init__(0)
        self._connection = connection

    def deliver(self) -> None:
        self._connection.on_hang_up()


class _ReplyFrame(MemoryFrame):
    __slots__ = ("_connection", "_data", "_length", "_on_sent", "_parts", "_request_id")

    def __init__(
        self,
        connection: MemoryConnection,
        request_id: int,
        data: bytes,
        parts: Sequence[Part],
        length: int,
        on_sent: OnSent | None,
    ) -> None:
        super().__init__(HEADER_BYTES + len(data) + length)
        self._connection = connection
        self._request_id = request_id
        self._data = data
        self._parts = parts
        self._length = length
        self._on_sent = on_sent

    def deliver(self) -> None:
        server = self._connection.server
        self._connection.client.on_reply(self._request_id, self._data, self._parts, self._length)
        if server.admission.is_closing:
            server.on_progress()
        self._release_parts()

    def drop(self) -> None:
        self._release_parts()

    def _release_parts(self) -> None:
        # Arrived or lost, the parts are not needed any more. That is the server's business: it must not run in the client's
        # context, where replies arrive.
        if self._on_sent is not None:
            asyncio.get_running_loop().call_soon(run_guarded, self._on_sent, context=self._connection.server.context)


class _ErrorFrame(MemoryFrame):
    __slots__ = ("_code", "_connection", "_data", "_request_id")

    def __init__(self, connection: MemoryConnection, request_id: int, code: Code, data: bytes) -> None:
        super().__init__(HEADER_BYTES + len(data))
        self._connection = connection
        self._request_id = request_id
        self._code = code
        self._data = data

    def deliver(self) -> None:
        self._connection.client.on_error(self._request_id, self._code, self._data)


class _MessageFrame(MemoryFrame):
    __slots__ = ("_call", "_data")

    def __init__(self, call: MemoryCall, data: bytes) -> None:
        super().__init__(HEADER_BYTES + len(data))
        self._call = call
        self._data = data

    def deliver(self) -> None:
        self._call.queued_bytes -= self.size
        self._call.connection.client.on_message(self._call.request_id, self._data)

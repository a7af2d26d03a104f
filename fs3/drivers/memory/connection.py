"""A client and a server of one process that talk to each other, over two lanes of a `MemoryNetwork`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from fs3.base.limits import stream_queue_bytes_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.drivers.memory.network import MemoryNetwork, MemoryPipe
from fs3.drivers.rpc.channel import NEVER, PendingCall
from fs3.drivers.rpc.payload import copy_parts, join_parts
from fs3.drivers.rpc.server_call import MethodBinding, ServerCall, run_guarded
from fs3.model.method import Method
from fs3.ports.rpc import Part
from fs3.wire.errors import encode_error
from fs3.wire.frames import HEADER_BYTES

if TYPE_CHECKING:
    from fs3.drivers.memory.transport import MemoryChannel, MemoryListener


class MemoryCall(ServerCall):
    """One request, as its server sees it."""

    __slots__ = ("_connection", "_queued_bytes", "request_id")

    def __init__(self, connection: MemoryConnection, method: Method, request: object, deadline: int, request_id: int) -> None:
        super().__init__(method, request, connection.peer, deadline)
        self._connection = connection
        self._queued_bytes = 0
        self.request_id = request_id

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        payload, self.payload = self.payload, None
        if payload is not None:
            self._connection.listener.pool.release(payload)

    def _on_end(self) -> None:
        self._connection.on_call_ended(self)
        self.release()

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: Callable[[], None] | None) -> None:
        connection = self._connection
        if on_sent is None:
            connection.down.push(
                HEADER_BYTES + len(data) + length, lambda: connection.on_reply(self.request_id, data, parts, length)
            )
            return
        gone = on_sent

        def over() -> None:
            # The server's own business, which must not run where its answer arrives.
            asyncio.get_running_loop().call_soon(run_guarded, gone, context=connection.listener.context)

        def deliver() -> None:
            connection.on_reply(self.request_id, data, parts, length)
            over()

        connection.down.push(HEADER_BYTES + len(data) + length, deliver, over)

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        self._connection.send_error(self.request_id, code, message, routing_version)

    def _send_message(self, data: bytes) -> bool:
        connection = self._connection
        size = HEADER_BYTES + len(data)
        if connection.down.is_closed or (self._queued_bytes and self._queued_bytes + size > stream_queue_bytes_max):
            return False
        self._queued_bytes += size

        def deliver() -> None:
            self._queued_bytes -= size
            connection.on_message(self.request_id, data)

        connection.down.push(size, deliver)
        return True

    def _send_end(self) -> None:
        connection = self._connection
        connection.down.push(HEADER_BYTES, lambda: connection.on_reply(self.request_id, b"", (), 0))


class MemoryConnection:
    """A client and a server that talk to each other."""

    def __init__(self, network: MemoryNetwork, channel: MemoryChannel, listener: MemoryListener) -> None:
        self.listener = listener
        self.peer = f"memory:{channel.host or 'client'}"
        self._network = network
        self._channel = channel
        self._calls: dict[int, MemoryCall] = {}
        self.open_calls = 0
        cut = f"the network between {channel.host!r} and {listener.host!r} broke"
        self.up = MemoryPipe(network, channel.host, listener.host, lambda: self.disconnect(cut), listener.context)
        self.down = MemoryPipe(network, listener.host, channel.host, lambda: self.disconnect(cut), channel.context)
        self.pipes = (self.up, self.down)
        network.connections[self] = None
        listener.connections[self] = None

    # --- towards the server --------------------------------------------------------------------------------------------

    def request(self, call: PendingCall, timeout_ms: int) -> None:
        """Send a request."""
        request_id, method, data, length = call.request_id, call.method, call.data, call.length
        parcel = call.wire_state = _RequestPayload(call.parts) if length else None

        def deliver() -> None:
            self._on_request(request_id, method.id, data, length, parcel, timeout_ms)

        self.up.push(HEADER_BYTES + len(data) + length, deliver)

    def cancel_request(self, call: PendingCall) -> None:
        """The client does not wait any more. The request may still arrive, as over any network."""
        if call.wire_state is not None:
            call.wire_state.snapshot()
        request_id = call.request_id

        def deliver() -> None:
            found = self._calls.pop(request_id, None)
            if found is not None:
                found.cancel()

        self.up.push(HEADER_BYTES, deliver)

    def _on_request(
        self, request_id: int, method_id: int, data: bytes, length: int, parcel: _RequestPayload | None, timeout_ms: int
    ) -> None:
        listener = self.listener
        served = listener.table.get(method_id)
        if served is None:
            self.send_error(request_id, Code.UNSUPPORTED, f"no method {method_id:#06x} is served here")
            return
        if length and not served.takes_payload:
            self.send_error(request_id, Code.INVALID, f"requests of {served.method!r} carry no payload")
            return
        if self.open_calls >= listener.calls_max:
            self.send_error(request_id, Code.BUSY, f"{self.open_calls} calls of this connection are under way")
            return
        if listener.is_closing:
            self.send_error(request_id, Code.SHUTTING_DOWN, f"{listener.endpoint} is shutting down")
            return
        try:
            request = served.parse(data)
        except DecodeError as problem:
            self.send_error(request_id, Code.INVALID, f"the request of {served.method!r} cannot be read: {problem}")
            return
        deadline = self._network.clock.now() + timeout_ms * MILLISECOND if timeout_ms else NEVER
        call = MemoryCall(self, served.method, request, deadline, request_id)
        if parcel is None:
            self._admit(call, served)
            return
        buffer = listener.pool.acquire(length)
        if buffer is not None:
            self._take_payload(call, served, parcel, buffer)
            return
        # As on a socket: nothing more is read from this connection until there is room.
        self.up.pause()

        def granted(buffer: memoryview) -> None:
            if self.up.is_closed:
                listener.pool.release(buffer)
                return
            asyncio.get_running_loop().call_soon(resume, buffer)

        def resume(buffer: memoryview) -> None:
            self._take_payload(call, served, parcel, buffer)
            self.up.resume()

        listener.pool.claim(length, granted)

    def _take_payload(self, call: MemoryCall, binding: MethodBinding, parcel: _RequestPayload, buffer: memoryview) -> None:
        call.payload = buffer
        try:
            copy_parts(parcel.parts, [buffer])
        except OSError as problem:
            call.release()
            self.disconnect(f"a part of a request could not be read: {problem}")
            return
        parcel.parts = ()
        if self._network.clock.now() >= call.deadline:
            call.release()
            self.send_error(call.request_id, Code.DEADLINE, f"{call.method!r} arrived too late")
        else:
            self._admit(call, binding)

    def _admit(self, call: MemoryCall, binding: MethodBinding) -> None:
        self._calls[call.request_id] = call
        self.open_calls += 1
        call.dispatch(binding.handler)

    def on_call_ended(self, call: MemoryCall) -> None:
        """The handler has done with a call."""
        self.open_calls -= 1
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]
        # Its answer is pushed after this, and the listener must not close before it has arrived.
        if self.listener.is_closing:
            asyncio.get_running_loop().call_soon(self.listener.on_progress)

    # --- towards the client --------------------------------------------------------------------------------------------

    def send_error(self, request_id: int, code: Code, message: str, routing_version: int = 0) -> None:
        """Send an error."""
        data = encode_error(code, message, routing_version)
        self.down.push(HEADER_BYTES + len(data), lambda: self._channel.on_error(request_id, code, data))

    def on_reply(self, request_id: int, data: bytes, parts: Sequence[Part], length: int) -> None:
        """A reply arrives."""
        self._channel.on_reply(request_id, data, parts, length)
        if self.listener.is_closing:
            self.listener.on_progress()

    def on_message(self, request_id: int, data: bytes) -> None:
        """A message of a stream arrives."""
        self._channel.on_message(request_id, data)

    # --- the end -------------------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """The client closes. What it has sent arrives first, then the server notices."""
        self.down.close()
        self.up.push(0, lambda: self._on_client_hung_up(), lambda: None)

    def disconnect(self, reason: str) -> None:
        """See `NetworkConnection.broken`."""
        self._forget()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._channel.on_connection_lost, self, reason, context=self._channel.context)
        loop.call_soon(self._cancel_calls, context=self.listener.context)

    def on_host_crash(self, host: str) -> None:
        """See `NetworkConnection.crashed`."""
        reason = f"host {host!r} crashed"
        self._forget()
        if self._channel.host != host:
            asyncio.get_running_loop().call_soon(self._channel.on_connection_lost, self, reason, context=self._channel.context)
        if self.listener.host != host:
            asyncio.get_running_loop().call_soon(self._cancel_calls, context=self.listener.context)

    def _on_client_hung_up(self) -> None:
        self._forget()
        self._cancel_calls()

    def _forget(self) -> None:
        self.up.close()
        self.down.close()
        self._network.connections.pop(self, None)
        self.listener.connections.pop(self, None)

    def _cancel_calls(self) -> None:
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.cancel()
        self.listener.on_progress()


class _RequestPayload:
    """The payload of a request on the way."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def snapshot(self) -> None:
        """The caller wants its memory back."""
        if self.parts:
            with contextlib.suppress(OSError):
                self.parts = (join_parts(self.parts),)

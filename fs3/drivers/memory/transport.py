"""Calls inside one process: the semantics of the framed wire without sockets, for embedded clusters and for the simulator.

Requests and replies are serialised and parsed, so that neither side can see the other change a message. Payloads are copied once,
when they arrive: a file range is read straight into the caller's buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

from fs3.base.errors import error
from fs3.base.limits import calls_per_connection_max, connect_timeout_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.memory.connection import MemoryConnection
from fs3.drivers.memory.network import CUT, HOLD, MemoryNetwork
from fs3.drivers.rpc.admission import RequestAdmission
from fs3.drivers.rpc.channel import ClientChannel
from fs3.drivers.rpc.drain import Drain
from fs3.drivers.rpc.pending_call import PendingCall, StreamCall, deliver_reply
from fs3.drivers.rpc.receive_pool import ReceivePool, pool_of
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.principal import AuthContext
from fs3.ports.rpc import Bindings, Channel, Listener, Part, Reply
from fs3.ports.security import Gate, TicketSource
from fs3.runtime.tracing import current_span
from fs3.wire.endpoints import strip_scheme
from fs3.wire.errors import decode_error

__all__ = ["MemoryNetwork", "MemoryTransport"]


class MemoryTransport:
    """`fs3.ports.rpc.Transport` between the parts of one process."""

    def __init__(
        self,
        network: MemoryNetwork,
        host: str = "",
        *,
        calls_max: int = calls_per_connection_max,
        server_calls_max: int = calls_per_connection_max,
        pool: ReceivePool | None = None,
        gate: Gate | None = None,
        tickets: TicketSource | None = None,
        counts: RpcCounts | None = None,
    ) -> None:
        """`host`: where this transport's channels and listeners are, for the network's policy. `server_calls_max` and `pool`
        bound what its listeners take. `gate`: what the connections of its listeners have to prove; None: nothing. `tickets`: what
        its channels prove themselves with. `counts`: where its calls are counted, on both sides; None: they are not."""
        self._counts = counts
        self._gate = gate
        self._tickets = tickets
        self._network = network
        self._host = host
        self._calls_max = calls_max
        self._server_calls_max = server_calls_max
        self._pool = pool

    @property
    def scheme(self) -> str:
        """ "memory"."""
        return "memory"

    def connect(self, endpoint: str) -> Channel:
        """See `fs3.ports.rpc.Transport.connect`."""
        strip_scheme(endpoint, "memory")
        return MemoryChannel(self._network, self._host, endpoint, self._calls_max, self._counts, self._tickets)

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """See `fs3.ports.rpc.Transport.serve`."""
        name = strip_scheme(endpoint, "memory")
        if name in self._network.listeners:
            raise error(Code.EXISTS, f"{endpoint} is taken: another server listens there")
        pool = self._pool or pool_of(asyncio.get_running_loop())
        admission = RequestAdmission(bindings, f"memory://{name}", self._server_calls_max, self._counts, self._gate)
        listener = MemoryListener(self._network, self._host, name, admission, pool)
        self._network.listeners[name] = listener
        return listener


class MemoryChannel(ClientChannel):
    """`fs3.ports.rpc.Channel` inside one process."""

    def __init__(
        self,
        network: MemoryNetwork,
        host: str,
        endpoint: str,
        calls_max: int,
        counts: RpcCounts | None = None,
        tickets: TicketSource | None = None,
    ) -> None:
        super().__init__(endpoint, network.clock, calls_max, counts, tickets)
        self.host = host
        self.context = copy_context()
        """In which its side of a connection is handled."""
        self.context.run(current_span.set, None)  # that belongs to no call, not to the one either for which it is made
        self._network = network
        self._name = strip_scheme(endpoint, "memory")
        self._connection: MemoryConnection | None = None
        self._dial_timer: asyncio.TimerHandle | None = None

    def _dial(self) -> None:
        assert self._loop is not None
        self._dial_timer = self._loop.call_later(connect_timeout_ns / SECOND, self._on_dial_failed, context=self.context)
        self._try_connect()

    def _try_connect(self) -> None:
        """Ask the network's policy how the connection is made; again when it has held it."""
        if not self._is_opening or self._is_closed:
            return
        assert self._loop is not None
        listener = self._network.listeners.get(self._name)
        target = listener.host if listener is not None else self._name
        verdict = self._network.policy.carry(self.host, target, 0)
        if verdict == HOLD:
            self._network.held_dials[self._try_connect] = None
        elif verdict == CUT:
            self._loop.call_soon(self._on_dial_failed, context=self.context)
        elif verdict > 0:
            self._loop.call_later(verdict / SECOND, self._establish, context=self.context)
        else:
            self._loop.call_soon(self._establish, context=self.context)

    def _establish(self) -> None:
        if not self._is_opening or self._is_closed:
            return
        listener = self._network.listeners.get(self._name)
        if not isinstance(listener, MemoryListener) or listener.admission.is_closing:
            self._end_dial()
            self._on_connect_failed(error(Code.UNAVAILABLE, f"nobody listens at {self.endpoint}"))
            return
        self._end_dial()
        gate = listener.admission.gate
        auth = AuthContext() if gate is None else gate.open(f"memory:{self.host or 'client'}")
        self._connection = MemoryConnection(self._network, self, listener, auth)
        self._on_connected()

    def _on_dial_failed(self) -> None:
        if self._is_opening and not self._is_closed:
            self._end_dial()
            self._on_connect_failed(error(Code.UNAVAILABLE, f"{self.endpoint} cannot be reached"))

    def _end_dial(self) -> None:
        self._network.held_dials.pop(self._try_connect, None)
        if self._dial_timer is not None:
            self._dial_timer.cancel()
            self._dial_timer = None

    def on_connection_lost(self, connection: MemoryConnection, reason: str) -> None:
        """See `ClientEnd.on_connection_lost`."""
        if connection is self._connection:
            self._connection = None
            self._on_disconnected(Code.DISCONNECTED, reason)

    def _transmit(self, call: PendingCall, timeout_ms: int) -> None:
        assert self._connection is not None
        self._connection.request(call, timeout_ms)
        call.data = b""
        call.parts = ()

    def _cancel_request(self, call: PendingCall) -> None:
        if self._connection is not None:
            self._connection.cancel_request(call)

    def _hang_up(self) -> None:
        self._end_dial()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()

    # --- replies -------------------------------------------------------------------------------------------------------

    def on_reply(self, request_id: int, data: bytes, parts: Sequence[Part], length: int) -> None:
        """See `ClientEnd.on_reply`."""
        self.activity += 1
        call = self.pending.pop(request_id, None)
        if call is None:
            return
        try:
            if isinstance(call, StreamCall):
                reply = Reply(None)
            else:
                reply = deliver_reply(call, call.method.reply.FromString(data), parts, length)
        except Exception as problem:  # of `into`, or of a file that cannot be read
            if not call.done():
                call.set_exception(problem)
        else:
            if not call.done():
                if call.counts is not None:
                    call.counts.received_bytes += length
                    call.counts.end(0, call.begun_at)
                call.set_result(reply)
        self.pump()

    def on_error(self, request_id: int, code: Code, data: bytes) -> None:
        """See `ClientEnd.on_error`."""
        self.activity += 1
        call = self.pending.pop(request_id, None)
        if call is not None and not call.done():
            call.set_exception(decode_error(code, data, self.describe(call)))
        self.pump()

    def on_message(self, request_id: int, data: bytes) -> None:
        """See `ClientEnd.on_message`."""
        self.activity += 1
        call = self.pending.get(request_id)
        if isinstance(call, StreamCall):
            message: Any = call.method.reply.FromString(data)
            call.push(message, len(data))


class MemoryListener:
    """`fs3.ports.rpc.Listener` inside one process."""

    def __init__(
        self,
        network: MemoryNetwork,
        host: str,
        name: str,
        admission: RequestAdmission,
        pool: ReceivePool,
    ) -> None:
        self.host = host
        self.context = copy_context()
        """In which its side of every connection is handled."""
        self.admission = admission
        self.pool = pool
        self.connections: dict[MemoryConnection, None] = {}
        self._network = network
        self._name = name
        self._drain = Drain(self)

    @property
    def endpoint(self) -> str:
        """ "memory://name"."""
        return self.admission.endpoint

    @property
    def is_idle(self) -> bool:
        """No call is under way, and no answer on its way."""
        return not any(connection.open_calls or connection.down.queued_bytes for connection in self.connections)

    async def close(self, grace_ns: int = 0) -> None:
        """See `fs3.ports.rpc.Listener.close`."""
        self.admission.is_closing = True
        if self._network.listeners.get(self._name) is self:
            del self._network.listeners[self._name]
        await self._drain.wait(grace_ns)
        for connection in list(self.connections):
            connection.disconnect("the server shut down")

    def on_progress(self) -> None:
        """See `ServerEnd.on_progress`."""
        self._drain.on_progress()

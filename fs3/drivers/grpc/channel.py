"""The client of the gRPC wire."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import AioRpcError

from fs3.base.errors import error
from fs3.base.limits import connect_backoff_max_ns, connect_timeout_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.drivers.grpc.codes import OPTIONS, TICKET_METADATA, error_of, take_payload, with_payload
from fs3.drivers.grpc.last_words import await_last_words
from fs3.drivers.rpc.channel import ClientChannel
from fs3.drivers.rpc.pending_call import PendingCall, StreamCall, deliver_reply
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.method import Method, PayloadSide
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.ports.security import TicketSource
from fs3.wire.endpoints import split_endpoint
from fs3.wire.trace_context import TRACEPARENT, format_traceparent

_CHANNEL_OPTIONS = (
    *OPTIONS,
    # A channel is a connection of its own, as on the other wires.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", connect_timeout_ns // MILLISECOND),
    ("grpc.max_reconnect_backoff_ms", connect_backoff_max_ns // MILLISECOND),
)


class GrpcChannel(ClientChannel):
    """`fs3.ports.rpc.Channel` on grpc.aio. The library keeps the connection; `ClientChannel` the places, deadlines and errors."""

    _is_ticket_in_calls = True

    def __init__(
        self,
        endpoint: str,
        clock: Clock,
        calls_max: int,
        counts: RpcCounts | None = None,
        tickets: TicketSource | None = None,
        credentials: TlsCredentials | None = None,
    ) -> None:
        super().__init__(endpoint, clock, calls_max, counts, tickets)
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._callables: dict[Method, Any] = {}

    def _dial(self) -> None:
        assert self._loop is not None
        address = split_endpoint(self.endpoint)[1]
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            secured = grpc.ssl_channel_credentials(*self._credentials.contents())
            self._channel = grpc.aio.secure_channel(address, secured, options=_CHANNEL_OPTIONS)
        self._loop.call_soon(self._finish_dial)

    def _finish_dial(self) -> None:
        if not self._is_closed:
            self._on_connected()
            self.connections = 0  # the library connects anew when it likes, and does not say

    def _transmit(self, call: PendingCall, timeout_ms: int) -> None:
        assert self._loop is not None
        try:
            data = with_payload(call.data, call.method.request, call.parts, call.length)
        except OSError as problem:
            self.abandon(call, problem)
            return
        call.data = b""
        call.parts = ()
        timeout_s = timeout_ms / 1000 if timeout_ms else None
        metadata = None
        if self._tickets is not None and self._tickets.ticket:
            self._shown = self._tickets.ticket
            metadata = ((TICKET_METADATA, self._shown),)
        if call.span is not None:
            metadata = (*(metadata or ()), (TRACEPARENT, format_traceparent(call.span.contexts[0])))
        rpc = self._callable(call.method)(data, timeout=timeout_s, metadata=metadata)
        run = self._follow(call, rpc) if isinstance(call, StreamCall) else self._finish(call, rpc)
        call.wire_state = self._loop.create_task(run)

    def _callable(self, method: Method) -> Any:
        found = self._callables.get(method)
        if found is None:
            assert self._channel is not None
            # Without serialisers: messages travel as the bytes `with_payload` makes.
            make = self._channel.unary_stream if method.streaming else self._channel.unary_unary
            found = self._callables[method] = make(f"/{method.service}/{method.name}")
        return found

    async def _finish(self, call: PendingCall, rpc: Any) -> None:
        try:
            data = await rpc
            self.activity += 1
            reply = self._take(call, data)
        except AioRpcError as problem:
            self._settle(call, error_of(problem, self.endpoint, self.describe(call)))
        except asyncio.CancelledError:
            if not call.done():  # by the library: its channel was closed
                self._settle(call, error(Code.DISCONNECTED, f"{self.describe(call)}: the channel was closed"))
            raise
        except DecodeError as problem:
            self._settle(call, error(Code.PROTOCOL, f"the reply of {self.describe(call)} cannot be read: {problem}"))
        except Exception as problem:  # of `into`
            self._settle(call, problem)
        else:
            self._settle(call, reply)

    async def _follow(self, call: StreamCall, rpc: Any) -> None:
        try:
            async for data in rpc:
                self.activity += 1
                call.push(call.method.reply.FromString(data), len(data))
        except AioRpcError as problem:
            self._settle(call, error_of(problem, self.endpoint, self.describe(call)))
        except asyncio.CancelledError:
            if not call.done():
                self._settle(call, error(Code.DISCONNECTED, f"{self.describe(call)}: the channel was closed"))
            raise
        except DecodeError as problem:
            self._settle(call, error(Code.PROTOCOL, f"a message of {self.describe(call)} cannot be read: {problem}"))
        else:
            self._settle(call, Reply(None))

    def _take(self, call: PendingCall, data: bytes) -> Reply:
        method = call.method
        message = method.reply.FromString(data)
        payload = take_payload(message) if method.payload is PayloadSide.REPLY else b""
        return deliver_reply(call, message, (payload,), len(payload))

    def _settle(self, call: PendingCall, outcome: Reply | BaseException) -> None:
        self.pending.pop(call.request_id, None)
        if not call.done():
            if isinstance(outcome, Reply):
                if call.counts is not None:
                    call.counts.end(0, call.begun_at)
                call.set_result(outcome)
            else:
                call.set_exception(outcome)
        self.pump()

    def _cancel_request(self, call: PendingCall) -> None:
        if call.wire_state is not None:
            call.wire_state.cancel()

    def _hang_up(self) -> None:
        """`close` awaits what there is to do."""

    async def close(self) -> None:
        """See `fs3.ports.rpc.Channel.close`."""
        await super().close()
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close()
            await await_last_words()

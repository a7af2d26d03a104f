"""The server of the gRPC wire: generic handlers over the bindings, health and reflection."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fs3.base.errors import FS3Error, error
from fs3.base.limits import calls_per_connection_max, connection_idle_ns_max, stream_queue_bytes_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, NEVER, SECOND
from fs3.drivers.grpc.codes import ERROR_TRAILER, OPTIONS, TICKET_METADATA, status_of, take_payload, with_payload
from fs3.drivers.rpc.admission import RequestAdmission, RequestRefused
from fs3.drivers.rpc.drain import Drain
from fs3.drivers.rpc.receive_pool import ReceivePool, pool_of
from fs3.drivers.rpc.reply_budget import ReplyBudget, reply_budget_of, reply_bytes_of
from fs3.drivers.rpc.server_call import ServerCall, run_guarded
from fs3.drivers.rpc.traced_call import TracedServerCall, begin_served
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.model.share import Share
from fs3.model.trace import SpanContext
from fs3.ports.clock import Clock
from fs3.ports.rpc import OnSent, Part
from fs3.wire.endpoints import format_host_port, parse_host_port, split_endpoint
from fs3.wire.errors import encode_error
from fs3.wire.trace_context import TRACEPARENT, parse_traceparent

_SERVER_OPTIONS = (
    # As on the framed wires; see the limit.
    ("grpc.max_connection_idle_ms", connection_idle_ns_max // MILLISECOND),
    ("grpc.so_reuseport", 0),  # two servers on one port would each get some of the calls
    # Calls gRPC has accepted and not handed over yet. By default it drops some (as CANCELLED) from the thousandth on, which is
    # fewer than one channel of ours may have under way.
    ("grpc.server.max_pending_requests", 4 * calls_per_connection_max),
    ("grpc.server.max_pending_requests_hard_limit", 8 * calls_per_connection_max),
)
_LINGER_NS = 100 * MILLISECOND
"""`stop` resets connections whose last answer has been handed to the socket but not read yet: they get so long for it."""
_FAR_S = 3600.0 * 24 * 365
"""gRPC reports a call without a deadline as one in the far future."""


class GrpcCall(ServerCall):
    """One request on the gRPC wire; answers wait here for the coroutine that gRPC runs for it."""

    __slots__ = (
        "_charged_bytes",
        "_held_share",
        "_listener",
        "_reply_bytes",
        "_reply_share",
        "_waiter",
        "failure",
        "messages",
        "outcome",
        "queued_bytes",
    )

    def __init__(
        self, listener: GrpcListener, method: Method, request: object, peer: str, deadline: int, auth: AuthContext
    ) -> None:
        super().__init__(method, request, peer, deadline, auth)
        self._listener = listener
        self._charged_bytes = 0  # bytes charged to the pool
        self._reply_bytes = 0  # of the reply budget
        self._held_share: Share | None = None  # that they are counted with
        self._reply_share: Share | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.outcome: bytes | None = None
        self.failure: tuple[Code, str, int] | None = None
        self.messages: deque[bytes] = deque()
        self.queued_bytes = 0

    @property
    def is_over(self) -> bool:
        """Nothing more will be queued."""
        return self.outcome is not None or self.failure is not None

    async def wait_changed(self) -> None:
        """Wait until there is a message or an outcome."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def hold(self, payload: bytes) -> bool:
        """Keep the payload of the request; False when the process holds too much already."""
        budget = self._listener.pool.budget(is_forward=self.method.is_forward(self.request))
        share = self.auth.share
        if share is not None and not share.requests.has_room(len(payload)):
            share.requests.refuse()
            return False
        if not budget.charge(len(payload)):
            return False
        self._charged_bytes = len(payload)
        if share is not None:
            self._held_share = share
            share.requests.change(len(payload))
        self.payload = memoryview(payload)
        return True

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        if self.payload is not None:
            self._on_released()
        self.payload = None
        held, self._charged_bytes = self._charged_bytes, 0
        if held:
            if self._held_share is not None:
                self._held_share.requests.change(-held)
            self._listener.pool.budget(is_forward=self.method.is_forward(self.request)).discharge(held)

    def hold_reply(self, length: int) -> None:
        """The reply takes `length` bytes now, in place of what was reserved for it. gRPC keeps it until the client takes it."""
        delta, self._reply_bytes = length - self._reply_bytes, length
        if self._reply_share is not None:
            self._reply_share.replies.change(delta)
        self._listener.replies.change(delta)

    async def reserve_reply(self, length: int) -> None:
        """Wait for room for the reply. RequestRefused: its caller has too much in memory already."""
        replies, share = self._listener.replies, self.auth.share
        if share is not None and not share.replies.has_room(length):
            share.replies.refuse()
            raise RequestRefused(Code.BUSY, f"{share.replies.held_bytes} bytes of replies to this caller are held already")
        if not replies.reserve(length, owes_nothing=True):
            await _RoomForReply().wait(replies, length)
        self._reply_bytes = length
        if share is not None:
            self._reply_share = share
            share.replies.change(length)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _on_end(self) -> None:
        self._listener.on_call_ended(self)
        self.release()

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> None:
        try:
            self.outcome = with_payload(data, self.method.reply, parts, length)
        except FS3Error as problem:
            self.failure = (Code.DISK, str(problem), 0)
        if self._reply_bytes:
            self.hold_reply(len(self.outcome or b""))
        self._wake()
        if on_sent is not None:
            run_guarded(on_sent)

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        self.failure = (code, message, routing_version)
        self._wake()

    def _send_message(self, data: bytes) -> bool:
        if self.messages and self.queued_bytes + len(data) > stream_queue_bytes_max:
            return False
        self.messages.append(data)
        self.queued_bytes += len(data)
        self._wake()
        return True

    def _send_end(self) -> None:
        self.outcome = b""
        self._wake()


class TracedGrpcCall(TracedServerCall, GrpcCall):
    """One that belongs to a trace."""

    __slots__ = ("span",)


class _RoomForReply:
    """A call that waits until there is room for its reply."""

    def __init__(self) -> None:
        self._granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_granted = False

    async def wait(self, replies: ReplyBudget, length: int) -> None:
        """Queue, and return once `length` bytes are reserved."""
        replies.wait(length, self)
        try:
            await self._granted
        except asyncio.CancelledError:
            if self._is_granted:
                replies.change(-length)
            else:
                replies.cancel(self)
            raise

    def on_reply_room(self) -> None:
        """See `ReplyWaiter.on_reply_room`."""
        self._is_granted = True
        if not self._granted.done():
            self._granted.set_result(None)


class GrpcListener:
    """`fs3.ports.rpc.Listener` on grpc.aio."""

    def __init__(
        self,
        admission: RequestAdmission,
        clock: Clock,
        pool: ReceivePool,
        replies: ReplyBudget,
        credentials: TlsCredentials | None,
    ) -> None:
        self._credentials = credentials
        self.pool = pool
        self.replies = replies
        self._now = clock.now
        self._admission = admission
        self._calls: Counter[str] = Counter()  # by peer, which names one connection
        self._drain = Drain(self)
        self._is_stopped = False
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=(*OPTIONS, *_SERVER_OPTIONS))
        services: dict[str, dict[str, Any]] = {}
        for binding in admission.table.values():
            method = binding.method
            services.setdefault(method.service, {})[method.name] = self._handler(method)
        for name, handlers in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._services = tuple(services)
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    @property
    def endpoint(self) -> str:
        """Where it really listens."""
        return self._admission.endpoint

    @property
    def is_idle(self) -> bool:
        """No call is under way."""
        return not self._calls

    async def start(self) -> None:
        """Listen. Raises FS3Error naming the endpoint."""
        endpoint = self.endpoint
        scheme, address = split_endpoint(endpoint)
        host, port = parse_host_port(endpoint, scheme)
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _server_credentials(self._credentials))
        except RuntimeError:
            port = 0
        if not port:
            await self._server.stop(None)
            raise _why_not(endpoint)
        self._admission.endpoint = format_host_port(scheme, host, port)
        await self._server.start()
        for name in ("", *self._services):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def close(self, grace_ns: int = 0) -> None:
        """See `fs3.ports.rpc.Listener.close`."""
        await self._health.enter_graceful_shutdown()
        self._admission.is_closing = True
        if not self._is_stopped:
            await self._drain.wait(grace_ns, _LINGER_NS)
        self._is_stopped = True
        await self._server.stop(None)

    def on_call_ended(self, call: ServerCall) -> None:
        """The handler has ended a call."""
        self._calls[call.peer] -= 1
        if self._calls[call.peer] <= 0:
            del self._calls[call.peer]
        self._drain.on_progress()

    @staticmethod
    def _end_with_ticket(call: GrpcCall, context: Any, auth: AuthContext, now: int) -> None:
        def end() -> None:
            call.fail(Code.NOT_AUTHENTICATED, "the ticket of this call has lapsed")

        lapse = None
        if auth.until < NEVER:
            lapse = asyncio.get_running_loop().call_later(max(0, auth.until - now) / SECOND, end)
        auth.on_lost.append(end)

        def forget(_: object) -> None:
            if lapse is not None:
                lapse.cancel()
            auth.on_lost.remove(end)

        context.add_done_callback(forget)

    def _identify(self, context: Any, peer: str) -> AuthContext:
        """Who calls. Raises RequestRefused."""
        gate = self._admission.gate
        if gate is None:
            return AuthContext()
        shown = [value for key, value in context.invocation_metadata() or () if key == TICKET_METADATA]
        try:
            return gate.recall(shown[0] if shown and isinstance(shown[0], bytes) else b"", peer)
        except FS3Error as refusal:
            raise RequestRefused(refusal.code, refusal.strerror or "") from None

    def _handler(self, method: Method) -> Any:
        if method.streaming:

            async def stream(data: bytes, context: Any) -> AsyncIterator[bytes]:
                call = await self._begin(method, data, context)
                try:
                    while True:
                        while call.messages:
                            message = call.messages.popleft()
                            yield message
                            call.queued_bytes -= len(message)
                        if call.is_over:
                            break
                        await call.wait_changed()
                    if call.failure is not None:
                        await _abort(context, *call.failure)
                finally:
                    call.cancel()

            return grpc.unary_stream_rpc_method_handler(stream)

        async def unary(data: bytes, context: Any) -> bytes:
            call = await self._begin(method, data, context)
            try:
                if not call.is_over:
                    await call.wait_changed()
            finally:
                call.cancel()
            if call.failure is not None:
                await _abort(context, *call.failure)
            assert call.outcome is not None
            return call.outcome

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _begin(self, method: Method, data: bytes, context: Any) -> GrpcCall:
        """Check a request and hand it to its handler."""
        peer = context.peer()
        now = self._now()
        try:
            auth = self._identify(context, peer)
            # The payload is in the message on this wire: it is looked at once that is parsed.
            binding, request = self._admission.admit(method.id, data, 0, self._calls[peer], auth, now)
        except RequestRefused as refusal:
            await _abort(context, refusal.code, refusal.message)
        remaining_s = context.time_remaining()
        deadline = NEVER if remaining_s is None or remaining_s > _FAR_S else now + int(remaining_s * SECOND)
        call = GrpcCall(self, method, request, peer, deadline, auth)
        if binding.tracer is not None and (context_of_client := _context_of(context)) is not None:
            call = traced = TracedGrpcCall(self, method, request, peer, deadline, auth)
            traced.span = begin_served(call, binding.tracer, (context_of_client,), self._now())
        if binding.takes_payload and (payload := take_payload(request)) and not call.hold(payload):
            await _abort(context, Code.BUSY, f"{self.pool.held_bytes} bytes of requests are held already")
        if length := reply_bytes_of(method, request):
            context.add_done_callback(lambda _: call.hold_reply(0))
            try:
                await call.reserve_reply(length)
            except RequestRefused as refusal:
                call.release()
                await _abort(context, refusal.code, refusal.message)
        self._calls[peer] += 1
        if method.streaming and self._admission.gate is not None:
            # Nothing renews what a call has said: a stream ends with its ticket, and its reader begins another.
            self._end_with_ticket(call, context, auth, now)
        if binding.counts is not None:
            call.count(binding.counts, self._now(), binding.slow)
        call.dispatch(binding.handler)
        return call


async def serve(
    admission: RequestAdmission,
    clock: Clock,
    pool: ReceivePool | None,
    replies: ReplyBudget | None,
    credentials: TlsCredentials | None,
) -> GrpcListener:
    """A listener where `admission` says."""
    loop = asyncio.get_running_loop()
    listener = GrpcListener(admission, clock, pool or pool_of(loop), replies or reply_budget_of(loop), credentials)
    await listener.start()
    return listener


def _context_of(context: Any) -> SpanContext | None:
    """The span of the client, when it says one that is sampled."""
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT and isinstance(value, str):
            found = parse_traceparent(value)
            return found[0] if found is not None and found[1] else None
    return None


def _server_credentials(credentials: TlsCredentials) -> grpc.ServerCredentials:
    """What gRPC asks at every handshake, so that renewed certificates are shown. Clients are not asked for theirs: its Python
    interface can only demand one of everybody."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        ca, key, cert = credentials.contents()
        return grpc.ssl_server_certificate_configuration(((key, cert),), ca)

    known = credentials.version

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        credentials.contents()
        if credentials.version == known:
            return None
        known = credentials.version
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, require_client_authentication=False)


async def _abort(context: Any, code: Code, message: str, routing_version: int = 0) -> NoReturn:
    """End a call with an error; does not return."""
    trailer = ((ERROR_TRAILER, encode_error(code, message, routing_version)),)
    await context.abort(status_of(code), message, trailer)
    raise AssertionError("abort has returned")


def _why_not(endpoint: str) -> FS3Error:
    """gRPC only says that it could not bind."""
    host, port = parse_host_port(endpoint, split_endpoint(endpoint)[0])
    with contextlib.suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(address)
            except OSError as problem:
                if problem.errno == errno.EADDRINUSE:
                    return error(Code.EXISTS, f"{endpoint} is taken: another server listens there")
                return error(Code.INVALID, f"cannot listen at {endpoint}: {problem.strerror}")
    return error(Code.INVALID, f"cannot listen at {endpoint}")

"""The server's side of calls, as far as all wires share it: answering once, cancelling, releasing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fs3.base.counting import SHIFT, CallCounts
from fs3.base.errors import FS3Error, error
from fs3.base.limits import frame_header_bytes_max
from fs3.base.status import Code
from fs3.drivers.rpc.payload import payload_length
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.method import Method, PayloadSide
from fs3.model.principal import AuthContext
from fs3.model.share import Share
from fs3.model.slow import SlowOperation, Span
from fs3.model.trace import CallSpan
from fs3.ports.rpc import Bindings, Handler, OnCancel, OnSent, Part
from fs3.runtime.slow_operations import SlowOperations
from fs3.runtime.tracing import Tracer

log = logging.getLogger("fs3.transport")


class MethodBinding(NamedTuple):
    """How a server serves one method."""

    method: Method
    rights: int
    """`Right` bits: whom it serves."""
    handler: Handler
    parse: Callable[[bytes | bytearray], Any]
    """The message of a request. Raises DecodeError."""
    takes_payload: bool
    counts: CallCounts | None
    """Of its calls; None: they are not counted. Streams never are: they last as long as their clients like."""
    slow: SlowOperations | None
    """Where those that are answered late are kept."""
    tracer: Tracer | None
    """Makes the spans of those that belong to a trace; None: they have none. Nor have streams."""


def bindings_by_id(bindings: Bindings, counts: RpcCounts | None) -> Mapping[int, MethodBinding]:
    """A server's table by method number."""
    return {
        method.id: MethodBinding(
            method,
            method.rights,
            handler,
            method.request.FromString,
            method.payload is PayloadSide.REQUEST,
            None if counts is None or method.streaming else counts.of_served(method),
            None if counts is None else counts.slow,
            None if counts is None or method.streaming else counts.tracer,
        )
        for method, handler in bindings.items()
    }


def run_guarded(callback: OnSent | OnCancel) -> None:
    """Call back. What it raises is logged and goes no further: the connection serves other calls too."""
    try:
        callback()
    except Exception:
        log.exception("callback %r failed", callback)


class ServerCall:
    """`fs3.ports.rpc.Call` without a wire: a subclass sends the answers."""

    __slots__ = (
        "_begun_at",
        "_callbacks",
        "_counts",
        "_ended",
        "_released_at",
        "_share",
        "_slow",
        "arrived_at",
        "auth",
        "deadline",
        "is_cancelled",
        "method",
        "payload",
        "peer",
        "request",
    )

    span: CallSpan | None = None
    """Of a call that belongs to a trace (`TracedServerCall`)."""

    def __init__(self, method: Method, request: Any, peer: str, deadline: int, auth: AuthContext) -> None:
        self.method = method
        self.request = request
        self.payload: memoryview | None = None
        self.peer = peer
        self.auth = auth
        self.deadline = deadline
        self.is_cancelled = False
        self._ended = False
        self._callbacks: list[OnCancel] | None = None
        self._counts: CallCounts | None = None
        self._slow: SlowOperations | None = None
        self._share: Share | None = None
        self._begun_at = 0
        self._released_at = 0
        self.arrived_at = 0
        """When its header did; 0: when its handler began."""

    def __repr__(self) -> str:
        state = "cancelled" if self.is_cancelled else "ended" if self._ended else "under way"
        return f"<{type(self).__name__} {self.method!r} of {self.peer}, {state}>"

    # --- what a wire provides ------------------------------------------------------------------------------------------

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> None:
        """Send the only answer, `length` bytes of payload in `parts`. The wire calls `on_sent` exactly once."""
        raise NotImplementedError

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        """Send the error that ends the call."""
        raise NotImplementedError

    def _send_message(self, data: bytes) -> bool:
        """Send one message of a stream; False when the client has gone or too much is queued for it."""
        raise NotImplementedError

    def _send_end(self) -> None:
        """Send the end of a stream."""
        raise NotImplementedError

    def _on_end(self) -> None:
        """The handler has ended the call: it counts no longer, its buffer is released. Called once, before the answer is sent."""
        raise NotImplementedError

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        raise NotImplementedError

    # --- the port ------------------------------------------------------------------------------------------------------

    def reply(self, message: Any, parts: Sequence[Part] = (), on_sent: OnSent | None = None) -> None:
        """See `fs3.ports.rpc.Call.reply`."""
        if self._ended or self.is_cancelled:
            self._mark_ended(Code.CANCELLED)
            if on_sent is not None:
                run_guarded(on_sent)
            return
        try:
            data, length = self._check_reply(message, parts)
        except FS3Error as problem:
            # A mistake of the handler, not of the client: the client gets INTERNAL, the log says what is wrong.
            log.error("%r cannot be answered: %s", self, problem, extra=self._log_context)
            self.fail(Code.INTERNAL, f"the answer of {self.method!r} cannot be sent: {problem}")
            if on_sent is not None:
                run_guarded(on_sent)
            return
        if length and self._counts is not None:
            self._counts.sent_bytes += length
        self._mark_ended(0)
        if not self.method.streaming:
            self._send_reply(data, parts, length, on_sent)
            return
        if message is None or self._send_message(data):
            self._send_end()
        else:
            self._send_error(Code.BUSY, f"the messages of {self.method!r} are read too slowly", 0)
        if on_sent is not None:
            run_guarded(on_sent)

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """See `fs3.ports.rpc.Call.fail`."""
        unanswered = not self._ended and not self.is_cancelled
        self._mark_ended(Code.CANCELLED if self.is_cancelled else code)
        if unanswered:
            self._send_error(code, message, routing_version)

    def send(self, message: Any) -> bool:
        """See `fs3.ports.rpc.Call.send`."""
        if self._ended or self.is_cancelled:
            return False
        if not self.method.streaming:
            raise error(Code.INVALID, f"{self.method!r} is answered once, not by a stream")
        data, _ = self._check_reply(message, ())
        return self._send_message(data)

    def add_cancel_callback(self, callback: OnCancel) -> None:
        """See `fs3.ports.rpc.Call.add_cancel_callback`."""
        if self._ended:
            return
        if self.is_cancelled:
            run_guarded(callback)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    # --- for the wire --------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The client has gone or given the call up: the handler is told, and its answer will be dropped."""
        if self._ended or self.is_cancelled:
            return
        self.is_cancelled = True
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            run_guarded(callback)

    def count(self, counts: CallCounts, begun_at: int, slow: SlowOperations | None) -> None:
        """Its handler begins at this moment: count it from then on."""
        if counts.forwarded is not None and self.request.from_target:
            counts = counts.forwarded
        counts.begun += 1
        self._slow = slow
        if self.payload is not None:
            counts.received_bytes += len(self.payload)
        self._counts = counts
        self._begun_at = begun_at

    def dispatch(self, handler: Handler) -> None:
        """Hand the call to its handler; what that raises fails the call as INTERNAL."""
        share = self.auth.share
        if share is not None:
            share.calls += 1
            self._share = share
        try:
            handler(self)
        except Exception as problem:
            log.exception("the handler of %r failed", self.method, extra=self._log_context)
            self.fail(Code.INTERNAL, f"{self.method!r} failed: {type(problem).__name__}: {problem}")

    def _mark_ended(self, code: int) -> None:
        if not self._ended:
            self._ended = True
            self._callbacks = None
            if self._share is not None:
                self._share.calls -= 1
            counts, slow = self._counts, self._slow
            if counts is not None:
                elapsed_ns = counts.now() - self._begun_at
                if code:
                    counts.end_failed(code, elapsed_ns)
                else:
                    counts.places[(elapsed_ns >> SHIFT).bit_length()] += 1
                    counts.total_ns += elapsed_ns
                if slow is not None and elapsed_ns >= slow.threshold_ns:
                    self._note_slow(slow, code, elapsed_ns)
            self._on_end()

    def _on_released(self) -> None:
        """The handler needs the payload no longer: what remains to be done is done by others. To be called by the wire."""
        if self._slow is not None and not self._ended:
            assert self._counts is not None
            self._released_at = self._counts.now()

    def _note_slow(self, slow: SlowOperations, code: int, elapsed_ns: int) -> None:
        waited_ns = self._begun_at - self.arrived_at if self.arrived_at else 0
        spans = [Span("waiting", waited_ns)] if waited_ns else []
        if self._released_at:
            stored_ns = self._released_at - self._begun_at
            spans += [Span("storing", stored_ns), Span("next replicas", elapsed_ns - stored_ns)]
        else:
            spans.append(Span("serving", elapsed_ns))
        wall, took = slow.wall(), waited_ns + elapsed_ns
        number = self.request_number
        slow.add(SlowOperation(wall, took, self.method.full_name, Code.from_wire(code), self.peer, number, tuple(spans)))

    @property
    def request_number(self) -> int:
        """Of the request on its connection, where the wire has such; else 0."""
        return 0

    @property
    def _log_context(self) -> Mapping[str, object]:
        """What lines about it are about."""
        return {"verb": self.method.full_name, "peer": self.peer, "request_id": self.request_number}

    def _check_reply(self, message: Any, parts: Sequence[Part]) -> tuple[bytes, int]:
        """The serialised message and the length of the payload. Raises FS3Error for an answer this method cannot give."""
        method = self.method
        if message is None and method.streaming:
            return b"", 0
        if type(message) is not method.reply:
            raise error(Code.INVALID, f"{method!r} returns {method.reply.__name__}, not {type(message).__name__}")
        length = payload_length(parts) if parts else 0
        if length and method.payload is not PayloadSide.REPLY:
            raise error(Code.INVALID, f"replies of {method!r} carry no payload")
        data: bytes = message.SerializeToString()
        if len(data) > frame_header_bytes_max:
            raise error(Code.TOO_LARGE, f"message of {len(data)} bytes, at most {frame_header_bytes_max} are allowed")
        return data, length

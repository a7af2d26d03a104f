"""The client's side of calls, as far as all wires share it: places, waiting, deadlines, giving up, connecting again.

There is no task and no timer per call: a call is a future in a table, and one alarm is set to the earliest deadline of all.

A wire subclasses `ClientChannel`. The contract between the two:

1. `_dial` is called when a call needs a connection and there is none. The wire answers once, in a later turn of the loop, with
   `_on_connected` or `_on_connect_failed`; until then it is not asked again.
2. `_transmit(call)` is called only while connected, for a call that is in `pending` under its `request_id`. What the wire must
   remember of it goes into `call.wire_state`.
3. The wire ends a call: it takes it out of `pending`, sets its result or exception unless it is done, and calls `pump`, once for
   all that ended together, so that the next callers get the places.
4. `_cancel_request(call)` is called when a transmitted call ended on this side (cancelled, overdue, refused by `into`). It is no
   longer in `pending`; from its return on the wire touches none of the caller's memory.
5. `_on_disconnected` is called by the wire when the connection is lost. It fails what is in `pending` and dials again if there
   are callers that wait.
6. `_hang_up` is called once, by `close`, when no call is left. The wire disconnects and calls back no more.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from operator import attrgetter
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    call_timeout_ns,
    calls_per_connection_max,
    connect_backoff_max_ns,
    connect_backoff_min_ns,
    frame_header_bytes_max,
)
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, NEVER, SECOND
from fs3.drivers.rpc.payload import payload_length
from fs3.drivers.rpc.pending_call import AuthenticationCall, CallbackCall, PendingCall, StreamCall, TracedCall
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.method import Method, PayloadSide
from fs3.ports.clock import Clock
from fs3.ports.rpc import BufferProvider, OnReply, Part, Reply
from fs3.ports.security import EndSubscription, TicketSource
from fs3.runtime.alarm import Alarm
from fs3.runtime.tracing import OpenSpan, begin_call, current_span
from fs3.wire.methods import PROCESS
from fs3.wire.process import authenticate_to_pb

calls_waiting_max = 65_536
"""Callers of one channel that wait for one of its `calls_per_connection_max` places; further ones are answered BUSY."""

_getpid = os.getpid
_get_running_loop = asyncio.get_running_loop
_current_span = current_span.get
_deadline_of = attrgetter("deadline")


class ClientChannel:
    """`fs3.ports.rpc.Channel` on top of a wire. It belongs to the event loop it is first used on and to its process."""

    def __init__(
        self,
        endpoint: str,
        clock: Clock,
        calls_max: int = calls_per_connection_max,
        counts: RpcCounts | None = None,
        tickets: TicketSource | None = None,
    ) -> None:
        """`counts`: where its calls are counted; None: they are not. `tickets`: what it proves itself with; None: nothing."""
        self.endpoint = endpoint
        self._tickets = tickets
        self._shown = b""
        """The ticket that was sent last on this connection."""
        self._unsubscribe: EndSubscription | None = None
        self.counts = self._counts = counts
        self.pending: dict[int, PendingCall] = {}
        """Request id -> call that was handed to the wire."""
        self.waiting: deque[PendingCall] = deque()
        """Calls without a place, oldest first; some of them may have ended."""
        self.activity = 0
        """See `fs3.ports.rpc.Channel.activity`; the wire counts it up."""
        self.connections = 0
        """See `fs3.ports.rpc.Channel.connections`."""
        self.now = self._now = clock.now
        self._calls_max = calls_max
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._is_opening = False
        self._is_closed = False
        self._last_id = 0
        self._alarm = Alarm(self._expire)
        """Set to the earliest deadline, or earlier: calls that end in time leave it alone."""
        self._retry_at = 0
        self._backoff_ns = connect_backoff_min_ns
        self._connect_error: FS3Error | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._is_open else "opening" if self._is_opening else "idle"
        return f"<{type(self).__name__} {self.endpoint} {state}, {len(self.pending)} under way, {len(self.waiting)} waiting>"

    _is_ticket_in_calls = False
    """A wire on which each call says who calls, and not the connection, says so."""

    # --- what a wire provides ------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        """Begin to connect; ends with `_on_connected` or `_on_connect_failed`, not before this returns."""
        raise NotImplementedError

    def _transmit(self, call: PendingCall, timeout_ms: int) -> None:
        """Send a call that is in `pending`. `timeout_ms`: until its deadline, 0 for none."""
        raise NotImplementedError

    def _cancel_request(self, call: PendingCall) -> None:
        """Stop using the memory of a call that ended on this side after `_transmit`, and tell the server."""
        raise NotImplementedError

    def _hang_up(self) -> None:
        """Disconnect. Every call has ended already."""
        raise NotImplementedError

    # --- the port ------------------------------------------------------------------------------------------------------

    def start(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> asyncio.Future[Reply]:
        """See `fs3.ports.rpc.Channel.start`."""
        loop = self._loop
        if _get_running_loop() is not loop or _getpid() != self._pid:
            loop = self._adopt()
        parent = _current_span()
        call = PendingCall(loop=loop) if parent is None else self._begin_traced(loop, parent, method)
        return self._launch(call, method, request, parts, into, timeout_ns or call_timeout_ns)

    def submit(self, method: Method, request: Any, finished: OnReply, timeout_ns: int = 0) -> bool:
        """See `fs3.ports.rpc.Channel.submit`."""
        loop = self._loop
        parent = _current_span()
        if not self._is_open or self.waiting or _get_running_loop() is not loop or _getpid() != self._pid:
            return False
        if parent is not None and not parent.is_ended:
            return False  # by `start` it has a span
        call = CallbackCall(loop=loop)
        call.finished = finished
        call.is_submitted = False
        self._launch(call, method, request, (), None, timeout_ns or call_timeout_ns)
        call.is_submitted = True
        return True

    async def call(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> Reply:
        """`start`, awaited."""
        return await self.start(method, request, parts, into, timeout_ns)

    async def stream(self, method: Method, request: Any) -> AsyncIterator[Any]:
        """See `fs3.ports.rpc.Channel.stream`."""
        if not method.streaming:
            raise error(Code.INVALID, f"{method!r} is not a streaming method")
        loop = self._adopt()
        call = StreamCall(loop=loop)
        call.messages = deque()
        call.queued_bytes = 0
        call.waiter = None
        call.add_done_callback(call.wake)
        self._launch(call, method, request, (), None, NEVER)
        try:
            while True:
                while call.messages:
                    message, size = call.messages.popleft()
                    call.queued_bytes -= size
                    yield message
                if call.done():
                    call.result()
                    return
                call.waiter = loop.create_future()
                await call.waiter
        finally:
            # A consumer that leaves early gives the stream up. Of one that has ended, the outcome counts as seen.
            if not call.cancel() and not call.cancelled():
                call.exception()

    async def close(self) -> None:
        """Fail what is under way and disconnect."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_open = False
        if _getpid() != self._pid:
            return
        self._alarm.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._fail_all(self._take_all(), Code.DISCONNECTED, f"the channel to {self.endpoint} was closed")
        self._hang_up()

    # --- a call's life -------------------------------------------------------------------------------------------------

    def _begin_traced(self, loop: asyncio.AbstractEventLoop | None, parent: OpenSpan, method: Method) -> PendingCall:
        """A call of code that is, or once was, part of an operation that is traced."""
        if parent.is_ended:
            return PendingCall(loop=loop)
        call = TracedCall(loop=loop)
        call.span = begin_call(parent, method.full_name, self.endpoint)
        return call

    def _launch(
        self, call: PendingCall, method: Method, request: Any, parts: Sequence[Part], into: BufferProvider | None, timeout_ns: int
    ) -> PendingCall:
        if type(request) is not method.request:
            raise error(Code.INVALID, f"{method!r} takes {method.request.__name__}, not {type(request).__name__}")
        length = payload_length(parts) if parts else 0
        if length and method.payload is not PayloadSide.REQUEST:
            raise error(Code.INVALID, f"requests of {method!r} carry no payload")
        data = request.SerializeToString()
        if len(data) > frame_header_bytes_max:
            raise error(
                Code.TOO_LARGE, f"request of {method!r} with {len(data)} bytes, at most {frame_header_bytes_max} are allowed"
            )
        now = self._now()
        call.channel = self
        call.method = method
        call.data = data
        call.parts = parts
        call.length = length
        call.into = into
        call.timeout_ns = timeout_ns
        call.deadline = deadline = now + timeout_ns
        call.wire_state = None
        call.begun_at = now
        counts = self._counts
        if counts is None or method.streaming:
            call.counts = None
        else:
            call.counts = called = counts.called.get(method) or counts.of_called(method)
            called.begun += 1
            if length:
                called.sent_bytes += length
        if deadline < self._alarm.due_ns:  # here, not in `set`: this runs for every call and is seldom true
            self._alarm.set(deadline, now)
        if self._is_open and not self.waiting and len(self.pending) < self._calls_max:
            self._last_id = call.request_id = request_id = self._last_id + 1
            self.pending[request_id] = call
            self._transmit(call, 0 if timeout_ns is NEVER else timeout_ns // MILLISECOND + 1)
        else:
            call.request_id = 0
            self._enqueue(call, now)
        return call

    def _enqueue(self, call: PendingCall, now: int) -> None:
        if self._is_closed:
            self._alarm.cancel()
            call.set_exception(error(Code.DISCONNECTED, f"the channel to {self.endpoint} was closed"))
            return
        if not self._is_open and not self._is_opening:
            if now < self._retry_at and self._connect_error is not None:
                # No server listened a moment ago: fail at once, so that the caller can turn to another node.
                call.set_exception(error(self._connect_error.code, str(self._connect_error)))
                return
            self._is_opening = True
            self._dial()
        if len(self.waiting) >= calls_waiting_max:
            self.waiting = deque(other for other in self.waiting if not other.done())
            if len(self.waiting) >= calls_waiting_max:
                call.set_exception(error(Code.BUSY, f"{len(self.waiting)} calls wait for {self.endpoint} already"))
                return
        self.waiting.append(call)

    def pump(self) -> None:
        """Give free places to the callers that have waited longest."""
        while self.waiting and self._is_open and len(self.pending) < self._calls_max:
            call = self.waiting.popleft()
            if call.done():
                continue
            self._last_id = call.request_id = self._last_id + 1
            self.pending[call.request_id] = call
            remaining_ms = max(call.deadline - self._now(), 0) // MILLISECOND + 1
            self._transmit(call, 0 if call.timeout_ns is NEVER else remaining_ms)

    def on_call_cancelled(self, call: PendingCall) -> None:
        """A call has ended on this side: its place is free, and the wire takes it back if it was transmitted."""
        if self.pending.pop(call.request_id, None) is not None:
            self._cancel_request(call)
            self.pump()

    def abandon(self, call: PendingCall, problem: BaseException) -> None:
        """Fail a call for a reason of the client's own. Harmless when it is done."""
        if not call.done():
            call.set_exception(problem)
            self.on_call_cancelled(call)

    def describe(self, call: PendingCall) -> str:
        """For messages: the method and where it was asked."""
        return f"{call.method!r} at {self.endpoint}"

    # --- deadlines -----------------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        """End what is overdue, and set the alarm to the earliest deadline that is left.

        Often nothing is overdue: the call the alarm was set for has ended in time, and only the next deadline is looked for.
        """
        now = self._now()
        overdue = [call for call in self.pending.values() if call.deadline <= now]
        overdue += [call for call in self.waiting if call.deadline <= now]
        for call in sorted(overdue, key=_deadline_of):  # those of a loop that stood still end in their order as well
            within = f"{call.timeout_ns / SECOND:.3g} s"
            state = "did not answer" if call.request_id else "had no place for" if self._is_open else "could not be reached for"
            self.abandon(call, error(Code.DEADLINE, f"{self.endpoint} {state} {call.method!r} within {within}"))
        while self.waiting and self.waiting[0].done():
            self.waiting.popleft()
        # Calls that wait behind a live one may be done; their deadlines count no more.
        alive = (call for calls in (self.pending.values(), self.waiting) for call in calls if not call.done())
        self._alarm.set(min((call.deadline for call in alive), default=None), now)

    # --- connections ---------------------------------------------------------------------------------------------------

    def _on_connected(self) -> None:
        self._is_opening = False
        self._is_open = True
        self.connections += 1
        self._connect_error = None
        self._backoff_ns = connect_backoff_min_ns
        if self._tickets is not None:
            if self._unsubscribe is None:
                self._unsubscribe = self._tickets.subscribe(self._authenticate)
            self._authenticate()
        self.pump()

    def _authenticate(self) -> None:
        """Say who calls, ahead of everything that is sent after it. It may be one call more than there are places."""
        assert self._tickets is not None
        if not self._is_open or not self._tickets.ticket or self._is_ticket_in_calls:
            return
        call = AuthenticationCall(loop=self._loop)
        self._shown = self._tickets.ticket
        call.channel = self
        call.method = PROCESS.Authenticate
        call.data = authenticate_to_pb(self._shown).SerializeToString()
        call.parts = ()
        call.length = 0
        call.into = None
        call.timeout_ns = call_timeout_ns
        now = call.begun_at = self._now()
        call.deadline = now + call_timeout_ns
        call.wire_state = call.counts = None
        self._alarm.set(call.deadline, now)
        self._last_id = call.request_id = self._last_id + 1
        self.pending[call.request_id] = call
        self._transmit(call, call_timeout_ns // MILLISECOND + 1)

    def explain_refusal(self, problem: FS3Error) -> FS3Error:
        """What a call ends with that was refused since the server does not know, or no longer, who calls: asking again is worth
        while when there is a newer ticket, or will be."""
        if self._tickets is not None and self._tickets.on_refused(self._shown, self.endpoint):
            return error(Code.TICKET_LAPSED, f"the ticket for {self.endpoint} has lapsed; a new one is on its way")
        return problem

    def _on_connect_failed(self, problem: FS3Error) -> None:
        """There is no server to talk to: the calls that wait fail, and for a while so do new ones."""
        self._is_opening = False
        self._connect_error = problem
        self._retry_at = self._now() + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, connect_backoff_max_ns)
        waiting = list(self.waiting)
        self.waiting.clear()
        self._fail_all(waiting, problem.code, str(problem))

    def _on_disconnected(self, code: Code, reason: str) -> None:
        """The connection is lost. Calls under way fail; those that were never sent get another one."""
        self._is_open = False
        lost = list(self.pending.values())
        self.pending.clear()
        self._fail_all(lost, code, f"the connection to {self.endpoint} broke: {reason}")
        if self._is_closed or self._is_opening:
            return
        if any(not call.done() for call in self.waiting):
            self._is_opening = True
            self._dial()

    def _take_all(self) -> list[PendingCall]:
        calls = [*self.pending.values(), *self.waiting]
        self.pending.clear()
        self.waiting.clear()
        return calls

    @staticmethod
    def _fail_all(calls: Iterable[PendingCall], code: Code, message: str) -> None:
        for call in calls:
            if not call.done():
                call.set_exception(error(code, message))

    def _adopt(self) -> asyncio.AbstractEventLoop:
        """The running loop, which becomes the channel's. Raises FS3Error UNSUPPORTED when the channel belongs elsewhere."""
        if _getpid() != self._pid:
            # Writing here would mix two processes' frames in one stream.
            text = f"the channel to {self.endpoint} was made in process {self._pid}; process {_getpid()} must make its own"
            raise error(Code.UNSUPPORTED, text)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise error(Code.UNSUPPORTED, f"the channel to {self.endpoint} belongs to another event loop")
        return loop

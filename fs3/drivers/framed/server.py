"""A client as the framed wire's server sees it: dispatching, answering, and keeping a bad peer from hurting the others."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Protocol

from fs3.base import limits
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, NEVER, SECOND
from fs3.drivers.framed.bulk_path import describe_connection
from fs3.drivers.framed.offers import ServerOffers
from fs3.drivers.framed.passed_files import FilePasser
from fs3.drivers.framed.payload_receiver import PayloadReceiver
from fs3.drivers.framed.server_call import FramedCall, TracedFramedCall
from fs3.drivers.framed.server_context import ServerContext
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.admission import RequestRefused
from fs3.drivers.rpc.receive_pool import Reception
from fs3.drivers.rpc.reply_budget import reply_bytes_of
from fs3.drivers.rpc.server_call import MethodBinding
from fs3.drivers.rpc.traced_call import begin_served
from fs3.drivers.tls.socket import PlainPeer, TlsError
from fs3.model.connection import ConnectionInfo
from fs3.model.principal import AuthContext
from fs3.model.share import UNLIMITED, ByteShare, Limit
from fs3.ports.rpc import Part
from fs3.wire.errors import encode_error
from fs3.wire.frames import ASKS_PATH, MAGIC_BYTES, TAKES_PLACES, TRACED, Frame, FrameError, FrameKind, pack
from fs3.wire.trace_context import unpack_contexts

log = logging.getLogger("fs3.transport")

_REQUEST, _REPLY, _CANCEL = FrameKind.REQUEST.value, FrameKind.REPLY.value, FrameKind.CANCEL.value
_QUEUE_FULL, _NO_REPLY_ROOM = 4, 8  # why a connection is not read, besides what `PayloadReceiver` waits for


_UNSHARED = ByteShare(Limit.REPLY_BYTES, UNLIMITED)  # of connections that nothing is counted for


class ConnectionOwner(Protocol):
    """The listener that has accepted a connection."""

    def on_progress(self) -> None:
        """The listener closes, and a call has ended or something was sent."""
        ...

    def on_secured(self, connection: ServerConnection) -> None:
        """The TLS handshake of a connection is done."""
        ...

    def on_connection_closed(self, connection: ServerConnection) -> None:
        """The connection is closed; it calls back no more."""
        ...


class _ReplyShareWaiter:
    """A connection that waits until its principal may have more replies in memory: a `ShareWaiter`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def on_share_room(self) -> None:
        """See `ShareWaiter.on_share_room`."""
        self._connection.wait_for_reply()


class ServerConnection(PayloadReceiver):
    """A client, as its server sees it."""

    def __init__(self, owner: ConnectionOwner, context: ServerContext, sock: StreamSocket, peer: str, auth: AuthContext) -> None:
        self._owner = owner
        self._admission = context.admission
        self.peer = peer
        self.auth = auth
        """What it has proved."""
        auth.on_lost.append(self._on_rights_lost)
        self._calls: dict[int, FramedCall] = {}
        self._open_calls = 0  # not ended by their handlers, cancelled ones too
        self._incoming: tuple[FramedCall, MethodBinding] | None = None  # whose payload is being received
        self._replies = context.replies
        self._reserved_bytes = 0  # reply memory promised to calls under way
        self._counted_bytes = 0  # reply memory that the budget knows to be queued here
        self._unserved: tuple[FramedCall, MethodBinding] | None = None  # for whose reply there is no room
        self._is_waiting_for_reply = False
        self._reply_waiter = _ReplyShareWaiter(self)
        self._shared_bytes = 0  # reply memory that is counted with the principal's
        self._reply_share = _UNSHARED  # of the principal whose the connection was when that began
        if self._admission.counts is not None:
            self._admission.counts.connections += 1
            self._admission.counts.open.add(self)
        is_plain = isinstance(sock, socket.socket)
        passes_files = is_plain and context.sockets.may_pass_files(sock)
        self._passer = FilePasser(sock) if passes_files else None  # type: ignore[arg-type]
        self.offers = ServerOffers(self, context.paths, context.clock.now(), is_plain=is_plain)
        super().__init__(context, sock)
        if self._tls is not None:
            self._tls.on_ready = self._on_secured

    def __repr__(self) -> str:
        return f"<connection of {self.peer}, {self._open_calls} calls under way, {self.queued_bytes} bytes queued>"

    def describe(self) -> ConnectionInfo:
        """See `Describable.describe`."""
        endpoint, offers = self._admission.endpoint, self.offers
        passes, plain = self._passer is not None, offers.is_plain
        return describe_connection(self.peer, endpoint, offers.path, passes=passes, out=False, plain=plain)

    @property
    def is_idle(self) -> bool:
        """No call under way and nothing left to send."""
        is_idle = not self._open_calls and not self.queued_bytes and self._incoming is None and self._unserved is None
        return is_idle and self.offers.is_idle

    @property
    def is_secured(self) -> bool:
        """No TLS handshake is under way: it is done, or there is none to do."""
        return self._tls is None or self._tls.is_ready

    def _on_secured(self) -> None:
        assert self._tls is not None
        self.auth.subject = self._tls.subject
        self._owner.on_secured(self)

    # --- requests ------------------------------------------------------------------------------------------------------

    def _on_header(self, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        if type(header) is memoryview:  # a long one, in a buffer of the pool
            header = bytes(header)
            self._release_reception()
        kind, _, code, request_id, _, length, _ = frame
        if kind != _REQUEST:
            if kind != _CANCEL:
                if not self.offers.on_frame(frame, header):
                    raise FrameError(f"a client sends no frames of kind {kind}")
                return
            if length:
                raise FrameError(f"a CANCEL with a payload of {length} bytes")
            cancelled = self._calls.pop(request_id, None)
            if cancelled is not None:
                cancelled.cancel()
            else:
                self.offers.cancel(request_id)
            return
        if code & ASKS_PATH:
            self.offers.is_asked = True
        found = self.begin_call(frame, header, length)
        if found is None:
            return
        if self.offers.is_asked:
            self.offers.on_asked()
        call, binding = found
        if length:
            self._incoming = found
            self._begin(length, self.pool.budget(is_forward=binding.method.is_forward(call.request)))
        else:
            self._admit(call, binding, call.arrived_at)

    def begin_call(self, frame: Frame, header: bytes | bytearray, length: int) -> tuple[FramedCall, MethodBinding] | None:
        """The call that a request with a payload of `length` bytes begins. None: it was declined. Raises FrameError."""
        request_id = frame.request_id
        if request_id in self._calls or not request_id or self.offers.is_fetching(request_id):
            raise FrameError(f"request id {request_id} is under way already")
        now = self._now()
        try:
            open_calls = self._open_calls + self.offers.fetching_count
            binding, request = self._admission.admit(frame.method, header, length, open_calls, self.auth, now)
        except RequestRefused as refusal:
            self._decline(frame, refusal)
            return None
        code = frame.code
        deadline = now + frame.timeout_ms * MILLISECOND if frame.timeout_ms else NEVER
        takes_places = code & TAKES_PLACES != 0 and self._passer is not None
        if code & TRACED and binding.tracer is not None:
            traced = TracedFramedCall(self, binding.method, request, deadline, request_id, takes_places=takes_places)
            traced.span = begin_served(traced, binding.tracer, unpack_contexts(header), now)
            call: FramedCall = traced
        else:
            call = FramedCall(self, binding.method, request, deadline, request_id, takes_places=takes_places)
        call.arrived_at = now
        return call, binding

    def on_offer_ended(self) -> None:
        """A reply that was offered was fetched, or is queued now."""
        self.check_queue()
        if self._admission.is_closing:
            self._owner.on_progress()

    def _decline(self, frame: Frame, refusal: RequestRefused) -> None:
        """Answer without a handler, and throw the payload away."""
        self.send_error(frame.method, frame.request_id, refusal.code, refusal.message, 0)
        if frame.payload_length:
            self._expect(frame.payload_length, [])
        self.check_queue()

    def _admit(self, call: FramedCall, binding: MethodBinding, now: int) -> None:
        """Serve a call, or read no further until there is room for its reply."""
        length = reply_bytes_of(binding.method, call.request) if binding.method.is_sized else 0
        if length:
            call.reserved_bytes = length
            share = self._share_of_replies()
            has_room = self._fits_reply(length) and share.has_room(length)
            if not has_room or not self._replies.reserve(length, owes_nothing=not self.queued_memory_bytes):
                self._unserved = (call, binding)
                self.pause(_NO_REPLY_ROOM)
                self.wait_for_reply()
                return
            self._reserved_bytes += length
            self._note_replies()
        self._serve(call, binding, now)

    def wait_for_reply(self) -> None:
        """Queue for the room that an unserved call needs: of the principal's share, then of the budget. What is missing of the
        connection's own share is found out when that changes."""
        if self._unserved is None or self._is_waiting_for_reply or self.is_closed:
            return
        length = self._unserved[0].reserved_bytes
        if not self._fits_reply(length):
            return
        share = self._share_of_replies()
        if not share.has_room(length):
            share.wait(length, self._reply_waiter)
            return
        self._is_waiting_for_reply = True
        self._note_replies()
        self._replies.wait(length, self)

    def _share_of_replies(self) -> ByteShare:
        """See `_share`."""
        if not self._shared_bytes:
            found = self.auth.share
            share = _UNSHARED if found is None else found.replies
            if share is not self._reply_share:
                self._reply_share.cancel(self._reply_waiter)
                self._reply_share = share
        return self._reply_share

    def _note_replies(self) -> None:
        """Count with the principal's what the connection has now."""
        shared = self._reserved_bytes + self._counted_bytes
        if self._is_waiting_for_reply and self._unserved is not None:
            shared += self._unserved[0].reserved_bytes
        delta = shared - self._shared_bytes
        if delta:
            share = self._share_of_replies()
            self._shared_bytes = shared
            share.change(delta)

    def _fits_reply(self, length: int) -> bool:
        """The connection's own share has room for a reply; a single one is always served."""
        own = self._reserved_bytes + self._counted_bytes
        return not own or own + length <= self.limits.reply_share_bytes_max

    def on_reply_room(self) -> None:
        """See `ReplyWaiter.on_reply_room`."""
        assert self._unserved is not None
        self._is_waiting_for_reply = False
        (call, binding), self._unserved = self._unserved, None
        self._reserved_bytes += call.reserved_bytes
        # Later: this runs within the answer of another call, of another connection perhaps.
        self._loop.call_soon(self._serve_late, call, binding)

    def _serve_late(self, call: FramedCall, binding: MethodBinding) -> None:
        now = self._now()
        if self.is_closed:
            call.release()
        elif now >= call.deadline:
            self.send_error(
                call.method.id, call.request_id, Code.DEADLINE, f"there was no room for the reply of {call.method!r}", 0
            )
            self.on_answered(call)
            call.release()
        else:
            self._serve(call, binding, now)
        self.resume(_NO_REPLY_ROOM)

    def _serve(self, call: FramedCall, binding: MethodBinding, now: int) -> None:
        self._calls[call.request_id] = call
        self._open_calls += 1
        counts = binding.counts
        if counts is not None:
            if now != call.arrived_at:
                counts.waited.add(now - call.arrived_at)
            call.count(counts, now, binding.slow)
        call.dispatch(binding.handler)
        self.check_queue()

    def _on_payload(self) -> None:
        assert self._incoming is not None
        (call, binding), self._incoming = self._incoming, None
        call.payload, self._destination, self._reception = self._destination, None, None
        self.admit_arrived(call, binding)

    def admit_arrived(self, call: FramedCall, binding: MethodBinding) -> None:
        """The payload of a request is there."""
        now = self._now()
        if now >= call.deadline:
            # The client has given the call up: the work would be for nothing.
            self.send_error(call.method.id, call.request_id, Code.DEADLINE, f"{call.method!r} arrived too late", 0)
            call.release()
        else:
            self._admit(call, binding, now)

    def release_payload(self, payload: memoryview) -> None:
        """The handler of a call needs the payload no longer."""
        if self.offers.release(payload):
            return
        self.on_released(len(payload))
        self.pool.release(payload)

    def locate(self, parts: Sequence[Part]) -> tuple[bytes | memoryview, ...] | None:
        """The payload of a PLACES frame that takes the place of `parts`. None: these are sent."""
        assert self._passer is not None
        self.flush()
        return None if self.is_closed else self._passer.locate(parts, may_pass=not self.queued_bytes)

    # --- answers -------------------------------------------------------------------------------------------------------

    def send_error(self, method_id: int, request_id: int, code: Code, message: str, routing_version: int) -> None:
        """A REPLY that is not OK."""
        data = encode_error(code, message, routing_version)
        self.send(pack(_REPLY, method_id, request_id, len(data), 0, code) + data)

    def check_queue(self) -> None:
        """Read no more requests of a client that does not read its answers."""
        if self.queued_memory_bytes != self._counted_bytes:
            self._count_replies(0)
        if self.queued_bytes > self._queued_bytes_max:
            self.pause(_QUEUE_FULL)

    @property
    def _queued_bytes_max(self) -> int:
        return limits.reply_small_bytes if self._replies.is_short and self._counted_bytes else self.limits.send_queue_bytes_max

    def on_answered(self, call: FramedCall) -> None:
        """The answer of a call is queued, or there will be none: what was promised to it is replaced by what it takes."""
        reserved, call.reserved_bytes = call.reserved_bytes, 0
        self._reserved_bytes -= reserved
        self._count_replies(-reserved)
        if not self.is_closed:
            self.check_queue()

    def _count_replies(self, delta: int) -> None:
        """Tell the budget what is queued now, and `delta` besides."""
        queued = self.queued_memory_bytes
        delta += queued - self._counted_bytes
        self._counted_bytes = queued
        if delta:
            self._note_replies()
            self._replies.change(delta)
        if delta < 0 and self._unserved is not None:
            self.wait_for_reply()

    def on_call_ended(self, call: FramedCall) -> None:
        """The handler has ended a call; its answer is not queued yet."""
        self._open_calls -= 1
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]
        if self._admission.is_closing:  # not before the answer is queued
            self._loop.call_soon(self._owner.on_progress)

    def _on_sent(self) -> None:
        if self.queued_memory_bytes != self._counted_bytes:
            self._count_replies(0)
        if self._paused and self.queued_bytes <= self._queued_bytes_max // 2:
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

    def _on_broken(self, problem: OSError) -> None:
        if not isinstance(problem, TlsError):
            super()._on_broken(problem)
            return
        if isinstance(problem, PlainPeer) and self._tls is not None:
            told = f"{self._admission.endpoint} speaks TLS only: this client has to be given tls_ca"
            data = encode_error(Code.PROTOCOL, told)
            self._tls.answer_plain(pack(_REPLY, 0, 0, len(data), 0, Code.PROTOCOL) + data)
        self._give_up(str(problem))

    def give_up_handshake(self, reason: str) -> None:
        """Disconnect a client whose TLS handshake is not done."""
        self._give_up(f"its TLS handshake is not done {reason}")

    def sweep(self, now: int) -> None:
        """Called every `sweep_ns`: disconnects a client that owes the rest of a frame, that takes none of what is queued for it,
        that is idle for too long, or whose host has vanished."""
        bounds, clocks = self.limits, self._clocks
        if not self.is_secured:
            if now - clocks.idle_since >= bounds.tls_handshake_ns:
                self.give_up_handshake(f"after {bounds.tls_handshake_ns / SECOND:.3g} s")
            return
        clocks.note(now)
        expected = self._expected if self._remaining else limits.long_header_bytes
        reception = self._reception
        if reception is not None and not self._paused and clocks.sends_too_slowly(now, reception):
            self._drop_slow(reception)
            return
        if clocks.takes_too_little(now) and self._replies.waiting_count > 0:
            reason = (
                f"it takes {self.queued_bytes} bytes slower than {bounds.reply_rate_min} bytes per second, and others wait for"
            )
            self._give_up(f"{reason} reply memory")
            return
        if stall := clocks.explain_stall(now, expected):
            self._give_up(stall)
        elif self.offers.is_stalled(now):
            self._give_up(f"it has said of no offer for {bounds.send_stall_ns / SECOND:.3g} s that it has the bytes")
        elif self.has_vanished(self._context.sockets):
            self._give_up(f"its host has acknowledged nothing for {limits.peer_unresponsive_ns / SECOND:.3g} s")
        elif now >= self.auth.until:
            self._on_rights_lapsed()
        elif now - clocks.idle_since >= bounds.connection_idle_ns_max and not self._has_streams():
            log.debug("%s closes the connection of %s: nothing has arrived for long", self._admission.endpoint, self.peer)
            self.close("it was idle for too long")

    def _on_rights_lapsed(self) -> None:
        """Nothing was proved in time, or what was proved has not been proved again."""
        log.debug("%s closes the connection of %s: its ticket has lapsed, or there was none", self._admission.endpoint, self.peer)
        self.close("it has not authenticated in time")

    def _on_rights_lost(self) -> None:
        """See `AuthContext.on_lost`. Not at once: this may run within a call of this connection."""
        self._loop.call_soon(self.close, "its principal has lost its rights")

    def _drop_slow(self, reception: Reception) -> None:
        rate = self.limits.receive_rate_min
        reason = f"it sends {reception.length} bytes slower than {rate} bytes per second, and others wait for memory"
        if self._incoming is not None:
            call = self._incoming[0]
            self.send_error(call.method.id, call.request_id, Code.BUSY, f"{self._admission.endpoint} disconnects: {reason}", 0)
            self.flush()
        self._give_up(reason)

    def _has_streams(self) -> bool:
        return any(call.method.streaming for call in self._calls.values())

    def on_process_paused(self, gap_ns: int) -> None:
        """This process itself stood still for `gap_ns`, which must not count against the client. (It may count as idle time: an
        idle connection can be closed at no harm.)"""
        self._clocks.on_process_paused(gap_ns)
        self.offers.moved_at += gap_ns

    def _give_up(self, reason: str) -> None:
        self._context.peer_log.warning("%s disconnects %s: %s", self._admission.endpoint, self.peer, reason)
        self.close(reason)

    def _on_closed(self, reason: str) -> None:
        log.debug("%s: %s has gone: %s", self._admission.endpoint, self.peer, reason)
        self._incoming = None
        self._stop_waiting()
        self._release_reception()
        self.offers.close()
        unserved, self._unserved = self._unserved, None
        self._is_waiting_for_reply = False
        self._reply_share.cancel(self._reply_waiter)
        if unserved is not None:
            self._replies.cancel(self)
            unserved[0].release()
        self._count_replies(0)
        self._note_replies()  # also when nothing was queued: what waited was counted
        if self._admission.counts is not None:
            self._admission.counts.connections -= 1
            self._admission.counts.open.discard(self)
        if self._admission.gate is not None:
            self._admission.gate.close(self.auth)
        self.auth.on_lost.clear()
        self._owner.on_connection_closed(self)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.cancel()

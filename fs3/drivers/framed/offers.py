"""Payloads that are offered by a path instead of being sent: what a client and a server say about them on the stream.

The one with the payload lends it to the path and sends an OFFERED frame. The other one fetches it and says TAKEN, or says TAKEN
with a code that has the first one send it on the stream after all: the path was dead, or there was no room. Until then nothing
was done with the request or the reply, so neither is done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from fs3.base.errors import error
from fs3.base.limits import frame_header_bytes_max
from fs3.base.status import Code
from fs3.base.units import KIB, MILLISECOND, NEVER
from fs3.drivers.framed.bulk_path import ENCRYPTED, BulkPath, BulkPaths, FetchedBytes
from fs3.drivers.rpc.channel import ClientChannel
from fs3.drivers.rpc.pending_call import PendingCall, StreamCall, deliver_reply
from fs3.drivers.rpc.receive_pool import ReceiveBudget, ReceivePool
from fs3.drivers.rpc.server_call import MethodBinding, ServerCall
from fs3.model.rdma import PathMessage, PathStep
from fs3.ports.rpc import OnSent, Part
from fs3.wire.frames import ASKS_PATH, TIMEOUT_MS_MAX, Frame, FrameError, FrameKind, pack
from fs3.wire.paths import pack_path_message, unpack_offer

_REQUEST, _REPLY = FrameKind.REQUEST.value, FrameKind.REPLY.value
_PATH, _TAKEN = FrameKind.PATH.value, FrameKind.TAKEN.value
_OFFERED_REQUEST, _OFFERED_REPLY = FrameKind.OFFERED_REQUEST.value, FrameKind.OFFERED_REPLY.value
_OFFERED_HEADER_BYTES_MAX = frame_header_bytes_max - 2 * KIB
"""Protobuf that an offer can stand before."""


class FrameSink(Protocol):
    """A connection that sends."""

    def send(self, frame: bytes) -> None:
        """See `FrameSender.send`."""
        ...

    def send_parts(self, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> object:
        """See `FrameSender.send_parts`."""
        ...


class OfferedServer(FrameSink, Protocol):
    """A connection that serves requests whose payload was fetched."""

    @property
    def peer(self) -> str:
        """The client's name."""
        ...

    @property
    def pool(self) -> ReceivePool:
        """Memory that requests are counted against."""
        ...

    @property
    def limits(self) -> Any:
        """What one peer may take: `ServerLimits`."""
        ...

    def fits(self, length: int) -> bool:
        """So many more bytes of payloads may arrive, or be with their handlers."""
        ...

    def hold(self, length: int) -> None:
        """So much more is held."""
        ...

    def on_released(self, length: int) -> None:
        """So much of it is not held any more."""
        ...

    def begin_call(self, frame: Frame, header: bytes, length: int) -> tuple[ServerCall, MethodBinding] | None:
        """The call that a request with a payload of `length` bytes begins. None: it was declined. Raises FrameError."""
        ...

    def admit_arrived(self, call: Any, binding: MethodBinding) -> None:
        """The payload of a request is there."""
        ...

    def on_offer_ended(self) -> None:
        """A reply that was offered was fetched, or is queued now."""
        ...


class ClientOffers:
    """The client's side of one connection."""

    def __init__(self, connection: FrameSink, channel: ClientChannel, path: BulkPath) -> None:
        self._connection = connection
        self._channel = channel
        self._pending = channel.pending
        self.path = path
        self._lent: dict[int, tuple[int, bytes, int]] = {}
        """Method, protobuf and code of the requests whose payload is lent, by their numbers."""

    @property
    def code_of_requests(self) -> int:
        """What the request that is about to be sent says of paths."""
        return ASKS_PATH if self.path.should_ask() else 0

    def offer(self, call: PendingCall, data: bytes, code: int, timeout_ms: int) -> bytes | None:
        """The frame that takes the place of a request with a payload. None: it is sent. `data`, `code`: of the request."""
        if call.length < self.path.bytes_min or len(data) > _OFFERED_HEADER_BYTES_MAX:
            return None
        where = self.path.lend(call.request_id, call.parts, call.length)
        if where is None:
            return None
        self._lent[call.request_id] = (call.method.id, data, code)
        length = len(where) + len(data)
        return pack(_OFFERED_REQUEST, call.method.id, call.request_id, length, 0, code, timeout_ms) + where + data

    def on_frame(self, frame: Frame, header: bytes | bytearray | memoryview) -> bool:
        """A frame has arrived; False: it is not about paths. Raises FrameError."""
        kind, _, code, request_id, _, length, _ = frame
        if kind not in (_PATH, _TAKEN, _OFFERED_REPLY):
            return False
        if length:
            raise FrameError(f"a frame of kind {kind} with a payload of {length} bytes")
        if kind == _PATH:
            self.path.on_message(code, header)
        elif kind == _TAKEN:
            self._on_taken(request_id, code)
        else:
            self._on_offered(request_id, code, header)
        return True

    def _on_taken(self, request_id: int, code: int) -> None:
        lent = self._lent.pop(request_id, None)
        if code == Code.OK or lent is None:
            self.path.on_taken(request_id)
            return
        arrived = self.path.on_refused(request_id)
        call = self._pending.get(request_id)
        if call is None or call.done():
            arrived.release()
            return
        method, data, code = lent
        view = arrived.view
        now = self._channel.now()
        timeout_ms = 0 if call.timeout_ns is NEVER else min(max(call.deadline - now, 0) // MILLISECOND + 1, TIMEOUT_MS_MAX)
        head = pack(_REQUEST, method, request_id, len(data), len(view), code, timeout_ms) + data
        self._connection.send_parts((head, view), len(head) + len(view), arrived.release)

    def _on_offered(self, request_id: int, code: int, header: bytes | bytearray | memoryview) -> None:
        regions, data = unpack_offer(header)
        call = self._pending.get(request_id)
        if call is None:  # given up meanwhile
            self._say_taken(request_id)
            return
        if code or isinstance(call, StreamCall):
            raise FrameError("an offer where none is due")
        try:
            message = call.method.reply.FromString(bytes(data))
        except DecodeError as problem:
            self._say_taken(request_id)
            self._channel.abandon(
                call, error(Code.PROTOCOL, f"the reply of {self._channel.describe(call)} cannot be read: {problem}")
            )
            return
        self.path.fetch(regions, partial(self._on_fetched, call, message))

    def _on_fetched(self, call: PendingCall, message: Any, arrived: FetchedBytes | None) -> None:
        if arrived is None:
            self._say_taken(call.request_id, Code.OK if call.done() else Code.UNAVAILABLE)
            return
        self._say_taken(call.request_id)
        self._channel.activity += 1
        view = arrived.view
        try:
            reply = deliver_reply(call, message, (view,), len(view))
        except Exception as refusal:  # of `into`
            self._channel.abandon(call, refusal)
        else:
            if not call.done():
                del self._pending[call.request_id]
                if call.counts is not None:
                    call.counts.received_bytes += len(view)
                    call.counts.end(0, call.begun_at)
                call.set_result(reply)
        finally:
            arrived.release()
        self._channel.pump()

    def _say_taken(self, request_id: int, code: Code = Code.OK) -> None:
        self._connection.send(pack(_TAKEN, 0, request_id, 0, 0, code))

    def close(self) -> None:
        """The connection has ended."""
        self._lent.clear()
        self.path.close()


class _Charge:
    """What a payload on its way, or with its handler, takes of a budget."""

    __slots__ = ("budget", "length")

    def __init__(self, budget: ReceiveBudget, length: int) -> None:
        self.budget = budget
        self.length = length


class ServerOffers:
    """The server's side of one connection."""

    def __init__(self, connection: OfferedServer, paths: BulkPaths | None, now: int, *, is_plain: bool) -> None:
        """`is_plain`: what travels on the connection is not encrypted; else there is no path."""
        self._connection = connection
        self._paths = paths
        self.is_plain = is_plain
        self.path: BulkPath | None = None
        """From when the client has asked for one."""
        self.is_asked = False
        """The client has asked; it is answered once a request of it is admitted, so only those who may call learn anything."""
        self._fetching: dict[int, ServerCall] = {}
        self._charges: dict[_Charge, None] = {}
        self._lent: dict[int, tuple[int, bytes]] = {}
        """Method and protobuf of the replies whose payload is lent, by the numbers of their requests."""
        self._has_moved = False
        self.moved_at = now
        """When `is_stalled` last saw that a reply was taken, or that none was lent; at first, when the connection began."""
        self._arrived: dict[int, tuple[FetchedBytes, _Charge]] = {}
        """What handlers have, and what it is counted as, by the identity of its memory."""

    @property
    def is_idle(self) -> bool:
        """Nothing is on its way by the path."""
        return self.path is None or (not self._fetching and self.path.is_idle)

    def is_stalled(self, now: int) -> bool:
        """Replies are lent, and for long the client has said of none that it has done with it. Asked every now and then."""
        if self._has_moved or not self._lent:
            self._has_moved = False
            self.moved_at = now
        return bool(now - self.moved_at >= self._connection.limits.send_stall_ns)

    @property
    def fetching_count(self) -> int:
        """Requests whose payload is on its way."""
        return len(self._fetching)

    def is_fetching(self, request_id: int) -> bool:
        """The payload of a request is on its way."""
        return request_id in self._fetching

    def on_asked(self) -> None:
        """The client asks for a path, and may call."""
        connection, self.is_asked = self._connection, False
        if self._paths is None or not self.is_plain:
            header = pack_path_message(PathMessage(reason="RDMA is switched off there" if self.is_plain else ENCRYPTED))
            self._send(PathStep.DOWN, header)
            return
        if self.path is None:
            self.path = self._paths.server(connection.peer, self._send)
        self.path.on_asked()

    def _send(self, step: int, header: bytes) -> None:
        self._connection.send(pack(_PATH, 0, 0, len(header), 0, step) + header)

    def offer(self, call: ServerCall, data: bytes, parts: Sequence[Part], length: int) -> bytes | None:
        """The frame that takes the place of a reply with a payload. None: it is sent."""
        path = self.path
        if path is None or length < path.bytes_min or len(data) > _OFFERED_HEADER_BYTES_MAX:
            return None
        where = path.lend(call.request_number, parts, length)
        if where is None:
            return None
        self._lent[call.request_number] = (call.method.id, data)
        return pack(_OFFERED_REPLY, call.method.id, call.request_number, len(where) + len(data)) + where + data

    def on_frame(self, frame: Frame, header: bytes | bytearray | memoryview) -> bool:
        """A frame has arrived; False: it is not about paths, or there is none. Raises FrameError."""
        kind, _, code, request_id, _, length, _ = frame
        path = self.path
        if path is None or kind not in (_PATH, _TAKEN, _OFFERED_REQUEST):
            return False
        if length:
            raise FrameError(f"a frame of kind {kind} with a payload of {length} bytes")
        if kind == _PATH:
            path.on_message(code, header)
        elif kind == _TAKEN:
            self._on_taken(path, request_id, code)
        else:
            self._on_offered(path, frame, header)
        return True

    def _on_offered(self, path: BulkPath, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        regions, data = unpack_offer(header)
        length = sum(region.length for region in regions)
        found = self._connection.begin_call(frame, bytes(data), length)
        if found is None:
            self._say_taken(frame.request_id)
            return
        call, binding = found
        connection = self._connection
        budget = connection.pool.budget(is_forward=binding.method.is_forward(call.request))
        if not connection.fits(length) or not budget.charge(length):
            # The stream knows how to wait for memory, and has its turn with the requests that wait already.
            self._say_taken(frame.request_id, Code.UNAVAILABLE)
            return
        connection.hold(length)
        self._fetching[frame.request_id] = call
        charge = _Charge(budget, length)
        self._charges[charge] = None
        path.fetch(regions, partial(self._on_fetched, call, binding, charge))

    def cancel(self, request_id: int) -> None:
        """The client gives a request up. Its payload is fetched to the end, and thrown away."""
        self._fetching.pop(request_id, None)

    def _on_taken(self, path: BulkPath, request_id: int, code: int) -> None:
        self._has_moved = True
        method_and_data = self._lent.pop(request_id, None)
        if code == Code.OK or method_and_data is None:
            path.on_taken(request_id)
        else:
            arrived = path.on_refused(request_id)
            method, data = method_and_data
            view = arrived.view
            head = pack(_REPLY, method, request_id, len(data), len(view)) + data
            self._connection.send_parts((head, view), len(head) + len(view), arrived.release)
        self._connection.on_offer_ended()

    def _on_fetched(self, call: ServerCall, binding: MethodBinding, charge: _Charge, arrived: FetchedBytes | None) -> None:
        is_wanted = self._fetching.pop(call.request_number, None) is call
        if arrived is None:
            self._discharge(charge)
            self._say_taken(call.request_number, Code.UNAVAILABLE if is_wanted else Code.OK)
            return
        self._say_taken(call.request_number)
        if not is_wanted:
            arrived.release()
            self._discharge(charge)
            return
        self._charges.pop(charge, None)
        call.payload = view = arrived.view
        self._arrived[id(view.obj)] = (arrived, charge)
        self._connection.admit_arrived(call, binding)

    def release(self, payload: memoryview) -> bool:
        """A handler needs a payload no longer. False: it did not come by the path."""
        found = self._arrived.pop(id(payload.obj), None) if self._arrived else None
        if found is None:
            return False
        arrived, charge = found
        arrived.release()
        self._discharge(charge)
        return True

    def _discharge(self, charge: _Charge) -> None:
        self._charges.pop(charge, None)
        charge.budget.discharge(charge.length)
        self._connection.on_released(charge.length)

    def _say_taken(self, request_id: int, code: Code = Code.OK) -> None:
        self._connection.send(pack(_TAKEN, 0, request_id, 0, 0, code))

    def close(self) -> None:
        """The connection has ended."""
        self._fetching.clear()
        self._lent.clear()
        for charge in list(self._charges):
            self._discharge(charge)
        if self.path is not None:
            self.path.close()

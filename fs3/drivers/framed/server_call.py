"""One request on the framed wire, until it is answered: what of a reply is copied, offered, passed as files or sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fs3.base.limits import copied_parts_bytes_max
from fs3.base.status import Code
from fs3.drivers.framed.offers import FrameSink, ServerOffers
from fs3.drivers.framed.passed_files import places_bytes_min
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.rpc.server_call import ServerCall, run_guarded
from fs3.drivers.rpc.traced_call import TracedServerCall
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.ports.rpc import FileRange, OnSent, Part
from fs3.wire.frames import FrameKind, pack

_REPLY, _MORE, _PLACES = FrameKind.REPLY.value, FrameKind.MORE.value, FrameKind.PLACES.value


class CallConnection(FrameSink, Protocol):
    """The connection that a call has come by."""

    limits: ServerLimits
    peer: str
    """The client's name."""
    auth: AuthContext
    """What it has proved."""
    offers: ServerOffers

    @property
    def is_closed(self) -> bool:
        """Nothing is sent any more."""
        ...

    @property
    def is_blocked(self) -> bool:
        """The socket takes nothing now."""
        ...

    def send_error(self, method_id: int, request_id: int, code: Code, message: str, routing_version: int) -> None:
        """A REPLY that is not OK."""
        ...

    def locate(self, parts: Sequence[Part]) -> tuple[bytes | memoryview, ...] | None:
        """The payload of a PLACES frame that takes the place of `parts`. None: these are sent."""
        ...

    def check_queue(self) -> None:
        """Read no more requests of a client that does not read its answers."""
        ...

    def release_payload(self, payload: memoryview) -> None:
        """The handler of a call needs the payload no longer."""
        ...

    def on_answered(self, call: FramedCall) -> None:
        """The answer of a call is queued, or there will be none."""
        ...

    def on_call_ended(self, call: FramedCall) -> None:
        """The handler has ended a call; its answer is not queued yet."""
        ...


class FramedCall(ServerCall):
    """One request of one connection."""

    __slots__ = ("_connection", "_queued_bytes", "_takes_places", "request_id", "reserved_bytes")

    def __init__(
        self, connection: CallConnection, method: Method, request: object, deadline: int, request_id: int, *, takes_places: bool
    ) -> None:
        super().__init__(method, request, connection.peer, deadline, connection.auth)
        self._connection = connection
        self._queued_bytes = 0  # messages of a stream that have not left
        self._takes_places = takes_places
        self.request_id = request_id
        self.reserved_bytes = 0
        """Reply memory promised to it."""

    @property
    def request_number(self) -> int:
        """Of its request."""
        return self.request_id

    def release(self) -> None:
        """See `fs3.ports.rpc.Call.release`."""
        payload, self.payload = self.payload, None
        if payload is not None:
            self._on_released()
            self._connection.release_payload(payload)

    def _on_end(self) -> None:
        self._connection.on_call_ended(self)
        if self.payload is not None:
            self.release()
        if self.is_cancelled:  # no answer follows
            self._connection.on_answered(self)

    def _send_reply(self, data: bytes, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> None:
        connection = self._connection
        offer = connection.offers.offer(self, data, parts, length) if length else None
        if offer is not None:
            connection.send(offer)
            connection.on_answered(self)
            if on_sent is not None:
                run_guarded(on_sent)
            return
        head = pack(_REPLY, self.method.id, self.request_id, len(data), length) + data
        if not length:
            connection.send(head)
        elif length <= copied_parts_bytes_max and not any(type(part) is FileRange for part in parts):
            connection.send(b"".join((head, *parts)))  # type: ignore[arg-type]
        else:
            places = connection.locate(parts) if self._takes_places and length >= places_bytes_min else None
            if places is not None:
                parts, length = places, sum(map(len, places))
                head = pack(_PLACES, self.method.id, self.request_id, len(data), length) + data
            connection.send_parts((head, *parts), len(head) + length, on_sent)
            connection.on_answered(self)
            return
        if self.reserved_bytes or connection.is_blocked:
            connection.on_answered(self)
        if on_sent is not None:
            run_guarded(on_sent)

    def _send_error(self, code: Code, message: str, routing_version: int) -> None:
        self._connection.send_error(self.method.id, self.request_id, code, message, routing_version)
        self._connection.on_answered(self)

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
        if connection.is_blocked:
            connection.check_queue()
        return True

    def _send_end(self) -> None:
        self._connection.send(pack(_REPLY, self.method.id, self.request_id, 0))


class TracedFramedCall(TracedServerCall, FramedCall):
    """One that belongs to a trace."""

    __slots__ = ("span",)

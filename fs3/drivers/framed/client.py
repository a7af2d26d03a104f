"""The client of the framed wire: a channel, and the connection it has at the moment."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from google.protobuf.message import DecodeError

from fs3.base.counting import SHIFT
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    calls_per_connection_max,
    connect_attempt_ns,
    copied_parts_bytes_max,
    peer_unresponsive_ns,
    receive_stall_ns,
    transport_sweep_ns,
)
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.framed.bulk_path import BulkPaths, describe_connection
from fs3.drivers.framed.connection import Connection
from fs3.drivers.framed.offers import ClientOffers
from fs3.drivers.framed.passed_files import PassedFiles, PlacesCopy
from fs3.drivers.framed.sockets import StreamSocket, StreamSockets
from fs3.drivers.rpc.channel import ClientChannel
from fs3.drivers.rpc.payload import destinations
from fs3.drivers.rpc.pending_call import PendingCall, StreamCall
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.connection import ConnectionInfo
from fs3.ports.clock import Clock
from fs3.ports.rpc import FileRange, Reply
from fs3.ports.security import TicketSource
from fs3.runtime.bulk_work import bulk_slice_bytes
from fs3.wire.errors import decode_error
from fs3.wire.frames import TAKES_PLACES, TIMEOUT_MS_MAX, Frame, FrameError, FrameKind, pack
from fs3.wire.places import unpack_places
from fs3.wire.trace_context import with_contexts

log = logging.getLogger("fs3.transport")

_REQUEST, _REPLY, _MORE, _CANCEL = FrameKind.REQUEST.value, FrameKind.REPLY.value, FrameKind.MORE.value, FrameKind.CANCEL.value
_FILE, _PLACES, _PATH = FrameKind.FILE.value, FrameKind.PLACES.value, FrameKind.PATH.value
_COPYING = 1  # why a connection is not read


class ClientConnection(Connection):
    """A server, as its client sees it."""

    def __init__(
        self,
        channel: FramedChannel,
        loop: asyncio.AbstractEventLoop,
        sock: StreamSocket,
        clock: Clock,
        *,
        takes_files: bool,
        paths: BulkPaths | None = None,
    ) -> None:
        self._channel = channel
        self._pending = channel.pending
        self._now = clock.now
        self._sink: PendingCall | None = None  # whose payload is being received
        self._message: Any = None  # its reply
        self._payload: memoryview | None = None
        self._read_at = 0
        self._code = Code.DISCONNECTED  # why it broke, for the calls under way
        self._places: memoryview | None = None  # a list of places that is being received, for `_sink`
        super().__init__(loop, sock)
        self._files = PassedFiles(sock) if takes_files and isinstance(sock, socket.socket) else None
        if self._files is not None:
            self._recv_staged = self._files.recv_into
        self._is_plain = isinstance(sock, socket.socket)
        path = None if paths is None or not self._is_plain else paths.client(channel.endpoint, self._send_path)
        self.offers = None if path is None else ClientOffers(self, channel, path)
        if channel.counts is not None:
            channel.counts.open.add(self)

    def __repr__(self) -> str:
        return f"<connection to {self._channel.endpoint}>"

    def describe(self) -> ConnectionInfo:
        """See `Describable.describe`."""
        path = None if self.offers is None else self.offers.path
        endpoint, passes, plain = self._channel.endpoint, self._files is not None, self._is_plain
        return describe_connection(endpoint, endpoint, path, passes=passes, out=True, plain=plain)

    def _on_header(self, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        kind, _, code, request_id, _, length, _ = frame
        if kind == _REPLY or (kind == _PLACES and length and self._files is not None):
            call = self._pending.get(request_id)
            if call is None:
                if request_id == 0:
                    raise FrameError(str(decode_error(code, header, "the server")))
                if length:  # given up meanwhile
                    self._expect(length, [])
                return
            if length:
                self._receive_payload(call, frame, header)
            else:
                del self._pending[request_id]
                self._finish(call, code, header)
        elif kind == _MORE:
            call = self._pending.get(request_id)
            if length or (call is not None and not isinstance(call, StreamCall)):
                raise FrameError("a streamed message where none is due")
            if call is not None:
                self._receive_message(call, header)
        elif kind == _FILE and self._files is not None and not length:
            self._files.on_file(request_id)
        elif self.offers is None or not self.offers.on_frame(frame, header):
            raise FrameError(f"a server sends no frames of kind {kind}")

    def _send_path(self, step: int, header: bytes) -> None:
        self.send(pack(_PATH, 0, 0, len(header), 0, step) + header)

    @property
    def code_of_requests(self) -> int:
        """What requests say of the answers they take."""
        return TAKES_PLACES if self._files is not None and not self._files.is_full else 0

    def _finish(self, call: PendingCall, code: int, header: bytes | bytearray | memoryview) -> None:
        """The outcome of a call without a payload."""
        if call.wire_state is not None:  # refused before all of it was sent
            self.take_back(call.wire_state)
        if code:
            call.set_exception(decode_error(code, header, self._channel.describe(call)))
            return
        try:
            message = None if isinstance(call, StreamCall) else call.method.reply.FromString(header)
            if call.into is not None:
                destinations(call.into, message, 0)
        except DecodeError as problem:
            call.set_exception(self._unreadable(call, problem))
        except Exception as problem:  # of `into`
            if not call.done():
                call.set_exception(problem)
        else:
            if not call.done():  # by `into`
                if (counts := call.counts) is not None:
                    elapsed_ns = counts.now() - call.begun_at
                    counts.places[(elapsed_ns >> SHIFT).bit_length()] += 1
                    counts.total_ns += elapsed_ns
                call.set_result(Reply(message))

    def _receive_payload(self, call: PendingCall, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        length = frame.payload_length
        if frame.code or isinstance(call, StreamCall):
            raise FrameError("a payload where none is due")
        if frame.kind == _PLACES:
            self._receive_places(call, frame, header)
            return
        targets: list[memoryview] = []
        try:
            self._message = call.method.reply.FromString(header)
            targets = [memoryview(bytearray(length))] if call.into is None else destinations(call.into, self._message, length)
        except DecodeError as problem:
            self._channel.abandon(call, self._unreadable(call, problem))
        except Exception as problem:  # of `into`: the payload is refused
            self._channel.abandon(call, problem)
        if call.done():
            targets = []
        self._sink = call if targets else None
        self._payload = targets[0] if len(targets) == 1 else None
        self._expect(length, targets)

    def _receive_places(self, call: PendingCall, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        """The payload of a call that says where the bytes lie."""
        try:
            self._message = call.method.reply.FromString(header)
        except DecodeError as problem:
            self._channel.abandon(call, self._unreadable(call, problem))
            self._expect(frame.payload_length, [])
            return
        self._sink = call
        self._places = memoryview(bytearray(frame.payload_length))
        self._expect(frame.payload_length, [self._places])

    def _copy_from_places(self, call: PendingCall, message: Any, listed: memoryview) -> None:
        assert self._files is not None
        places, inline = unpack_places(listed)
        length = sum([place.length for place in places])
        try:
            targets = [memoryview(bytearray(length))] if call.into is None else destinations(call.into, message, length)
        except Exception as refusal:  # of `into`
            self._channel.abandon(call, refusal)
            return
        if call.done():  # by `into`
            return
        reply = Reply(message, targets[0] if len(targets) == 1 else None)
        copy = PlacesCopy(self._files, places, inline, targets)
        if self._bulk.is_sliced and length > bulk_slice_bytes:
            self.pause(_COPYING)  # what follows keeps its order, and the files stay
            self._bulk.when_free(lambda: self._continue_copy(call, reply, copy, length))
        else:
            copy.step(length)
            self._end_copy(call, reply, copy, length)

    def _continue_copy(self, call: PendingCall, reply: Reply, copy: PlacesCopy, length: int) -> bool:
        """A slice of what lies at the places of a reply. False: the call has ended meanwhile; its buffers are the caller's."""
        if self.is_closed:
            return False
        is_wanted = not call.done()
        if is_wanted and not copy.step(bulk_slice_bytes):
            self._bulk.when_free(lambda: self._continue_copy(call, reply, copy, length))
            return True
        if is_wanted:
            self._end_copy(call, reply, copy, length)
        self.resume(_COPYING)
        self._channel.pump()
        return is_wanted

    def _end_copy(self, call: PendingCall, reply: Reply, copy: PlacesCopy, length: int) -> None:
        del self._pending[call.request_id]
        if call.wire_state is not None:
            self.take_back(call.wire_state)
        if copy.problem is not None:
            call.set_exception(copy.problem)
            return
        if (counts := call.counts) is not None:
            counts.received_bytes += length
            elapsed_ns = counts.now() - call.begun_at
            counts.places[(elapsed_ns >> SHIFT).bit_length()] += 1
            counts.total_ns += elapsed_ns
        call.set_result(reply)

    def _receive_part(self) -> int:
        if self._sink is not None and self._sink.done():
            # The call ended on this side while its payload arrives: the buffers are the caller's again.
            self._sink = self._message = self._payload = self._places = None
            self._divert()
        return super()._receive_part()

    def _on_payload(self) -> None:
        call, message, payload, listed = self._sink, self._message, self._payload, self._places
        self._sink = self._message = self._payload = self._places = None
        assert call is not None
        if listed is not None:
            if not call.done():
                self._copy_from_places(call, message, listed)
            return
        del self._pending[call.request_id]
        if call.wire_state is not None:
            self.take_back(call.wire_state)
        if (counts := call.counts) is not None:
            counts.received_bytes += self._expected
            elapsed_ns = counts.now() - call.begun_at
            counts.places[(elapsed_ns >> SHIFT).bit_length()] += 1
            counts.total_ns += elapsed_ns
        call.set_result(Reply(message, payload))

    def _receive_message(self, call: StreamCall, header: bytes | bytearray | memoryview) -> None:
        try:
            message = call.method.reply.FromString(bytes(header))
        except DecodeError as problem:
            self._channel.abandon(call, self._unreadable(call, problem))
        else:
            call.push(message, len(header))

    def _reserve_header(self, length: int) -> None:
        self._expect(length, [memoryview(bytearray(length))])

    def _unreadable(self, call: PendingCall, problem: DecodeError) -> FS3Error:
        return error(Code.PROTOCOL, f"the reply of {self._channel.describe(call)} cannot be read: {problem}")

    def _on_received(self) -> None:
        self._read_at = self._now()
        self._channel.activity += 1
        if self._channel.waiting:
            self._channel.pump()

    def close_if_stalled(self) -> None:
        """Close when the server has stopped in the middle of a frame for `receive_stall_ns`: all answers wait behind it."""
        if self.is_mid_frame and self._now() - self._read_at >= receive_stall_ns:
            self.close("the server stopped in the middle of a frame")

    def _on_bad_frame(self, problem: FrameError, first_bytes: bytes | None) -> None:
        log.warning("%r ends: %s", self, problem)
        self._code = Code.PROTOCOL
        self.close(str(problem))

    def close_in_child(self) -> None:
        """See `forks`."""
        super().close_in_child()
        if self._files is not None:
            self._files.close()

    def _on_closed(self, reason: str) -> None:
        self._sink = self._message = self._payload = self._places = None
        if self._files is not None:
            self._files.close()
        if self.offers is not None:
            self.offers.close()
        if self._channel.counts is not None:
            self._channel.counts.open.discard(self)
        self._channel.on_connection_lost(self, self._code, reason)


class FramedChannel(ClientChannel):
    """`fs3.ports.rpc.Channel` on the framed wire."""

    def __init__(
        self,
        endpoint: str,
        clock: Clock,
        sockets: StreamSockets,
        calls_max: int = calls_per_connection_max,
        counts: RpcCounts | None = None,
        tickets: TicketSource | None = None,
        paths: BulkPaths | None = None,
    ) -> None:
        super().__init__(endpoint, clock, calls_max, counts, tickets)
        self._paths = paths
        self._sweeper: asyncio.TimerHandle | None = None
        self._clock = clock
        self._sockets = sockets
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[None] | None = None

    def on_connection_lost(self, connection: ClientConnection, code: Code, reason: str) -> None:
        """The connection has ended."""
        if connection is self._connection:
            self._connection = None
            self._on_disconnected(code, reason)

    def _dial(self) -> None:
        assert self._loop is not None
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(connect_attempt_ns / SECOND):
                sock = await self._sockets.dial(self.endpoint)
        except FS3Error as problem:
            self._on_connect_failed(problem)
        except TimeoutError:
            text = f"{self.endpoint} does not accept a connection within {connect_attempt_ns / SECOND:.3g} s"
            self._on_connect_failed(error(Code.UNAVAILABLE, text))
        except OSError as problem:
            self._on_connect_failed(error(Code.UNAVAILABLE, f"{self.endpoint} cannot be reached: {problem.strerror or problem}"))
        else:
            assert self._loop is not None
            takes_files = self._sockets.may_pass_files(sock)
            self._connection = ClientConnection(self, self._loop, sock, self._clock, takes_files=takes_files, paths=self._paths)
            self._sweep_later()
            self._on_connected()

    def _sweep_later(self) -> None:
        if self._sweeper is None and self._loop is not None:
            self._sweeper = self._loop.call_later(transport_sweep_ns / SECOND, self._sweep)

    def _sweep(self) -> None:
        """Look every `transport_sweep_ns` while connected whether the server's host is there; also when nothing is under way, so
        that it is not the next call that finds out."""
        self._sweeper = None
        connection = self._connection
        if connection is not None:
            if connection.has_vanished(self._sockets):
                connection.close(f"its host has acknowledged nothing for {peer_unresponsive_ns / SECOND:.3g} s")
            else:
                self._sweep_later()

    def _transmit(self, call: PendingCall, timeout_ms: int) -> None:
        connection = self._connection
        assert connection is not None
        data, length = call.data, call.length
        # Only what has a buffer for its bytes is large enough to be worth it.
        code = 0 if call.into is None else connection.code_of_requests
        offers = connection.offers
        if offers is not None:
            code |= offers.code_of_requests
        if call.span is not None:
            data, code = with_contexts(data, call.span.contexts, code)
        if offers is not None and length:
            offer = offers.offer(call, data, code, min(timeout_ms, TIMEOUT_MS_MAX))
            if offer is not None:
                connection.send(offer)
                call.data = b""
                call.parts = ()
                return
        head = pack(_REQUEST, call.method.id, call.request_id, len(data), length, code, min(timeout_ms, TIMEOUT_MS_MAX)) + data
        if not length:
            connection.send(head)
            if len(self.pending) == 1:
                # A lone caller: it is about to wait, nothing will join it, and a turn of the loop costs as much as the call.
                connection.flush()
        elif length <= copied_parts_bytes_max and not any(type(part) is FileRange for part in call.parts):
            connection.send(b"".join((head, *call.parts)))  # type: ignore[arg-type]
        else:
            call.wire_state = connection.send_parts((head, *call.parts), len(head) + length, None)
        call.data = b""
        call.parts = ()

    def _cancel_request(self, call: PendingCall) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if call.wire_state is not None and connection.take_back(call.wire_state):
            return  # it never left
        connection.send(pack(_CANCEL, call.method.id, call.request_id, 0))
        connection.close_if_stalled()

    def _hang_up(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close("the channel was closed")

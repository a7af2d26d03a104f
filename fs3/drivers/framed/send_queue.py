"""What one connection has still to send: small frames gathered in one write, large parts without a copy, files by sendfile."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Sequence

from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.rpc.payload import flat_view, part_length, read_file_range
from fs3.drivers.rpc.server_call import run_guarded
from fs3.drivers.tls.socket import TlsSocket
from fs3.ports.rpc import FileRange, OnSent, Part

_GATHER_MAX = 64
"""Buffers per sendmsg. The kernel admits 1024; more than this saves nothing measurable."""
_FOLLOWS = getattr(socket, "MSG_MORE", 0)
"""Tells TCP that a file range follows, so that the header does not leave as a segment (and a wake-up) of its own."""


_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Some file systems cannot; their files are read and sent."""


class FileEnded(Exception):
    """A file is shorter than the range that was promised; the frame cannot be completed."""


class OutgoingFrame:
    """A frame, or several small ones, on the way into the socket."""

    __slots__ = ("is_started", "on_sent", "parts")

    def __init__(self, parts: Sequence[Part], on_sent: OnSent | None = None) -> None:
        self.parts: deque[memoryview | FileRange] = deque()
        for part in parts:
            if type(part) is FileRange:
                if part.length:
                    self.parts.append(part)
            elif len(view := flat_view(part)):  # type: ignore[arg-type]
                self.parts.append(view)
        self.on_sent = on_sent
        self.is_started = False

    @property
    def file_bytes(self) -> int:
        """What is left of file ranges."""
        return sum([part.length for part in self.parts if type(part) is FileRange])

    def snapshot(self) -> None:
        """Copy what is left, so that the owner of the parts can have them back. A file that cannot be read becomes zeros: the
        client has given the answer up, and only the frame must keep its length."""
        copies: deque[memoryview | FileRange] = deque()
        for part in self.parts:
            if isinstance(part, FileRange):
                copy = memoryview(bytearray(part.length))
                try:
                    read_file_range(part, copy)
                except OSError:
                    copy = memoryview(bytes(part.length))
                copies.append(copy)
            else:
                copies.append(memoryview(bytes(part)))
        self.parts = copies


class SendQueue:
    """Frames of one connection, in the order they leave."""

    __slots__ = ("_queue", "_small", "file_bytes", "queued_bytes", "sent_bytes")

    def __init__(self) -> None:
        self._queue: deque[OutgoingFrame] = deque()
        self._small: list[bytes] = []
        """Whole small frames after everything in `_queue`; they leave in one write."""
        self.queued_bytes = 0
        self.file_bytes = 0
        """Of those, in file ranges; the others are in memory."""
        self.sent_bytes = 0
        """Ever sent; tells a stalled peer from a slow one."""

    def __bool__(self) -> bool:
        return bool(self._queue) or bool(self._small)

    def add_small(self, frame: bytes) -> None:
        """A whole frame that may be copied."""
        self._small.append(frame)
        self.queued_bytes += len(frame)

    def add(self, parts: Sequence[Part], length: int, on_sent: OnSent | None) -> OutgoingFrame:
        """A frame of `length` bytes in parts that are not copied."""
        self._settle_small()
        outgoing = OutgoingFrame(parts, on_sent)
        self._queue.append(outgoing)
        self.queued_bytes += length
        self.file_bytes += outgoing.file_bytes
        return outgoing

    def remove(self, outgoing: OutgoingFrame) -> None:
        """Forget a frame of which nothing was sent."""
        self._queue.remove(outgoing)
        self.file_bytes -= outgoing.file_bytes
        self.queued_bytes -= sum(map(part_length, outgoing.parts))

    def snapshot(self, outgoing: OutgoingFrame) -> None:
        """See `OutgoingFrame.snapshot`."""
        self.file_bytes -= outgoing.file_bytes
        outgoing.snapshot()

    def send(self, sock: StreamSocket, budget: int) -> bool:
        """Send about `budget` bytes; True when nothing is left. Raises BlockingIOError when the socket is full, OSError when it
        is broken or a file cannot be read, FileEnded."""
        if not self._queue and self._small:
            # The common case by far: replies to small calls, in one write.
            small = self._small
            data = small[0] if len(small) == 1 else b"".join(small)
            count = sock.send(data)
            small.clear()
            self.queued_bytes -= count
            self.sent_bytes += count
            if count == len(data):
                return True
            budget -= count
            self._queue.append(OutgoingFrame((memoryview(data)[count:],)))
            self._queue[0].is_started = True
        while self._queue or self._small:
            if budget <= 0:
                return False
            self._settle_small()
            count = self._send_some(sock, budget)
            self._advance(count)
            budget -= count
        return True

    def drop(self) -> None:
        """Forget everything; `on_sent` of every frame is called."""
        queue, self._queue = self._queue, deque()
        self._small.clear()
        self.queued_bytes = self.file_bytes = 0
        for outgoing in queue:
            outgoing.parts.clear()
            if outgoing.on_sent is not None:
                run_guarded(outgoing.on_sent)

    def _settle_small(self) -> None:
        """Queue the small frames so far as one, so that a large one can follow them."""
        if self._small:
            self._queue.append(OutgoingFrame((b"".join(self._small),)))
            self._small.clear()

    def _send_some(self, sock: StreamSocket, budget: int) -> int:
        head = self._queue[0].parts[0]
        if type(head) is FileRange:
            try:
                if isinstance(sock, TlsSocket):
                    count = sock.send_file(head.fd, head.offset, min(head.length, budget))
                else:
                    count = os.sendfile(sock.fileno(), head.fd, head.offset, min(head.length, budget))
            except OSError as problem:
                if problem.errno not in _NO_SENDFILE:
                    raise
                count = sock.send(os.pread(head.fd, min(head.length, budget), head.offset))
            if count == 0:
                raise FileEnded(f"file {head.fd} ends at byte {head.offset}, {head.length} bytes before its range does")
            return count
        # Gather across frames, up to the next file range: that goes by `sendfile`, alone.
        buffers: list[memoryview] = []
        flags = 0
        for outgoing in self._queue:
            for part in outgoing.parts:
                if isinstance(part, FileRange):
                    flags = _FOLLOWS
                    break
                buffers.append(part)
            if flags or len(buffers) >= _GATHER_MAX:
                break
        if len(buffers) == 1:
            return sock.send(buffers[0], flags)
        return sock.sendmsg(buffers[:_GATHER_MAX], (), flags)

    def _advance(self, count: int) -> None:
        self.queued_bytes -= count
        self.sent_bytes += count
        finished: list[OnSent] = []
        while count:
            outgoing = self._queue[0]
            outgoing.is_started = True
            parts = outgoing.parts
            while parts and count:
                part = parts[0]
                if isinstance(part, FileRange):
                    length = part.length
                    self.file_bytes -= min(count, length)
                else:
                    length = len(part)
                if count >= length:
                    parts.popleft()
                    count -= length
                elif isinstance(part, FileRange):
                    parts[0] = FileRange(part.fd, part.offset + count, length - count)
                    count = 0
                else:
                    parts[0] = part[count:]
                    count = 0
            if not parts:
                self._queue.popleft()
                if outgoing.on_sent is not None:
                    finished.append(outgoing.on_sent)
        for sent in finished:  # last: they may queue more, or close the connection
            run_guarded(sent)

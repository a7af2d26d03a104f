"""One stream socket: frames in, parts out.

Works on any asyncio loop that has `add_reader` and `add_writer`; asyncio's own streams and protocols would copy every payload
twice. What a frame means is said by the two ends that subclass it, in `server` and `client`:

1. `_on_header` gets every frame as it arrives, without its payload. An end that is owed a payload says where it goes before it
   returns: `_expect(buffers)`, `_expect(nothing)` to throw it away, or `_wait_for` until there is a buffer, then `_provide`. With
   a meter, memory for the buffer is given in steps; `_on_no_room` pauses until there is more.
2. `_on_payload` tells that the payload is in those buffers; it is not called for one that was thrown away, by `_divert` too.
3. `_reserve_header` asks for a buffer for a protobuf header that is too long for the staging buffer; `_on_header` follows.
4. `_on_received` ends every wake-up by the socket, one that has closed the connection too; `_on_sent` follows every write.
5. `_on_bad_frame` must close. `_on_closed` is called once, whatever the cause; no frame and no payload comes after it.

Receiving. Between frames, whatever has arrived is read into the loop's staging buffer and parsed there, many frames per `recv`.
A payload that reaches beyond it is received into its destination (`_expect`). Everything received but not consumed is carried:
less than a frame, or more while the connection is paused. One wake-up takes `wake_bytes_max` at most, so that a busy connection
does not starve the others, and less while this end waits for a short read (`fs3.runtime.bulk_work`).

Sending is in `sender`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Protocol

from fs3.base.limits import long_header_bytes, staging_bytes
from fs3.base.units import KIB
from fs3.drivers.framed.sender import FrameSender
from fs3.drivers.framed.sockets import StreamSocket
from fs3.drivers.framed.staging import staging_of
from fs3.runtime.bulk_work import bulk_work_of
from fs3.wire.frames import HEADER_BYTES, Frame, FrameError, foreign_protocol, unpack

log = logging.getLogger("fs3.transport")

_PEEK_AFTER_BULK = 4 * KIB
"""How much is read in search of the next frame after a large payload: another one is likely, and what is staged is copied."""
_PEEK_FIRST = 16 * KIB
_BULK_BYTES = 32 * KIB
"""Payloads from here on are worth a system call of their own."""
_WAKE_FOR_BYTES = 256 * KIB
_TLS_RECORD_BYTES_MAX = 32 * KIB
_SCATTER_MAX = 128
"""Buffers per recvmsg_into."""


class Meter(Protocol):
    """How much of a payload there is memory for."""

    arrived: int
    """Bytes received so far."""

    def room(self) -> int:
        """How many more may be received now."""
        ...


class PeerClosed(Exception):
    """The peer sends nothing more."""


class Connection(FrameSender):
    """A connected, non-blocking socket on the running loop. Starts reading at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: StreamSocket) -> None:
        super().__init__(loop, sock)
        staging = staging_of(loop)
        self._bulk = bulk_work_of(loop)
        self._wake_bytes = 0  # what this wake-up may take
        self._staging = staging.data
        self._view = staging.view
        self._recv_staged: Callable[[memoryview], int] = sock.recv_into
        """Between frames; another one where descriptors may come with the bytes."""
        self._carry: bytearray | bytes = b""
        self._reparse = False  # `_carry` may hold whole frames
        self._peek = _PEEK_FIRST
        self._drained = False
        self._remaining = 0  # bytes still to come of what is expected
        self._targets: list[memoryview] | None = []  # where they go; none: nowhere; None: it must be waited for
        self._meter: Meter | None = None  # of what is expected, when its memory is given in steps
        self._long_frame: Frame | None = None  # whose protobuf header is being received
        self._long_header: memoryview | None = None
        self._discarding = False
        self._expected = 0  # bytes of what is or was expected, as a whole
        self._has_low_water = sock.family != socket.AF_UNIX  # which ignores it
        # What OpenSSL holds of a record does not wait in the socket: up to one is taken off.
        self._low_water = _WAKE_FOR_BYTES if self._tls is None else _WAKE_FOR_BYTES - _TLS_RECORD_BYTES_MAX
        self._is_low_water_raised = False
        self._paused = 0
        self.frames = 0
        """Frames whose header has arrived."""
        self.received_bytes = 0
        loop.add_reader(self._fd, self._on_readable)

    @property
    def is_mid_frame(self) -> bool:
        """Part of a frame has arrived and the rest is owed by the peer."""
        return not self._paused and (self._remaining > 0 or len(self._carry) > 0)

    # --- what a subclass says ------------------------------------------------------------------------------------------

    def _on_header(self, frame: Frame, header: bytes | bytearray | memoryview) -> None:
        """A frame without its payload has arrived. With a payload: must call `_expect` or `_wait_for`. Raises FrameError."""
        raise NotImplementedError

    def _on_payload(self) -> None:
        """The payload is in the buffers that were given to `_expect`; not called when it was thrown away."""
        raise NotImplementedError

    def _reserve_header(self, length: int) -> None:
        """A long protobuf header follows: must call `_expect` or `_wait_for`."""
        raise NotImplementedError

    def _on_bad_frame(self, problem: FrameError, first_bytes: bytes | None) -> None:
        """The peer sent something that is no frame; `first_bytes` when nothing before it was one. Must close."""
        raise NotImplementedError

    def _on_broken(self, problem: OSError) -> None:
        """The socket has failed, or TLS does not hold. Must close."""
        self.close(problem.strerror or type(problem).__name__)

    def _on_received(self) -> None:
        """What has arrived was handled."""

    def _on_no_room(self) -> None:
        """There is no memory for more of what is expected: must pause."""
        raise NotImplementedError

    # --- receiving -----------------------------------------------------------------------------------------------------

    def _expect(self, length: int, targets: list[memoryview], meter: Meter | None = None) -> None:
        """The next `length` bytes go into `targets`, which hold exactly as many; with none, they are thrown away. With a `meter`
        there is one target, which is filled as there is room."""
        self._meter = meter
        self._remaining = self._expected = length
        self._targets = targets
        self._discarding = not targets
        if self._long_frame is not None:
            self._long_header = targets[0]
        self._peek = _PEEK_AFTER_BULK if length >= _BULK_BYTES else max(self._peek, _PEEK_FIRST)

    def _wait_for(self, length: int, why: int) -> None:
        """The next `length` bytes have no place yet: read nothing until `_provide`."""
        self._remaining = length
        self._targets = None
        self.pause(why)

    def _provide(self, target: memoryview, why: int, meter: Meter | None = None) -> None:
        """The place that was waited for."""
        self._expect(self._remaining, [target], meter)
        self.resume(why)

    def _divert(self) -> None:
        """Throw away what is still to come of the payload; its destination may not be written to any more."""
        self._targets = []
        self._discarding = True

    def pause(self, why: int) -> None:
        """Read nothing more until `resume` for this reason (a bit) and all others."""
        if not self._paused and not self.is_closed:
            self._loop.remove_reader(self._fd)
        self._paused |= why

    def resume(self, why: int) -> None:
        """Undo `pause`."""
        if not self._paused & why:
            return
        self._paused &= ~why
        if self._paused or self.is_closed:
            return
        self._loop.add_reader(self._fd, self._on_readable)
        if self._carry or self._remaining or (self._tls is not None and self._tls.has_pending):
            # No event will announce what has been received already.
            self._reparse = True
            self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if self._paused or self.is_closed:
            return
        self._corked = True
        self._drained = False
        budget = self._wake_bytes = self._bulk.receive_bytes
        try:
            while budget > 0 and not (self._drained or self._paused or self.is_closed):
                budget -= self._receive_part() if self._remaining and not self._reparse else self._receive_frames()
        except (BlockingIOError, InterruptedError):
            self._drained = True
        except PeerClosed:
            self.close("the peer closed it in the middle of a frame" if self.is_mid_frame else "the peer closed it")
        except FrameError as problem:
            self._on_bad_frame(problem, None if self.frames else bytes(self._staging[:16]))
        except OSError as problem:
            self._on_broken(problem)
        except Exception:
            log.exception("%r failed", self)
            self.close("internal error")
        except BaseException:  # an interrupt: where in the stream it came is not known
            self.close("interrupted")
            raise
        self._corked = False
        if self._remaining >= _WAKE_FOR_BYTES or self._is_low_water_raised:
            self._set_low_water()
        self._on_received()
        self.flush()
        if self._tls is not None and not (self._drained or self._paused or self.is_closed) and self._tls.has_pending:
            self._loop.call_soon(self._on_readable)  # no event announces it

    def _set_low_water(self) -> None:
        """In the middle of a large payload, be woken for a good piece of it and not for every segment: over loopback that saves a
        quarter of the processor time per byte, on both sides. The peer's end of stream wakes it all the same."""
        deep = self._remaining >= _WAKE_FOR_BYTES
        if deep != self._is_low_water_raised and self._has_low_water and not self.is_closed:
            self._is_low_water_raised = deep
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._low_water if deep else 1)

    def _receive_frames(self) -> int:
        staging = self._staging
        have = len(self._carry)
        if have:
            staging[:have] = self._carry
        if self._reparse:  # what `resume` found carried: nothing new is read first
            self._reparse = False
            got = 0
        else:
            room = min(self._peek, len(staging) - have)
            got = self._recv_staged(self._view[have : have + room])
            if not got:
                raise PeerClosed
            self.received_bytes += got
            if got < room:  # the socket is empty; asking it again would cost a system call to learn that
                self._drained = True
            elif self._peek < staging_bytes:
                self._peek *= 2
        end = have + got
        at = self._parse(end)
        self._carry = staging[at:end] if at < end else b""
        return got

    def _parse(self, end: int) -> int:
        """Consume staged bytes up to `end`; returns where it stopped."""
        staging = self._staging
        at = 0
        while True:
            if self._remaining:
                if self._targets is None:
                    return at
                at = self._take(at, end)
                if self._remaining:
                    if at < end and not self._paused:
                        continue
                    return at
                self._on_part_received()
            else:
                body = at + HEADER_BYTES
                if not self.frames and end > at and (problem := foreign_protocol(staging[at : min(end, body)])):
                    raise FrameError(problem)
                if body > end:
                    return at
                frame = unpack(staging, at)
                stop = body + frame.header_length
                if stop <= end:
                    at = stop
                    self.frames += 1
                    self._on_header(frame, staging[body:stop])
                elif frame.header_length > long_header_bytes:
                    at = body
                    self._long_frame = frame
                    self._reserve_header(frame.header_length)
                else:  # a short header that has not arrived as a whole is carried
                    return at
            if self._paused or self.is_closed:  # by what was called
                return at

    def _take(self, at: int, end: int) -> int:
        """Move staged bytes to where they are expected."""
        targets = self._targets
        assert targets is not None
        count = min(self._remaining, end - at)
        meter = self._meter
        if meter is not None and count:
            count = min(count, meter.room())
            if not count:
                self._on_no_room()
                return at
            meter.arrived += count
        self._remaining -= count
        if not targets:
            return at + count
        while count:
            target = targets[0]
            step = min(count, len(target))
            target[:step] = self._view[at : at + step]
            at += step
            count -= step
            if step == len(target):
                targets.pop(0)
            else:
                targets[0] = target[step:]
        return at

    def _receive_part(self) -> int:
        """Receive straight into the destination."""
        targets = self._targets
        assert targets is not None
        if not targets:
            wanted = min(self._remaining, staging_bytes)
            got = self._socket.recv_into(self._view[:wanted])
        elif len(targets) == 1:
            wanted = min(self._remaining, self._wake_bytes)
            meter = self._meter
            if meter is not None:
                wanted = min(wanted, meter.room())
                if not wanted:
                    self._on_no_room()
                    return 0
            got = self._socket.recv_into(targets[0], wanted)
            if got < self._remaining:
                targets[0] = targets[0][got:]
        else:
            # As many as one wake-up may take, and one if it is larger than that.
            ends = list(accumulate(map(len, targets[:_SCATTER_MAX])))
            count = bisect_right(ends, self._wake_bytes)
            if not count:
                some, wanted = [targets[0][: self._wake_bytes]], self._wake_bytes
                got = self._socket.recv_into(some[0])
            else:
                some, wanted = targets[:count], ends[count - 1]
                got = self._socket.recvmsg_into(some)[0]
            whole = bisect_right(ends, got)
            del targets[:whole]
            left = got - ends[whole - 1] if whole else got
            if left:
                targets[0] = targets[0][left:]
        if not got:
            raise PeerClosed
        self.received_bytes += got
        if got < wanted:
            self._drained = True
        if targets and self._meter is not None:
            self._meter.arrived += got
        self._remaining -= got
        if not self._remaining:
            self._on_part_received()
        return got

    def _on_part_received(self) -> None:
        self._targets = []  # keep no view of the destination
        self._meter = None
        frame = self._long_frame
        if frame is not None:
            header = self._long_header
            self._long_frame = self._long_header = None
            assert header is not None
            self.frames += 1
            self._on_header(frame, header)
        elif not self._discarding:
            self._on_payload()

    def _discard_received(self) -> None:
        self._carry = b""
        self._targets = []

"""Descriptors that a server hands its clients on the same host, so that what they read crosses no socket.

A reply whose bytes lie in the page cache names them (`fs3.wire.places`) and the client copies them from there into the caller's
buffer itself. What that may show is the same as when the socket refers to the pages: a range that is written again before the
client has copied it. Checksums find it, and without them the block lease (`fs3.core.craq.block_lease`).

A descriptor shows all of its file, other users' blocks too. So only clients get one that could open the file themselves: those
of the server's own user, and root. It is opened anew for reading only, whatever the server may do with its own.

A passed file keeps its space on the disk until the client disconnects, also when the server has removed it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.drivers.rpc.payload import flat_view
from fs3.ports.rpc import FileRange, Part
from fs3.wire.frames import FrameError, FrameKind, pack
from fs3.wire.places import INLINE, Place, pack_places

passed_files_max = 64
"""Files that one connection passes; what lies in others is sent."""

places_bytes_min = 128 * KIB
"""Payloads from here on are left where they lie; for shorter ones the socket is as fast."""

_DESCRIPTOR = struct.Struct("i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_DESCRIPTOR.size * 8)
_BUFFERS_MAX = 512
"""Per preadv; the system takes 1024."""


class FilePasser:
    """The server's side: which files of a connection the client has."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._numbers: dict[tuple[int, int], int] = {}
        """(device, inode) -> number. The client has the file open, so no other one can get its inode number."""

    def locate(self, parts: Sequence[Part], *, may_pass: bool) -> tuple[bytes | memoryview, ...] | None:
        """The payload of a PLACES frame for what would be sent as `parts`: the list and the inline bytes. None: send them.

        With `may_pass`, files that the client does not have yet are passed now: nothing may be queued before.
        """
        known: dict[int, int] = {}
        places: list[Place] = []
        inline: list[memoryview] = []
        for part in parts:
            if type(part) is not FileRange:
                view = flat_view(part)  # type: ignore[arg-type]
                if len(view):
                    places.append(Place(INLINE, len(view), 0))
                    inline.append(view)
            elif part.length:
                number = known.get(part.fd)
                if number is None:
                    number = self._number(part.fd, may_pass)
                    if not number:
                        return None
                    known[part.fd] = number
                places.append(Place(number, part.length, part.offset))
        return (pack_places(places), *inline) if known else None

    def _number(self, fd: int, may_pass: bool) -> int:
        """Of a file; 0 when the client does not get it."""
        try:
            status = os.fstat(fd)
        except OSError:
            return 0
        key = (status.st_dev, status.st_ino)
        number = self._numbers.get(key, 0)
        if not number and may_pass and len(self._numbers) < passed_files_max:
            number = len(self._numbers) + 1
            if not self._pass(fd, number):
                return 0
            self._numbers[key] = number
        return number

    def _pass(self, fd: int, number: int) -> bool:
        try:
            readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            frame = pack(FrameKind.FILE.value, 0, number, 0)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(readable))]
            # A Unix socket takes so few bytes as a whole or not at all.
            return self._socket.sendmsg((frame,), passed) == len(frame)
        except OSError:
            return False
        finally:
            os.close(readable)


class PassedFiles:
    """The client's side: the files that it was passed on one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._arrived: list[int] = []
        self._files: dict[int, int] = {}
        self.is_full = False
        """The process had no descriptor left for one."""

    def recv_into(self, view: memoryview) -> int:
        """As `socket.recv_into`, for bytes that descriptors may come with."""
        count, ancillary, flags, _ = self._socket.recvmsg_into((view,), _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                arrived = [fd for (fd,) in _DESCRIPTOR.iter_unpack(data[: len(data) - len(data) % _DESCRIPTOR.size])]
                if self.is_full:
                    # Its frame may still be behind that of one which was lost, and would give that one this file.
                    for fd in arrived:
                        os.close(fd)
                else:
                    self._arrived += arrived
        if flags & socket.MSG_CTRUNC:
            self.is_full = True
        return count

    def on_file(self, number: int) -> None:
        """A FILE frame has come. Raises FrameError for one that cannot be."""
        if number in self._files or not 0 < number <= passed_files_max:
            raise FrameError(f"file {number} was passed already, or is none")
        if self._arrived:
            self._files[number] = self._arrived.pop(0)
        elif not self.is_full:
            raise FrameError(f"file {number} came without a descriptor")

    def read(self, places: Sequence[Place], inline: memoryview, targets: Sequence[memoryview]) -> FS3Error | None:
        """Fill `targets` with what lies at the places, which is exactly as long. What is wrong with a file is returned."""
        left = list(targets)
        for place in places:
            into = _take(left, place.length)
            if place.file == INLINE:
                for view in into:
                    view[:] = inline[: len(view)]
                    inline = inline[len(view) :]
                continue
            fd = self._files.get(place.file)
            if fd is None:
                self.is_full = True
                return error(Code.BUSY, "this process has no descriptor left to take a file of the server: ulimit -n")
            problem = _read(fd, into, place)
            if problem is not None:
                return problem
        return None

    def close(self) -> None:
        """Close all of them."""
        for fd in (*self._files.values(), *self._arrived):
            os.close(fd)
        self._files.clear()
        self._arrived.clear()


def _take(left: list[memoryview], length: int) -> list[memoryview]:
    """The next `length` bytes of what is left of the targets."""
    taken: list[memoryview] = []
    while length:
        view = left[0]
        if len(view) > length:
            taken.append(view[:length])
            left[0] = view[length:]
            break
        taken.append(left.pop(0))
        length -= len(view)
    return taken


def _read(fd: int, into: list[memoryview], place: Place) -> FS3Error | None:
    offset = place.offset
    while into:
        try:
            count = os.preadv(fd, into[:_BUFFERS_MAX], offset)
        except OSError as problem:
            code = Code.DISK if problem.errno == errno.EIO else Code.INTERNAL
            return error(code, f"a file that the server has passed cannot be read: {problem.strerror}")
        if not count:
            return error(Code.DISK, f"a file that the server has passed ends before byte {place.offset + place.length}")
        offset += count
        _take(into, count)
    return None

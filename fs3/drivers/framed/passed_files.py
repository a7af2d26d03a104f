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
from collections import deque
from collections.abc import Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.base.views import first_bytes, take_bytes
from fs3.drivers.rpc.payload import flat_view
from fs3.ports.rpc import FileRange, Part
from fs3.wire.frames import FrameError, FrameKind, pack
from fs3.wire.places import INLINE, Place, pack_places

passed_files_max = 64
"""Files that one connection passes; what lies in others is sent."""

places_bytes_min = 128 * KIB
"""Payloads from here on are left where they lie; for shorter ones the socket is as fast."""

_DESCRIPTOR = struct.Struct("i")
_TRUNCATED = int(socket.MSG_CTRUNC)  # of an enumeration `&` is slow, and this is asked for every reply
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
        if flags & _TRUNCATED:
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

    def find(self, number: int) -> int | None:
        """The descriptor of a file; None: there was none left for it."""
        return self._files.get(number)

    def close(self) -> None:
        """Close all of them."""
        for fd in (*self._files.values(), *self._arrived):
            os.close(fd)
        self._files.clear()
        self._arrived.clear()


class PlacesCopy:
    """Fills a call's buffers with what lies at places, at once or in steps."""

    def __init__(self, files: PassedFiles, places: Sequence[Place], inline: memoryview, targets: Sequence[memoryview]) -> None:
        """`targets` hold exactly what lies at the places."""
        self._files = files
        self._places = deque(places)
        self._inline = inline
        self._left = list(targets)
        self._fd = -1
        self._into: list[memoryview] = []
        """What is left to fill of the place that was begun."""
        self._offset = 0
        self.problem: FS3Error | None = None
        """What is wrong with a file."""

    def step(self, budget: int) -> bool:
        """Copy about `budget` bytes. True: all is there, or there is a problem."""
        while self._into or self._places:
            if budget <= 0:
                return False
            if not self._into:
                budget -= self._begin_place(self._places.popleft())
            else:
                budget -= self._read(first_bytes(self._into[:_BUFFERS_MAX], budget))
            if self.problem is not None:
                return True
        return True

    def _begin_place(self, place: Place) -> int:
        """Bytes that were copied."""
        into = take_bytes(self._left, place.length)
        if place.file == INLINE:
            for view in into:
                view[:] = self._inline[: len(view)]
                self._inline = self._inline[len(view) :]
            return place.length
        fd = self._files.find(place.file)
        if fd is None:
            self._files.is_full = True
            self.problem = error(Code.BUSY, "this process has no descriptor left to take a file of the server: ulimit -n")
            return 0
        self._fd, self._into, self._offset = fd, into, place.offset
        return 0

    def _read(self, views: list[memoryview]) -> int:
        try:
            count = os.preadv(self._fd, views, self._offset)
        except OSError as failure:
            code = Code.DISK if failure.errno == errno.EIO else Code.INTERNAL
            self.problem = error(code, f"a file that the server has passed cannot be read: {failure.strerror}")
            return 0
        if not count:
            end = self._offset + sum(map(len, self._into))
            self.problem = error(Code.DISK, f"a file that the server has passed ends before byte {end}")
        self._offset += count
        take_bytes(self._into, count)
        return count

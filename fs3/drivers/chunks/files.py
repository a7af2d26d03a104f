"""The block files of a target: one file per class, block i at i × size, holes where nothing was written.

All calls here may block, but for `locate`; they run on the target's threads. Space of free blocks is given back to the file
system only when it runs low (`punch`), because a block that keeps its space is cheaper to write again.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from fs3.base.units import KIB, MIB
from fs3.drivers.chunks.sizes import SIZES, split_place
from fs3.runtime.durable_files import sync_directory

_ZEROS = memoryview(bytes(1 * MIB))
_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


class BlockFiles:
    """Open block files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fds: dict[int, int] = {}
        self._sync_fds: dict[int, int] = {}
        """Others of the same files: the system tells each that a write has failed, and only once."""
        self._prewrite_fds: dict[int, int] = {}
        """Likewise."""
        self.may_punch = _fallocate is not None
        """False once the file system said that it cannot."""
        self._names_synced = True

    def locate(self, place: int) -> tuple[int, int]:
        """(descriptor, byte offset) of a block; (-1, 0) for NOWHERE and INLINE. The first block of a class creates its file."""
        if place < 0:
            return -1, 0
        class_number, slot = split_place(place)
        fd = self._fds.get(class_number)
        if fd is None:
            fd = self._open(class_number)
        return fd, slot * SIZES[class_number]

    def _open(self, class_number: int) -> int:
        path = path_of(self.directory, class_number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._names_synced = False
        self._fds[class_number] = fd
        self._sync_fds[class_number] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._prewrite_fds[class_number] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return fd

    def sync_class(self, class_number: int) -> None:
        """Sync the file of a class beside those who sync what they write to it: a failure is told to either. Raises OSError."""
        os.fdatasync(self._sync_fds[class_number])

    def locate_prewritten(self, place: int) -> tuple[int, int]:
        """The same as `locate`, for those who write blocks ahead, once that has been asked."""
        class_number, slot = split_place(place)
        return self._prewrite_fds[class_number], slot * SIZES[class_number]

    def sync_prewritten(self, class_number: int) -> None:
        """Sync the file of a class for them: as `sync_class`. Raises OSError."""
        os.fdatasync(self._prewrite_fds[class_number])

    def sync_names(self) -> None:
        """Make the names of new files durable. Before an index commit that refers to them."""
        if not self._names_synced:
            sync_directory(self.directory)
            self._names_synced = True

    def zero(self, fd: int, offset: int, length: int) -> None:
        """Make a range read as zeros. Long ones become holes where the file system can do that."""
        if length >= len(_ZEROS) and self._hole(fd, offset, length):
            return
        while length:
            step = min(length, len(_ZEROS))
            write_all(fd, _ZEROS[:step], offset)
            offset += step
            length -= step

    def punch(self, place: int) -> bool:
        """Give the space of a free block back to the file system. False when it cannot be given back."""
        fd, offset = self.locate(place)
        return self._hole(fd, offset, SIZES[place >> 32])

    def _hole(self, fd: int, offset: int, length: int) -> bool:
        if _fallocate is None or not self.may_punch:
            return False
        done = bool(_fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0)
        if not done and ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS):
            self.may_punch = False
        return done

    def free_bytes(self) -> int:
        """Bytes the file system has left for us."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Close all files."""
        for fds in (self._fds, self._sync_fds, self._prewrite_fds):
            for fd in fds.values():
                os.close(fd)
            fds.clear()


def path_of(directory: Path, class_number: int) -> Path:
    """The file of a class."""
    return directory / f"blocks-{SIZES[class_number] // KIB}k"


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of it; the system may take several turns."""
    while len(data):
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written


def write_parts(fd: int, parts: list[memoryview], offset: int) -> None:
    """Write buffers one after the other."""
    written = os.pwritev(fd, parts, offset)
    if written == sum(map(len, parts)):
        return
    for part in parts:  # a full disk, or a signal, ends a write early
        if written < len(part):
            write_all(fd, part[written:], offset + written)
            written = len(part)
        offset += len(part)
        written -= len(part)


def read_all(fd: int, into: memoryview, offset: int) -> bool:
    """Fill `into`, waiting for the disk. False when the file ends before."""
    while len(into):
        found = os.preadv(fd, (into,), offset)
        if not found:
            return False
        into = into[found:]
        offset += found
    return True


def read_warm(fd: int, into: memoryview, offset: int) -> bool:
    """Fill `into` from the page cache. False when any of it is not there, or when the file system cannot tell.

    A first page that is absent is EAGAIN, a later one a short count; EOPNOTSUPP (tmpfs, some overlays) means "cannot tell".
    Any other error is left to the read that waits, which reports it.
    """
    try:
        return os.preadv(fd, (into,), offset, os.RWF_NOWAIT) == len(into)
    except OSError:
        return False

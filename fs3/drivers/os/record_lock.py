"""Who has a record lock (fcntl) on a file: only the kernel knows, and it tells other processes."""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""


def find_lock(fd: int, start: int = 0, length: int = 0) -> tuple[int, int] | None:
    """(pid, first byte) of another process' lock in a range; `length` 0: to the end. Of several it is any one.

    The pid is that of this process' pid namespace, at most 0 when the other one cannot be seen from there. Raises OSError.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _, found, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else (pid, found)

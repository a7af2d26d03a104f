"""Room that is kept on a disk, so that what must be written can be when the disk is full: a node's small files, and what makes
room in a store.

A file of a fixed size beside them. When there is no room for such a write, a piece of the reserve is given back to the file
system, the write is done, and the reserve is filled up again as soon as there is room. File systems that do not overwrite in
place may need more than they are given back; then the write fails as it would have without a reserve.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from fs3.base.limits import reserve_bytes, reserve_step_bytes
from fs3.runtime.durable_files import NO_ROOM, write_durably

log = logging.getLogger("fs3.storage")

reserve_disk_share = 16
"""No reserve is larger than this part of its disk."""


class SpaceReserve:
    """The reserve of one data directory."""

    def __init__(self, directory: Path, size_bytes: int = reserve_bytes) -> None:
        """`size_bytes`: how large it should be; of a small disk, a share only."""
        self._file = directory / "reserve"
        self._size_bytes = size_bytes
        with suppress(OSError):
            usage = os.statvfs(directory)
            self._size_bytes = min(size_bytes, usage.f_blocks * usage.f_frsize // reserve_disk_share)

    def fill(self) -> None:
        """Make the reserve as large as it should be, as far as there is room. Cheap when it is."""
        with suppress(OSError):
            if self._file.stat().st_size >= self._size_bytes:
                return
        try:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            size, disk = os.fstat(handle).st_size, os.fstatvfs(handle)
            # All the room there is, if that is less: file systems may give all or nothing of what they are asked for.
            wanted = min(self._size_bytes, size + disk.f_bavail * disk.f_frsize)
            if wanted > size:
                os.posix_fallocate(handle, 0, wanted)
        except OSError as problem:
            log.debug("the reserve %s is not filled: %s", self._file, problem)
        finally:
            os.close(handle)

    def write_durably(self, file: Path, content: bytes) -> None:
        """See `durable_files.write_durably`; the room is taken from the reserve when there is no other. Raises OSError."""
        was_short = False
        while True:
            try:
                write_durably(file, content)
                break
            except OSError as problem:
                if problem.errno not in NO_ROOM or not self.has_given_back():
                    raise
                was_short = True
        if was_short:
            log.warning("%s is full: %s was written with what is kept in reserve", file.parent, file.name)
            self.fill()

    def has_given_back(self) -> bool:
        """Give a piece back to the file system. False when there is nothing left."""
        try:
            size = self._file.stat().st_size
            if not size:
                return False
            os.truncate(self._file, max(0, size - reserve_step_bytes))
        except OSError:
            return False
        return True

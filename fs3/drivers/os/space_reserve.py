"""Room that a node keeps for itself on each of its disks, so that it can still write its own small files when the disk is full.

A file of a fixed size beside them. When there is no room for one of the small files, a piece of the reserve is given back to the
file system, the small file is written, and the reserve is filled up again as soon as there is room. File systems that do not
overwrite in place may need more than they are given back; then the write fails as it would have without a reserve.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fs3.base.limits import reserve_bytes, reserve_step_bytes
from fs3.runtime.durable_files import NO_ROOM, write_durably

log = logging.getLogger("fs3.storage")


class SpaceReserve:
    """The reserve of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "reserve"

    def fill(self) -> None:
        """Make the reserve as large as it should be, as far as there is room."""
        try:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return
        try:
            if os.fstat(handle).st_size < reserve_bytes:
                os.posix_fallocate(handle, 0, reserve_bytes)
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
                if problem.errno not in NO_ROOM or not self._has_shrunk():
                    raise
                was_short = True
        if was_short:
            log.warning("%s is full: %s was written with what is kept in reserve", file.parent, file.name)
            self.fill()

    def _has_shrunk(self) -> bool:
        """Give a piece back. False when there is nothing left."""
        try:
            size = self._file.stat().st_size
            if not size:
                return False
            os.truncate(self._file, max(0, size - reserve_step_bytes))
        except OSError:
            return False
        return True

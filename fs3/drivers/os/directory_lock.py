"""Who uses a data directory: one process alone, or several that agreed to share it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.craq.change_board import OwnerMark
from fs3.drivers.os.record_lock import find_lock

_held: dict[tuple[int, int], int] = {}
"""(device, inode) of directories locked by this process -> its pid. A record lock does not see a second opening by the same
process, and is not inherited by a forked child, which therefore must not trust the entries it finds here."""


class DirectoryLock:
    """Use of a directory, given up at the latest when the process ends.

    A record lock (not `flock`): a forked child that lives on does not keep the directory of its dead parent locked.
    """

    def __init__(self, directory: Path, name: str = "owner", *, shared: bool = False) -> None:
        """Take the lock: for this process alone, or `shared` with others that take it so.

        Raises FS3Error BUSY naming the directory and a process that has it; also when this very process has it already.
        """
        directory.mkdir(parents=True, exist_ok=True)
        status = directory.stat()
        self._key = (status.st_dev, status.st_ino)
        if _held.get(self._key) == os.getpid():
            # Opening the lock file a second time and closing it again would drop the lock that is held.
            raise error(Code.BUSY, f"already open in this process (pid {os.getpid()})", str(directory))
        self._fd = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as why:
            owner = self._find_owner()
            os.close(self._fd)
            raise error(Code.BUSY, f"in use by another process ({owner})", str(directory)) from why
        self.mark = OwnerMark(str(directory / name), f"{os.getpid()} {os.urandom(8).hex()}\n".encode())
        """What the file says from now on, until another process takes the lock; `content` is empty when it could not be
        written."""
        try:
            self._write_mark(shared)
        except BaseException:
            os.close(self._fd)
            raise
        _held[self._key] = os.getpid()

    def _write_mark(self, shared: bool) -> None:
        """For people, and for those who read the directory beside its owner and must notice another one
        (`core.craq.change_board`). Of several that share it, the file names the last to come, which may be gone; on a full disk,
        none."""
        try:
            if os.pwrite(self._fd, self.mark.content, 0) < len(self.mark.content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(self._fd, len(self.mark.content))
        except OSError:
            self.mark = OwnerMark(self.mark.path, b"")
            # The mark of an owner before must not stay.
            try:
                os.ftruncate(self._fd, 0)
            except OSError as why:
                if shared:
                    return
                raise error(Code.DISK, f"cannot be marked as this process's: {why.strerror}", self.mark.path) from why

    def _find_owner(self) -> str:
        found = find_lock(self._fd)
        if found is not None and found[0] > 0:
            return f"pid {found[0]}"
        return f"pid {os.pread(self._fd, 32, 0).decode('ascii', 'replace').partition(' ')[0].strip() or 'unknown'}"

    def release(self) -> None:
        """Give the directory up."""
        if _held.pop(self._key, None) is not None:
            os.close(self._fd)

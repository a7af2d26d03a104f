"""Shared memory and files of this host: `fs3.ports.host_files.HostFiles` of real processes.

Memory is a memfd, found through `/proc/PID/fd`: only processes that may look into the other one can open it there, so those of
its user and root; nothing is left behind when both are gone. Its size is sealed, so that reading it never fails.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from functools import partial

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.ports.host_files import SharedMemory

_CLOCKS = "/proc/self/ns/time"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class OpenFile:
    """`fs3.ports.host_files.HostFile`."""

    __slots__ = ("_fd", "_identity", "_path")

    def __init__(self, fd: int, path: str, status: os.stat_result) -> None:
        """`fd` is this object's to close; `status`: of it."""
        self._fd = fd
        self._path = path
        self._identity = status.st_dev, status.st_ino

    def read_at_once(self, view: memoryview, offset: int) -> bool:
        """See `HostFile.read_at_once`."""
        try:
            return os.preadv(self._fd, (view,), offset, os.RWF_NOWAIT) == len(view)
        except OSError:
            return False

    def still_says(self, content: bytes) -> bool:
        """See `HostFile.still_says`."""
        try:
            now = os.stat(self._path, follow_symlinks=False)
            return (now.st_dev, now.st_ino) == self._identity and os.pread(self._fd, len(content), 0) == content
        except OSError:
            return False

    def __del__(self) -> None:
        os.close(self._fd)


class OsHostFiles:
    """`fs3.ports.host_files.HostFiles`."""

    @property
    def clock_space(self) -> int:
        """See `HostFiles.clock_space`: the time namespace, which may shift the clock."""
        try:
            return os.stat(_CLOCKS).st_ino
        except OSError:
            return 0  # Linux before 5.6 has one clock

    def create_memory(self, nbytes: int) -> SharedMemory:
        """See `HostFiles.create_memory`."""
        fd = -1
        try:
            fd = os.memfd_create("fs3", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            shared = mmap.mmap(fd, nbytes)
        except (OSError, AttributeError) as why:
            if fd >= 0:
                os.close(fd)
            raise error(Code.UNSUPPORTED, f"no memory can be shared with other processes: {why}") from None
        return SharedMemory(memoryview(shared), f"/proc/{os.getpid()}/fd/{fd}", partial(os.close, fd))

    def open_memory(self, path: str, nbytes: int) -> memoryview:
        """See `HostFiles.open_memory`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # by now it may be a pipe of another process
        try:
            status = os.fstat(fd)
            # Without the seal its owner could make it shorter, and this process would end when it looks at what is missing.
            if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK or status.st_size != nbytes:
                raise OSError(errno.EINVAL, "this is no shared memory of that size", path)
            _check_owner(status, path)
            return memoryview(mmap.mmap(fd, nbytes, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def open_file(self, path: str) -> OpenFile:
        """See `HostFiles.open_file`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "this is no regular file", path)
            _check_owner(status, path)
        except BaseException:
            os.close(fd)
            raise
        return OpenFile(fd, path, status)


def _check_owner(status: os.stat_result, path: str) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EACCES, f"it belongs to user {status.st_uid}", path)

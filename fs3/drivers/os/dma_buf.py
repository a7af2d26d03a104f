"""What the kernel does for a dma-buf, memory of a device that is shared by a descriptor: its size, its mapping, and telling the
device when the processor touches it (linux/dma-buf.h). Nothing but system calls."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from typing import Protocol

SYNC_READ, SYNC_WRITE, SYNC_END = 1, 2, 4
"""Flags of `DmaBufKernel.sync`: what the processor does, and that it has done it."""

_IOCTL_SYNC = 0x40086200
"""_IOW('b', 0, struct dma_buf_sync), whose one member is a 64-bit number."""

sync_tries_max = 1000
"""After so many answers that it should be asked again a call of `sync` fails."""


class DmaBufKernel(Protocol):
    """The system calls. Each raises OSError."""

    def sync(self, fd: int, flags: int) -> None:
        """Begin or end accesses by the processor: begun, they find what devices have written, for which it waits; ended, devices
        find what it wrote. ENOTTY when the descriptor is of anything else than a dma-buf."""
        ...

    def size(self, fd: int) -> int:
        """In bytes."""
        ...

    def map(self, fd: int, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        """Its bytes in memory, shared; `offset` is one that a mapping can begin at. Fails where the exporter, the driver that the
        memory is of, maps none of it."""
        ...


class LinuxDmaBufs:
    """`DmaBufKernel` of Linux."""

    def sync(self, fd: int, flags: int) -> None:
        """See `DmaBufKernel.sync`."""
        for _ in range(sync_tries_max):
            try:
                fcntl.ioctl(fd, _IOCTL_SYNC, struct.pack("=Q", flags))
            except OSError as problem:
                if problem.errno not in (errno.EINTR, errno.EAGAIN):
                    raise
            else:
                return
        raise OSError(errno.EAGAIN, f"asked {sync_tries_max} times")

    def size(self, fd: int) -> int:
        """See `DmaBufKernel.size`."""
        return os.lseek(fd, 0, os.SEEK_END)

    def map(self, fd: int, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        """See `DmaBufKernel.map`."""
        allowed = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        return mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=allowed, offset=offset)

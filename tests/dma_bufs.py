"""Dma-bufs: real ones where a driver makes them, and a kernel that has them in memfds, whose devices see nothing of what the
kernel was not told of."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fs3.drivers.os.dma_buf import SYNC_END, SYNC_READ, SYNC_WRITE, LinuxDmaBufs

READ, WRITE, END = SYNC_READ, SYNC_WRITE, SYNC_END

_UDMABUF = Path("/dev/udmabuf")
_HEAP = Path("/dev/dma_heap/system")
_SIZE_SEALS = fcntl.F_SEAL_SHRINK


def real_dma_buf_problem() -> str:
    """Why there is no real dma-buf on this machine; "" when one can be made."""
    try:
        os.close(make_real_dma_buf(mmap.PAGESIZE))
    except OSError as problem:
        return str(problem)
    return ""


def make_real_dma_buf(size: int, *, readonly: bool = False) -> int:
    """A descriptor of one of whole pages, zeros, by whatever driver makes one here. Raises OSError."""
    cards = sorted(Path("/sys/devices").glob("*/vgem/drm/card[0-9]*"))
    if cards:
        return _by_vgem(Path("/dev/dri") / cards[0].name, size, readonly)
    if _UDMABUF.exists() and not readonly:
        return _by_udmabuf(size)
    if _HEAP.exists():
        return _by_heap(size, readonly)
    raise OSError(errno.ENODEV, f"neither {_UDMABUF} nor {_HEAP} nor the module vgem, which make dma-bufs")


def _by_udmabuf(size: int) -> int:
    with ExitStack() as stack:
        memory = os.memfd_create("pages", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, memory)
        os.ftruncate(memory, size)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SIZE_SEALS)
        device = os.open(_UDMABUF, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, device)
        return fcntl.ioctl(device, 0x40187542, struct.pack("=IIQQ", memory, 1, 0, size))  # UDMABUF_CREATE, to be closed on exec


def _by_heap(size: int, readonly: bool) -> int:
    device = os.open(_HEAP, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.O_CLOEXEC | (os.O_RDONLY if readonly else os.O_RDWR)
        reply = fcntl.ioctl(device, 0xC0184800, struct.pack("=QIIQ", size, 0, mode, 0))  # DMA_HEAP_IOCTL_ALLOC
        return int(struct.unpack("=QIIQ", reply)[1])
    finally:
        os.close(device)


def _by_vgem(card: Path, size: int, readonly: bool) -> int:
    """Of a graphics device that is none: an image with a page in each line, which is exported."""
    device = os.open(card, os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = struct.pack("=IIIIIIQ", -(-size // mmap.PAGESIZE), mmap.PAGESIZE // 4, 32, 0, 0, 0, 0)
        handle = struct.unpack("=IIIIIIQ", fcntl.ioctl(device, 0xC02064B2, wanted))[4]  # DRM_IOCTL_MODE_CREATE_DUMB
        mode = os.O_CLOEXEC | (os.O_RDONLY if readonly else os.O_RDWR)
        reply = fcntl.ioctl(device, 0xC00C642D, struct.pack("=IIi", handle, mode, 0))  # DRM_IOCTL_PRIME_HANDLE_TO_FD
        return int(struct.unpack("=IIi", reply)[2])
    finally:
        os.close(device)


class RealDmaBufs(LinuxDmaBufs):
    """Those of this machine's kernel, with what tests do as a device does."""

    def make(self, data: bytes, *, readonly: bool = False) -> int:
        """A descriptor of one that begins with these bytes."""
        fd = make_real_dma_buf(-(-len(data) // mmap.PAGESIZE) * mmap.PAGESIZE, readonly=readonly)
        if readonly:
            assert not any(data), "it has zeros, and cannot be changed"
        else:
            self.store(fd, data)
        return fd

    def store(self, fd: int, data: bytes) -> None:
        """Change its first bytes."""
        self.sync(fd, READ | WRITE)
        with self.map(fd, 0, len(data), writable=True) as memory:
            memory[:] = data
        self.sync(fd, READ | WRITE | END)

    def load(self, fd: int, length: int) -> bytes:
        """Its first bytes."""
        self.sync(fd, READ)
        with self.map(fd, 0, length, writable=False) as memory:
            found = memory[:]
        self.sync(fd, READ | END)
        return found


@dataclass
class _FakeDmaBuf:
    fd: int
    """The memory of mappings."""
    device: bytearray
    accesses: int = 0
    """Begun and not ended."""


class FakeDmaBufs:
    """`fs3.drivers.os.dma_buf.DmaBufKernel` without any. What devices have and what a mapping shows are two things: the first is
    copied to the second when an access begins, and back when one ends that wrote."""

    def __init__(self) -> None:
        self.maps = True
        self.failing: set[int] = set()
        """Flags of `sync` that are refused."""
        self.syncs: list[int] = []
        self._made: dict[tuple[int, int], _FakeDmaBuf] = {}

    def close(self) -> None:
        """They are gone, and their descriptors of nothing."""
        for made in self._made.values():
            os.close(made.fd)
        self._made.clear()

    @property
    def accesses(self) -> int:
        """Begun and not ended, of all."""
        return sum(made.accesses for made in self._made.values())

    def make(self, data: bytes, *, readonly: bool = False) -> int:
        """A descriptor of one whose device has these bytes."""
        kept = os.memfd_create("dma-buf", os.MFD_CLOEXEC)
        os.ftruncate(kept, len(data))
        self._made[_identity(kept)] = _FakeDmaBuf(kept, bytearray(data))
        fd = os.dup(kept)
        return _reopened(fd) if readonly else fd

    def store(self, fd: int, data: bytes) -> None:
        """Its device changes the first bytes."""
        self._find(fd).device[: len(data)] = data

    def load(self, fd: int, length: int) -> bytes:
        """What its device has."""
        return bytes(self._find(fd).device[:length])

    def _find(self, fd: int) -> _FakeDmaBuf:
        found = self._made.get(_identity(fd))
        if found is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return found

    def sync(self, fd: int, flags: int) -> None:
        """See `DmaBufKernel.sync`."""
        found = self._find(fd)
        if flags in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.syncs.append(flags)
        if flags & END:
            found.accesses -= 1
            if flags & WRITE:
                found.device[:] = os.pread(found.fd, len(found.device), 0)
        else:
            if not found.accesses:
                os.pwrite(found.fd, found.device, 0)
            found.accesses += 1

    def size(self, fd: int) -> int:
        """See `DmaBufKernel.size`."""
        return len(self._find(fd).device)

    def map(self, fd: int, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        """See `DmaBufKernel.map`."""
        if not self.maps:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return LinuxDmaBufs().map(fd, offset, length, writable=writable)


def _reopened(fd: int) -> int:
    """Its file for reading only, in its place."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino

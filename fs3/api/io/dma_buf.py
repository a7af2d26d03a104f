"""Memory of a device that is handed over as the descriptor of a dma-buf.

It is mapped, so bytes are received into the device's memory and sent from it as they are with any other. Around that the kernel
is told that the processor touches it, which waits for what the device has begun, and makes visible to each what the other wrote.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from fs3.base.errors import FS3Error, InvalidType, error
from fs3.base.status import Code
from fs3.drivers.os.dma_buf import SYNC_END, SYNC_READ, SYNC_WRITE, DmaBufKernel, LinuxDmaBufs

_kernel: DmaBufKernel = LinuxDmaBufs()


class DmaBuf:
    """A part of a dma-buf, as a buffer of calls that read and write; `buf[begin:end]` is a part of the part.

    The descriptor that it was made of may be closed. A forked child has the same memory.
    """

    __slots__ = ("_begin", "_shared", "nbytes", "readonly")

    def __init__(self, fd: int, nbytes: int | None = None, offset: int = 0) -> None:
        """`nbytes` of the dma-buf from `offset` on; None: all that follow.

        Raises TypeError for what is no number; InvalidArgument for a descriptor that is not open or of no dma-buf, and for a
        part that is empty or not within it; FS3Error UNSUPPORTED (EOPNOTSUPP) when it cannot be mapped.
        """
        count = None if nbytes is None else _integer(nbytes, "nbytes")
        mapping = _Mapping(_integer(fd, "fd"), count, _integer(offset, "offset"))
        self._shared = _Shared(mapping)
        self._begin = 0
        self.nbytes: int = mapping.nbytes
        """How many bytes it has."""
        self.readonly: bool = mapping.readonly
        """The descriptor was opened for reading only."""

    def __repr__(self) -> str:
        return f"<DmaBuf of {self.nbytes} bytes{'' if self._shared.mapping else ', closed'}>"

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, part: slice) -> DmaBuf:
        if not isinstance(part, slice):
            raise TypeError(f"a part of a dma-buf is told by a slice, not {type(part).__name__}")
        begin, end, step = part.indices(self.nbytes)
        if step != 1:
            raise ValueError(f"a part of a dma-buf has step 1, not {step}")
        found = object.__new__(DmaBuf)
        found._shared = self._shared
        found._begin = self._begin + begin
        found.nbytes = max(0, end - begin)
        found.readonly = self.readonly
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def map(self) -> MappedMemory:
        """Its bytes in memory, which stay there as long as they are referred to. Raises ValueError after `close`, whose message
        goes on from the name of the argument."""
        mapping = self._shared.mapping
        if mapping is None:
            raise ValueError("is a dma-buf that was closed")
        return MappedMemory(mapping, mapping.view(self._begin, self._begin + self.nbytes))

    def close(self) -> None:
        """No call takes it, or a part of it, any more. It is unmapped as soon as no call uses it and it is not registered."""
        self._shared.mapping = None


class _Shared:
    """What a `DmaBuf` and its parts have until one of them is closed."""

    __slots__ = ("mapping",)

    def __init__(self, mapping: _Mapping) -> None:
        self.mapping: _Mapping | None = mapping


class _Mapping:
    """Memory of a dma-buf, for as long as it is referred to: an access that was begun is ended by the same descriptor."""

    def __init__(self, fd: int, nbytes: int | None, offset: int) -> None:
        try:
            # A descriptor of its own: the caller's may be closed, and then be another file's.
            self._fd = os.dup(fd)
        except OSError as problem:
            raise error(Code.INVALID, f"fd {fd} is no open file: {problem.strerror}") from None
        closing = weakref.finalize(self, os.close, self._fd)
        closing.atexit = False
        try:
            self.nbytes, self.readonly, self._skip, self._memory = _map(self._fd, fd, nbytes, offset)
        except BaseException:
            closing()  # the error may refer to this object for long
            raise

    def view(self, begin: int, end: int) -> memoryview:
        """Some of its bytes."""
        return memoryview(self._memory)[self._skip + begin : self._skip + end]

    def sync(self, flags: int) -> None:
        """Tell the kernel of accesses by the processor. Raises FS3Error DISK."""
        try:
            _kernel.sync(self._fd, flags)
        except OSError as problem:
            step = "ended" if flags & SYNC_END else "begun"
            raise error(Code.DISK, f"access to a dma-buf cannot be {step}: {problem.strerror}") from problem


def _map(fd: int, name: int, nbytes: int | None, offset: int) -> tuple[int, bool, int, mmap.mmap]:
    """How many bytes there are, whether they are read-only, where they begin in the mapping, and the mapping. `name`: what the
    caller's descriptor was, for errors."""
    try:
        # Begun and ended: what is no dma-buf refuses it, whatever else it is.
        _kernel.sync(fd, SYNC_READ)
        _kernel.sync(fd, SYNC_READ | SYNC_END)
        size = _kernel.size(fd)
    except OSError as problem:
        raise _not_a_dma_buf(name, problem) from None
    if not 0 <= offset < size:
        raise error(Code.INVALID, f"offset {offset}: the dma-buf has {size} bytes")
    count = size - offset if nbytes is None else nbytes
    if not 1 <= count <= size - offset:
        raise error(Code.INVALID, f"nbytes {count}: 1 to {size - offset} of the dma-buf's {size} bytes follow offset {offset}")
    readonly = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    skip = offset % mmap.ALLOCATIONGRANULARITY
    try:
        memory = _kernel.map(fd, offset - skip, skip + count, writable=not readonly)
    except OSError as problem:
        raise error(
            Code.UNSUPPORTED,
            f"the driver that exports this dma-buf maps it into no process ({problem.strerror}): hand over the array that it"
            " is of (CUDA array interface), which is staged in host memory, or copy its bytes to host memory",
        ) from problem
    return count, readonly, skip, memory


def _not_a_dma_buf(name: int, problem: OSError) -> FS3Error:
    what = f"fd {name} is of no dma-buf ({problem.strerror})"
    if problem.errno == errno.ENOTTY:
        what += ": a file, or a memfd, is handed over as mmap.mmap of it"
    return error(Code.INVALID, what)


def _integer(value: Any, argument: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{argument} is not a number but {type(value).__name__}", None)
    if value < 0:
        raise error(Code.INVALID, f"{argument} {value} is negative")
    return value


class MappedMemory:
    """Bytes of a dma-buf in memory. They have a length and beginnings as a flat memoryview has."""

    __slots__ = ("mapping", "readonly", "view")

    def __init__(self, mapping: _Mapping, view: memoryview) -> None:
        self.mapping = mapping
        self.view = view
        self.readonly = view.readonly

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, part: slice) -> MappedMemory:
        return MappedMemory(self.mapping, self.view[part])


@contextmanager
def accessing(memories: Iterable[MappedMemory], *, writable: bool) -> Iterator[None]:
    """The processor reads from, or is `writable` and also writes to, memory of dma-bufs within the block.

    Raises FS3Error DISK when the kernel cannot begin it, or end it: then the device may not see all that was written.
    """
    # One that writes may leave a part of a line of the cache as it was, so it has to have it first.
    flags = SYNC_READ | SYNC_WRITE if writable else SYNC_READ
    with ExitStack() as begun:
        for mapping in dict.fromkeys(memory.mapping for memory in memories):
            mapping.sync(flags)
            begun.callback(mapping.sync, flags | SYNC_END)
        yield

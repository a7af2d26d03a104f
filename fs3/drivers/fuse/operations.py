"""What a file system does, a method for each kind of request.

A method answers at once, or by a callback (`Later`), or is a coroutine function: then others go on meanwhile. What it raises as
OSError is answered with its errno. Those that are not overridden answer ENOSYS, after which the kernel does not ask again or does
without. Names are bytes. `request.node` is the inode, or the directory, that it is about.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar

from fs3.drivers.fuse.protocol import ROOT_NODE, Opcode
from fs3.drivers.fuse.records import (
    AttributesReply,
    Changes,
    Created,
    DirectoryEntry,
    InitOptions,
    KernelLock,
    KernelRequest,
    LookupReply,
    Negotiated,
    Opened,
    Space,
)

T = TypeVar("T")
OnTold = Callable[[Any, BaseException | None], None]
"""What came of a request: its answer, or why there is none."""


class Later(Generic[T]):
    """An answer that is told later, once, from a callback: that costs no task. It is not cancelled."""

    __slots__ = ("_tell",)

    def __init__(self) -> None:
        self._tell: OnTold | None = None

    def on_told(self, tell: OnTold) -> None:
        """The session is called back: see `OnTold`."""
        self._tell = tell

    def finish(self, answer: T) -> None:
        """This is the answer. Not before the method has returned."""
        assert self._tell is not None, "it is told before the session waits for it"
        self._tell(answer, None)

    def fail(self, why: BaseException) -> None:
        """There is none. Not before the method has returned."""
        assert self._tell is not None, "it is told before the session waits for it"
        self._tell(None, why)


Answer: TypeAlias = T | Awaitable[T] | Later[T]

INTERRUPTIBLE = frozenset({Opcode.SETLKW})
"""Requests that wait for what may never come: a signal ends them with EINTR. Programs do not expect it of others on files."""


def _missing() -> OSError:
    return OSError(errno.ENOSYS, "not implemented")


class Operations:
    """The base of file systems."""

    init_options = InitOptions()
    """What it wants of the kernel."""
    root_node = ROOT_NODE
    """What the kernel's root is here: requests about it come as requests about this."""

    def on_start(self, negotiated: Negotiated) -> None:
        """The mount begins."""

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        """(inode, look-ups that the kernel has forgotten) of some. Never answered."""

    # --- names ---

    def lookup(self, request: KernelRequest, name: bytes) -> Answer[LookupReply]:
        """What has a name in a directory. ENOENT, or the entry of node 0."""
        raise _missing()

    def readlink(self, request: KernelRequest) -> Answer[bytes]:
        """What a symlink says."""
        raise _missing()

    def symlink(self, request: KernelRequest, name: bytes, target: bytes) -> Answer[LookupReply]:
        """Make one."""
        raise _missing()

    def mknod(self, request: KernelRequest, name: bytes, mode: int, rdev: int, umask: int) -> Answer[LookupReply]:
        """Make a file of any type but directory and symlink; the umask is still to be taken off `mode`, here as below."""
        raise _missing()

    def mkdir(self, request: KernelRequest, name: bytes, mode: int, umask: int) -> Answer[LookupReply]:
        """Make a directory."""
        raise _missing()

    def unlink(self, request: KernelRequest, name: bytes) -> Answer[None]:
        """Take a name away that is no directory's."""
        raise _missing()

    def rmdir(self, request: KernelRequest, name: bytes) -> Answer[None]:
        """Remove an empty directory."""
        raise _missing()

    def rename(self, request: KernelRequest, name: bytes, directory: int, target: bytes, flags: int) -> Answer[None]:
        """Move a name; flags of renameat2(2)."""
        raise _missing()

    def link(self, request: KernelRequest, node: int, name: bytes) -> Answer[LookupReply]:
        """Give an inode another name, in the directory `request.node`."""
        raise _missing()

    # --- attributes ---

    def getattr(self, request: KernelRequest, handle: int | None) -> Answer[AttributesReply]:
        """Attributes of an inode."""
        raise _missing()

    def setattr(self, request: KernelRequest, changes: Changes) -> Answer[AttributesReply]:
        """Change some; the answer has all."""
        raise _missing()

    def access(self, request: KernelRequest, mask: int) -> Answer[None]:
        """Whether the caller may; EACCES."""
        raise _missing()

    def statfs(self, request: KernelRequest) -> Answer[Space]:
        """Room."""
        raise _missing()

    def getxattr(self, request: KernelRequest, name: bytes) -> Answer[bytes]:
        """The value of an extended attribute. ENODATA."""
        raise _missing()

    def setxattr(self, request: KernelRequest, name: bytes, value: bytes, flags: int) -> Answer[None]:
        """Set one; flags of setxattr(2)."""
        raise _missing()

    def listxattr(self, request: KernelRequest) -> Answer[list[bytes]]:
        """Their names."""
        raise _missing()

    def removexattr(self, request: KernelRequest, name: bytes) -> Answer[None]:
        """Remove one. ENODATA."""
        raise _missing()

    # --- files ---

    def create(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Answer[Created]:
        """Make a file and open it, or open the one that is there; flags of open(2)."""
        raise _missing()

    def tmpfile(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Answer[Created]:
        """Make a file without a name in the directory, and open it; `name` means nothing."""
        raise _missing()

    def open(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Answer[Opened]:
        """Open a file."""
        raise _missing()

    def read(self, request: KernelRequest, handle: int, offset: int, size: int) -> Answer[bytes | bytearray | memoryview]:
        """Bytes; fewer only at the end of the file."""
        raise _missing()

    def write(
        self, request: KernelRequest, handle: int, offset: int, data: memoryview, flags: int, drops_set_ids: bool
    ) -> Answer[int]:
        """Take bytes; how many. They are where they arrived, and may be looked at until this is answered."""
        raise _missing()

    def flush(self, request: KernelRequest, handle: int, owner: int) -> Answer[None]:
        """A descriptor of the handle was closed. What fails here is what close(2) fails with."""
        raise _missing()

    def release(self, request: KernelRequest, handle: int, owner: int | None) -> Answer[None]:
        """The last descriptor of the handle is gone."""
        raise _missing()

    def fsync(self, request: KernelRequest, handle: int, data_only: bool) -> Answer[None]:
        """What was written is durable, and seen by all, when this is answered."""
        raise _missing()

    def fallocate(self, request: KernelRequest, handle: int, offset: int, length: int, mode: int) -> Answer[None]:
        """Keep room, or give some back; mode of fallocate(2)."""
        raise _missing()

    def lseek(self, request: KernelRequest, handle: int, offset: int, whence: int) -> Answer[int]:
        """SEEK_DATA and SEEK_HOLE."""
        raise _missing()

    def copy_file_range(
        self, request: KernelRequest, handle: int, offset: int, target: int, target_handle: int, target_offset: int, length: int
    ) -> Answer[int]:
        """Bytes of one open file into another; how many."""
        raise _missing()

    def getlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> Answer[KernelLock]:
        """A lock that is in the way of this one; type F_UNLCK: none is."""
        raise _missing()

    def setlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> Answer[None]:
        """Take or give back a lock, at once or EAGAIN. `whole`: it is one of flock(2)."""
        raise _missing()

    def setlkw(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> Answer[None]:
        """The same, waiting for it; cancelled by a signal."""
        raise _missing()

    # --- directories ---

    def opendir(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Answer[Opened]:
        """Open a directory."""
        raise _missing()

    def readdir(self, request: KernelRequest, handle: int, offset: int, plus: bool) -> Answer[Iterable[DirectoryEntry]]:
        """Entries from an offset on, which is 0 or one that an entry had; at least those that fit into 32 KiB where there are so
        many. `plus`: with what look-ups of them would answer; the kernel counts each as one."""
        raise _missing()

    def releasedir(self, request: KernelRequest, handle: int, owner: int | None) -> Answer[None]:
        """Closed."""
        raise _missing()

    def fsyncdir(self, request: KernelRequest, handle: int, data_only: bool) -> Answer[None]:
        """Names are durable."""
        raise _missing()

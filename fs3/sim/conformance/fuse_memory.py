"""A file system in memory on the FUSE driver alone: what the driver's own conformance is tested with."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from fs3.base.limits import name_bytes_max
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.protocol import ROOT_NODE, OpenFlag
from fs3.drivers.fuse.records import (
    TIME_IS_NOW,
    Attributes,
    AttributesReply,
    Changes,
    Created,
    DirectoryEntry,
    KernelRequest,
    LookupReply,
    Opened,
    Space,
)

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2


@dataclass(slots=True)
class MemoryInode:
    """An inode."""

    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    rdev: int = 0
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    names: dict[bytes, int] = field(default_factory=dict)
    above: int = ROOT_NODE
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def _refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class MemoryOperations(Operations):
    """Everything answers at once; a write is answered in a task, so that both ways are tested."""

    def __init__(self) -> None:
        self.nodes = {ROOT_NODE: MemoryInode(ROOT_NODE, stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 2)}
        self._next = ROOT_NODE + 1
        self._moment = 1_700_000_000_000_000_000
        self.forgotten: list[tuple[int, int]] = []

    def _now(self) -> int:
        self._moment += 1_000_000
        return self._moment

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        self.forgotten += nodes

    # --- names ---

    def _node(self, ino: int) -> MemoryInode:
        found = self.nodes.get(ino)
        if found is None:
            raise _refuse(errno.ESTALE)
        return found

    def _attributes(self, node: MemoryInode) -> Attributes:
        size = len(node.target) if stat.S_ISLNK(node.mode) else len(node.data)
        times = (node.atime_ns, node.mtime_ns, node.ctime_ns)
        return Attributes(node.ino, node.mode, node.nlink, node.uid, node.gid, size, -(-size // 512), *times, rdev=node.rdev)

    def _entry(self, node: MemoryInode) -> LookupReply:
        return LookupReply(node.ino, self._attributes(node))

    def _make(self, request: KernelRequest, name: bytes, mode: int, *, rdev: int = 0, target: bytes = b"") -> MemoryInode:
        directory = self._node(request.node)
        if name in directory.names:
            raise _refuse(errno.EEXIST)
        now = self._now()
        node = MemoryInode(self._next, mode, request.uid, request.gid, 1, rdev, target=target, above=directory.ino)
        node.atime_ns = node.mtime_ns = node.ctime_ns = directory.mtime_ns = directory.ctime_ns = now
        self._next += 1
        self.nodes[node.ino] = node
        directory.names[name] = node.ino
        return node

    def lookup(self, request: KernelRequest, name: bytes) -> LookupReply:
        if len(name) > name_bytes_max:
            raise _refuse(errno.ENAMETOOLONG)
        ino = self._node(request.node).names.get(name)
        if ino is None:
            raise _refuse(errno.ENOENT)
        return self._entry(self._node(ino))

    def readlink(self, request: KernelRequest) -> bytes:
        return self._node(request.node).target

    def symlink(self, request: KernelRequest, name: bytes, target: bytes) -> LookupReply:
        return self._entry(self._make(request, name, stat.S_IFLNK | 0o777, target=target))

    def mknod(self, request: KernelRequest, name: bytes, mode: int, umask: int, rdev: int) -> LookupReply:
        return self._entry(self._make(request, name, mode & ~umask, rdev=rdev))

    def mkdir(self, request: KernelRequest, name: bytes, mode: int, umask: int) -> LookupReply:
        node = self._make(request, name, stat.S_IFDIR | mode & ~umask)
        node.nlink = 2
        self._node(request.node).nlink += 1
        return self._entry(node)

    def unlink(self, request: KernelRequest, name: bytes) -> None:
        directory = self._node(request.node)
        self._drop(self._node(directory.names.pop(name)))

    def _drop(self, node: MemoryInode) -> None:
        # It stays in memory: a handle may be open, and nothing here counts them.
        node.nlink -= 1
        node.ctime_ns = self._now()

    def rmdir(self, request: KernelRequest, name: bytes) -> None:
        directory = self._node(request.node)
        if self._node(directory.names[name]).names:
            raise _refuse(errno.ENOTEMPTY)
        self.nodes[directory.names.pop(name)].nlink = 0
        directory.nlink -= 1

    def rename(self, request: KernelRequest, name: bytes, directory: int, target: bytes, flags: int) -> None:
        source, sink = self._node(request.node), self._node(directory)
        moved = source.names.get(name)
        there = sink.names.get(target)
        if moved is None:
            raise _refuse(errno.ENOENT)
        if flags == _RENAME_NOREPLACE and there is not None:
            raise _refuse(errno.EEXIST)
        if flags == _RENAME_EXCHANGE:
            if there is None:
                raise _refuse(errno.ENOENT)
            source.names[name], sink.names[target] = there, moved
            return
        if there == moved:
            return
        if there is not None:
            if self._node(there).names:
                raise _refuse(errno.ENOTEMPTY)
            self._drop(self._node(there))
        del source.names[name]
        sink.names[target] = moved
        node = self._node(moved)
        node.ctime_ns = self._now()
        if stat.S_ISDIR(node.mode):
            node.above = sink.ino
            source.nlink -= 1
            sink.nlink += 1

    def link(self, request: KernelRequest, node: int, name: bytes) -> LookupReply:
        directory, found = self._node(request.node), self._node(node)
        if name in directory.names:
            raise _refuse(errno.EEXIST)
        directory.names[name] = node
        found.nlink += 1
        return self._entry(found)

    # --- attributes ---

    def getattr(self, request: KernelRequest, handle: int | None) -> AttributesReply:
        return AttributesReply(self._attributes(self._node(request.node)))

    def setattr(self, request: KernelRequest, changes: Changes) -> AttributesReply:
        node = self._node(request.node)
        now = self._now()
        if changes.mode is not None:
            node.mode = stat.S_IFMT(node.mode) | changes.mode
        node.uid = node.uid if changes.uid is None else changes.uid
        node.gid = node.gid if changes.gid is None else changes.gid
        if changes.size is not None:
            del node.data[changes.size :]
            node.data.extend(bytes(changes.size - len(node.data)))
            node.mtime_ns = now
        if changes.atime_ns is not None:
            node.atime_ns = now if changes.atime_ns == TIME_IS_NOW else changes.atime_ns
        if changes.mtime_ns is not None:
            node.mtime_ns = now if changes.mtime_ns == TIME_IS_NOW else changes.mtime_ns
        node.ctime_ns = now
        return AttributesReply(self._attributes(node))

    def statfs(self, request: KernelRequest) -> Space:
        return Space(1000, 900, len(self.nodes), 1 << 20, 4096, 255)

    def getxattr(self, request: KernelRequest, name: bytes) -> bytes:
        value = self._node(request.node).xattrs.get(name)
        if value is None:
            raise _refuse(errno.ENODATA)
        return value

    def setxattr(self, request: KernelRequest, name: bytes, value: bytes, flags: int) -> None:
        self._node(request.node).xattrs[name] = value

    def listxattr(self, request: KernelRequest) -> list[bytes]:
        return list(self._node(request.node).xattrs)

    def removexattr(self, request: KernelRequest, name: bytes) -> None:
        if self._node(request.node).xattrs.pop(name, None) is None:
            raise _refuse(errno.ENODATA)

    # --- files ---

    def create(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Created:
        node = self._make(request, name, stat.S_IFREG | mode & ~umask)
        return Created(self._entry(node), Opened(node.ino))

    def open(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Opened:
        node = self._node(request.node)
        if flags & os.O_TRUNC:
            node.data.clear()
        return Opened(node.ino, OpenFlag.KEEP_CACHE)

    def read(self, request: KernelRequest, handle: int, offset: int, size: int) -> bytes:
        return bytes(self._node(handle).data[offset : offset + size])

    async def write(
        self, request: KernelRequest, handle: int, offset: int, data: memoryview, flags: int, drops_set_ids: bool
    ) -> int:
        node = self._node(handle)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.mtime_ns = node.ctime_ns = self._now()
        return len(data)

    def flush(self, request: KernelRequest, handle: int, owner: int) -> None:
        pass

    def release(self, request: KernelRequest, handle: int, owner: int | None) -> None:
        pass

    def fsync(self, request: KernelRequest, handle: int, data_only: bool) -> None:
        pass

    def lseek(self, request: KernelRequest, handle: int, offset: int, whence: int) -> int:
        size = len(self._node(handle).data)
        if offset >= size:
            raise _refuse(errno.ENXIO)
        return offset if whence == os.SEEK_DATA else size

    # --- directories ---

    def opendir(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Opened:
        return Opened(request.node)

    def readdir(self, request: KernelRequest, handle: int, offset: int, plus: bool) -> list[DirectoryEntry]:
        directory = self._node(handle)
        found = [(b".", directory.ino), (b"..", directory.above), *sorted(directory.names.items())]
        listed = []
        for number, (name, ino) in enumerate(found[offset:], offset + 1):
            node = self._node(ino)
            entry = self._entry(node) if number > 2 else None
            listed.append(DirectoryEntry(name, ino, stat.S_IFMT(node.mode), number, entry))
        return listed

    def releasedir(self, request: KernelRequest, handle: int, owner: int | None) -> None:
        pass

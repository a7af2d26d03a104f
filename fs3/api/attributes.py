"""Attributes of what has a name, and files that are little else: fifos, sockets and devices. A part of the native client."""

from __future__ import annotations

import stat
from typing import Final

from fs3.api.access_times import AccessTimes
from fs3.api.file import File
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.inode import DEVICES, MODE_BITS, Inode, InodeType, Layout
from fs3.model.namespace import PathRef
from fs3.model.requests import Mknod, SetAttributes

_TYPE_BITS: Final = 0o170000
_TYPES: Final = {
    0: InodeType.FILE,
    stat.S_IFREG: InodeType.FILE,
    stat.S_IFDIR: InodeType.DIRECTORY,
    stat.S_IFIFO: InodeType.FIFO,
    stat.S_IFSOCK: InodeType.SOCKET,
    stat.S_IFBLK: InodeType.BLOCK_DEVICE,
    stat.S_IFCHR: InodeType.CHARACTER_DEVICE,
}


class AttributeCalls:
    """What a client can be asked about attributes."""

    meta: MetaClient
    _umask: int
    _sessions: dict[File, None]
    _accesses: AccessTimes | None

    async def mknod(self, path: str | PathRef, mode: int = 0o600, device: int = 0) -> Inode:
        """Create a fifo, a socket, a device, or an empty regular file, as `os.mknod`: `mode` has its type (`stat.S_IFIFO`…; none:
        a regular file) and, less the umask, its permissions; `device` is what `os.makedev` says. Exists. NoPermission for devices
        (unless root asks) and for directories. Special files have names and attributes; to open one is UNSUPPORTED."""
        where = PathRef.of(path)
        kind = _TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            raise error(Code.INVALID, f"mode {mode:#o} is of no type that can be made", where.path or None)
        number = device if kind in DEVICES else 0
        return await self.meta.ask(Mknod(where, kind, mode & MODE_BITS, number, self._umask))

    async def chmod(self, path: str | PathRef, mode: int) -> Inode:
        """Set the permission bits. The type that an `st_mode` brings along is left out, as by `os.chmod`."""
        return await self.set_attributes(SetAttributes(PathRef.of(path), mode=mode & ~_TYPE_BITS))

    async def chown(self, path: str | PathRef, uid: int | None = None, gid: int | None = None) -> Inode:
        """Set owner and group; None leaves one as it is."""
        return await self.set_attributes(SetAttributes(PathRef.of(path), uid=uid, gid=gid))

    async def utimes(self, path: str | PathRef, atime_ns: int | None = None, mtime_ns: int | None = None) -> Inode:
        """Set times, nanoseconds since the epoch; None leaves one as it is, `TIME_NOW` is the service's clock.

        A file that this client has open for writing keeps the mtime that was set after its last write when it is closed or
        synced."""
        return await self.set_attributes(SetAttributes(PathRef.of(path), atime_ns=atime_ns, mtime_ns=mtime_ns))

    async def set_layout(self, path: str | PathRef, layout: Layout) -> Inode:
        """What files created below a directory get from now on; fields of 0 are inherited."""
        return await self.set_attributes(SetAttributes(PathRef.of(path), layout=layout))

    async def set_attributes(self, request: SetAttributes) -> Inode:
        """Change any of these at once. A caller that asks `meta` for it instead finds the mtime replaced when a file that is open
        is closed."""
        inode = await self.meta.ask(request)
        if request.mtime_ns is not None:
            for file in self._sessions:
                if file.inode.id == inode.id:
                    file.on_mtime_set()
        return inode

    def record_access(self, inode: Inode) -> None:
        """What was read of an inode by other ways than a `File`, as a directory that was listed: with `relatime` its access time
        is brought up to date, later. Reads of files are noted by themselves."""
        if self._accesses is not None:
            self._accesses.note_inode(self.meta, inode)

    def record_read(self, file: File) -> None:
        """The same for bytes of a file that were in memory; what reads others notes it by itself."""
        if self._accesses is not None:
            self._accesses.note(self.meta, file)

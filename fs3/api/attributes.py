"""Attributes of what has a name, and files that are little else: fifos, sockets and devices. A part of the native client."""

from __future__ import annotations

import stat
from typing import Final

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.inode import DEVICES, MODE_BITS, Inode, InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import Mknod

_TYPES: Final = {
    0: InodeType.FILE,
    stat.S_IFREG: InodeType.FILE,
    stat.S_IFDIR: InodeType.DIRECTORY,
    stat.S_IFIFO: InodeType.FIFO,
    stat.S_IFSOCK: InodeType.SOCKET,
    stat.S_IFBLK: InodeType.BLOCK_DEVICE,
    stat.S_IFCHR: InodeType.CHARACTER_DEVICE,
}


class Attributes:
    """What a client can be asked about attributes."""

    meta: MetaClient
    _umask: int

    async def mknod(self, path: str | PathRef, mode: int = 0o600, device: int = 0) -> Inode:
        """Create a fifo, a socket, a device, or an empty regular file, as `os.mknod`: `mode` has its type (`stat.S_IFIFO`…; none:
        a regular file) and, less the umask, its permissions; `device` is what `os.makedev` says. Exists. NoPermission for devices
        (unless root asks) and for directories. Special files have names and attributes; to open one is UNSUPPORTED."""
        where = PathRef.of(path)
        kind = _TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            raise error(Code.INVALID, f"mode {mode:#o} is of no type that can be made", where.path or None)
        permissions = mode & MODE_BITS & ~self._umask
        return await self.meta.ask(Mknod(where, kind, permissions, device if kind in DEVICES else 0))

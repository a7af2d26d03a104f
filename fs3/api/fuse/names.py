"""Names: look-ups, and what makes, moves and takes away names."""

from __future__ import annotations

import errno
import stat

from fs3.api.fuse.attributes_of import text_of
from fs3.api.fuse.base import FuseBase
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.names import to_bytes, to_text
from fs3.base.status import Code
from fs3.drivers.fuse.operations import Answer, Later
from fs3.drivers.fuse.records import KernelRequest, LookupReply
from fs3.model.inode import DEVICES, Inode, InodeType
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.requests import Link, Mkdir, Mknod, Remove, Rename, Stat, Symlink

RENAME_MODES = {0: RenameMode.REPLACE, 1: RenameMode.NOREPLACE, 2: RenameMode.EXCHANGE}
"""By the flags of renameat2(2)."""

TYPES = {
    stat.S_IFREG: InodeType.FILE,
    stat.S_IFIFO: InodeType.FIFO,
    stat.S_IFSOCK: InodeType.SOCKET,
    stat.S_IFBLK: InodeType.BLOCK_DEVICE,
    stat.S_IFCHR: InodeType.CHARACTER_DEVICE,
}
"""By the bits of a mode: what mknod(2) makes."""


def place(request: KernelRequest, name: bytes) -> PathRef:
    """A name in the directory that a request is about."""
    return PathRef(InodeId(request.node), text_of(name))


class NameOperations(FuseBase):
    """See `Operations`."""

    def lookup(self, request: KernelRequest, name: bytes) -> Answer[LookupReply]:
        turn = self.lookups.turn

        def found(inode: Inode, later: Later[LookupReply]) -> None:
            opened = self.inodes.get(inode.id)
            if opened is not None and opened.is_dirty:
                self.follow(later, self.entry(request, inode))
                return
            self.lookups.note(request.pid, inode, turn)
            later.finish(self.entry_told(inode))
            if opened is not None:
                self.show_later(opened, inode)

        return self.submit(self.identities.meta_for(request), Stat(place(request, name), follow=False), found)

    async def readlink(self, request: KernelRequest) -> bytes:
        inode = await self.ask(request, Stat(PathRef(InodeId(request.node), ""), follow=False))
        if inode.type is not InodeType.SYMLINK:
            raise OSError(errno.EINVAL, "is not a symlink")
        return to_bytes(inode.link_target)

    async def symlink(self, request: KernelRequest, name: bytes, target: bytes) -> LookupReply:
        inode = await self.ask(request, Symlink(place(request, name), to_text(target)))
        return self.entry_told(inode)

    async def mknod(self, request: KernelRequest, name: bytes, mode: int, rdev: int, umask: int) -> LookupReply:
        kind = TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            raise OSError(errno.EINVAL, f"mode {mode:#o} is of no type that mknod makes")
        # The kernel's numbers of devices are those of `os.makedev` as far as they have 32 bits, which is all that it sends.
        number = rdev if kind in DEVICES else 0
        wanted = Mknod(place(request, name), kind, stat.S_IMODE(mode), number, umask=umask)
        return self.entry_told(await self.ask(request, wanted))

    async def mkdir(self, request: KernelRequest, name: bytes, mode: int, umask: int) -> LookupReply:
        inode = await self.ask(request, Mkdir(place(request, name), mode, umask=umask))
        return self.entry_told(inode)

    async def unlink(self, request: KernelRequest, name: bytes) -> None:
        where = place(request, name)
        kept = await self._keep_open(request, where)
        await self.ask(request, Remove(where, RemoveKind.FILE))
        self._on_removed(kept)

    async def rmdir(self, request: KernelRequest, name: bytes) -> None:
        await self.ask(request, Remove(place(request, name), RemoveKind.DIRECTORY))

    async def rename(self, request: KernelRequest, name: bytes, directory: int, target: bytes, flags: int) -> None:
        mode = RENAME_MODES.get(flags)
        if mode is None:
            raise OSError(errno.EINVAL, f"flags {flags} of a rename are not known")
        where = PathRef(self.inode_of(directory), text_of(target))
        kept = await self._keep_open(request, where) if mode is RenameMode.REPLACE else None
        moved = await self.ask(request, Rename(place(request, name), where, mode))
        self.on_attributes(moved)
        if kept is not None and kept.id != moved.id:
            self._on_removed(kept)

    async def link(self, request: KernelRequest, node: int, name: bytes) -> LookupReply:
        where = place(request, name)
        opened = self.inodes.get(InodeId(node))
        if opened is not None:
            inode = await opened.link(lambda wanted: self.ask(request, wanted), where)
        else:
            inode = await self.ask(request, Link(PathRef(InodeId(node), ""), where))
        self.on_attributes(inode)
        return self.entry_told(inode)

    async def _keep_open(self, request: KernelRequest, where: PathRef) -> Inode | None:
        """The last name of a file that is open here is about to go: then a session keeps its bytes. The file; None: it is none
        such."""
        if not self.inodes:
            return None
        try:
            inode = await self.ask(request, Stat(where, follow=False))
        except FS3Error as failure:
            if failure.code is Code.NOT_FOUND:
                return None
            raise
        opened = self.inodes.get(inode.id)
        if opened is None or not opened.handles or inode.nlink != 1:
            return None
        await opened.keep()
        return inode

    def _on_removed(self, kept: Inode | None) -> None:
        opened = self.inodes.get(kept.id) if kept is not None else None
        if opened is not None:
            opened.on_removed()

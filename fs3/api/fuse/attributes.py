"""Attributes of inodes, and of the file system."""

from __future__ import annotations

import errno
import stat

from msgspec.structs import replace

from fs3.api.fuse.attributes_of import attributes_of, has_uncounted_holes
from fs3.api.fuse.base import FuseBase
from fs3.api.fuse.open_inode import OpenInode
from fs3.base.ids import InodeId
from fs3.base.limits import name_bytes_max
from fs3.core.meta.access import WRITE, has_permission
from fs3.drivers.fuse.operations import Answer, Later
from fs3.drivers.fuse.records import TIME_IS_NOW, AttributesReply, Changes, KernelRequest, Space
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import TIME_NOW, SetAttributes, Stat, Truncate

_BLOCK_BYTES = 4096
inodes_free = 1 << 32
"""What statfs says: nothing but the room for metadata limits their number."""


class AttributeOperations(FuseBase):
    """See `Operations`."""

    def getattr(self, request: KernelRequest, handle: int | None) -> Answer[AttributesReply]:
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None:
            return self._getattr_opened(opened)

        def found(inode: Inode, later: Later[AttributesReply]) -> None:
            if has_uncounted_holes(inode) and self.stored.find(inode) is None:
                self.follow(later, self._told_when_counted(inode))
            else:
                later.finish(self.attributes_told(inode))

        return self.submit(self.identities.meta_for(request), Stat(PathRef(InodeId(request.node), ""), follow=False), found)

    async def _getattr_opened(self, opened: OpenInode) -> AttributesReply:
        inode = await opened.refresh()
        await self.show(opened, inode)
        return await self._told_when_counted(inode)

    async def _told_when_counted(self, inode: Inode) -> AttributesReply:
        if has_uncounted_holes(inode):
            await self.stored.count(inode)
        return self.attributes_told(inode)

    async def setattr(self, request: KernelRequest, changes: Changes) -> AttributesReply:
        inode: Inode | None = None
        if changes.size is not None:
            await self._truncate(request, changes.size, is_open=changes.handle is not None)
            if changes.drops_set_ids:
                await self._drop_set_ids(request)
        if not _only_size(changes):
            inode = await self._set_attributes(request, changes)
        opened = self.inodes.get(InodeId(request.node))
        if inode is not None:
            return self.attributes_told(inode)
        if opened is not None:
            self.tell(opened.inode)
            return AttributesReply(attributes_of(opened.inode, opened.length))
        return self.attributes_told(await self._stat(request))

    async def _drop_set_ids(self, request: KernelRequest) -> None:
        opened = self.inodes.get(InodeId(request.node))
        inode = opened.inode if opened is not None else await self._stat(request)
        if inode.type is InodeType.FILE:
            await self.drop_set_ids(inode)

    async def _truncate(self, request: KernelRequest, size: int, *, is_open: bool) -> None:
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None:
            await opened.truncate(size, is_open=is_open)
            return
        inode = await self._stat(request)
        if inode.type is not InodeType.FILE:
            raise OSError(errno.EISDIR if inode.type is InodeType.DIRECTORY else errno.EINVAL, "is not a regular file")
        self.told.change(await self.ask(request, Truncate(inode.content_id, size)))
        self.lookups.forget()

    async def _set_attributes(self, request: KernelRequest, changes: Changes) -> Inode:
        opened = self.inodes.get(InodeId(request.node))
        mode = changes.mode
        wanted = SetAttributes(
            PathRef(InodeId(request.node), ""),
            follow=False,
            mode=mode,
            uid=changes.uid,
            gid=changes.gid,
            atime_ns=_time(changes.atime_ns),
            mtime_ns=_time(changes.mtime_ns),
        )
        if opened is not None:
            own = self.client.meta
            if mode is not None and opened.writers and not has_permission(own.user, _with_mode(opened.inode, mode), WRITE):
                await opened.begin_session()
            elif self.identities.meta_for(request) is own and (deferred := opened.defer(wanted)) is not None:
                return deferred
            # What was written before is stored before: the times that are set now are those that stay.
            await opened.publish()
        inode = await self.ask(request, wanted)
        self.on_attributes(inode)
        return inode

    async def statfs(self, request: KernelRequest) -> Space:
        space = await self.client.statfs()
        return Space(
            blocks=space.total_bytes // _BLOCK_BYTES,
            blocks_free=space.free_bytes // _BLOCK_BYTES,
            files=space.inodes + inodes_free,
            files_free=inodes_free,
            block_size=_BLOCK_BYTES,
            name_bytes_max=name_bytes_max,
        )

    async def _stat(self, request: KernelRequest) -> Inode:
        return await self.ask(request, Stat(PathRef(InodeId(request.node), ""), follow=False))


def _only_size(changes: Changes) -> bool:
    others = (changes.mode, changes.uid, changes.gid, changes.atime_ns, changes.mtime_ns)
    return all(value is None for value in others) and changes.size is not None


def _with_mode(inode: Inode, mode: int) -> Inode:
    return replace(inode, mode=stat.S_IMODE(mode))


def _time(asked: int | None) -> int | None:
    return TIME_NOW if asked == TIME_IS_NOW else asked

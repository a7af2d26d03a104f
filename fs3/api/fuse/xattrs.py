"""Extended attributes, ACLs among them."""

from __future__ import annotations

import errno

from fs3.api.fuse.base import FuseBase
from fs3.base.ids import InodeId
from fs3.drivers.fuse.operations import Answer
from fs3.drivers.fuse.records import KernelRequest
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import GetXattr, ListXattr, RemoveXattr, SetXattr, XattrMode

_MODES = {0: XattrMode.SET, 1: XattrMode.CREATE, 2: XattrMode.REPLACE}
"""By the flags of setxattr(2)."""


class XattrOperations(FuseBase):
    """See `Operations`."""

    def getxattr(self, request: KernelRequest, name: bytes) -> Answer[bytes]:
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None and not opened.inode.xattr_bytes:
            # Before every first write the kernel asks for capabilities.
            raise OSError(errno.ENODATA, "the file has no extended attributes")
        return self.ask(request, GetXattr(_here(request), name, follow=False))

    async def setxattr(self, request: KernelRequest, name: bytes, value: bytes, flags: int) -> None:
        mode = _MODES.get(flags)
        if mode is None:
            raise OSError(errno.EINVAL, f"flags {flags} of setxattr are not known")
        await self._publish(request)
        self._on_changed(await self.ask(request, SetXattr(_here(request), name, value, mode, follow=False)))

    async def listxattr(self, request: KernelRequest) -> list[bytes]:
        return await self.ask(request, ListXattr(_here(request), follow=False))

    async def removexattr(self, request: KernelRequest, name: bytes) -> None:
        await self._publish(request)
        self._on_changed(await self.ask(request, RemoveXattr(_here(request), name, follow=False)))

    async def _publish(self, request: KernelRequest) -> None:
        """What was written before is stored before: a capability that is set now is not dropped by it."""
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None:
            await opened.publish()

    def _on_changed(self, inode: Inode) -> None:
        self.told.change(inode)
        opened = self.inodes.get(inode.id)
        if opened is not None:
            opened.on_attributes(inode)


def _here(request: KernelRequest) -> PathRef:
    return PathRef(InodeId(request.node), "")

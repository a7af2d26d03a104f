"""Extended attributes, and ACLs among them.

The kernel checks permissions, so it asks for the ACL of what it looks at, and for `security.capability` of what is written, again
each time after it was told attributes. Nearly always there is none; that is known from the attributes, and answered at once: so
what it takes for an ACL is as fresh as what it takes for a mode. What programs ask for, `user.` and `trusted.`, is looked up.
"""

from __future__ import annotations

import errno
from typing import Final

from fs3.api.fuse.base import FuseBase
from fs3.base.ids import InodeId
from fs3.drivers.fuse.operations import Answer
from fs3.drivers.fuse.records import KernelRequest
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import GetXattr, ListXattr, RemoveXattr, SetXattr, XattrMode

CAPABILITY: Final = b"security.capability"
ASKED_BY_THE_KERNEL: Final = (b"security.", b"system.posix_acl_")
"""Names that begin so are looked up only where there are attributes."""


class XattrOperations(FuseBase):
    """See `Operations`."""

    def getxattr(self, request: KernelRequest, name: bytes) -> Answer[bytes]:
        if name.startswith(ASKED_BY_THE_KERNEL) and not self.may_have_xattrs(InodeId(request.node)):
            raise OSError(errno.ENODATA, "there is no such attribute")
        return self.ask(request, GetXattr(_here(request), name, follow=False))

    async def setxattr(self, request: KernelRequest, name: bytes, value: bytes, flags: int) -> None:
        try:
            mode = XattrMode(flags)
        except ValueError as wrong:
            raise OSError(errno.EINVAL, f"flags {flags} of a setxattr are not known") from wrong
        await self._publish(request)
        self._on_set(await self.ask(request, SetXattr(_here(request), name, value, mode, follow=False)))

    async def listxattr(self, request: KernelRequest) -> list[bytes]:
        return await self.ask(request, ListXattr(_here(request), follow=False))

    async def removexattr(self, request: KernelRequest, name: bytes) -> None:
        await self._publish(request)
        meta = self.identities.meta_for(request)
        if name == CAPABILITY:
            # The kernel does this before a write of any user, and lets no other program do it that may not. Where we may not
            # either, the services do it when the write is published.
            meta = self.client.meta
            if meta.user.uid:
                return
        self._on_set(await self.ask_as(meta, RemoveXattr(_here(request), name, follow=False), request))

    async def _publish(self, request: KernelRequest) -> None:
        """What was written before takes a capability away, and not one that is set now."""
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None:
            await opened.publish()

    def _on_set(self, inode: Inode) -> None:
        self.on_attributes(inode)
        self.tell(inode)


def _here(request: KernelRequest) -> PathRef:
    return PathRef(InodeId(request.node), "")

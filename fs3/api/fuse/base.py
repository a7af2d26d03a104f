"""What the groups of operations share: the client, who asks, and what is open."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TypeVar

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fuse.attributes_of import attributes_of, entry_of, valid_ns
from fs3.api.fuse.identity import Identities
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.options import FuseOptions
from fs3.api.fuse.told_changes import ToldChanges
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.core.meta.access import without_set_ids
from fs3.drivers.fuse.notify import Notifier
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.protocol import InitFlag
from fs3.drivers.fuse.records import AttributesReply, InitOptions, KernelRequest, LookupReply
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Request, SetAttributes, Stat
from fs3.runtime.tasks import TaskSet

R = TypeVar("R")


class FuseBase(Operations):
    """One mount of one client. Belongs to the client's event loop."""

    init_options = InitOptions(flags=InitFlag.POSIX_ACL | InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS)

    def __init__(self, client: Client, options: FuseOptions) -> None:
        self.client = client
        self.options = options
        self.identities = Identities(client)
        self.told = ToldChanges()
        self.inodes: dict[InodeId, OpenInode] = {}
        """Regular files with open handles."""
        self.notifier: Notifier | None = None
        """Set once the mount is there."""
        self.tasks = TaskSet()
        """What goes on beside requests."""
        self._handles = 0
        self._with_xattrs: set[InodeId] = set()
        """Inodes that the kernel remembers and that have extended attributes."""

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        for node, _ in nodes:
            self.told.forget(InodeId(node))
            self._with_xattrs.discard(InodeId(node))

    def tell(self, inode: Inode) -> None:
        """The kernel is told attributes of an inode."""
        if inode.xattr_bytes:
            self._with_xattrs.add(inode.id)
        elif self._with_xattrs:
            self._with_xattrs.discard(inode.id)

    def has_xattrs(self, inode: InodeId) -> bool:
        """It had extended attributes when the kernel was told of it last."""
        return inode in self._with_xattrs

    def entry_told(self, inode: Inode, length: int | None = None) -> LookupReply:
        """What a look-up answers; `length` where it is known better."""
        self.tell(inode)
        return entry_of(inode, self.options, length)

    def attributes_told(self, inode: Inode) -> AttributesReply:
        """What is answered to a question for attributes."""
        self.tell(inode)
        return AttributesReply(attributes_of(inode), valid_ns(inode, self.options))

    def next_handle(self) -> int:
        """The number of a handle."""
        self._handles += 1
        return self._handles

    async def ask(self, request: KernelRequest, wanted: Request[R]) -> R:
        """Of the services, for the one who asks. Names in a directory that is gone are ENOENT."""
        return await self.ask_as(self.identities.meta_for(request), wanted)

    async def ask_as(self, meta: MetaClient, wanted: Request[R]) -> R:
        """The same for a user."""
        try:
            return await meta.ask(wanted)
        except FS3Error as failure:
            if failure.code is Code.STALE and wanted.error_path:
                raise OSError(errno.ENOENT, "the directory is gone") from failure
            raise

    def open_inode(self, inode: Inode, data: bytes | None) -> OpenInode:
        """What the handles of a file share, brought up to date. Their users were checked when they opened it: what is done
        through them is asked for the one who mounted."""
        found = self.inodes.get(inode.id)
        if found is None:
            file = File(inode, f"inode {inode.id}", data=data)
            found = self.inodes[inode.id] = OpenInode(self.client, self.told, file)
        else:
            found.set_fresh(inode, data)
        return found

    async def entry(self, request: KernelRequest, inode: Inode) -> LookupReply:
        """What a look-up that found this inode answers. What was written here is published first: its times are the services'."""
        opened = self.inodes.get(inode.id)
        if opened is None:
            return self.entry_told(inode)
        if opened.is_dirty:
            await opened.publish()
            inode = await self.ask(request, Stat(PathRef(inode.id, ""), follow=False))
        if self.told.is_older(inode):
            # Not before the answer, which the kernel would then take for older than this.
            self.tasks.start(self.show(opened, inode))
        return self.entry_told(inode)

    async def show(self, opened: OpenInode, inode: Inode) -> None:
        """The kernel hears of an inode that has open handles: pages that are as of an earlier change go, so that it does not take
        what they lack at their end for zeros. Not to be awaited by what the kernel holds a page for."""
        if self.notifier is None or not opened.is_at(inode) or not self.told.is_older(inode):
            return
        await self.notifier.forget_data(opened.id)
        if self.told.is_older(inode):
            self.told.begin(inode)

    def on_attributes(self, inode: Inode) -> None:
        """A change of ours to an inode was answered, which left its bytes alone."""
        self.told.change(inode)
        opened = self.inodes.get(inode.id)
        if opened is not None:
            opened.on_attributes(inode)

    async def drop_set_ids(self, inode: Inode) -> None:
        """The content of a file is changed by a user for whom it then loses these bits. Where the one who mounted may not change
        the mode, the services do it by themselves when the change is published."""
        mode = without_set_ids(inode.mode)
        meta = self.client.meta
        if mode != inode.mode and meta.user.uid in (0, inode.uid):
            self.on_attributes(await meta.ask(SetAttributes(PathRef(inode.id, ""), follow=False, mode=mode)))

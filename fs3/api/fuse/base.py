"""What the groups of operations share: the client, who asks, and what is open."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TypeVar

from fs3.api.client import Client
from fs3.api.file import READ_ONLY
from fs3.api.fuse.attributes_of import entry_of
from fs3.api.fuse.identity import Identities
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.options import FuseOptions
from fs3.api.fuse.told_changes import ToldChanges
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.drivers.fuse.notify import Notifier
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.protocol import InitFlag
from fs3.drivers.fuse.records import InitOptions, KernelRequest, LookupReply
from fs3.model.inode import Inode
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Request, Stat

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
        self._handles = 0

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        for node, _ in nodes:
            self.told.forget(InodeId(node))

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

    def open_inode(self, request: KernelRequest, inode: Inode, data: bytes | None, *, writes: bool) -> OpenInode:
        """What the handles of a file share, brought up to date."""
        client = self.identities.opener_for(request)
        found = self.inodes.get(inode.id)
        if found is None:
            found = self.inodes[inode.id] = OpenInode(
                client, self.told, client.adopt(OpenResult(inode, READ_ONLY, data), f"inode {inode.id}")
            )
        else:
            if writes:
                found.client = client
            found.set_fresh(inode, data)
        return found

    async def entry(self, request: KernelRequest, inode: Inode) -> LookupReply:
        """What a look-up that found this inode answers. What was written here is published first: its times are the services'."""
        opened = self.inodes.get(inode.id)
        if opened is None:
            return entry_of(inode, self.options)
        if opened.is_dirty:
            await opened.publish()
            inode = await self.ask(request, Stat(PathRef(inode.id, ""), follow=False))
        return entry_of(inode, self.options)

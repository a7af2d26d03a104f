"""What the groups of operations share: the client, who asks, and what is open."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fuse.attributes_of import attributes_of, entry_of, has_uncounted_holes, valid_ns
from fs3.api.fuse.identity import Identities
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.options import FuseOptions
from fs3.api.fuse.recent_bytes import RecentBytes
from fs3.api.fuse.recent_lookups import RecentLookups
from fs3.api.fuse.stored_counts import StoredCounts
from fs3.api.fuse.told_changes import ToldChanges
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.core.meta.access import without_set_ids
from fs3.drivers.fuse.notify import Notifier
from fs3.drivers.fuse.operations import Later, Operations
from fs3.drivers.fuse.protocol import ROOT_NODE, InitFlag
from fs3.drivers.fuse.records import AttributesReply, InitOptions, KernelRequest, LookupReply
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Request, SetAttributes, Stat, Truncate
from fs3.runtime.tasks import TaskSet

R = TypeVar("R")
T = TypeVar("T")
OnFound = Callable[[R, Later[T]], None]
"""Gets what the services answered, and what is to be finished with it."""
OnRefused = Callable[[FS3Error, Later[T]], bool]
"""Gets why there is no answer, and what may be finished all the same; True: that will be done."""


class FuseBase(Operations):
    """One mount of one client. Belongs to the client's event loop."""

    init_options = InitOptions(flags=InitFlag.POSIX_ACL | InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS)

    def __init__(self, client: Client, options: FuseOptions, ledger: MountLedger | None = None) -> None:
        """`ledger`: what the next process has to know of this one; None: there is no next one."""
        self.client = client
        self.options = options
        self.ledger = ledger or MountLedger()
        self.identities = Identities(client)
        self.told = ToldChanges()
        self.lookups = RecentLookups(client.meta.clock.now)
        self.recent_bytes = RecentBytes()
        self.tasks = TaskSet()
        """Of answers that take one, and of what follows an answer."""
        self.stored = StoredCounts(client, client.meta.clock, self.tasks)
        self.inodes: dict[InodeId, OpenInode] = {}
        """Regular files with open handles."""
        self.notifier: Notifier | None = None
        """Set once the mount is there."""
        self._handles = self.ledger.handles_begin
        self._with_xattrs: set[InodeId] = set()
        """Inodes that the kernel remembers and that have extended attributes."""
        self._without_xattrs: set[InodeId] | None = set() if self.ledger.generation > 1 else None
        """Those that have none, where an earlier process has told the kernel of others; None: all but those above."""

    def may_have_pages(self, inode: InodeId) -> bool:
        """The kernel may have bytes of it, which an earlier process may have told."""
        return self.told.knows(inode) or self.ledger.generation > 1

    def inode_of(self, node: int) -> InodeId:
        """What the kernel means by an inode that is an argument of a request."""
        return InodeId(self.root_node if node == ROOT_NODE else node)

    def forget(self, nodes: Iterable[tuple[int, int]]) -> None:
        for node, _ in nodes:
            self.told.forget(InodeId(node))
            self._with_xattrs.discard(InodeId(node))
            self.recent_bytes.forget(InodeId(node))
            self.stored.forget(InodeId(node))
            if self._without_xattrs is not None:
                self._without_xattrs.discard(InodeId(node))

    def tell(self, inode: Inode) -> None:
        """The kernel is told attributes of an inode."""
        if inode.xattr_bytes:
            self._with_xattrs.add(inode.id)
        elif self._with_xattrs:
            self._with_xattrs.discard(inode.id)
        if self._without_xattrs is not None:
            (self._without_xattrs.discard if inode.xattr_bytes else self._without_xattrs.add)(inode.id)

    def may_have_xattrs(self, inode: InodeId) -> bool:
        """It had extended attributes when the kernel was told of it last, or an earlier process told of it."""
        return inode in self._with_xattrs if self._without_xattrs is None else inode not in self._without_xattrs

    def entry_told(self, inode: Inode, length: int | None = None) -> LookupReply:
        """What a look-up answers; `length` where it is known better."""
        self.tell(inode)
        return entry_of(inode, self.options, length, self._stored_of(inode))

    def attributes_told(self, inode: Inode) -> AttributesReply:
        """What is answered to a question for attributes."""
        self.tell(inode)
        stored = self._stored_of(inode)
        valid = 0 if stored is None and has_uncounted_holes(inode) else valid_ns(inode, self.options)
        return AttributesReply(attributes_of(inode, None, stored), valid)

    def _stored_of(self, inode: Inode) -> int | None:
        """Bytes, where there are holes and they have been counted."""
        return self.stored.find(inode) if has_uncounted_holes(inode) else None

    def next_handle(self) -> int:
        """The number of a handle."""
        self._handles += 1
        return self._handles

    def submit(
        self,
        meta: MetaClient,
        wanted: Request[R],
        found: OnFound[R, T],
        refused: OnRefused[T] = lambda why, later: False,
    ) -> Later[T]:
        """Ask the services for what changes nothing, without a task: `found` gets the answer and finishes what is returned."""
        later: Later[T] = Later()

        def done(answer: R | None, why: FS3Error | None) -> None:
            if why is not None:
                if not refused(why, later):
                    later.fail(_explain(wanted, why))
                return
            try:
                found(answer, later)  # type: ignore[arg-type]
            except Exception as wrong:
                later.fail(wrong)

        meta.submit(wanted, done)
        return later

    def follow(self, later: Later[T], work: Coroutine[Any, Any, T]) -> None:
        """What is answered later takes a task after all."""
        self.tasks.start(_tell(later, work))

    async def ask(self, request: KernelRequest, wanted: Request[R]) -> R:
        """Of the services, for the one who asks. Names in a directory that is gone are ENOENT."""
        return await self.ask_as(self.identities.meta_for(request), wanted, request)

    async def ask_as(self, meta: MetaClient, wanted: Request[R], request: KernelRequest) -> R:
        """The same for a user. A change happens once, also when the kernel asks the next process for it."""
        seq, is_repeated = 0, False
        if wanted.mutates:
            seq, is_repeated = self.ledger.begin_request(request.unique, meta.seqs, isinstance(wanted, Truncate))
        try:
            return await meta.ask(wanted, seq=seq, repeated=is_repeated)
        except FS3Error as failure:
            raise _explain(wanted, failure) from failure.__cause__
        finally:
            if seq:
                self.ledger.end_request(request.unique)

    def open_inode(self, inode: Inode, data: bytes | None) -> OpenInode:
        """What the handles of a file share, brought up to date. Their users were checked when they opened it: what is done
        through them is asked for the one who mounted."""
        found = self.inodes.get(inode.id)
        if found is None:
            file = File(inode, f"inode {inode.id}", data=data)
            found = self.inodes[inode.id] = OpenInode(self.client, self.told, file, self.ledger)
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
        self.show_later(opened, inode)
        return self.entry_told(inode)

    def show_later(self, opened: OpenInode, inode: Inode) -> None:
        """`show`, but not before the answer that is about to be given, which the kernel would then take for older than this."""
        if self.told.is_older(inode):
            self.tasks.start(self.show(opened, inode))

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


def _explain(wanted: Request[Any], failure: FS3Error) -> OSError:
    if failure.code is Code.STALE and wanted.error_path:
        return OSError(errno.ENOENT, "the directory is gone")
    return failure


async def _tell(later: Later[T], work: Coroutine[Any, Any, T]) -> None:
    try:
        answer = await work
    except BaseException as why:
        later.fail(why)
    else:
        later.finish(answer)

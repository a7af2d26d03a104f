"""What is known here of an open file: as the service told it last, with what was written and is not stored."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec.structs import replace

from fs3.api.client import Client
from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.deferred_attributes import DeferredAttributes
from fs3.api.fuse.dirty_blocks import DirtyBlocks
from fs3.api.fuse.kept_bytes import KeptBlock
from fs3.api.fuse.ledger import MountLedger, OpenFlags, OpenRecord
from fs3.api.fuse.told_changes import ToldChanges
from fs3.api.fuse.whole_file import WholeFile
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef

GONE = (Code.STALE, Code.NO_SESSION, Code.NOT_FOUND)
"""The file, or what this client had of it, is gone: what it wrote can count no more."""


class OpenState:
    """Of a regular file with open handles. Belongs to one event loop."""

    def __init__(
        self, client: Client, told: ToldChanges, file: File, ledger: MountLedger | None = None, *, is_removed: bool = False
    ) -> None:
        """`file`: as it was opened, for reading only or with a session."""
        self._client = client
        self._told = told
        self._ledger = ledger or MountLedger()
        self.id: Final = file.inode.id
        """Of the inode. When its content is replaced, what is open of the old one has another, until it is looked at again."""
        self.handles = 0
        self.writers = 0
        """Of the handles, those that may write."""
        self.was_written = False
        """This mount may have changed its bytes."""
        self.is_removed = is_removed
        """It has no name: the last one was taken away, or it never had one."""
        self._whole: WholeFile | None = None
        self._deferred = DeferredAttributes(lambda wanted: self._ledger.note_attributes(self.id, wanted))
        self._appender: File | None = None
        """Another session, for handles that append."""
        self._written_ns: int | None = None
        """When the last write was taken, by the client's clock; None: that is not known, or there was none."""
        self._lost = ""
        """Why bytes that were accepted are lost, until that was told."""
        self._lock = asyncio.Lock()
        """Never held while the kernel is told to drop pages: it may wait for a read, and the read for this."""
        self._arriving: list[tuple[int, int]] = []
        """Ranges [start, end) of writes that wait to be taken."""
        self.file = file
        self._blocks = DirtyBlocks(self._store, file.inode.layout.chunk_size, keep=self._keep_block)

    @property
    def file(self) -> File:
        """What storage and the services know. Without a session it is told to the services as open for reading, so that what it
        has stays when its name is taken away anywhere."""
        return self._file

    @file.setter
    def file(self, file: File) -> None:
        self._file = file
        if file.session == READ_ONLY:
            self._client.meta.readers.add(file)
        self._note()

    @property
    def inode(self) -> Inode:
        """As the service told it last."""
        return self.file.inode

    @property
    def here(self) -> PathRef:
        """Names the inode in requests."""
        return PathRef(self.id, "")

    def is_at(self, inode: Inode) -> bool:
        """What is known of it is as of this change, or later."""
        return self.inode.id == self.id and self.inode.change >= inode.change

    @property
    def is_dirty(self) -> bool:
        """Others do not see all that was written."""
        if self._blocks or self.file.modified or self._lost or self._deferred.wanted is not None:
            return True
        return self._whole is not None and self._whole.is_dirty

    @property
    def has_work(self) -> bool:
        """There is something to do when it is closed."""
        file_ends = self.file.session != READ_ONLY or self._appender is not None
        return file_ends or self.is_dirty or self._lock.locked()

    @property
    def length(self) -> int:
        """Bytes, with what was written and is not stored."""
        if self._whole is not None:
            return len(self._whole.data)
        return max(self.file.length, self._blocks.end)

    def data_of(self, inode: Inode) -> bytes | None:
        """The bytes of the file as it is now, where they are known here."""
        return self.file.data if (inode.id, inode.change) == (self.inode.id, self.inode.change) else None

    def _as_is(self) -> Inode:
        return replace(self.inode, id=self.id, length=self.length)

    def _reader_of(self, inode: Inode, data: bytes | None = None) -> File:
        """The file without a session."""
        return File(inode, self.file.path, data=data)

    # --- what became of it -------------------------------------------------------------------------------------------

    def set_fresh(self, inode: Inode, data: bytes | None) -> None:
        """The service says that the file is so now; nothing of ours is under way to it."""
        if not inode.nlink:
            self.is_removed = True
        if not (self._lock.locked() or self.is_dirty):
            self._set_fresh(inode, data)

    def _set_fresh(self, inode: Inode, data: bytes | None) -> None:
        if self.inode.id == self.id and inode.change < self.inode.change:
            return  # something that was done here was answered earlier, and came later
        if inode.content_id != self.file.inode.content_id:
            self._whole = None
            if self.file.session == READ_ONLY:
                self.file = self._reader_of(inode, data)
            # A session goes on writing what it was opened on, and says so when it is asked to publish it.
            return
        if inode.change != self.file.inode.change:
            self._whole = None
        if self.file.session != READ_ONLY:
            # All that was written through it is published, so the length that others have left is the length.
            self.file.on_told(inode)
        self.file.set_inode(inode, data)

    def on_attributes(self, inode: Inode) -> None:
        """This mount changed attributes of the file, and this was answered."""
        before = self.file.inode
        if inode.content_id == before.content_id and inode.truncations == before.truncations:
            self.file.set_inode(inode, self.file.data if inode.change == before.change + 1 else None)
        if self._whole is not None and not self._whole.is_dirty:
            self._whole = None

    def on_removed(self) -> None:
        """It has none."""
        self.is_removed = True
        self.file.set_inode(replace(self.file.inode, nlink=0), self.file.data)
        self._note()

    # --- what was written and is not stored --------------------------------------------------------------------------

    async def _store(self, data: memoryview, offset: int) -> int:
        try:
            return await self._client.pwrite(self.file, data, offset)
        finally:
            self._note()

    def _keep_block(self, offset: int) -> KeptBlock | None:
        return self._ledger.keep_block(self.id, offset)

    def _forget_whole(self) -> None:
        if self._whole is not None:
            self._whole.free()
            self._whole = None

    def _note(self) -> None:
        if not self._ledger.is_kept:
            return
        file = self._file
        flags = OpenFlags.MODIFIED * file.modified | OpenFlags.MTIME_IS_SET * file.mtime_is_set
        flags |= OpenFlags.UNNAMED * file.unnamed | OpenFlags.REMOVED * self.is_removed
        appender = self._appender.session if self._appender is not None else READ_ONLY
        content = file.inode.content_id
        self._ledger.note_open(
            OpenRecord(self.id, content, file.session, file.acknowledged, file.truncations, OpenFlags(flags), appender)
        )

"""What all handles of one open file share: what is known of it, what was written and is not stored, and its session.

A small file, whose bytes are beside its inode, is changed in memory and stored whole by one request (`Put`), for as long as it is
small and no other client has changed it meanwhile. Any other file is written through a session, in blocks, which are stored while
more is written. `publish` is what close(2) and fsync(2) wait for: bytes durable, length and times known to all.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from fs3.api.client import Client
from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.append_end import NotedAppendEnd
from fs3.api.fuse.deferred_attributes import DeferredAttributes
from fs3.api.fuse.dirty_blocks import DirtyBlocks
from fs3.api.fuse.kept_bytes import KeptBlock, KeptWhole
from fs3.api.fuse.ledger import MountLedger, OpenFlags, OpenRecord
from fs3.api.fuse.told_changes import ToldChanges
from fs3.api.fuse.whole_file import WholeFile
from fs3.base.errors import FS3Error
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Link, Open, Put, SetAttributes, Stat, Truncate

_GONE = (Code.STALE, Code.NO_SESSION, Code.NOT_FOUND)
"""The file, or what this client had of it, is gone: what it wrote can count no more."""

AskLink = Callable[[Link], Awaitable[Inode]]
"""Asks for a name for a file, for a user."""

log = logging.getLogger("fs3.fuse")


class OpenInode:
    """A regular file with open handles. Belongs to one event loop."""

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

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Bytes that are in memory anyway. None: `read` gets them."""
        return None if self._arriving else self._read_memory(offset, size)

    def _read_memory(self, offset: int, size: int) -> bytes | None:
        if self._whole is not None:
            return bytes(memoryview(self._whole.data)[offset : offset + size])
        if self.file.inode.inline and self.file.data is not None and not self._blocks:
            return self.file.data[offset : offset + size]
        return None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """At most so many bytes; fewer at the end of the file. What was written before is in them."""
        if any(start < offset + size and offset < end for start, end in self._arriving):
            async with self._lock:
                pass
        found = self._read_memory(offset, size)
        if found is not None:
            return found
        if self._blocks.overlap(offset, offset + size):
            await self._blocks.settle(offset, offset + size)
        length = self.length
        count = min(size, length - offset)
        if count <= 0:
            return b""
        buffer = bytearray(count)
        got = await self._client.pread_into(self.file, buffer, offset)
        # What lies between what is stored and what is still gathered is a hole.
        return memoryview(buffer) if self._blocks else memoryview(buffer)[:got]

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

    # --- writing -----------------------------------------------------------------------------------------------------

    def write_now(self, data: memoryview, offset: int) -> bool:
        """Take bytes into memory that is there. False: `write` has to."""
        if self._lock.locked():
            return False
        self._on_written()
        if self._has_whole():
            assert self._whole is not None
            if offset + len(data) > inline_bytes_default:
                return False
            self._write_whole(data, offset)
            return True
        return self.file.session != READ_ONLY and self._blocks.try_write(data, offset)

    def _on_written(self) -> None:
        self._written_ns = self._client.meta.clock.now()

    def _write_whole(self, data: memoryview, offset: int) -> None:
        assert self._whole is not None
        self._whole.write(data, offset)
        self._deferred.on_written()

    async def write(self, data: memoryview, offset: int) -> None:
        """Take bytes. Raises what storing earlier ones failed with."""
        self._on_written()
        arriving = offset, offset + len(data)
        self._arriving.append(arriving)
        try:
            async with self._lock:
                await self._write(data, offset)
        finally:
            self._arriving.remove(arriving)

    async def _write(self, data: memoryview, offset: int) -> None:
        if self._has_whole():
            assert self._whole is not None
            if offset + len(data) <= inline_bytes_default:
                self._write_whole(data, offset)
                return
            self._deferred.on_written()
            await self._leave_whole()
        await self._begin_session()
        await self._blocks.write(data, offset)

    async def append(self, data: memoryview, end: NotedAppendEnd) -> tuple[int, Inode]:
        """Bytes at the end, wherever that is by now; where they are, and the inode then. They are durable and seen by all."""
        async with self._lock:
            await self._publish()
            try:
                at = await end.find_earlier(data, unnamed=self.is_removed)
                if at is not None:
                    inode = await self._look()
                    if inode is not None:
                        self._set_fresh(inode, None)
                    return at, self.inode
                return await self._append(data, end)
            except FS3Error as failure:
                if failure.code not in _GONE:
                    raise
                # Another content was put in the place of the one that the session was opened on; or its last name is gone.
                self._appender = None
                await self._look()
                return await self._append(data, end)
            finally:
                end.on_answered()

    async def _append(self, data: memoryview, end: NotedAppendEnd) -> tuple[int, Inode]:
        if self.is_removed:
            at = self.length
            if self._has_whole() and self._whole is not None and at + len(data) <= inline_bytes_default:
                self._write_whole(data, at)
                return at, self.inode
            await self._leave_whole()
            await self._begin_session()
        if self.file.session != READ_ONLY:
            at = await self._client.append(self.file, data, unnamed=self.is_removed, end=end)
            return at, self.inode
        if self._appender is None:
            try:
                opened = await self._client.meta.ask(Open(self.here, write=True, append=True))
            except FS3Error as failure:
                if failure.code is not Code.STALE:
                    raise
                await self._hold()
                return await self._append(data, end)
            self._appender = self._client.adopt(opened, self.file.path, appends=True)
            self._note()
        at = await self._client.append(self._appender, data, end=end)
        inode = self._appender.inode
        self._whole = None
        if self.file.session == READ_ONLY and inode.content_id != self.file.inode.content_id:
            self.file = self._reader_of(inode)
        else:
            before = self.file.inode
            is_next = at == before.length and inode.change == before.change + 1
            known = self.file.data if is_next else None
            self.file.set_inode(inode, known + data if known is not None and inode.inline else None)
        return at, inode

    async def truncate(self, length: int, *, is_open: bool) -> None:
        """Set the length. `is_open`: through a handle, whose close will publish it where that can wait."""
        self.was_written = True
        self._on_written()
        async with self._lock:
            if self._has_whole() and length <= inline_bytes_default:
                assert self._whole is not None
                self._whole.truncate(length)
                self._deferred.on_written()
                if not is_open:
                    await self._publish()
                return
            await self._publish()
            if self.is_removed:
                await self._leave_whole()
                await self._begin_session()
            self._whole = None
            if self.file.session != READ_ONLY:
                inode = await self._client.truncate(self.file, length)
            else:
                inode = await self._client.meta.ask(Truncate(self.file.inode.content_id, length))
                self.file.set_inode(inode, b"" if inode.inline and not length else None)
            self._told.change(inode)
            self._note()

    async def fallocate(self, offset: int, length: int, mode: int) -> None:
        """As `Client.fallocate`."""
        async with self._lock:
            await self._write_by_session()
            self._on_written()
            await self._client.fallocate(self.file, offset, length, mode)
            await self._publish_session(ends=False)

    async def seek(self, offset: int, *, is_data: bool) -> int:
        """Where data, or else a hole, begins from an offset on. ENXIO behind the end."""
        await self.publish()
        found = self._client.seek_data if is_data else self._client.seek_hole
        return await found(self.file, offset)

    async def copy_from(self, source: OpenInode, offset: int, target_offset: int, length: int) -> int:
        """Bytes of an open file into this one; how many."""
        await source.publish()
        async with self._lock:
            await self._write_by_session()
            self._on_written()
            return await self._client.copy_range(source.file, offset, self.file, target_offset, length)

    async def _write_by_session(self) -> None:
        """There is a session, and nothing that was written before is still on its way."""
        await self._leave_whole()
        await self._begin_session()
        await self._drain()

    async def begin_session(self) -> None:
        """From now on the file is written through a session, which outlives its permissions and its names."""
        async with self._lock:
            await self._leave_whole()
            await self._begin_session()

    async def keep(self) -> None:
        """The file is about to lose its last name: its bytes stay for those who have it open here, whatever becomes of this
        process where there is a next one."""
        if self._deferred.wanted is not None:
            with suppress(OSError):  # what cannot be set is no reason to keep the name
                await self.publish()
        if self._ledger.is_kept or self.writers or not self.file.inode.inline or self.file.data is None:
            await self.begin_session()

    async def _hold(self) -> None:
        """Another client has taken the last name away: its bytes stay for those who have it open here. STALE: they are gone.

        Those of a small file are gone with its name, but are here: so it is changed in memory, for as long as it is small."""
        try:
            await self._client.meta.readers.hold(self.file.inode.content_id)
        except FS3Error as failure:
            if failure.code is not Code.STALE or not self._has_whole():
                raise
        self.on_removed()

    async def link(self, ask: AskLink, target: PathRef) -> Inode:
        """Give it another name; its first one where it never had one."""
        async with self._lock:
            await self._publish()
            file = self.file
            if not file.unnamed:
                return await ask(Link(self.here, target))
            inode = await ask(Link(self.here, target, file.session))
            file.unnamed, file.path = False, target.path
            file.set_inode(inode)
            self.is_removed = False
            self._note()
            return inode

    def on_removed(self) -> None:
        """It has none."""
        self.is_removed = True
        self.file.set_inode(replace(self.file.inode, nlink=0), self.file.data)
        self._note()

    # --- attributes --------------------------------------------------------------------------------------------------

    def defer(self, wanted: SetAttributes) -> Inode | None:
        """Set attributes together with the bytes that wait to be stored. The inode as it will be; None: no bytes wait, or these
        attributes may not."""
        whole = self._whole
        if whole is None or not whole.is_dirty or self._lock.locked() or self.is_removed:
            return None
        return self._deferred.add(replace(self.file.inode, length=self.length), wanted)

    async def _set_deferred(self, wanted: SetAttributes) -> None:
        inode = await self._client.meta.ask(wanted)
        self._deferred.clear()
        self._told.change(inode)
        self.on_attributes(inode)

    # --- publishing --------------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        """Until all that was written is durable, and others see it."""
        if self.is_dirty or self._lock.locked():
            async with self._lock:
                await self._publish()

    async def close_writer(self) -> None:
        """A handle that may write is being closed: the same; when it is the only one, the session ends in the same step."""
        async with self._lock:
            await self._publish(ends=self.writers <= 1 and not self.is_removed)

    async def finish(self) -> None:
        """The last handle is gone. What cannot be stored is given up."""
        async with self._lock:
            try:
                await self._publish(ends=True)
            except OSError as failure:
                lost = self._blocks.drop() + (len(self._whole.data) if self._whole is not None else 0)
                if not self.is_removed:
                    log.error("inode %d: %d bytes that were written are lost: %s", self.id, lost, failure)
                self._forget_whole()
                self._deferred.clear()
                if self.file.session != READ_ONLY:
                    await self._client.abandon(self.file)

    async def refresh(self) -> Inode:
        """The inode as the service has it now, with what was written here."""
        await self.publish()
        if self.is_removed and self.file.session == READ_ONLY:
            return self._as_is()
        inode = await self._look()
        if inode is None:
            return self._as_is()
        self.set_fresh(inode, self.data_of(inode))
        return inode

    def data_of(self, inode: Inode) -> bytes | None:
        """The bytes of the file as it is now, where they are known here."""
        return self.file.data if (inode.id, inode.change) == (self.inode.id, self.inode.change) else None

    def _as_is(self) -> Inode:
        return replace(self.inode, id=self.id, length=self.length)

    async def learn(self) -> Inode:
        """From now on what others have published is seen here; what was written here is stored before."""
        async with self._lock:
            await self._publish()
            inode = None if self.is_removed else await self._look()
            if inode is not None:
                data = self.data_of(inode)
                if inode.inline and data is None:
                    fresh = await self._client.meta.ask(Open(self.here, want_data=True))
                    inode, data = fresh.inode, fresh.data
                self._set_fresh(inode, data)
            return self.inode

    async def _look(self) -> Inode | None:
        """The inode as the service has it. None: it has it no more; what is here is kept then, or it is STALE."""
        try:
            inode = await self._client.meta.ask(Stat(self.here, follow=False))
        except FS3Error as failure:
            if failure.code not in _GONE:
                raise
            await self._hold()
            return None
        if not (inode.nlink or self.is_removed):
            await self._hold()
        return inode

    def on_attributes(self, inode: Inode) -> None:
        """This mount changed attributes of the file, and this was answered."""
        before = self.file.inode
        if inode.content_id == before.content_id and inode.truncations == before.truncations:
            self.file.set_inode(inode, self.file.data if inode.change == before.change + 1 else None)
        if self._whole is not None and not self._whole.is_dirty:
            self._whole = None

    async def _publish(self, *, ends: bool = False) -> None:
        if self._lost:
            why, self._lost = self._lost, ""
            raise OSError(errno.EIO, why)
        if self._whole is not None and self._whole.is_dirty and not self.is_removed:
            await self._put()
        if self._blocks:
            await self._drain()
        if self.file.session != READ_ONLY and (ends or self.file.modified):
            await self._publish_session(ends=ends)
        if self._deferred.wanted is not None:
            await self._set_deferred(self._deferred.wanted)
        if ends and self._appender is not None:
            appender, self._appender = self._appender, None
            with suppress(FS3Error):  # what it appended is published, and its session ends by itself
                await self._client.close(appender)
            self._note()

    async def _publish_session(self, *, ends: bool) -> None:
        file = self.file
        # Of the program, not of this process, which stores it later.
        file.written_ns = self._written_ns
        try:
            if ends:
                await self._client.close(file)
                self.file = self._reader_of(file.inode)
            else:
                await self._client.fsync(file)
        except FS3Error as failure:
            if failure.code in _GONE:
                self._give_up_session()
            raise
        self._told.change(file.inode)
        self._note()

    async def _put(self) -> None:
        whole = self._whole
        assert whole is not None
        data = bytes(whole.data)
        put = Put(self.here, data, change=self.file.inode.change)
        try:
            wanted = self._deferred.wanted
            if wanted is None:
                stored = inode = await self._client.meta.ask(put)
            else:
                stored, inode = await self._put_with(put, wanted)
        except FS3Error as failure:
            if failure.code is Code.NOT_INLINE:
                await self._leave_whole()
                return
            if failure.code in _GONE:
                # It lost its last name elsewhere: what is in memory is for those who have it open here.
                self._deferred.clear()
                self.on_removed()
                return
            raise
        whole.on_stored(inode.change)
        if inode is not stored:
            # After the bytes: a process that finds those and not these would give the file another time.
            self._deferred.clear()
        is_ours = inode.change <= stored.change + 1
        if not is_ours:
            self._whole = None  # another client has changed it between the two
        self.file = self._reader_of(inode, data if is_ours else None)
        self._told.change(inode)

    async def _put_with(self, put: Put, attributes: SetAttributes) -> tuple[Inode, Inode]:
        """Bytes and attributes in one request and, as a rule, one commit: the inode after each. Attributes that are refused are
        asked for again, by themselves; then the two are the same."""
        stored, changed = await self._client.meta.batch([put, attributes])
        if isinstance(stored, FS3Error):
            raise stored
        self._told.change(stored)
        return stored, stored if isinstance(changed, FS3Error) else changed

    async def _drain(self) -> None:
        try:
            await self._blocks.drain()
        except OSError:
            if self.file.is_lost or self.file.is_replaced:
                self._blocks.drop()
            raise

    # --- how it is written -------------------------------------------------------------------------------------------

    def _has_whole(self) -> bool:
        """All its bytes are in memory, and it may be stored as a whole."""
        if self._whole is None:
            file = self.file
            if file.session != READ_ONLY or file.data is None or not file.inode.inline or self._blocks or self.is_removed:
                return False
            self._whole = WholeFile(file.data, file.inode.change, self._ledger.keep_whole(self.id))
        return True

    async def _leave_whole(self) -> None:
        """What was changed in memory becomes what is written through a session."""
        whole, self._whole = self._whole, None
        if whole is None or not whole.is_dirty:
            return
        try:
            await self._begin_session()
            if whole.cut is not None:
                await self._client.truncate(self.file, whole.cut)
            for offset, data in whole.written():
                await self._blocks.write(data, offset)
            if len(whole.data) > self.length:
                await self._drain()
                await self._client.truncate(self.file, len(whole.data))
            whole.free()
        except OSError:
            if self._blocks:
                whole.free()
            else:
                self._whole = whole
            raise

    async def _begin_session(self) -> None:
        if self.file.session != READ_ONLY:
            return
        try:
            opened = await self._client.meta.ask(Open(self.here, write=True))
        except FS3Error as failure:
            if failure.code is not Code.STALE:
                raise
            await self._hold()
            opened = await self._client.meta.ask(Open(self.here, write=True))
        self.file = self._client.adopt(opened, self.file.path)

    def _reader_of(self, inode: Inode, data: bytes | None = None) -> File:
        """The file without a session."""
        return File(inode, self.file.path, data=data)

    def _give_up_session(self) -> None:
        """It has ended without us, or its file has."""
        self._blocks.drop()
        self.file = self._reader_of(self.file.inode)

    async def _store(self, data: memoryview, offset: int) -> int:
        try:
            return await self._client.pwrite(self.file, data, offset)
        finally:
            self._note()

    # --- should this process be killed -------------------------------------------------------------------------------

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

    def _keep_block(self, offset: int) -> KeptBlock | None:
        return self._ledger.keep_block(self.id, offset)

    def _forget_whole(self) -> None:
        if self._whole is not None:
            self._whole.free()
            self._whole = None

    async def inherit(
        self,
        blocks: list[tuple[int, bytes]],
        whole: KeptWhole | None,
        attributes: SetAttributes | None,
        appender: File | None,
        lost: str,
    ) -> None:
        """What an earlier process had of it and did not store. `lost`: why it could not keep all of that."""
        self._appender, self._lost = appender, lost
        if attributes is not None:
            self._deferred.inherit(attributes)
            if self.is_removed:
                self._deferred.clear()
        if self.is_removed and self.file.session == READ_ONLY:
            with suppress(FS3Error):  # then it is told to who reads it
                await self._client.meta.readers.hold(self.file.inode.content_id)
        if whole is not None:
            self._whole = WholeFile.inherit(whole, self._ledger.keep_whole(self.id))
            if whole.change != self.inode.change or not self.inode.inline or self.is_removed:
                await self._leave_whole()
        for offset, data in blocks:
            await self._begin_session()
            await self._blocks.write(memoryview(data), offset)
        self._note()

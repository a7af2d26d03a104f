"""What all handles of one open file share: what is known of it, what was written and is not stored, and its session.

A small file, whose bytes are beside its inode, is changed in memory and stored whole by one request (`Put`), for as long as it is
small and no other client has changed it meanwhile. Any other file is written through a session, in blocks, which are stored while
more is written. `publish` is what close(2) and fsync(2) wait for: bytes durable, length and times known to all.

What is known of it is in `open_state`, how it is written in `open_session`, and how it is published in `open_publish`.
"""

from __future__ import annotations

from contextlib import suppress

from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.append_end import NotedAppendEnd
from fs3.api.fuse.kept_bytes import KeptWhole
from fs3.api.fuse.open_publish import OpenPublish
from fs3.api.fuse.open_state import GONE
from fs3.api.fuse.whole_file import WholeFile
from fs3.base.errors import FS3Error
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.requests import Open, SetAttributes, Truncate


class OpenInode(OpenPublish):
    """A regular file with open handles. Belongs to one event loop."""

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
                if failure.code not in GONE:
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

    # --- its length and its space ------------------------------------------------------------------------------------

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

    # --- should this process have been killed ------------------------------------------------------------------------

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

"""The verbs of `Client` that read and write the bytes of open files, and copy them. A part of the native client."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from fs3.api.access_times import AccessTimes
from fs3.api.append import AppendEnd, Appender
from fs3.api.client_close import CloseCalls
from fs3.api.client_open import OpenCalls
from fs3.api.data import FileData
from fs3.api.file import BytesProgress, File, check_length, check_range
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import ReadBuffer, source_of, target_of
from fs3.api.io.device_memory import have_device_memory, is_on_device
from fs3.api.io.device_staging import read_staged, write_one_staged, write_staged
from fs3.api.namespace import Failures, parent_of
from fs3.base.errors import error
from fs3.base.limits import client_write_call_bytes
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.requests import Truncate

Counts = list[int]


class ByteCalls(OpenCalls, CloseCalls):
    """What a client can be asked about the bytes of files. Buffers are any contiguous memory, that of devices as well."""

    _data: FileData
    _appender: Appender
    _accesses: AccessTimes | None

    async def pread(self, file: File, length: int, offset: int = 0) -> bytes:
        """At most `length` bytes at `offset`; fewer at the end of the file. Never-written ranges are zeros."""
        file.check_open()
        if self._accesses is not None:
            self._accesses.note(self.meta, file)
        offset = check_range(offset, 0, file.path)
        count = max(0, min(check_length(length, file.path), file.length - offset))
        return await self._read_bytes(file, count, offset) if count else b""

    async def pread_into(self, file: File, buffer: Any, offset: int = 0) -> int:
        """Fill a writable, contiguous buffer from `offset`, received in place, or by way of host memory where it is device
        memory. How many bytes; fewer at the end of the file."""
        file.check_open()
        if is_on_device(buffer):
            return (await self.preadv_many([(file, offset, buffer)]))[0]
        if self._accesses is not None:
            self._accesses.note(self.meta, file)
        return await self._data.read_one(file, check_range(offset, 0, file.path), target_of(buffer, file.path))

    def pread_directly(self, file: File, view: memoryview, offset: int) -> bool:
        """Fill a flat buffer from `offset` on a thread that is not the loop's, which blocks meanwhile. False: not done, and
        `pread_into` has to be asked. It does what nearly always happens to small reads, at a fraction of the cost."""
        if self.closed or file.closed or not self._data.read_directly(file, offset, view):
            return False
        if self._accesses is not None:
            self._accesses.note(self.meta, file)
        return True

    async def preadv_many(self, requests: Sequence[tuple[File, int, Any]]) -> Counts:
        """Fill many buffers, of any files, in one request per storage node: (file, offset, buffer) each. The bytes each got."""
        if have_device_memory(buffer for _, _, buffer in requests):
            return await read_staged(self.preadv_many, requests)
        checked = []
        for file, offset, buffer in requests:
            file.check_open()
            checked.append((file, check_range(offset, 0, file.path), target_of(buffer, file.path)))
            if self._accesses is not None:
                self._accesses.note(self.meta, file)
        return await self._data.read(checked)

    async def _read_bytes(self, file: File, count: int, offset: int) -> bytes:
        buffer = ReadBuffer(count)
        return buffer.take(await self._data.read_one(file, offset, buffer.view))

    async def pwrite(self, file: File, data: Any, offset: int = 0) -> int:
        """Write bytes at `offset`; durable on every replica when it returns. The data must not change until then.

        Bytes between the old end and `offset` become a hole. The new length is published by `fsync` and `close`. When it fails,
        or is cancelled, any part of the range may have been written.
        """
        file.check_appends(False)
        if is_on_device(data):
            return await write_one_staged(self.pwritev_many, (file, offset, data))
        view = source_of(data, file.path)
        return await self._data.write(file, check_range(offset, len(view), file.path), view)

    async def pwritev_many(self, requests: Sequence[tuple[File, int, Any]]) -> Failures:
        """Write many buffers, to any files, with few requests: (file, offset, data) each, as `pwrite`. None or its error for
        each."""
        if have_device_memory(data for _, _, data in requests):
            return await write_staged(self.pwritev_many, requests)
        checked = []
        for file, offset, data in requests:
            file.check_appends(False)
            view = source_of(data, file.path)
            checked.append((file, check_range(offset, len(view), file.path), view))
        return await self._data.write_many(checked)

    async def append(self, file: File, data: Any, *, unnamed: bool = False, end: AppendEnd | None = None) -> int:
        """Write bytes at the end of a file, wherever that is by now; the offset they got. Any handle that writes may append, also
        one that writes in place: what it wrote before is published first.

        However many append at once, the bytes of one call stay together, and are durable and seen by every later open when it
        returns. When it fails nothing of them is ever seen, unless it says that it may have happened. The data must not change
        until then. STALE when the file was removed, or replaced by another one; with `unnamed` they are appended all the same to
        what the handle has open, unless that got other bytes. `end` remembers the last step.
        """
        writes = await self._prepare_append(file)
        view = source_of(data, file.path)

        async def piece(at: int, size: int) -> memoryview:
            return view[at : at + size]

        return await self._appender.append(file, len(view), piece, writes, unnamed=unnamed or file.unnamed, end=end)

    async def append_file(self, file: File, source: File) -> int:
        """The same with all bytes of another open file."""
        writes = await self._prepare_append(file)
        count = min(source.length, client_write_call_bytes)
        buffer = bytearray()

        async def piece(at: int, size: int) -> memoryview:
            if not buffer:
                await reserved.enter_async_context(
                    buffer_budget.reserve(count)
                )  # now that bytes move: the file's end has its turn
                buffer.extend(bytes(count))
            view = memoryview(buffer)[:size]
            if await self.pread_into(source, view, at) < size:
                raise error(Code.STALE, "the file became shorter while it was appended to another one", source.path)
            return view

        async with AsyncExitStack() as reserved:
            return await self._appender.append(file, source.length, piece, writes)

    async def _prepare_append(self, file: File) -> int:
        """What a handle has written in place has its place in the file before it appends: so many writes."""
        file.check_writable()
        await file.wait_written()
        writes = file.writes
        if file.modified:
            await self._publish(file)
            file.check_found()
        return writes

    async def truncate(self, file: File | str, length: int) -> Inode:
        """Set the length of an open file or of a path: what lies behind is gone for good, what is new reads as zeros."""
        if isinstance(file, str):
            length = check_length(length, file)
            opened = await self.open(file, "r+")
            try:
                return await self.truncate(opened, length)
            finally:
                await self.close(opened)
        file.check_writable()
        length = check_length(length, file.path)
        await file.wait_written()
        if file.modified:
            # What lies behind the recorded end is left alone by a truncation to a longer length: it may be another writer's.
            await self._publish(file)
        writes = file.writes
        inode = await self.meta.ask(Truncate(file.inode.content_id, length))
        file.on_told(inode, writes)
        file.check_found()
        return inode

    async def copy_file(
        self,
        source: str,
        target: str,
        *,
        exclusive: bool = False,
        make_parents: bool = False,
        done: BytesProgress | None = None,
    ) -> Inode:
        """Copy a file's bytes and permission bits, several chunks under way; the target appears at once and whole. As with `cp`,
        extended attributes and ACLs stay behind. `make_parents` makes missing directories above it, also when another client
        removes them meanwhile."""
        reading = await self.open(source, "r")
        permissions = reading.inode.mode & 0o777
        writing = await self.open_unnamed(parent_of(target), permissions=permissions, make_parents=make_parents, becomes=target)
        try:
            length = await self._data.copy(reading, writing, done)
            if length != writing.length:
                await self.truncate(writing, length)  # it ends in a hole, or the source has become shorter
            return await self.close(writing, target, exclusive=exclusive, make_parents=make_parents)
        except BaseException:
            await self.abandon(writing)
            raise

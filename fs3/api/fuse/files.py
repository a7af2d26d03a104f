"""Regular files: opening, bytes, and what closing and syncing them promises."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass

from fs3.api.client import Client
from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.base import FuseBase
from fs3.api.fuse.names import place
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.options import FuseOptions
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.core.meta.access import without_set_ids
from fs3.drivers.fuse.operations import Answer
from fs3.drivers.fuse.protocol import OpenFlag
from fs3.drivers.fuse.records import Created, KernelRequest, Opened
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Open, Stat


@dataclass(slots=True)
class FileHandle:
    """An open file description of the kernel."""

    opened: OpenInode
    writes: bool
    appends: bool = False
    """It was opened for that: its reads and writes are not of the kernel's pages, which would be filled where the end was."""
    drops: bool = False
    """It is not known whether the kernel has dropped its pages, which it was told to do with the open."""
    lock_file: File | None = None
    """Stands for it where locks are asked for."""


class FileOperations(FuseBase):
    """See `Operations`."""

    def __init__(self, client: Client, options: FuseOptions) -> None:
        super().__init__(client, options)
        self._files: dict[int, FileHandle] = {}

    # --- open and close ----------------------------------------------------------------------------------------------

    async def create(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Created:
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        # Who may not write what it creates writes it through the session that comes with the creation.
        locks_out = bool(self.client.meta.user.uid) and not mode & ~umask & 0o200 and writes
        result = await self.ask(
            request,
            Open(
                place(request, name),
                write=locks_out,
                create=True,
                exclusive=bool(flags & os.O_EXCL),
                mode=mode,
                umask=umask,
                want_data=not locks_out,
            ),
        )
        _check_file(result.inode)
        data = b"" if result.data is None and result.inode.inline and not result.inode.length else result.data
        if not self.told.knows(result.inode.id):
            self.told.begin(result.inode)
        opened = await self._open(result, data, writes, flags)
        entry = self.entry_told(opened.inode, opened.length)
        return Created(entry, self._answer(opened, result.inode, writes, flags))

    async def tmpfile(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Created:
        here = PathRef(InodeId(request.node), "")
        wanted = Open(here, write=True, create=True, unnamed=True, mode=mode, umask=umask)
        result = await self.ask(request, wanted)
        self.told.begin(result.inode)
        file = self.client.adopt(result, f"inode {result.inode.id}", unnamed=True)
        opened = self.inodes[result.inode.id] = OpenInode(self.client, self.told, file, is_removed=True)
        opened.handles = opened.writers = 1
        return Created(self.entry_told(opened.inode), self._answer(opened, opened.inode, True, flags))

    async def open(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Opened:
        meta = self.identities.meta_for(request)
        access = flags & os.O_ACCMODE
        result = await self._ask_open(meta, InodeId(request.node), reads=access != os.O_WRONLY)
        _check_file(result.inode)
        writes = access != os.O_RDONLY
        if drops_set_ids and flags & os.O_TRUNC:
            await self.drop_set_ids(result.inode)
        opened = await self._open(result, result.data, writes, flags)
        return self._answer(opened, result.inode, writes, flags)

    async def _ask_open(self, meta: MetaClient, inode: InodeId, *, reads: bool) -> OpenResult:
        """The file as it is at this moment, with its bytes where they are few. The kernel has checked that it may be opened."""
        here = PathRef(inode, "")
        opened = self.inodes.get(inode)
        if opened is not None and (opened.is_dirty or opened.is_removed):
            return OpenResult(opened.inode, opened.file.session, opened.file.data)
        if reads:
            try:
                return await self.ask_as(meta, Open(here, want_data=True))
            except FS3Error as failure:
                if failure.code is not Code.ACCESS:
                    raise
                # A program that may be run and not be read.
        found = await self.ask_as(meta, Stat(here, follow=False))
        return OpenResult(found, opened.file.session if opened is not None else READ_ONLY)

    async def _open(self, result: OpenResult, data: bytes | None, writes: bool, flags: int) -> OpenInode:
        opened = self.open_inode(result.inode, data)
        if result.session and not opened.file.session:
            opened.file = self.client.adopt(result, opened.file.path)
        opened.handles += 1
        opened.writers += writes
        try:
            if flags & os.O_TRUNC and opened.length:
                await opened.truncate(0, is_open=True)
        except BaseException:
            opened.handles -= 1
            opened.writers -= writes
            raise
        return opened

    def _answer(self, opened: OpenInode, inode: Inode, writes: bool, flags: int) -> Opened:
        """A new handle. `inode`: as the services told it for this open."""
        number = self.next_handle()
        handle = self._files[number] = FileHandle(opened, writes, bool(flags & os.O_APPEND))
        if handle.appends or self.options.direct_io:
            return Opened(number, OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES | OpenFlag.KEEP_CACHE)
        if not opened.is_at(inode):
            # Something is under way to it, so that what is known of it here was not brought up to date.
            self.told.forget(inode.id)
            return Opened(number)
        handle.drops = not self.told.open(opened.inode, number)
        return Opened(number, 0 if handle.drops else OpenFlag.KEEP_CACHE)

    def file(self, handle: int) -> FileHandle:
        """An open file description. EBADF."""
        found = self._files.get(handle)
        if found is None:
            raise OSError(errno.EBADF, f"handle {handle} is not open")
        if found.drops:
            found.drops = False
            self.told.drop(found.opened.id, handle)
        return found

    def flush(self, request: KernelRequest, handle: int, owner: int) -> Answer[None]:
        file = self.file(handle)
        return file.opened.close_writer() if file.writes else None

    async def fsync(self, request: KernelRequest, handle: int, data_only: bool) -> None:
        await self.file(handle).opened.publish()

    async def release(self, request: KernelRequest, handle: int, owner: int | None) -> None:
        file = self.file(handle)
        del self._files[handle]
        opened = file.opened
        opened.handles -= 1
        opened.writers -= file.writes
        if not opened.handles:
            await opened.finish()
            if not opened.handles and self.inodes.get(opened.id) is opened:
                del self.inodes[opened.id]

    async def close(self) -> None:
        """The mount is gone: what was written and not closed is stored."""
        await self.tasks.join()
        await asyncio.gather(*(opened.finish() for opened in list(self.inodes.values())))
        self.inodes.clear()
        self._files.clear()

    # --- bytes -------------------------------------------------------------------------------------------------------

    def read(self, request: KernelRequest, handle: int, offset: int, size: int) -> Answer[bytes | bytearray | memoryview]:
        opened = self.file(handle).opened
        found = opened.read_now(offset, size)
        if found is None:
            return opened.read(offset, size)
        self.client.record_read(opened.file)
        return found

    def write(
        self, request: KernelRequest, handle: int, offset: int, data: memoryview, flags: int, drops_set_ids: bool
    ) -> Answer[int]:
        opened = self.file(handle).opened
        if flags & os.O_APPEND:
            return self._append(self.file(handle), data, offset)
        if offset + len(data) > file_bytes_max:
            raise OSError(errno.EFBIG, f"a file has at most {file_bytes_max} bytes")
        if drops_set_ids and without_set_ids(opened.inode.mode) != opened.inode.mode:
            return self._write_without_set_ids(opened, data, offset)
        if opened.write_now(data, offset):
            return len(data)
        return self._write(opened, data, offset)

    async def _write(self, opened: OpenInode, data: memoryview, offset: int) -> int:
        await opened.write(data, offset)
        return len(data)

    async def _write_without_set_ids(self, opened: OpenInode, data: memoryview, offset: int) -> int:
        await self.drop_set_ids(opened.inode)
        return await self._write(opened, data, offset)

    async def _append(self, file: FileHandle, data: memoryview, expected: int) -> int:
        opened = file.opened
        at, inode = await opened.append(data)
        if file.appends:
            # Other handles may have pages that end where the file did.
            if self.notifier is not None and self.told.knows(opened.id):
                await self.notifier.forget_data(opened.id, at)
            self.told.change(inode)
        elif at == expected:
            self.told.change(inode)
        else:
            # Others have appended: the kernel has put the bytes where it thought that the end was, and holds that page until this
            # is answered.
            self.told.forget(opened.id)
            if self.notifier is not None:
                self.tasks.start(self.notifier.forget_data(opened.id, min(at, expected)))
        return len(data)


def _check_file(inode: Inode) -> None:
    """Raises EISDIR for a directory, and EOPNOTSUPP for what else has no bytes: the kernel opens special files itself."""
    if inode.type is InodeType.DIRECTORY:
        raise OSError(errno.EISDIR, "is a directory")
    if inode.type is not InodeType.FILE:
        raise OSError(errno.EOPNOTSUPP, "is not a regular file")

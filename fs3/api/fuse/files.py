"""Regular files: opening, bytes, and what closing and syncing them promises."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable
from dataclasses import dataclass

from fs3.api.client import Client
from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.append_end import NotedAppendEnd
from fs3.api.fuse.base import FuseBase
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.names import place
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.options import FuseOptions
from fs3.api.fuse.read_ahead import ReadAhead, ahead_bytes_min, handles_ahead_max
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.core.meta.access import without_set_ids
from fs3.drivers.fuse.operations import Answer, Later
from fs3.drivers.fuse.protocol import UNIQUE_RESEND, OpenFlag
from fs3.drivers.fuse.records import Created, KernelRequest, Opened
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Open, Stat


@dataclass(slots=True)
class FileHandle:
    """An open file description of the kernel."""

    opened: OpenInode
    writes: bool
    number: int
    appends: bool = False
    """It was opened for that: its reads and writes are not of the kernel's pages, which would be filled where the end was."""
    drops: bool = False
    """It is not known whether the kernel has dropped its pages, which it was told to do with the open."""
    lock_file: File | None = None
    """Stands for it where locks are asked for."""
    ahead: ReadAhead | None = None
    """Of one that reads past the kernel's memory."""


class FileOperations(FuseBase):
    """See `Operations`."""

    def __init__(self, client: Client, options: FuseOptions, ledger: MountLedger | None = None) -> None:
        super().__init__(client, options, ledger)
        self._files: dict[int, FileHandle] = {}
        self._opened_by: dict[int, int] = {}
        """The handles of an earlier process, by the requests that opened them."""
        self._handles_ahead = 0
        """Handles that read ahead."""

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
        if not self.may_have_pages(result.inode.id):
            self.told.begin(result.inode)
        opened = await self._open(result, data, writes, flags)
        entry = self.entry_told(opened.inode, opened.length)
        return Created(entry, self._answer(request, opened, result.inode, writes, flags))

    async def tmpfile(self, request: KernelRequest, name: bytes, flags: int, mode: int, umask: int) -> Created:
        here = PathRef(InodeId(request.node), "")
        wanted = Open(here, write=True, create=True, unnamed=True, mode=mode, umask=umask)
        result = await self.ask(request, wanted)
        self.told.begin(result.inode)
        opened = self.inodes.get(result.inode.id)
        if opened is None:  # else an earlier process has made it
            file = self.client.adopt(result, f"inode {result.inode.id}", unnamed=True)
            opened = self.inodes[result.inode.id] = OpenInode(self.client, self.told, file, self.ledger, is_removed=True)
        opened.handles += 1
        opened.writers += 1
        return Created(self.entry_told(opened.inode), self._answer(request, opened, opened.inode, True, flags))

    def open(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Answer[Opened]:
        access = flags & os.O_ACCMODE
        looked_up = self.lookups.take(request.pid, request.node)
        if access == os.O_RDWR or flags & os.O_TRUNC:
            return self._open_asking(request, flags, drops_set_ids)
        opened = self.inodes.get(InodeId(request.node))
        if opened is not None and (opened.is_dirty or opened.is_removed):
            return self._open_asking(request, flags, drops_set_ids)
        writes = access == os.O_WRONLY
        if looked_up is not None and self._is_enough(looked_up, writes=writes):
            return self._open_found(request, looked_up, self.recent_bytes.find(looked_up), flags)
        if writes:
            return self._open_asking(request, flags, drops_set_ids)
        here = PathRef(InodeId(request.node), "")

        def found(result: OpenResult, later: Later[Opened]) -> None:
            opened = self.inodes.get(result.inode.id)
            if opened is not None and (opened.is_dirty or opened.is_removed):
                self.follow(later, self._open_asking(request, flags, drops_set_ids))
            else:
                later.finish(self._open_found(request, result.inode, result.data, flags))

        def refused(why: FS3Error, later: Later[Opened]) -> bool:
            if why.code is Code.ACCESS:  # a program that may be run and not be read
                self.follow(later, self._open_asking(request, flags, drops_set_ids))
            return why.code is Code.ACCESS

        return self.submit(self.identities.meta_for(request), Open(here, want_data=True), found, refused)

    def _is_enough(self, inode: Inode, *, writes: bool) -> bool:
        """Nothing has to be asked for an open but what the look-up has found: the bytes are here, or in chunks."""
        if inode.type is not InodeType.FILE or not inode.nlink:
            return False
        return writes or not inode.inline or self.recent_bytes.find(inode) is not None

    def _open_found(self, request: KernelRequest, inode: Inode, data: bytes | None, flags: int) -> Opened:
        """Open a file which nothing has to be done to."""
        _check_file(inode)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        opened = self.inodes.get(inode.id)
        if data is None and opened is not None:
            data = opened.data_of(inode)
        opened = self.open_inode(inode, data)
        opened.handles += 1
        opened.writers += writes
        return self._answer(request, opened, inode, writes, flags)

    async def _open_asking(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Opened:
        meta = self.identities.meta_for(request)
        access = flags & os.O_ACCMODE
        result = await self._ask_open(request, meta, reads=access != os.O_WRONLY)
        _check_file(result.inode)
        writes = access != os.O_RDONLY
        if drops_set_ids and flags & os.O_TRUNC:
            await self.drop_set_ids(result.inode)
        opened = await self._open(result, result.data, writes, flags)
        return self._answer(request, opened, result.inode, writes, flags)

    async def _ask_open(self, request: KernelRequest, meta: MetaClient, *, reads: bool) -> OpenResult:
        """The file as it is at this moment, with its bytes where they are few. The kernel has checked that it may be opened."""
        inode = InodeId(request.node)
        here = PathRef(inode, "")
        opened = self.inodes.get(inode)
        if opened is not None and (opened.is_dirty or opened.is_removed):
            return OpenResult(opened.inode, opened.file.session, opened.file.data)
        if reads:
            try:
                return await self.ask_as(meta, Open(here, want_data=True), request)
            except FS3Error as failure:
                if failure.code is not Code.ACCESS:
                    raise
                # A program that may be run and not be read.
        found = await self.ask_as(meta, Stat(here, follow=False), request)
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

    def _answer(self, request: KernelRequest, opened: OpenInode, inode: Inode, writes: bool, flags: int) -> Opened:
        """A new handle. `inode`: as the services told it for this open."""
        number = self._opened_by.pop(request.unique & ~UNIQUE_RESEND, 0) if self._opened_by else 0
        handle = self._files.get(number)
        if handle is not None:
            # An earlier process had opened it, and was not heard: it is this handle, which is counted already.
            opened.handles -= 1
            opened.writers -= writes
            return self._answer_open(handle, inode)
        number = self.next_handle()
        handle = self._files[number] = FileHandle(opened, writes, number, bool(flags & os.O_APPEND))
        # A mount with `--direct-io` is for programs that want to see every write of others.
        if flags & os.O_DIRECT and not (writes or self.options.direct_io) and self._handles_ahead < handles_ahead_max:
            handle.ahead = ReadAhead(opened, self.client.meta.clock.now)
            self._handles_ahead += 1
        self.ledger.note_handle(number, opened.id, request.unique, writes=writes, appends=handle.appends)
        return self._answer_open(handle, inode)

    def _answer_open(self, handle: FileHandle, inode: Inode) -> Opened:
        number, opened = handle.number, handle.opened
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

    def flush(self, request: KernelRequest, handle: int, owner: int) -> Awaitable[None] | None:
        file = self.file(handle)
        return file.opened.close_writer() if file.writes else None

    async def fsync(self, request: KernelRequest, handle: int, data_only: bool) -> None:
        await self.file(handle).opened.publish()

    def release(self, request: KernelRequest, handle: int, owner: int | None) -> Awaitable[None] | None:
        file = self.file(handle)
        del self._files[handle]
        self.ledger.remove_handle(handle)
        if file.ahead is not None:
            file.ahead.close()
            self._handles_ahead -= 1
        opened = file.opened
        opened.handles -= 1
        opened.writers -= file.writes
        opened.was_written = opened.was_written or file.writes
        if opened.handles:
            return None
        if opened.has_work:
            return self.finish(opened)
        self._forget(opened)
        return None

    async def finish(self, opened: OpenInode) -> None:
        """No handle of a file is left."""
        await opened.finish()
        if not opened.handles:
            self._forget(opened)

    def _forget(self, opened: OpenInode) -> None:
        if self.inodes.get(opened.id) is opened:
            del self.inodes[opened.id]
            self.ledger.remove_open(opened.id)
            if opened.was_written:
                self.lookups.forget()
            file = opened.file
            is_of_it = file.inode.id == opened.id and not opened.is_removed
            if is_of_it and file.inode.inline and file.data is not None:
                self.recent_bytes.keep(file.inode, file.data)

    def inherit_handle(self, file: FileHandle, unique: int) -> None:
        """An earlier process has opened it, for this request."""
        self._files[file.number] = file
        self._opened_by[unique] = file.number
        file.opened.handles += 1
        file.opened.writers += file.writes

    async def close(self) -> None:
        """The mount is gone: what was written and not closed is stored."""
        await self.tasks.join()
        await asyncio.gather(*(opened.finish() for opened in list(self.inodes.values())))
        self.inodes.clear()
        self._files.clear()

    # --- bytes -------------------------------------------------------------------------------------------------------

    def read(self, request: KernelRequest, handle: int, offset: int, size: int) -> Answer[bytes | bytearray | memoryview]:
        file = self.file(handle)
        opened = file.opened
        if file.appends and offset + size > opened.length:
            return self._read_at_end(opened, offset, size)
        found = opened.read_now(offset, size)
        if found is None:
            if file.ahead is not None and size >= ahead_bytes_min:
                return file.ahead.read(offset, size)
            return opened.read(offset, size)
        self.client.record_read(opened.file)
        return found

    async def _read_at_end(self, opened: OpenInode, offset: int, size: int) -> bytes | memoryview:
        """Where the end is, the kernel asks before it reads pages; past them it does not."""
        await opened.refresh()
        return await opened.read(offset, size)

    def write(
        self, request: KernelRequest, handle: int, offset: int, data: memoryview, flags: int, drops_set_ids: bool
    ) -> Answer[int]:
        opened = self.file(handle).opened
        if flags & os.O_APPEND:
            return self._append(request, self.file(handle), data, offset)
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

    async def _append(self, request: KernelRequest, file: FileHandle, data: memoryview, expected: int) -> int:
        opened = file.opened
        at, inode = await opened.append(data, NotedAppendEnd(self.client.meta, self.ledger, request.unique))
        if file.appends:
            # Other handles may have pages that end where the file did.
            if self.notifier is not None and self.may_have_pages(opened.id):
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

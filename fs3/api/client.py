"""The native client: files and names of one cluster, as coroutines.

    async with await fs3.connect("fs3://127.0.0.1:8000") as client:
        file = await client.open("/data/part-0", "w")
        await client.pwrite(file, b"...", 0)        # durable on every replica when it returns
        await client.close(file)                    # its length is what every later open and stat sees

Paths start at the root, with or without a leading slash. Errors are `OSError`s of the usual kinds with the path as `filename`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

from fs3.api.access_times import AccessTimes
from fs3.api.append import AppendEnd, Appender
from fs3.api.attributes import AttributeCalls
from fs3.api.client_space import SpaceVerbs
from fs3.api.data import FileData
from fs3.api.file import READ_ONLY, BytesProgress, File, check_length, check_range
from fs3.api.io.budget import gather_bounded
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import ReadBuffer, source_of, target_of
from fs3.api.io.device_memory import have_device_memory, is_on_device
from fs3.api.io.device_staging import read_staged, write_one_staged, write_staged
from fs3.api.locks import FileLocks, LockCalls
from fs3.api.metrics import MetricCalls
from fs3.api.namespace import Failures, NameCalls, Stats, parent_of, parents_mode_of
from fs3.api.registration import BufferCalls
from fs3.api.session_ends import SessionEnds
from fs3.api.small_files import NewFile, SmallFiles, UnnamedFile
from fs3.api.space import FileSpace
from fs3.api.xattrs import XattrMethods
from fs3.base.errors import FS3Error, error
from fs3.base.limits import client_write_call_bytes
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.storage.client import StorageClient
from fs3.model.inode import Inode, InodeType, Layout, User
from fs3.model.namespace import OpenResult, PathRef, RenameMode
from fs3.model.requests import (
    TIME_NOW,
    Close,
    Link,
    Open,
    Put,
    Stat,
    Sync,
    Truncate,
)
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.tasks import TaskSet

__all__ = ["EXCHANGE", "NOREPLACE", "REPLACE", "TIME_NOW", "Client", "File"]

REPLACE = RenameMode.REPLACE
NOREPLACE = RenameMode.NOREPLACE
EXCHANGE = RenameMode.EXCHANGE

CLOSE_PATIENCE_NS = 5 * SECOND
"""How long closing a client waits for the sessions it still has."""

inline_opens_per_request = 128
"""Files that one request opens, which brings their bytes."""

users_kept_max = 1024
"""Views of one client for other users that are kept for the next call, those asked for last."""

_OPENS_AT_ONCE = 4
"""Requests that one call to open many files has under way."""

Counts = list[int]
Opens = list[File | FS3Error]

log = logging.getLogger("fs3.client")


class Client(NameCalls, AttributeCalls, XattrMethods, SpaceVerbs, LockCalls, MetricCalls, BufferCalls):
    """One connection to a cluster. Belongs to one event loop; any number of coroutines may use it at once."""

    def __init__(
        self,
        manager: MgmtdClient,
        meta: MetaClient,
        storage: StorageClient,
        disconnect: Callable[[], Awaitable[None]],
        *,
        umask: int = 0o022,
        relatime: bool = False,
        sources: MetricSources | None = None,
    ) -> None:
        """Made by `fs3.connect`. `disconnect` closes what the three parts share; `umask` is taken off the modes of new files,
        but where a default ACL says what they get; `relatime`: reads bring access times up to date; `sources`: of `metrics`."""
        self.sources = sources or MetricSources()
        self.manager = manager
        """Routing, and what the management service can be asked."""
        self.meta = meta
        """The namespace's verbs as they are on the wire."""
        self.storage = storage
        """Chunk IO."""
        self._disconnect = disconnect
        self._umask = umask
        self._data = FileData(storage, self._refresh)
        self._space = FileSpace(storage, self._data, self._refresh, self.fsync)
        self._appender = Appender(meta, storage, self._data.write_budget)
        self.locks = FileLocks(meta, self.fsync, self._refresh)
        self.small_files = SmallFiles(self)
        """Of many coroutines, each with one small file, together."""
        self._accesses = AccessTimes(meta.clock) if relatime else None
        self._sessions: dict[File, None] = {}
        """In the order in which they were opened: they are walked, and a set's order would be that of addresses."""
        self._session_ends = SessionEnds(meta)
        self._tasks = TaskSet()
        meta.on_return(lambda: self._tasks.start(self._check_sessions()))
        self._closed = False
        self._of: Client | None = None
        self._views: dict[tuple[User, int], Client] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def closed(self) -> bool:
        """`aclose` was called."""
        return self._closed if self._of is None else self._of.closed

    def _check_use(self) -> None:
        if self.closed:
            raise error(Code.INVALID, "the client is closed")

    async def aclose(self) -> None:
        """End the sessions that are still open (unnamed files vanish), give up all locks, then disconnect. A view of another user
        (`as_user`) is closed with the client that it is of, and not before."""
        if self._closed or self._of is not None:
            return
        self._closed = True
        await self._tasks.cancel()
        try:
            if self._accesses is not None:
                await self._accesses.close()
            ending: list[Awaitable[object]] = [self.close(file, discard=file.unnamed) for file in list(self._sessions)]
            if self.meta.readers.has_sessions:
                ending.append(self.meta.readers.end())
            async with asyncio.timeout(CLOSE_PATIENCE_NS / SECOND):
                for outcome in await asyncio.gather(*ending, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        log.info("a session was left to its lease: %s", outcome)
                await self._session_ends.flush()
        except TimeoutError:
            log.info("sessions were left to their lease: no answer")
        finally:
            await self._session_ends.stop()
            try:
                await self.locks.close()
            finally:
                await self._disconnect()

    def as_user(self, uid: int, gid: int, groups: Sequence[int] = (), *, umask: int | None = None) -> Client:
        """This client, asking for another user: permissions are checked for that one, who owns what is created. All else is
        shared, connections, open files, sessions and their keep-alive: a file may be opened by one and written and closed by
        another, as a file descriptor is passed on. To ask again costs little. `umask` None: that of this client. InvalidArgument
        for more than 1024 supplementary groups.

        Who may ask for whom is not checked here: a process that connects names its user itself."""
        client = self._of or self
        key = User(uid, gid, tuple(groups)), self._umask if umask is None else umask
        view = client._views.pop(key, None)
        if view is None:
            view = copy.copy(client)
            view._of = client
            view.meta = client.meta.as_user(key[0])
            view._umask = key[1]
            view._data = client._data.with_refresh(view._refresh)
            view._appender = client._appender.with_meta(view.meta)
            view.small_files = SmallFiles(view)
            if len(client._views) >= users_kept_max:
                del client._views[next(iter(client._views))]
        client._views[key] = view  # the one asked for last is dropped last
        return view

    # --- open and close ----------------------------------------------------------------------------------------------

    async def open(
        self, path: str, mode: str = "r", layout: Layout | None = None, *, permissions: int = 0o666, make_parents: bool = False
    ) -> File:
        """Opens a file: "r" read · "r+" read and write · "w" create or replace the content · "x" create · "a" create or append.

        Every mode but "r" may read too; with "a" bytes are written by `append` only. `layout` (fields of 0 are inherited from the
        directory) and `permissions` (less the umask) are for a file that is created; `make_parents` then makes missing
        directories above it, in the same transaction. NotFound, Exists, IsADirectory, NoPermission."""
        if mode not in ("r", "r+", "w", "x", "a"):
            raise error(Code.INVALID, f'mode is {mode!r}, not one of "r", "r+", "w", "x", "a"', path)
        opened = await self.meta.ask(
            Open(
                PathRef.of(path),
                write=mode != "r",
                create=mode in ("w", "x", "a"),
                exclusive=mode == "x",
                truncate=mode == "w",
                mode=permissions,
                layout=layout,
                append=mode == "a",
                want_data=mode == "r",
                parents_mode=parents_mode_of(make_parents),
                umask=self._umask,
            )
        )
        return self.adopt(opened, path, appends=mode == "a")

    def adopt(self, opened: OpenResult, path: str, *, appends: bool = False, unnamed: bool = False) -> File:
        """The handle of an open that was asked of `meta`; `path` is for failures. Its session is this client's. `unnamed`: it was
        created without a name. IsADirectory."""
        file = _opened_file(opened, path, appends=appends)
        file.unnamed = unnamed
        if file.session != READ_ONLY:
            self._sessions[file] = None
        elif opened.data is None:
            self.meta.readers.add(file)
        return file

    def inherit(self, opened: OpenResult, path: str, *, appends: bool = False) -> File:
        """The handle of a session of an earlier process of this client, which is the same one to the services."""
        self.meta.keep_session(opened.session)
        return self.adopt(opened, path, appends=appends)

    def open_directly(self, path: str) -> File | None:
        """Opens a file for reading on a thread that is not the loop's, which blocks meanwhile; raises as `open`. None: not done,
        and `small_files.open` has to be asked."""
        opened = None if self.closed else self.meta.ask_directly(Open(PathRef.of(path), want_data=True))
        if opened is None:
            return None
        file = _opened_file(opened, path)
        if opened.data is None:
            self.meta.readers.add(file)
        return file

    def lstat_directly(self, path: str) -> Inode | None:
        """`lstat` on a thread that is not the loop's, which blocks meanwhile. None: not done, and `lstat` has to be asked."""
        return None if self.closed else self.meta.ask_directly(Stat(PathRef.of(path), follow=False))

    async def open_many(self, paths: Sequence[str]) -> Opens:
        """Opens many files for reading, in few requests, which bring the bytes of those that are small: its handle or its error
        for each."""
        requests = [Open(PathRef.of(path), want_data=True) for path in paths]
        step = inline_opens_per_request
        parts = (self.meta.batch(requests[at : at + step]) for at in range(0, len(requests), step))
        answers = [answer for part in await gather_bounded(parts, _OPENS_AT_ONCE) for answer in part]
        opens: Opens = []
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, OpenResult):
                file = File(answer.inode, path, data=answer.data)
                if answer.data is None:
                    self.meta.readers.add(file)
                opens.append(file)
            else:
                opens.append(answer)
        return opens

    async def put(self, new: NewFile) -> Inode:
        """Creates a small file with all its bytes, in one request, or gives them to the file that has the name; it appears at
        once and whole, and is durable when it returns. FS3Error NOT_INLINE, and nothing happened, when the service does not keep
        so many bytes in the metadata store. A symlink is followed, unless it is `exclusive`."""
        return await self.meta.ask(self._put_request(new))

    async def put_many(self, files: Sequence[NewFile]) -> Stats:
        """The same for many files, in few requests and commits: its inode or its error for each."""
        return await self.meta.batch([self._put_request(new) for new in files]) if files else []

    def _put_request(self, new: NewFile) -> Put:
        return Put(
            PathRef.of(new.path),
            bytes(new.data),
            new.how.permissions,
            new.how.layout,
            new.exclusive,
            parents_mode_of(new.how.make_parents),
            umask=self._umask,
        )

    async def open_unnamed(
        self,
        directory: str = "/",
        layout: Layout | None = None,
        *,
        permissions: int = 0o666,
        make_parents: bool = False,
        becomes: str | None = None,
    ) -> File:
        """A new file that no other client sees until `close(file, publish=path)` gives it a name at once and whole.

        `directory` is where it is meant to go: its layout and permissions count; `make_parents` makes it when it is missing, and
        those above it. `becomes`: the name it is meant to get, which errors tell then. A file that is never published vanishes.
        """
        new = UnnamedFile(directory, layout, permissions, make_parents)
        try:
            opened = await self.meta.ask(self._creation_of(new))
        except FS3Error as refusal:
            if becomes is None or refusal.filename != directory:
                raise
            why = "no such directory" if refusal.code is Code.NOT_FOUND else refusal.strerror or ""
            raise error(refusal.code, why, becomes) from None
        return self.adopt(opened, becomes or directory, unnamed=True)

    async def open_unnamed_many(self, wanted: Sequence[UnnamedFile]) -> Opens:
        """The same for many files, in few requests and commits: its handle or its error for each."""
        requests = [self._creation_of(new) for new in wanted]
        opens: Opens = []
        for new, answer in zip(wanted, await self.meta.batch(requests) if requests else [], strict=True):
            if isinstance(answer, FS3Error):
                opens.append(answer)
                continue
            file = File(answer.inode, new.directory, answer.session, unnamed=True)
            self._sessions[file] = None
            opens.append(file)
        return opens

    def _creation_of(self, new: UnnamedFile) -> Open:
        return Open(
            PathRef.of(new.directory),
            write=True,
            create=True,
            unnamed=True,
            mode=new.permissions,
            layout=new.layout,
            parents_mode=parents_mode_of(new.make_parents),
            umask=self._umask,
        )

    async def publish_many(self, files: Sequence[tuple[File, str, bool]]) -> Stats:
        """Closes many unnamed files and gives them their names, in few requests and commits: its inode or its error for each.
        (file, name, whether missing directories above it are made) each.

        No write of them may be under way. The handles of those that failed stay open."""
        now = self.meta.clock.now()
        requests = [
            Close(
                file.inode.content_id,
                file.session,
                length=file.acknowledged if file.modified else None,
                modified=file.modified,
                publish=PathRef.of(path),
                truncations=file.truncations,
                parents_mode=parents_mode_of(make_parents),
                keep_mtime=file.mtime_is_set,
                umask=self._umask,
                written_ago_ns=file.written_ago(now),
                leaves_holes=file.leaves_holes,
            )
            for file, path, make_parents in files
        ]
        answers: Stats = await self.meta.batch(requests) if requests else []
        for (file, path, _), answer in zip(files, answers, strict=True):
            if isinstance(answer, FS3Error):
                file.is_lost = file.is_lost or answer.code in (Code.NO_SESSION, Code.STALE)
                continue
            self._on_closed(file, answer, path)
            await self.locks.release(file)
        return answers

    async def close(
        self,
        file: File,
        publish: str | None = None,
        *,
        exclusive: bool = False,
        discard: bool = False,
        make_parents: bool = False,
    ) -> Inode:
        """Ends the handle; when it returns, every later open and stat of any client sees the length.

        Unnamed files: `publish` is the name they get. A file that has it gets the new content at once and whole, and stays the
        file it is, under all its names (`exclusive`: Exists instead; the handle then stays open); `make_parents` makes missing
        directories above it. Without a name, or with `discard`, they vanish. `discard` of a named file publishes nothing, and
        takes back what was written behind the end it has, unless another client has it open for writing. Writes that are under
        way are waited for. Closing twice is fine. Where there is nothing to publish, nothing is asked, and the session ended in
        the background. STALE, and the handle is closed, when it has written to a file that got another content meanwhile.
        """
        if file.closed:
            return file.inode
        if publish is not None and not file.unnamed:
            raise error(Code.INVALID, f"publish is {publish!r}, but the file has a name already", file.path)
        await file.wait_written()
        if file.session == READ_ONLY:
            file.closed = True
            self.meta.readers.discard(file)
            await self.locks.release(file)
            return file.inode
        keep = not discard
        request = Close(
            file.inode.content_id,
            file.session,
            length=file.acknowledged if keep and file.modified else None,
            modified=keep and file.modified,
            publish=None if publish is None or discard else PathRef.of(publish),
            exclusive=exclusive,
            discard=discard and (file.unnamed or file.acknowledged > file.inode.length),
            truncations=file.truncations,
            parents_mode=parents_mode_of(make_parents),
            keep_mtime=file.mtime_is_set,
            umask=self._umask,
            written_ago_ns=file.written_ago(self.meta.clock.now()),
            leaves_holes=file.leaves_holes,
        )
        if not (request.modified or request.discard or file.unnamed):
            file.closed = True
            self._sessions.pop(file, None)
            self._session_ends.add(file.inode.content_id, file.session)
            await self.locks.release(file)
            return file.inode
        if request.discard:
            # It takes back nothing while another session is open.
            await self._session_ends.flush()
        try:
            inode = await self._ask_with_session(file, request)
        except FS3Error:
            if file.is_lost:
                await self.locks.release(file)
            raise
        self._on_closed(file, inode, publish)
        await self.locks.release(file)
        if request.modified:
            file.check_found()
        return inode

    def _on_closed(self, file: File, inode: Inode, publish: str | None) -> None:
        file.closed = True
        self._sessions.pop(file, None)
        file.on_told(inode)
        if publish is not None:
            file.path = publish
            file.unnamed = False

    async def fsync(self, file: File) -> None:
        """Publish length and times of what was written. The bytes themselves are durable as soon as a write returns."""
        file.check_open()
        await file.wait_written()
        if file.session != READ_ONLY and file.modified:
            await self._publish(file)
            file.check_found()

    # --- bytes -------------------------------------------------------------------------------------------------------

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

    async def _prepare_append(self, file: File) -> int:
        """What a handle has written in place has its place in the file before it appends: so many writes."""
        file.check_writable()
        await file.wait_written()
        writes = file.writes
        if file.modified:
            await self._publish(file)
            file.check_found()
        return writes

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
            # What lies behind the recorded end is left alone by a truncation to a longer length: it may be somebody else's.
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

    async def abandon(self, file: File) -> None:
        """Discard a handle while another failure is on its way: what goes wrong here is only logged."""
        try:
            await asyncio.shield(self.close(file, discard=True))
        except FS3Error as failure:
            log.info("%s was left to its lease: %s", file.path, failure)

    async def _read_bytes(self, file: File, count: int, offset: int) -> bytes:
        buffer = ReadBuffer(count)
        return buffer.take(await self._data.read_one(file, offset, buffer.view))

    async def _publish(self, file: File) -> None:
        """Tell what was acknowledged. No write is under way."""
        writes = file.writes
        request = Sync(
            file.inode.content_id,
            file.session,
            file.acknowledged if file.modified else None,
            modified=file.modified,
            truncations=file.truncations,
            keep_mtime=file.mtime_is_set,
            written_ago_ns=file.written_ago(self.meta.clock.now()),
            leaves_holes=file.leaves_holes,
        )
        file.on_told(await self._ask_with_session(file, request), writes)

    async def _ask_with_session(self, file: File, request: Close | Sync) -> Inode:
        try:
            return await self.meta.ask(request)
        except FS3Error as failure:
            if failure.code in (Code.NO_SESSION, Code.STALE):
                file.is_lost = True
            raise

    async def _refresh(self, file: File) -> None:
        """What the service has of an open file now. STALE when it may be partly gone, or is open for writing and has another
        content."""
        file.check_found()
        if file.session == READ_ONLY or file.closed:
            await self._refresh_reader(file)
            return
        inode: Inode | None = None
        data: bytes | None = None
        try:
            inode, data = await self._ask_inode(file)
        except FS3Error as failure:
            if failure.code not in (Code.NOT_FOUND, Code.STALE):
                raise
        if inode is not None and inode.content_id != file.inode.content_id:
            file.is_replaced = True
            file.check_found()
        if inode is not None:
            if inode.inline or (inode.nlink and inode.truncations == file.inode.truncations):
                file.set_inode(inode, data)
                return
            # Its session keeps a file without a name; and what it has acknowledged may be from before a truncation. Both is known
            # to the service only.
            await file.wait_written()
            try:
                await self._publish(file)
            except FS3Error as failure:
                if not file.is_lost:
                    raise
                log.info("%s: %s", file.path, failure)
                file.check_found()
            return
        file.is_lost = True
        raise error(Code.STALE, "the file was removed while it was read", file.path)

    async def _refresh_reader(self, file: File) -> None:
        """The same for a handle that only reads: it goes on reading the bytes that it was opened on, whatever became of their
        name."""
        content = file.inode.content_id
        inode: Inode | None = None
        data: bytes | None = None
        try:
            inode, data = await self._ask_inode(file)
        except FS3Error as failure:
            if failure.code not in (Code.NOT_FOUND, Code.STALE):
                raise
        if inode is None or inode.content_id != content or not (inode.nlink or self.meta.readers.is_held(content)):
            try:
                held = await self.meta.readers.hold(content)
            except FS3Error as failure:
                if failure.code not in (Code.STALE, Code.ACCESS, Code.UNSUPPORTED):
                    raise
                raise error(Code.STALE, "the file was removed while it was read", file.path) from None
            inode, data = held.inode, held.data
        file.set_inode(inode, data)

    async def _ask_inode(self, file: File) -> tuple[Inode, bytes | None]:
        """The inode of an open file as it is now; with its bytes, where it is inline."""
        here = PathRef(file.inode.id, "")
        if not file.inode.inline:
            inode = await self.meta.ask(Stat(here, follow=False))
            if not inode.inline:
                return inode, None
        opened = await self.meta.ask(Open(here, want_data=True))
        return opened.inode, opened.data

    async def _check_sessions(self) -> None:
        """The service has not heard of this client for long: which of its sessions, and of its locks, are still there?"""
        for file in list(self._sessions):
            try:
                await self._ask_with_session(file, Sync(file.inode.content_id, file.session))
            except FS3Error as failure:
                log.warning("%s: %s", file.path, failure)
        with suppress(FS3Error):
            await self.locks.check()

    async def link_open(self, file: File, path: str | PathRef) -> Inode:
        """Make `path` a name of an open file, which stays open. One that was opened without a name gets its first one: what was
        written is published with it, and closing it is as of any file. Exists when the name is taken; NotFound when the file has
        lost its name."""
        file.check_open()
        source = PathRef(file.inode.id, "")
        if not file.unnamed:
            return await self.meta.ask(Link(source, PathRef.of(path)))
        await self.fsync(file)
        inode = await self.meta.ask(Link(source, PathRef.of(path), file.session))
        file.unnamed = False
        file.path = path if isinstance(path, str) else path.path
        file.set_inode(inode)
        return inode


def _opened_file(opened: OpenResult, path: str, *, appends: bool = False) -> File:
    """The handle of an open that was answered. Raises IsADirectory."""
    if opened.inode.type is not InodeType.FILE:
        raise error(Code.IS_A_DIRECTORY, "is a directory", path)
    return File(opened.inode, path, opened.session, appends=appends, data=opened.data)

"""The verbs of `Client` that publish what was written to open files, name them and close them. A part of the native client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fs3.api.file import READ_ONLY, File
from fs3.api.locks import FileLocks
from fs3.api.namespace import Stats, parents_mode_of
from fs3.api.session_ends import SessionEnds
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Close, Link, Sync

log = logging.getLogger("fs3.client")


class CloseCalls:
    """What a client can be asked about how open files end, and when others see what was written."""

    meta: MetaClient
    locks: FileLocks
    _umask: int
    _sessions: dict[File, None]
    _session_ends: SessionEnds

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

    def _on_closed(self, file: File, inode: Inode, publish: str | None) -> None:
        file.closed = True
        self._sessions.pop(file, None)
        file.on_told(inode)
        if publish is not None:
            file.path = publish
            file.unnamed = False

    async def abandon(self, file: File) -> None:
        """Discard a handle while another failure is on its way: what goes wrong here is only logged."""
        try:
            await asyncio.shield(self.close(file, discard=True))
        except FS3Error as failure:
            log.info("%s was left to its lease: %s", file.path, failure)

    async def fsync(self, file: File) -> None:
        """Publish length and times of what was written. The bytes themselves are durable as soon as a write returns."""
        file.check_open()
        await file.wait_written()
        if file.session != READ_ONLY and file.modified:
            await self._publish(file)
            file.check_found()

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

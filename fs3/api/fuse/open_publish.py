"""When others see what was written to an open file, and when what others have published is seen here."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from msgspec.structs import replace

from fs3.api.file import READ_ONLY
from fs3.api.fuse.open_session import OpenSession
from fs3.api.fuse.open_state import GONE
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Link, Open, Put, SetAttributes

AskLink = Callable[[Link], Awaitable[Inode]]
"""Asks for a name for a file, for a user."""

log = logging.getLogger("fs3.fuse")


class OpenPublish(OpenSession):
    """An open file that is published: stored, with its length, its times and its names."""

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
            if failure.code in GONE:
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
            if failure.code in GONE:
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

    # --- attributes and names ----------------------------------------------------------------------------------------

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

    async def keep(self) -> None:
        """The file is about to lose its last name: its bytes stay for those who have it open here, whatever becomes of this
        process where there is a next one."""
        if self._deferred.wanted is not None:
            with suppress(OSError):  # what cannot be set is no reason to keep the name
                await self.publish()
        if self._ledger.is_kept or self.writers or not self.file.inode.inline or self.file.data is None:
            await self.begin_session()

    # --- what others have published ----------------------------------------------------------------------------------

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

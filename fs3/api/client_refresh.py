"""How `Client` learns what became of the files it has open: asked when storage refuses, and after it was not heard for long."""

from __future__ import annotations

import logging
from contextlib import suppress

from fs3.api.client_close import CloseCalls
from fs3.api.file import READ_ONLY, File
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import Open, Stat, Sync

log = logging.getLogger("fs3.client")


class RefreshCalls(CloseCalls):
    """A part of `fs3.api.client.Client` that is called by what it is made of."""

    async def _refresh(self, file: File) -> None:
        """What the service has of an open file now. STALE when it may be partly gone, or is open for writing and has another
        content."""
        file.check_found()
        if file.session == READ_ONLY or file.closed:
            await self._refresh_reader(file)
            return
        inode, data = await self._find_inode(file)
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
        inode, data = await self._find_inode(file)
        if inode is None or inode.content_id != content or not (inode.nlink or self.meta.readers.is_held(content)):
            try:
                held = await self.meta.readers.hold(content)
            except FS3Error as failure:
                if failure.code not in (Code.STALE, Code.ACCESS, Code.UNSUPPORTED):
                    raise
                raise error(Code.STALE, "the file was removed while it was read", file.path) from None
            inode, data = held.inode, held.data
        file.set_inode(inode, data)

    async def _find_inode(self, file: File) -> tuple[Inode | None, bytes | None]:
        """`_ask_inode`; none when the file is gone."""
        try:
            return await self._ask_inode(file)
        except FS3Error as failure:
            if failure.code not in (Code.NOT_FOUND, Code.STALE):
                raise
            return None, None

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

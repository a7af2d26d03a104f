"""How an open file is written: a small one in memory, as a whole; any other one through a session, in blocks."""

from __future__ import annotations

from fs3.api.file import READ_ONLY
from fs3.api.fuse.open_state import GONE, OpenState
from fs3.api.fuse.whole_file import WholeFile
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.inode import Inode
from fs3.model.requests import Open, Stat


class OpenSession(OpenState):
    """An open file that goes from the one way to the other when it has to."""

    def _has_whole(self) -> bool:
        """All its bytes are in memory, and it may be stored as a whole."""
        if self._whole is None:
            file = self.file
            if file.session != READ_ONLY or file.data is None or not file.inode.inline or self._blocks or self.is_removed:
                return False
            self._whole = WholeFile(file.data, file.inode.change, self._ledger.keep_whole(self.id))
        return True

    def _write_whole(self, data: memoryview, offset: int) -> None:
        assert self._whole is not None
        self._whole.write(data, offset)
        self._deferred.on_written()

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

    async def begin_session(self) -> None:
        """From now on the file is written through a session, which outlives its permissions and its names."""
        async with self._lock:
            await self._leave_whole()
            await self._begin_session()

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

    async def _write_by_session(self) -> None:
        """There is a session, and nothing that was written before is still on its way."""
        await self._leave_whole()
        await self._begin_session()
        await self._drain()

    async def _drain(self) -> None:
        try:
            await self._blocks.drain()
        except OSError:
            if self.file.is_lost or self.file.is_replaced:
                self._blocks.drop()
            raise

    def _give_up_session(self) -> None:
        """It has ended without us, or its file has."""
        self._blocks.drop()
        self.file = self._reader_of(self.file.inode)

    async def _hold(self) -> None:
        """Another client has taken the last name away: its bytes stay for those who have it open here. STALE: they are gone.

        Those of a small file are gone with its name, but are here: so it is changed in memory, for as long as it is small."""
        try:
            await self._client.meta.readers.hold(self.file.inode.content_id)
        except FS3Error as failure:
            if failure.code is not Code.STALE or not self._has_whole():
                raise
        self.on_removed()

    async def _look(self) -> Inode | None:
        """The inode as the service has it. None: it has it no more; what is here is kept then, or it is STALE."""
        try:
            inode = await self._client.meta.ask(Stat(self.here, follow=False))
        except FS3Error as failure:
            if failure.code not in GONE:
                raise
            await self._hold()
            return None
        if not (inode.nlink or self.is_removed):
            await self._hold()
        return inode

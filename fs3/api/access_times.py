"""Telling the service, now and then and many at once, what has been read: see `fs3.core.meta.access_time`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.core.meta.access_time import is_access_due
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import SetAttributes
from fs3.ports.clock import Clock
from fs3.runtime.tasks import TaskSet

access_tell_interval_ns: Final = 1 * SECOND
"""What was read is told so long after the first read that is to be told."""
accesses_waiting_max: Final = 4096
"""Inodes that wait for that; the reads of further ones are not told."""
accesses_per_request: Final = 256
access_close_patience_ns: Final = 2 * SECOND
"""How long the end of a client waits for the last of them."""

log = logging.getLogger("fs3.client")


class AccessTimes:
    """What one client has read, whose access times are due. Belongs to its event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[InodeId, MetaClient] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = TaskSet()
        self._closed = False

    def note(self, meta: MetaClient, file: File) -> None:
        """An open file is read by the user of `meta`. May be called from any thread."""
        inode = file.inode
        if file.access_noted != inode.change:
            file.access_noted = inode.change
            self.note_inode(meta, inode)

    def note_inode(self, meta: MetaClient, inode: Inode) -> None:
        """The same for what is no open file, as a directory that is listed."""
        if inode.nlink and not self._closed and is_access_due(inode, self._clock.wall()):
            with contextlib.suppress(RuntimeError):  # a thread may read on when the loop has ended
                self._loop.call_soon_threadsafe(self._add, meta, inode.id)

    async def close(self) -> None:
        """Tell what waits, for as long as `access_close_patience_ns`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._on_timer()
        try:
            async with asyncio.timeout(access_close_patience_ns / SECOND):
                await self._tasks.join()
        except TimeoutError:
            await self._tasks.cancel()

    def _add(self, meta: MetaClient, inode: InodeId) -> None:
        if self._closed or len(self._waiting) >= accesses_waiting_max:
            return
        self._waiting[inode] = meta
        if self._timer is None:
            self._timer = self._loop.call_later(access_tell_interval_ns / SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        readers: dict[MetaClient, list[InodeId]] = {}
        for inode, meta in waiting.items():
            readers.setdefault(meta, []).append(inode)
        for meta, inodes in readers.items():
            for at in range(0, len(inodes), accesses_per_request):
                self._tasks.start(self._tell(meta, inodes[at : at + accesses_per_request]))

    async def _tell(self, meta: MetaClient, inodes: list[InodeId]) -> None:
        try:
            answers = await meta.batch([SetAttributes(PathRef(inode), accessed=True) for inode in inodes])
        except FS3Error as failure:
            answers = [failure]
        for answer in answers:
            if isinstance(answer, FS3Error):
                log.debug("an access time stays as it is: %s", answer)

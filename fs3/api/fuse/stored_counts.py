"""st_blocks of files with holes: what storage has of them, which is asked once for each change of a file."""

from __future__ import annotations

import logging
from typing import Final

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.model.inode import Inode

stored_counts_max: Final = 4096
"""Files whose stored bytes one mount remembers; those that were counted longest ago go first."""
chunks_counted_max: Final = 65_536
"""Of one file: what lies behind so many chunks counts as stored, so that no call waits for long."""

log = logging.getLogger("fs3.fuse")


class StoredCounts:
    """Of one mount."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._counts: dict[InodeId, tuple[int, int]] = {}
        """Inode -> the change that it was at, and its stored bytes."""

    def find(self, inode: Inode) -> int | None:
        """Stored bytes of a file that is as it was when they were counted; None: they have to be counted."""
        change, stored = self._counts.get(inode.id, (0, 0))
        return stored if change == inode.change else None

    async def count(self, inode: Inode) -> None:
        """Counts the stored bytes of a file with holes, unless that is done. Where storage does not tell, it stays undone."""
        if self.find(inode) is not None:
            return
        try:
            stored = await self._client.count_stored(inode, chunks_counted_max)
        except FS3Error as failure:
            log.info("what is stored of inode %d is not known: %s", inode.id, failure)
            return
        self.forget(inode.id)
        self._counts[inode.id] = inode.change, stored
        if len(self._counts) > stored_counts_max:
            del self._counts[next(iter(self._counts))]

    def forget(self, inode: InodeId) -> None:
        """The kernel knows nothing of the inode any more."""
        self._counts.pop(inode, None)

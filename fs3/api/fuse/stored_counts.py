"""st_blocks of files with holes: what storage has of them, which is asked once for each change of a file."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.units import SECOND
from fs3.drivers.rpc.rate_limited_log import RateLimitedLog
from fs3.model.inode import Inode
from fs3.ports.clock import Clock
from fs3.runtime.tasks import TaskSet

stored_counts_max: Final = 4096
"""Files whose stored bytes one mount remembers; those that were counted longest ago go first."""
chunks_counted_max: Final = 65_536
"""Of one file: what lies behind so many chunks counts as stored, so that no call waits for long."""
count_patience_ns: Final = 1 * SECOND
"""A call waits for a count so long; then all of the file counts as stored for it, and the count goes on for later ones."""
failure_valid_ns: Final = 10 * SECOND
"""Storage that did not tell of a file is not asked again for so long, unless the file changes: `ls -l` and `du` go on."""
log_interval_ns: Final = 10 * SECOND

log = logging.getLogger("fs3.fuse")


class StoredCounts:
    """Of one mount."""

    def __init__(self, client: Client, clock: Clock, tasks: TaskSet) -> None:
        """`tasks`: of the mount, with which counts end."""
        self._client = client
        self._clock = clock
        self._tasks = tasks
        self._failure_log = RateLimitedLog(clock, log_interval_ns, log)
        self._failures: dict[InodeId, tuple[int, int]] = {}
        """Inode -> the change that it was at when storage did not tell, and when it is asked again."""
        self._counts: dict[InodeId, tuple[int, int]] = {}
        """Inode -> the change that it was at, and its stored bytes."""

    def find(self, inode: Inode) -> int | None:
        """Stored bytes of a file that is as it was when they were counted; None: they have to be counted."""
        change, stored = self._counts.get(inode.id, (0, 0))
        return stored if change == inode.change else None

    async def count(self, inode: Inode) -> None:
        """Counts the stored bytes of a file with holes, unless that is done or has just failed. Where storage does not tell
        within `count_patience_ns`, it stays undone for now."""
        if self.find(inode) is not None or self._has_failed(inode):
            return
        counting = self._tasks.start(self._ask(inode))
        done, _ = await asyncio.wait({counting}, timeout=count_patience_ns / SECOND)
        if done:
            counting.result()
        else:
            self._on_failure(inode, f"there is no answer within {count_patience_ns / SECOND:g} s")

    async def _ask(self, inode: Inode) -> None:
        try:
            stored = await self._client.count_stored(inode, chunks_counted_max)
        except FS3Error as failure:
            self._on_failure(inode, failure)
        else:
            self._remember(self._counts, inode, stored)

    def _on_failure(self, inode: Inode, why: object) -> None:
        self._failure_log.warning("what is stored of inode %d is not known: %s", inode.id, why)
        self._remember(self._failures, inode, self._clock.now() + failure_valid_ns)

    def _has_failed(self, inode: Inode) -> bool:
        change, until = self._failures.get(inode.id, (0, 0))
        return change == inode.change and self._clock.now() < until

    def _remember(self, known: dict[InodeId, tuple[int, int]], inode: Inode, what: int) -> None:
        self.forget(inode.id)
        known[inode.id] = inode.change, what
        if len(known) > stored_counts_max:
            del known[next(iter(known))]

    def forget(self, inode: InodeId) -> None:
        """The kernel knows nothing of the inode any more."""
        self._counts.pop(inode, None)
        self._failures.pop(inode, None)

"""Reading ahead for programs that read one large piece after the other past the kernel's memory (`O_DIRECT`).

The kernel reads ahead for all others. Here the piece behind the one that is asked for is fetched meanwhile, so that storage works
while the program has its bytes copied. A piece is taken only by the next read, soon after it was asked for, and only while the
file is what it was and no program of this mount may write it: what another client publishes is seen as soon as anything here
learns of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fs3.api.fuse.open_inode import OpenInode
from fs3.base.errors import FS3Error
from fs3.base.units import KIB, MILLISECOND
from fs3.runtime.tasks import start_background

ahead_bytes_min: Final = 256 * KIB
"""Smaller reads are not read ahead of."""
ahead_valid_ns: Final = 20 * MILLISECOND
"""How long before the read that takes it a piece may have been asked for."""


handles_ahead_max: Final = 64
"""Handles of a mount for which pieces are fetched, one of at most a request's size each."""

Now = Callable[[], int]


class _Piece:
    """Bytes of a file that are fetched before they are asked for."""

    __slots__ = ("offset", "since", "size", "state", "task")

    def __init__(self, opened: OpenInode, offset: int, size: int, since: int) -> None:
        self.offset, self.size = offset, size
        self.state = _state_of(opened)
        self.since = since
        self.task: asyncio.Task[bytes | memoryview] = start_background(opened.read(offset, size))

    def may_be_taken(self, opened: OpenInode, offset: int, size: int, now: int) -> bool:
        """It is what a read of this range would get."""
        is_young = now - self.since <= ahead_valid_ns
        return is_young and (self.offset, self.size, self.state) == (offset, size, _state_of(opened)) and not opened.writers

    def drop(self) -> None:
        """It is not wanted."""
        self.task.cancel()
        if self.task.done() and not self.task.cancelled():
            self.task.exception()


class ReadAhead:
    """Of one handle that only reads. Belongs to one event loop."""

    def __init__(self, opened: OpenInode, now: Now) -> None:
        """`now`: monotonic nanoseconds."""
        self._opened = opened
        self._now = now
        self._end = -1
        """Where the last read ended."""
        self._piece: _Piece | None = None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """As `OpenInode.read`."""
        opened = self._opened
        piece, self._piece = self._piece, None
        is_next, self._end = offset == self._end, offset + size
        if piece is not None and not piece.may_be_taken(opened, offset, size, self._now()):
            piece.drop()
            piece = None
        if is_next and not opened.writers and self._end + size <= opened.length:
            self._piece = _Piece(opened, self._end, size, self._now())
        if piece is not None:
            try:
                return await piece.task
            except FS3Error:
                pass  # it is read anew, which may go better, or tell why it does not
        return await opened.read(offset, size)

    def close(self) -> None:
        """The handle is closed."""
        if self._piece is not None:
            self._piece.drop()
            self._piece = None


def _state_of(opened: OpenInode) -> tuple[int, int]:
    return opened.inode.content_id, opened.inode.change

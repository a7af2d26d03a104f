"""The verbs of `Client` that are about the space of a file: holes, copies of ranges."""

from __future__ import annotations

from fs3.api.file import File, check_length, check_range
from fs3.api.space import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, FileSpace, check_allocation
from fs3.model.inode import Inode


class SpaceVerbs:
    """A part of `fs3.api.client.Client`."""

    _space: FileSpace

    async def fallocate(self, file: File, offset: int, length: int, mode: int = 0) -> None:
        """As `fallocate` of Linux: mode 0 makes the file at least `offset + length` bytes long · KEEP_SIZE does nothing · with
        PUNCH_HOLE | KEEP_SIZE the range becomes a hole, and its whole chunks are given back · with ZERO_RANGE as well, and the
        file at least as long, unless KEEP_SIZE is set. UNSUPPORTED for any other mode.

        No space is reserved. What is zeroed is durable when it returns; the times are published by `fsync` and `close`, a longer
        length at once. When it fails, any part of the range may be zero, or become so.
        """
        file.check_appends(False)
        begin, end = check_allocation(file, offset, length, mode)
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            await self._space.punch(file, begin, end)
        if not mode & KEEP_SIZE:
            await self._space.extend(file, end)

    async def seek_data(self, file: File, offset: int) -> int:
        """Where data begins, from `offset` on; BEYOND_END (ENXIO) when there is none. Whole chunks that were never written are
        holes, and what a chunk lacks at its end; a small file has none."""
        file.check_open()
        return await self._space.seek_data(file, check_range(offset, 0, file.path))

    async def seek_hole(self, file: File, offset: int) -> int:
        """Where a hole begins, from `offset` on: the end of the file is one. BEYOND_END (ENXIO) for an offset behind it."""
        file.check_open()
        return await self._space.seek_hole(file, check_range(offset, 0, file.path))

    async def stored_bytes(self, file: File) -> int:
        """How many bytes of the file are stored, holes not counted, and each once, however many replicas there are. Storage is
        asked, so this is no part of `stat`."""
        file.check_open()
        return await self._space.stored_bytes(file)

    async def count_stored(self, inode: Inode, chunks_max: int | None = None) -> int:
        """The same of an inode as the service has told it. `chunks_max`: what lies behind so many chunks that are there counts as
        stored."""
        return await self._space.count_stored(inode, inode.length, chunks_max)

    async def copy_range(self, source: File, offset: int, target: File, target_offset: int, count: int) -> int:
        """Copy bytes of an open file into another one, or to another place in the same, several chunks under way, in bounded
        memory. Holes stay holes. How many bytes: fewer at the end of the source.

        Durable when it returns; the length of the target is published by `fsync` and `close`. InvalidArgument for ranges of one
        file that overlap. When it fails, any part of the range may have been written.
        """
        source.check_open()
        target.check_appends(False)
        length = check_length(count, source.path)
        begin = check_range(offset, 0, source.path)
        return await self._space.copy(source, begin, target, check_range(target_offset, 0, target.path), length)

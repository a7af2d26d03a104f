"""Holes of files: found, made, and kept when bytes are copied. docs/posix.md says what is promised.

A hole is made by updates of chunks, as bytes are written: each happens once, in the order that storage gives it among those of
other writers, and is over when it is acknowledged. A chunk is removed when all of it lies in the range, whether the file reaches
so far or not; of any other the bytes in the range are written as zeros, as far as it has some. So nothing outside the range is
touched, also what others have written behind the end and not told of yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from fs3.api.data import FileData, Refresh
from fs3.api.file import File, check_length, check_range
from fs3.api.io.budget import gather_bounded
from fs3.api.io.buffer_budget import buffer_budget
from fs3.base.errors import FS3Error, error
from fs3.base.ids import InodeId
from fs3.base.limits import client_write_bytes_max, client_write_call_bytes, updates_per_request_max
from fs3.base.status import Code
from fs3.client.storage.client import StorageClient
from fs3.client.storage.stored_chunks import StoredChunk, stored_chunks
from fs3.core.files.layout import chunk_count, chunks
from fs3.core.files.write_plan import WriteIO, plan_write
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Inode, Layout

KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02
ZERO_RANGE: Final = 0x10
"""Bits of the mode of `fallocate`, as Linux numbers them."""

_MODES: Final = (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE)
_DONE = (Code.OK, Code.NOT_FOUND)
"""Of a chunk that is to be no more."""
_EXTENSIONS_MAX = 5
"""How often a file is made longer anew, because it was truncated meanwhile."""
_COPIES_AT_ONCE = client_write_bytes_max // client_write_call_bytes

Range = tuple[int, int]
"""(begin, end) in a file, bytes."""


def check_allocation(file: File, offset: int, length: int, mode: int) -> Range:
    """The range of a `fallocate`. Raises FS3Error: UNSUPPORTED for a mode that is none of fs3's, INVALID and FILE_TOO_LARGE for a
    range that no file has."""
    if mode not in _MODES:
        raise error(Code.UNSUPPORTED, f"fallocate with mode {mode:#x} is not supported", file.path)
    count = check_length(length, file.path)
    if not count:
        raise error(Code.INVALID, "length is 0", file.path)
    begin = check_range(offset, count, file.path)
    return begin, begin + count


class FileSpace:
    """Of one client. Belongs to its event loop."""

    def __init__(self, storage: StorageClient, data: FileData, refresh: Refresh, publish: Refresh) -> None:
        """`refresh`: as of `FileData`; `publish`: tells the service what was written, and brings `File.inode` up to date."""
        self._storage = storage
        self._data = data
        self._refresh = refresh
        self._publish = publish

    async def extend(self, file: File, end: int) -> None:
        """The file is at least so long, for every client."""
        for _ in range(_EXTENSIONS_MAX):
            file.begin_write(end, end)
            file.end_write(end, self._storage.clock.now())
            await self._publish(file)
            if file.inode.length >= end:
                return
        raise error(Code.BUSY, f"the file was truncated {_EXTENSIONS_MAX} times while it was made longer", file.path)

    # --- holes that are made ------------------------------------------------------------------------------------------

    async def punch(self, file: File, begin: int, end: int) -> None:
        """Zeros in a range, whose chunks are given back."""
        file.begin_write()
        file.leaves_holes = True
        try:
            await self._punch(file.inode, begin, end)
        except FS3Error as failure:
            raise error(failure.code, failure.strerror or failure.code.name, file.path) from failure
        finally:
            file.end_write(0, self._storage.clock.now(), changed=True)

    async def _punch(self, inode: Inode, begin: int, end: int) -> None:
        content, layout = inode.content_id, inode.layout
        size = layout.chunk_size
        first_whole, end_whole = -(-begin // size), end // size
        edges = list(_edges(begin, end, size))
        keys = [key for index, _, _ in edges for key in chunks(layout, content, index, index + 1)]
        outcomes = await self._storage.find(keys) if keys else []
        for (index, cut_begin, cut_end), outcome in zip(edges, outcomes, strict=True):
            if outcome.code not in _DONE:
                raise error(outcome.code, f"chunk {index} cannot be looked at: {outcome.message or outcome.code.name}")
            count = min(cut_end, outcome.length) - cut_begin
            if count > 0:
                await self._write_zeros(layout, content, index * size + cut_begin, count)
        async for page in stored_chunks(self._storage, content, layout, first_whole, end_whole):
            await self._remove(content, layout, page)

    async def _write_zeros(self, layout: Layout, content: InodeId, offset: int, count: int) -> None:
        taken = await self._data.write_budget.take(count)
        try:
            await self._update(plan_write(layout, content, offset, memoryview(bytes(count))))
        finally:
            self._data.write_budget.give(taken)

    async def _remove(self, content: InodeId, layout: Layout, page: list[StoredChunk]) -> None:
        removals = []
        for there in page:
            ((chunk, chain),) = chunks(layout, content, there.index, there.index + 1)
            removals.append(WriteIO(chunk, chain, UpdateKind.REMOVE, 0))
        parts = range(0, len(removals), updates_per_request_max)
        await gather_bounded((self._update(removals[at : at + updates_per_request_max]) for at in parts), _COPIES_AT_ONCE)

    async def _update(self, updates: list[WriteIO]) -> None:
        for update, result in zip(updates, await self._storage.update(updates), strict=True):
            if result.code not in _DONE:
                what = result.message or result.code.name.lower().replace("_", " ")
                raise error(result.code, f"chunk {update.chunk.hex()} was not made a hole: {what}")

    # --- holes that are found -----------------------------------------------------------------------------------------

    async def seek_data(self, file: File, offset: int) -> int:
        """Where data begins, from an offset on. BEYOND_END when there is none."""
        end = await self._current_end(file, offset)
        if file.inode.inline:
            return offset
        async for begin, _ in self._extents(file.inode, offset, end):
            return begin
        raise error(Code.BEYOND_END, f"there is no data from {offset} on", file.path)

    async def seek_hole(self, file: File, offset: int) -> int:
        """Where a hole begins, from an offset on; the end of the file is one."""
        end = await self._current_end(file, offset)
        if file.inode.inline:
            return end
        at = offset
        async for begin, stop in self._extents(file.inode, offset, end):
            if begin > at:
                break
            at = stop
        return at

    async def stored_bytes(self, file: File) -> int:
        """What storage has of a file."""
        await self._refresh(file)
        return await self.count_stored(file.inode, file.length)

    async def count_stored(self, inode: Inode, length: int, chunks_max: int | None = None) -> int:
        """What storage has of a file that is so long. Behind so many chunks that are there all counts as stored."""
        if inode.inline:
            return inode.length
        stored = looked_at = 0
        async for page in stored_chunks(self._storage, inode.content_id, inode.layout, 0, chunk_count(inode.layout, length)):
            stored += sum(there.length for there in page)
            looked_at += len(page)
            if chunks_max is not None and looked_at >= chunks_max:
                return stored + max(0, length - (page[-1].index + 1) * inode.layout.chunk_size)
        return stored

    async def _current_end(self, file: File, offset: int) -> int:
        """The length as the service has it, or as this handle has made it. What is missing from now on is a hole: the file
        exists, or is kept for this reader."""
        await self._refresh(file)
        if offset >= file.length:
            raise error(Code.BEYOND_END, f"offset {offset} is not within the file's {file.length} bytes", file.path)
        return file.length

    async def _extents(self, inode: Inode, begin: int, end: int) -> AsyncIterator[Range]:
        """Where a part of a file has data, rising; neighbours may touch."""
        size = inode.layout.chunk_size
        async for page in stored_chunks(self._storage, inode.content_id, inode.layout, begin // size, -(-end // size)):
            for there in page:
                extent = max(begin, there.index * size), min(end, there.index * size + there.length)
                if extent[0] < extent[1]:
                    yield extent

    # --- copies -------------------------------------------------------------------------------------------------------

    async def copy(self, source: File, offset: int, target: File, target_offset: int, count: int) -> int:
        """Bytes of a file into another one, or to another place of it; holes stay holes. How many: fewer at the end of the
        source."""
        await self._refresh(source)
        count = max(0, min(count, source.length - offset))
        if not count:
            return 0
        if source.inode.content_id == target.inode.content_id and abs(offset - target_offset) < count:
            raise error(Code.INVALID, f"the ranges at {offset} and {target_offset} of one file overlap", target.path)
        check_range(target_offset, count, target.path)
        inode, shift = source.inode, target_offset - offset
        copied = count

        async def copy_data(begin: int, end: int) -> None:
            nonlocal copied
            async with buffer_budget.reserve(end - begin):
                buffer = memoryview(bytearray(end - begin))
                got = await self._data.read_one(source, begin, buffer)
                await self._data.write(target, begin + shift, buffer[:got])
            if got < end - begin:
                copied = min(copied, max(0, begin + got - offset))

        async def copy_piece(is_data: bool, begin: int, end: int) -> None:
            if is_data:
                await copy_data(begin, end)
            else:
                await self.punch(target, begin + shift, end + shift)

        pieces: list[tuple[bool, int, int]] = []

        async def copy_pieces() -> None:
            await gather_bounded((copy_piece(*piece) for piece in pieces), _COPIES_AT_ONCE)
            pieces.clear()

        at, end = offset, offset + count
        if inode.inline:
            pieces += _data_pieces(at, end)
            at = end
        else:
            async for begin, stop in self._extents(inode, offset, end):
                if begin > at:
                    pieces.append((False, at, begin))
                pieces += _data_pieces(begin, stop)
                at = stop
                if len(pieces) >= 2 * _COPIES_AT_ONCE:
                    await copy_pieces()
        if at < end:
            pieces.append((False, at, end))
        await copy_pieces()
        copied_end = target_offset + copied if copied else 0
        target.begin_write(copied_end, copied_end)  # it may end in a hole
        target.end_write(copied_end, self._storage.clock.now())
        return copied


def _edges(begin: int, end: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(index, from, to) of the chunks that a range covers in part."""
    first, last = begin // size, end // size
    if begin % size:
        yield first, begin % size, min(size, end - first * size)
    if end % size and (last > first or not begin % size):
        yield last, 0, end % size


def _data_pieces(begin: int, end: int) -> Iterator[tuple[bool, int, int]]:
    for at in range(begin, end, client_write_call_bytes):
        yield True, at, min(end, at + client_write_call_bytes)

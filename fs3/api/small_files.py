"""Trees of small files: what many coroutines want of one small file each, done with a few requests for all of them.

The smallest are one request, with their names, attributes and bytes (`fs3.core.meta.inline`), and dozens of them fit into one. A
larger one on its own costs a round trip and a commit to open it, one to store its bytes and one to publish it; those of hundreds
fit into the same number of requests, and their commits into the same number of waits for a disk. Anything out of the ordinary (a
symlink, a pipe, a failure of any kind) is answered with "not done": then the caller does the one file as it does large ones, and
that says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fs3.api.file import File
from fs3.api.io.batch_queue import BatchQueue
from fs3.api.io.transfer import read_local, save_local
from fs3.base.errors import FS3Error, NotFound
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.model.inode import Inode, InodeType, Layout

small_file_bytes_max = 256 * KIB
"""Files up to this size are uploaded, downloaded and copied many in one request."""


FileRange = tuple[File, int, int]
"""(file, offset, length in bytes)."""


@dataclass(frozen=True, slots=True)
class UnnamedFile:
    """A file to create that has no name yet."""

    directory: str
    """Where it is meant to go: its layout and permissions count."""
    layout: Layout | None = None
    permissions: int = 0o666
    """Less the umask."""
    make_parents: bool = False
    """Create `directory` when it is missing, and those above it."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A small file that is to appear at once and whole."""

    path: str
    data: memoryview
    how: UnnamedFile
    exclusive: bool = False
    """Only where no file has the name: for files that go beside their inodes."""


class BatchVerbs(Protocol):
    """What is needed of a client. `fs3.api.client.Client` is the one of production, and says what its methods raise."""

    async def open(self, path: str, mode: str = "r") -> File:
        """Open a file."""
        ...

    async def pread(self, file: File, length: int, offset: int = 0) -> bytes:
        """Bytes of a file."""
        ...

    async def open_many(self, paths: Sequence[str]) -> list[File | FS3Error]:
        """Open files for reading."""
        ...

    async def open_unnamed_many(self, wanted: Sequence[UnnamedFile]) -> list[File | FS3Error]:
        """New files without a name."""
        ...

    async def batch_stat(self, paths: Sequence[str], *, follow: bool = True) -> list[Inode | FS3Error]:
        """Attributes of many paths."""
        ...

    async def preadv_many(self, requests: Sequence[tuple[File, int, Any]]) -> list[int]:
        """Fill buffers from files."""
        ...

    async def pwritev_many(self, requests: Sequence[tuple[File, int, Any]]) -> list[FS3Error | None]:
        """Write bytes to files."""
        ...

    async def put_many(self, files: Sequence[NewFile]) -> list[Inode | FS3Error]:
        """Create small files with their bytes."""
        ...

    async def publish_many(self, files: Sequence[tuple[File, str, bool]]) -> list[Inode | FS3Error]:
        """Give unnamed files their names; the flag: create missing directories above."""
        ...

    async def abandon(self, file: File) -> None:
        """End a handle, and drop what it wrote."""
        ...


class SmallFiles:
    """The small files of one client. Belongs to its event loop."""

    def __init__(self, client: BatchVerbs) -> None:
        self._client = client
        self._inline_bytes = inline_bytes_default
        """Files up to this size are offered to the metadata service as a whole."""
        self._opens = BatchQueue(self._open_all)
        self._opens_under_way = 0
        self._reads = BatchQueue(self._read_ranges)
        self._reads_under_way = 0
        self._creations = BatchQueue(self._create_all)
        self._local_reads = BatchQueue(_read_local_all)
        self._local_writes = BatchQueue(_save_local_all)

    async def open(self, path: str) -> File:
        """Open a file for reading, of any size. Raises as `Client.open`. A lone caller asks for itself, which costs less than a
        batch of one."""
        self._opens_under_way += 1
        try:
            if self._opens_under_way == 1:
                return await self._client.open(path)
            opened = await self._opens.ask(path)
        finally:
            self._opens_under_way -= 1
        if isinstance(opened, FS3Error):
            raise opened
        return opened

    async def read(self, file: File) -> memoryview | None:
        """All bytes of an open file; None: not done."""
        if file.data is not None:
            return memoryview(file.data)
        return await self._read_range(file, 0, file.length)

    async def pread(self, file: File, length: int, offset: int) -> bytes:
        """Bytes of an open file of any size, as `Client.pread`, which a lone caller asks for itself."""
        if not length or not is_small(length):
            return await self._client.pread(file, length, offset)
        self._reads_under_way += 1
        try:
            found = await self._read_range(file, offset, length) if self._reads_under_way > 1 else None
            return await self._client.pread(file, length, offset) if found is None else bytes(found)
        finally:
            self._reads_under_way -= 1

    async def _read_range(self, file: File, offset: int, length: int) -> memoryview | None:
        return await self._reads.ask((file, offset, length), length) if is_small(length) else None

    async def create(self, new: NewFile) -> bool:
        """Create or replace a file. False: not done."""
        return is_small(len(new.data)) and await self._creations.ask(new, len(new.data))

    async def read_local(self, path: str, length: int) -> memoryview | None:
        """All bytes of a local file of about this length; None: not done."""
        data = await self._local_reads.ask(path, length) if is_small(length) else None
        return memoryview(data) if data is not None else None

    async def save_local(self, path: str, data: memoryview) -> bool:
        """Create or replace a local file, and the directories above it. False: not done."""
        return await self._local_writes.ask((path, data), len(data))

    # --- many at once ----------------------------------------------------------------------------------------------------

    async def _open_all(self, paths: list[str]) -> Sequence[File | FS3Error]:
        if len(paths) > 1:
            return await self._client.open_many(paths)
        try:
            return [await self._client.open(paths[0])]
        except FS3Error as failure:
            return [failure]

    async def _read_ranges(self, ranges: list[FileRange]) -> list[memoryview | None]:
        memory = memoryview(bytearray(sum(length for _, _, length in ranges)))
        views = []
        at = 0
        for _, _, length in ranges:
            views.append(memory[at : at + length])
            at += length
        try:
            counts = await self._client.preadv_many(
                [(file, offset, view) for (file, offset, _), view in zip(ranges, views, strict=True)]
            )
        except FS3Error:
            return [None] * len(ranges)
        return [view[:count] for view, count in zip(views, counts, strict=True)]

    async def _create_all(self, new: list[NewFile]) -> list[bool]:
        """Those that are small enough go beside their inodes; the others, and those that are not taken so, into chunks."""
        inline = [index for index, one in enumerate(new) if len(one.data) <= self._inline_bytes]
        done = [False] * len(new)
        chunked = [index for index, one in enumerate(new) if len(one.data) > self._inline_bytes]
        answers = await self._client.put_many([new[index] for index in inline]) if inline else []
        for index, answer in zip(inline, answers, strict=True):
            if isinstance(answer, FS3Error) and answer.code is Code.NOT_INLINE:
                # Others of this size are not offered again.
                self._inline_bytes = min(self._inline_bytes, len(new[index].data) - 1)
                chunked.append(index)
            else:
                done[index] = isinstance(answer, Inode)
        if chunked:
            outcomes = await self._create_chunked([new[index] for index in chunked])
            for index, outcome in zip(chunked, outcomes, strict=True):
                done[index] = outcome
        return done

    async def _create_chunked(self, new: list[NewFile]) -> list[bool]:
        there, opened = await asyncio.gather(
            self._client.batch_stat([one.path for one in new], follow=False),
            self._client.open_unnamed_many([one.how for one in new]),
            return_exceptions=True,
        )
        if isinstance(opened, BaseException):
            raise opened
        done = [False] * len(new)
        files = {index: file for index, file in enumerate(opened) if isinstance(file, File)}
        left = dict(files)
        try:
            if isinstance(there, BaseException):
                raise there
            ready = [index for index in files if _may_publish(there[index])]
            failures = await self._client.pwritev_many([(files[index], 0, new[index].data) for index in ready])
            stored = [index for index, failure in zip(ready, failures, strict=True) if failure is None]
            published = await self._client.publish_many(
                [(files[index], new[index].path, new[index].how.make_parents) for index in stored]
            )
            for index, answer in zip(stored, published, strict=True):
                done[index] = isinstance(answer, Inode)
                if done[index]:
                    del left[index]
        except FS3Error:
            return done
        finally:
            for file in left.values():
                await self._client.abandon(file)
        return done


def is_small(length: int) -> bool:
    """Bytes that go together with those of other files."""
    return length <= small_file_bytes_max


def _may_publish(there: Inode | FS3Error) -> bool:
    """A file may be published over this."""
    return isinstance(there, NotFound) if isinstance(there, FS3Error) else there.type is InodeType.FILE


async def _read_local_all(paths: list[str]) -> list[bytes | None]:
    return await asyncio.to_thread(lambda: [read_local(path, small_file_bytes_max) for path in paths])


async def _save_local_all(files: list[tuple[str, memoryview]]) -> list[bool]:
    return await asyncio.to_thread(lambda: [save_local(path, data) for path, data in files])

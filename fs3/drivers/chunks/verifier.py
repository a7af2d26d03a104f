"""Looking at what is really on the disk: every committed byte against the sums in the index, past the page cache.

The loop picks versions and pins their blocks, a reader thread reads them (not the disk's own thread: barriers do not wait for
a scrub), and the loop marks what was found.

Reads are direct (`O_DIRECT`) where the file system can do that; elsewhere the system is asked to forget the pages before and
after. One buffer of COPY_BYTES per call, whatever the size of the chunks.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from fs3.base.checksum import BLOCK_BYTES, checksums
from fs3.base.ids import ChunkId
from fs3.base.limits import scrub_rows_max
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_writes import COPY_BYTES, BlockDamaged, describe_range, verify_blocks
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import path_of, read_all
from fs3.drivers.chunks.read_path import ReadPath
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import IndexRow, Version, pack_sums
from fs3.ports.chunk_store import ScrubStep

_ALIGNMENT = 4096
_SCAN_ROWS = 32
_CANNOT = (errno.EINVAL, errno.EOPNOTSUPP)


class DiskReader:
    """Reads blocks of one target's files from the disk. Used on several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._direct: dict[int, int] = {}
        """Descriptors by class; -1: this file cannot be read past the cache."""
        self._unused: set[int] = set()

    def find_problem(self, version: Version, chunk: ChunkId) -> str:
        """What is wrong with the bytes of a version on the disk; "" nothing. The version's block is pinned."""
        if version.place < 0:
            return _inline_problem(version, chunk)
        return self._problem(version, chunk, _buffer(), direct=True)

    def find_cached_problem(self, version: Version, chunk: ChunkId) -> str:
        """The same for the bytes readers get. Those the page cache has wrong and the disk right are dropped from the cache."""
        if version.place < 0:
            return _inline_problem(version, chunk)
        found = self._problem(version, chunk, buffer := _buffer(), direct=False)
        if found:
            os.posix_fadvise(version.fd, version.base, version.length, os.POSIX_FADV_DONTNEED)
            found = self._problem(version, chunk, buffer, direct=False)
        return found

    def _problem(self, version: Version, chunk: ChunkId, buffer: memoryview, *, direct: bool) -> str:
        at = 0
        try:
            while at < version.length:
                view = buffer[: min(COPY_BYTES, version.length - at)]
                whole = self._read_direct(version, at, buffer, len(view)) if direct else _read(version, at, view)
                if not whole:
                    return describe_range(chunk, version, at, at + len(view)) + " are missing on the disk"
                verify_blocks(version, chunk, at // BLOCK_BYTES, view)
                at += len(view)
        except BlockDamaged as why:
            return str(why)
        except OSError as why:
            return f"{describe_range(chunk, version, at, min(at + COPY_BYTES, version.length))} cannot be read: {why.strerror}"
        return ""

    def _read_direct(self, version: Version, at: int, buffer: memoryview, length: int) -> bool:
        fd = self._open(version.place >> 32)
        offset = version.base + at
        if fd >= 0:
            # The end of a block is aligned, that of a version need not be; a file may end in between.
            room = -(-length // _ALIGNMENT) * _ALIGNMENT
            done = 0
            try:
                while done < length:
                    found = os.preadv(fd, (buffer[done:room],), offset + done)
                    if not found:
                        return False
                    done += found
                    if done < length and done % _ALIGNMENT:
                        return False  # the file ends here
                return True
            except OSError as why:
                if why.errno not in _CANNOT:
                    raise
                with self._lock:
                    self._direct[version.place >> 32] = -1
                    self._unused.add(fd)  # another thread may be in the middle of a read
        os.posix_fadvise(version.fd, offset, length, os.POSIX_FADV_DONTNEED)
        try:
            return read_all(version.fd, buffer[:length], offset)
        finally:
            os.posix_fadvise(version.fd, offset, length, os.POSIX_FADV_DONTNEED)

    def _open(self, class_number: int) -> int:
        with self._lock:
            fd = self._direct.get(class_number)
            if fd is None:
                try:
                    fd = os.open(path_of(self._directory, class_number), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
                except OSError as why:
                    if why.errno not in _CANNOT:
                        raise
                    fd = -1
                self._direct[class_number] = fd
            return fd

    def close(self) -> None:
        """Close the files. No reader thread is in a call any more."""
        for fd in {*self._direct.values(), *self._unused} - {-1}:
            os.close(fd)
        self._direct.clear()
        self._unused.clear()


def _buffer() -> memoryview:
    return memoryview(mmap.mmap(-1, COPY_BYTES))  # begins at a page, as direct reads want it


def _read(version: Version, at: int, into: memoryview) -> bool:
    return read_all(version.fd, into, version.base + at)


def _inline_problem(version: Version, chunk: ChunkId) -> str:
    """Bytes in the index row have their row's sum, and one of their own."""
    if version.inline is None or pack_sums(checksums(memoryview(version.inline))) == version.sums:
        return ""
    return describe_range(chunk, version, 0, version.length) + " have changed in the index"


class _VersionCheck:
    """Committed versions, looked at on a reader thread; what is found is noted on the loop. See `PinnedCheck`."""

    def __init__(
        self, disk: DiskReader, bad_chunks: BadChunks, versions: Sequence[tuple[ChunkId, Version]], *, cached: bool
    ) -> None:
        """`cached`: look at what readers get, too."""
        self.versions = versions
        self._disk = disk
        self._bad_chunks = bad_chunks
        self._cached = cached

    def run(self) -> list[str]:
        """What is wrong with each; "" nothing."""
        return [self._find_problem(chunk, version) for chunk, version in self.versions]

    def _find_problem(self, chunk: ChunkId, version: Version) -> str:
        found = self._disk.find_problem(version, chunk)
        if found or not self._cached:
            return found
        return self._disk.find_cached_problem(version, chunk)

    def on_result(self, result: list[str]) -> None:
        """Mark the chunks that are bad; those that were and are not any more lose their mark."""
        for (chunk, version), why in zip(self.versions, result, strict=True):
            self._bad_chunks.record_check(chunk, version, why)


class ChunkVerifier:
    """`verify` and `scrub` of one store. Belongs to the loop."""

    def __init__(self, directory: Path, index: DurableIndex, rows: RowCache, bad_chunks: BadChunks, read_path: ReadPath) -> None:
        self._index = index
        self._rows = rows
        self._bad_chunks = bad_chunks
        self._read_path = read_path
        self._disk = DiskReader(directory)

    async def verify(self, chunk: ChunkId) -> bool:
        """`ChunkStore.verify`. Raises StoreDamaged."""
        self._rows.forget(chunk)  # what memory has of it is under suspicion, too
        row = self._rows.find(chunk)
        version = row.committed if row is not None else None
        if version is None:
            return True

        (why,) = await self._run(_VersionCheck(self._disk, self._bad_chunks, [(chunk, version)], cached=True))
        return not why

    async def scrub(self, after: ChunkId | None, limit_bytes: int) -> ScrubStep:
        """`ChunkStore.scrub`. Raises StoreDamaged."""
        picked: list[tuple[ChunkId, Version]] = []
        size = 0
        last: ChunkId | None = None
        for count, (chunk, packed) in enumerate(self._index.scan(after, _SCAN_ROWS)):
            if size >= limit_bytes or count == scrub_rows_max:
                break
            last = chunk
            stored = self._rows.decode(chunk, packed)
            row: IndexRow | None = self._rows.unsynced.get(chunk, stored)
            if row is not None and row.committed is not None and chunk not in self._bad_chunks.reasons:
                picked.append((chunk, row.committed))
                size += row.committed.length
        else:
            last = None

        found = await self._run(_VersionCheck(self._disk, self._bad_chunks, picked, cached=False)) if picked else []
        return ScrubStep(last, len(picked), size, [chunk for (chunk, _), why in zip(picked, found, strict=True) if why])

    async def _run(self, check: _VersionCheck) -> list[str]:
        return await self._read_path.run_pinned(check, [version.place for _, version in check.versions])

    def close(self) -> None:
        """Close the files. No reader thread is in a call any more."""
        self._disk.close()

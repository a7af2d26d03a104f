"""The log of a target: what a barrier makes durable is in it as one record, written and synced by one call each.

    `log`:  head, one page | segment | segment | …          a segment is as long as the head says, and was written once, with
    zeros

Overwriting what a file has already is what makes one sync one flush of the disk: neither its length nor where it is changes.
Records have consecutive numbers; the index says which is the first it has not got (`LogPosition`). A *checkpoint* brings the
index up to date, and then the segments that have only older records are used again.

What a crash leaves
    A record is written when all before it are durable. So at most the last one is torn, and it was never acknowledged: the log
    ends before it. A record that is not whole while a later one is has rotted: the store is damaged, nothing is guessed. (Of the
    very last one that cannot be told: what rots there was acknowledged, and is missing.)
    The last record may be whole in the page cache and not on the disk, when the process was killed before it had synced it. It
    is written and synced again before anybody is told of it.

`append` and `grow` belong to the disk thread, all else to the loop. They share two queues of segments, each of which has one
end for either.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.drivers.chunks.files import read_all, write_all, write_parts
from fs3.drivers.chunks.log_records import (
    RECORD_ALIGNMENT,
    BlockWrite,
    LogRecord,
    PackedRows,
    encode_body,
    pack_head,
    parse_record,
    size_of,
)
from fs3.ports.chunk_store import StoreDamaged
from fs3.runtime.durable_files import NO_ROOM, sync_directory

NAME = "log"
LOG_ID_BYTES = 8

_MAGIC = b"fs3 log\n"
_VERSION = 1
_HEAD = struct.Struct(f"<8sII{LOG_ID_BYTES}s")
_HEAD_BYTES = 4 * KIB
_ZEROS = memoryview(bytes(1 * MIB))
_PARTS_MAX = 1000
"""Buffers of one system call; the system's own limit is 1024."""


class LogFull(Exception):
    """There is no room for the record before a checkpoint."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """What the index knows of the log."""

    log_id: bytes
    """Name of the log that belongs to the index."""
    first: int
    """The number of the first record whose rows the index has not got."""
    segments: int
    """The log has at least so many."""


def create_log(directory: Path, segment_bytes: int) -> LogPosition:
    """Make an empty log, also in the place of one that no index refers to. Its name is durable on return. Raises OSError."""
    assert segment_bytes % RECORD_ALIGNMENT == 0, f"segments of {segment_bytes} bytes end within a page"
    log_id = os.urandom(LOG_ID_BYTES)
    head = _HEAD.pack(_MAGIC, _VERSION, segment_bytes, log_id)
    fd = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, memoryview((head + crc32c(head).to_bytes(4, "little")).ljust(_HEAD_BYTES, b"\0")), 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    sync_directory(directory)
    return LogPosition(log_id, 1, 0)


class UpdateLog:
    """The log of an open target."""

    def __init__(self, directory: Path, position: LogPosition, segments_max: int) -> None:
        """Open the log that `position` names.

        Raises StoreDamaged when it is gone, another one, or shorter than it was; FS3Error DISK when it cannot be read,
        UNSUPPORTED when it is in another format.
        """
        self.path = directory / NAME
        self._log_id = position.log_id
        self._first = position.first
        self._segments_max = segments_max
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreDamaged("the log is gone", str(self.path)) from None
        except OSError as why:
            raise error(Code.DISK, f"cannot open the log: {why.strerror}", str(self.path)) from why
        try:
            self.segment_bytes = self._read_head()
            self._count = max(os.fstat(self._fd).st_size - _HEAD_BYTES, 0) // self.segment_bytes
            if self._count < position.segments:
                raise StoreDamaged(f"the log has {self._count} segments, it had {position.segments}", str(self.path))
        except FS3Error:
            os.close(self._fd)
            raise
        except OSError as why:
            os.close(self._fd)
            raise error(Code.DISK, f"cannot read the log: {why.strerror}", str(self.path)) from why
        self._next = position.first
        """Number of the next record."""
        self._segment = -1
        """Where that goes; -1: to another one."""
        self._used = 0
        """Bytes of it that have records."""
        self._failure: OSError | None = None
        self._free = deque(range(self._count))
        self._filled: deque[tuple[int, int]] = deque()
        """Segments with records, the oldest first, and the number that comes after each."""

    def _read_head(self) -> int:
        packed = memoryview(bytearray(_HEAD.size + 4))
        head = packed[: _HEAD.size]
        if not read_all(self._fd, packed, 0) or crc32c(head) != int.from_bytes(packed[_HEAD.size :], "little"):
            raise StoreDamaged("the head of the log is damaged", str(self.path))
        magic, version, segment_bytes, log_id = _HEAD.unpack(head)
        if magic != _MAGIC or log_id != self._log_id:
            raise StoreDamaged("the log is not the one of this index", str(self.path))
        if version != _VERSION:
            raise error(Code.UNSUPPORTED, f"the log is in format {version}, this is format {_VERSION}", str(self.path))
        return int(segment_bytes)

    # --- opening -----------------------------------------------------------------------------------------------------

    def recover(self) -> list[LogRecord]:
        """The records that the index has not got, in order; the next one comes behind them. Once, before anything else.

        Raises StoreDamaged when one is missing; FS3Error DISK when the log cannot be read.
        """
        found: dict[int, tuple[LogRecord, int, int]] = {}
        try:
            for segment in range(self._count):
                view = memoryview(bytearray(self.segment_bytes))
                if not read_all(self._fd, view, self._offset_of(segment)):
                    raise StoreDamaged("the log ends within a segment", str(self.path))
                for at, record in self._scan(segment, view):
                    found[record.seq] = (record, segment, at)
            records = []
            while (here := found.get(self._next)) is not None:
                records.append(here[0])
                self._continue_behind(*here)
            if len(records) < len(found):
                raise StoreDamaged(f"record {self._next} of the log is damaged, later ones are there", str(self.path))
            if records:
                record, segment, at = found[self._next - 1]
                self._rewrite(self._offset_of(segment) + at, record.size)
        except OSError as why:
            if isinstance(why, StoreDamaged):
                raise
            raise error(Code.DISK, f"cannot read the log: {why.strerror}", str(self.path)) from why
        used = {self._segment, *(segment for segment, _ in self._filled)}
        self._free = deque(segment for segment in range(self._count) if segment not in used)
        return records

    def _scan(self, segment: int, view: memoryview) -> list[tuple[int, LogRecord]]:
        """Whole records of a segment that the index has not got, wherever they begin."""
        records = []
        at = 0
        while at < len(view):
            record = parse_record(view, at, self._salt(self._offset_of(segment) + at))
            if record is not None and record.seq >= self._first:
                records.append((at, record))
            at += record.size if record is not None else RECORD_ALIGNMENT
        return records

    def _continue_behind(self, record: LogRecord, segment: int, at: int) -> None:
        if segment != self._segment:
            self._leave_segment()
            self._segment = segment
        self._next = record.seq + 1
        self._used = at + record.size

    def _rewrite(self, offset: int, size: int) -> None:
        view = memoryview(bytearray(size))
        read_all(self._fd, view, offset)
        write_all(self._fd, view, offset)
        os.fdatasync(self._fd)

    def _offset_of(self, segment: int) -> int:
        return _HEAD_BYTES + segment * self.segment_bytes

    def _salt(self, offset: int) -> int:
        return crc32c(self._log_id + offset.to_bytes(8, "little"))

    # --- the disk thread's side --------------------------------------------------------------------------------------

    def append(self, rows: PackedRows, writes: Sequence[BlockWrite]) -> int:
        """Write a record and sync it; returns its number.

        Raises LogFull, after which nothing of it counts; OSError, after which it is not known what is on the disk, and so does
        every further call.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._append(rows, writes)
        except OSError as why:
            self._failure = why
            raise

    def _append(self, rows: PackedRows, writes: Sequence[BlockWrite]) -> int:
        body = encode_body(rows, writes)
        data = [write.data for write in writes if write.data is not None]
        length = sum(map(len, data))
        size = size_of(len(body), length)
        offset = self._reserve(size)
        head = pack_head(self._next, body, data, self._salt(offset))
        padding = size - len(head) - len(body) - length
        parts = [memoryview(head + body), *data, _ZEROS[:padding]]
        try:
            at = offset
            for first in range(0, len(parts), _PARTS_MAX):
                some = parts[first : first + _PARTS_MAX]
                write_parts(self._fd, some, at)
                at += sum(map(len, some))
        except OSError as why:
            if why.errno in NO_ROOM:  # of file systems that write elsewhere what is overwritten
                raise LogFull from why
            raise
        os.fdatasync(self._fd)
        self._used += size
        self._next += 1
        return self._next - 1

    def _reserve(self, size: int) -> int:
        """Where a record of so many bytes goes. Raises LogFull, OSError."""
        if size > self.segment_bytes:
            raise LogFull
        if self._segment < 0 or self._used + size > self.segment_bytes:
            self._leave_segment()
            self._segment = self._free.popleft() if self._free else self._grow()
            self._used = 0
        return self._offset_of(self._segment) + self._used

    def _leave_segment(self) -> None:
        if self._segment >= 0:
            self._filled.append((self._segment, self._next))
            self._segment = -1

    def _grow(self) -> int:
        """One more segment. Raises LogFull, OSError."""
        if self._count >= self._segments_max:
            raise LogFull
        offset = self._offset_of(self._count)
        try:
            for at in range(0, self.segment_bytes, len(_ZEROS)):
                write_all(self._fd, _ZEROS[: self.segment_bytes - at], offset + at)
            os.fdatasync(self._fd)
        except OSError as why:
            if why.errno in NO_ROOM:
                os.ftruncate(self._fd, offset)  # the index needs what room is left, for the rows that make more
                raise LogFull from why
            raise
        self._count += 1
        return self._count - 1

    # --- the loop's side ---------------------------------------------------------------------------------------------

    @property
    def next_seq(self) -> int:
        """Number of the next record. While the disk thread appends nothing."""
        return self._next

    @property
    def has_filled_segments(self) -> bool:
        """A checkpoint would make room."""
        return bool(self._filled)

    def position_of(self, first: int) -> LogPosition:
        """What an index is to know that lacks record `first` and those after it."""
        return LogPosition(self._log_id, first, self._count)

    def skip(self) -> None:
        """The rows that would have been the next record are in the index instead. While the disk thread appends nothing."""
        self._next += 1

    def release(self, first: int) -> None:
        """The durable index has the rows of all records before `first`."""
        while self._filled and self._filled[0][1] <= first:
            self._free.append(self._filled.popleft()[0])

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

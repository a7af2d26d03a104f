"""Memory of a mount that outlives the process that serves it: the holder has its descriptor, each process maps it.

Three parts: a page of numbers, records of one size, and cells of bytes with a head each. The file is sparse, so what was never
used costs nothing. A process may be killed at any instruction: a record and a head carry a checksum, and one that does not match
was being written.
"""

from __future__ import annotations

import errno
import heapq
import mmap
import os
from collections.abc import Iterator
from struct import Struct
from typing import Final
from zlib import crc32

from fs3.base.units import KIB

records_max: Final = 1 << 16
"""What can be noted at once: open handles and files, locks, requests under way."""
cell_bytes: Final = 128 * KIB
cells_max: Final = 1 << 13
"""Of bytes that are not stored: 1 GiB, twice what a process may hold of them."""
cells_kept: Final = 512
"""The memory of free cells behind these is given back to the system."""
numbers_max: Final = 64

_RECORD: Final = Struct("=II8Q")  # checksum kind values
_HEAD: Final = Struct("=IIQQQ")  # checksum bytes owner offset order
_NUMBER: Final = Struct("=Q")
_CHECKSUM: Final = Struct("=I")
_MAGIC: Final = int.from_bytes(b"fs3mount", "little")
_RECORDS_AT: Final = 4096
_HEADS_AT: Final = _RECORDS_AT + records_max * 128
_CELLS_AT: Final = _HEADS_AT + cells_max * 64
_RECORD_STEP: Final = 128
_HEAD_STEP: Final = 64
_SIZE: Final = _CELLS_AT + cells_max * cell_bytes

Values = tuple[int, ...]


def create_memory() -> int:
    """The descriptor of memory that holds nothing yet."""
    fd = os.memfd_create("fs3-mount", os.MFD_CLOEXEC)
    os.ftruncate(fd, _SIZE)
    return fd


class LastingMemory:
    """One mapping of it; a process has one at a time."""

    def __init__(self, fd: int) -> None:
        """`fd`: of `create_memory`; the caller's still. OSError EINVAL when it is anything else."""
        if os.fstat(fd).st_size != _SIZE:
            raise OSError(errno.EINVAL, "the memory of the mount has another size than this software gives it")
        self._map = mmap.mmap(fd, _SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        if not self.number(0):
            self.set_number(0, _MAGIC)
        if self.number(0) != _MAGIC:
            raise OSError(errno.EINVAL, "the memory of the mount is of other software")
        self._free_records: list[int] = []
        self._records_used = 0
        self._free_cells: list[int] = []
        self._cells_used = 0

    def close(self) -> None:
        """Unmap it; what it holds stays for as long as its descriptor is open anywhere."""
        self._map.close()

    # --- numbers -----------------------------------------------------------------------------------------------------

    def number(self, place: int) -> int:
        """One of `numbers_max`, from 1; 0: it was never set."""
        return int(_NUMBER.unpack_from(self._map, place * 8)[0])

    def set_number(self, place: int, value: int) -> None:
        """Set one."""
        assert place < numbers_max
        self._map[place * 8 : place * 8 + 8] = _NUMBER.pack(value)

    # --- records -----------------------------------------------------------------------------------------------------

    def records(self) -> Iterator[tuple[int, int, Values]]:
        """(place, kind, values) of all records, for a process that begins; afterwards `add` knows what is free."""
        last = -1
        for place in range(self._records_end()):
            at = _RECORDS_AT + place * _RECORD_STEP
            data = self._map[at : at + _RECORD.size]
            checksum, kind, *values = _RECORD.unpack(data)
            if kind and checksum == crc32(data[4:]):
                self._free_records += range(last + 1, place)
                last = place
                yield place, kind, tuple(values)
        self._free_records.sort()
        self._records_used = last + 1

    def _records_end(self) -> int:
        """Behind the last record that was ever used: what lies behind is zero."""
        return min(records_max, self.number(1))

    def add(self, kind: int, *values: int) -> int:
        """Note a record; its place. -1: there is no room."""
        if self._free_records:
            place = heapq.heappop(self._free_records)
        elif self._records_used < records_max:
            place = self._records_used
            self._records_used += 1
            if place >= self.number(1):
                self.set_number(1, place + 1)
        else:
            return -1
        self.put(place, kind, *values)
        return place

    def put(self, place: int, kind: int, *values: int) -> None:
        """Replace a record; nothing where there was no room for it."""
        if place < 0:
            return
        at = _RECORDS_AT + place * _RECORD_STEP
        data = _RECORD.pack(0, kind, *values, *(0,) * (8 - len(values)))
        self._map[at : at + _RECORD.size] = _CHECKSUM.pack(crc32(data[4:])) + data[4:]

    def read(self, place: int) -> Values:
        """The values of a record that is there."""
        return tuple(_RECORD.unpack_from(self._map, _RECORDS_AT + place * _RECORD_STEP)[2:])

    def remove(self, place: int) -> None:
        """Forget a record."""
        if place < 0:
            return
        at = _RECORDS_AT + place * _RECORD_STEP
        self._map[at : at + 8] = bytes(8)
        heapq.heappush(self._free_records, place)

    # --- cells -------------------------------------------------------------------------------------------------------

    def cells(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(cell, owner, offset, order, bytes) of all that are taken, for a process that begins."""
        last = -1
        for cell in range(min(cells_max, self.number(2))):
            at = _HEADS_AT + cell * _HEAD_STEP
            data = self._map[at : at + _HEAD.size]
            checksum, count, owner, offset, order = _HEAD.unpack(data)
            if owner and checksum == crc32(data[4:]):
                self._free_cells += range(last + 1, cell)
                last = cell
                yield cell, owner, offset, order, count
        self._free_cells.sort()
        self._cells_used = last + 1

    def take_cell(self) -> int:
        """A free cell; -1: there is none. Those that were used before are taken first, so that the memory stays small."""
        if self._free_cells:
            return heapq.heappop(self._free_cells)
        if self._cells_used == cells_max:
            return -1
        self._cells_used += 1
        if self._cells_used > self.number(2):
            self.set_number(2, self._cells_used)
        return self._cells_used - 1

    def give_cell(self, cell: int) -> None:
        """It is free."""
        at = _HEADS_AT + cell * _HEAD_STEP
        self._map[at : at + _HEAD.size] = bytes(_HEAD.size)
        heapq.heappush(self._free_cells, cell)
        if cell >= cells_kept:
            self._map.madvise(mmap.MADV_REMOVE, _CELLS_AT + cell * cell_bytes, cell_bytes)

    def write_cell(self, cell: int, at: int, data: memoryview | bytes) -> None:
        """Bytes within a cell."""
        here = _CELLS_AT + cell * cell_bytes + at
        self._map[here : here + len(data)] = data

    def set_head(self, cell: int, owner: int, offset: int, order: int, count: int) -> None:
        """Whose a cell is, and how many bytes of it count: from now on it lasts."""
        at = _HEADS_AT + cell * _HEAD_STEP
        data = _HEAD.pack(0, count, owner, offset, order)
        self._map[at : at + _HEAD.size] = _CHECKSUM.pack(crc32(data[4:])) + data[4:]

    def read_cell(self, cell: int, at: int, count: int) -> bytes:
        """Bytes of a cell."""
        here = _CELLS_AT + cell * cell_bytes + at
        return self._map[here : here + count]

"""The intermediate file of one producer: all its records, grouped by partition, and an index.

    batch 0: records of partition 0, 1, … P-1 · batch 1: likewise · …     100 bytes each
    index    records of each partition in each batch, batch by batch      int64, little-endian
    trailer  records, batches, partitions, CRC-32 of the index, magic     28 bytes

Why one file per producer. The plain shuffle writes a file per producer *and* partition; at the size
of 3FS's published run (1,000 producers, 8,192 partitions) that is eight million files, each made,
opened, closed and deleted for a few MiB of data, and the metadata service becomes what is measured.
Here the shuffle is `producers` large sequential files. The price is paid where it is cheap: a
consumer reads one extent per producer and batch, and asks for all of them in one `cat_ranges`.

The index is last because a producer knows it last, and files are written once, front to back.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .directory import Directory
from .errors import DataError
from .extents import Extent
from .records import RECORD_BYTES

_MAGIC: Final = b"gsrtidx1"
_TRAILER: Final = struct.Struct("<QIII8s")


@dataclass(frozen=True, slots=True, eq=False)
class ShuffleIndex:
    """Where the partitions of one shuffle file are."""

    name: str
    counts: NDArray[np.int64]
    """Records by batch and partition. Shape (batches, partitions)."""

    @property
    def records(self) -> int:
        return int(self.counts.sum())

    @property
    def partitions(self) -> int:
        return int(self.counts.shape[1])

    def extents(self, partition: int) -> list[Extent]:
        """The records of one partition: at most one extent per batch, in file order."""
        stops = self.counts.cumsum().reshape(self.counts.shape)
        return [
            Extent(self.name, int(stop - count), int(stop))
            for stop, count in zip(stops[:, partition], self.counts[:, partition], strict=True)
            if count
        ]

    def encode(self) -> bytes:
        """Index and trailer, to be appended to the records."""
        batches, partitions = self.counts.shape
        index = self.counts.astype("<i8").tobytes()
        trailer = _TRAILER.pack(self.records, batches, partitions, zlib.crc32(index), _MAGIC)
        return index + trailer


def read_index(directory: Directory, name: str, length_bytes: int) -> ShuffleIndex:
    """Read the index of a shuffle file of `length_bytes`, believing nothing it says unchecked."""
    if length_bytes < _TRAILER.size:
        raise DataError(f"{name}: {length_bytes} bytes are too few for a shuffle file")
    trailer_start = length_bytes - _TRAILER.size
    trailer = directory.read_range(name, trailer_start, length_bytes)
    records, batches, partitions, crc, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC:
        raise DataError(f"{name}: does not end in a shuffle trailer: truncated, or another file")
    index_start = records * RECORD_BYTES
    if index_start + batches * partitions * 8 != trailer_start:
        raise DataError(
            f"{name}: {records:,} records and an index of {batches:,} x {partitions:,} "
            f"do not make {length_bytes:,} bytes: trailer corrupt, or bytes lost"
        )
    index = directory.read_range(name, index_start, trailer_start)
    if zlib.crc32(index) != crc:
        raise DataError(f"{name}: index corrupt, it does not match its checksum")
    counts = np.frombuffer(index, dtype="<i8").astype(np.int64).reshape(batches, partitions)
    if counts.min(initial=0) < 0 or int(counts.sum()) != records:
        raise DataError(f"{name}: index corrupt, its counts do not add up to {records:,} records")
    return ShuffleIndex(name, counts)

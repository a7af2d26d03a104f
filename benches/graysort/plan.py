"""`GraySortPlan`: every choice of a run, checked once, with the memory arithmetic beside it.

Memory. `memory_bytes_max` bounds the record buffers of one worker, beyond the interpreter and the
file system's own caches. Of it, three reads (the one in use, the one arriving, the file system's
own copy) and two blocks are set aside; the rest holds a shuffle batch, or a whole partition while
it is sorted. Generation and validation stream, and need only what is set aside. Keys that are all
equal do not raise the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import PlanError
from .records import BLOCK_RECORDS, RECORD_BYTES

MIB: Final = 1 << 20
MEMORY_BYTES_MIN: Final = 16 * MIB
READ_BYTES_MAX: Final = 16 * MIB
PARTITIONS_MAX: Final = 1 << 16
"""A partition number is a `uint16`, which numpy orders by radix sort."""
WORKERS_MAX: Final = 1024
INPUT_FILES_MAX: Final = 100_000
"""Five digits in a file name."""
EXTENT_BYTES: Final = 4 * MIB
"""A partition's share of a shuffle batch, memory permitting: large enough to read at full speed,
and no larger, since touching fresh memory is not free."""

SHUFFLE_RECORD_BYTES: Final = RECORD_BYTES + 2 + 8 + 8
"""Per record of a batch: the record, its partition, its place in the order, the sort's scratch."""
SORT_RECORD_BYTES: Final = RECORD_BYTES + 5 * 8 + 4
"""Per record of a partition: the record, its prefix, its place in the order, and four more columns
for the mending of ties (10-byte keys that agree in 8 bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraySortPlan:
    """What to sort, where it lives, and with how much."""

    records: int
    """Size of the data set in 100-byte records."""
    input_url: str
    """fsspec URL of the directory of the generated files."""
    shuffle_url: str
    """fsspec URL of the directory of the intermediate files."""
    output_url: str
    """fsspec URL of the directory of the sorted files."""
    workers: int = 2
    """Worker processes. 0 runs everything in the calling process, as `memory://` needs."""
    partitions: int = 16
    """Ranges of keys, sorted one at a time by a worker; also the number of output files."""
    input_files: int = 8
    """Files that generation writes; the data set is the same for any number."""
    seed: int = 0
    """Names the data set: 0 … 2**64 - 1."""
    memory_bytes_max: int = 1024 * MIB
    """Bound on the record buffers of one worker."""
    stall_seconds_max: float = 120.0
    """A worker that neither moves a byte nor finishes for so long is given up: the run fails."""
    synced: bool = False
    """Files that have a descriptor, as local ones do, are fsynced before they are closed. What closes durably anyway has none."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to fsspec with each of the three URLs."""

    def __post_init__(self) -> None:
        """Reject what cannot work, before anything is written."""
        _require_between("records", self.records, 1, 2**63)
        _require_between("workers", self.workers, 0, WORKERS_MAX)
        _require_between("partitions", self.partitions, 1, min(PARTITIONS_MAX, self.records))
        _require_between("input_files", self.input_files, 1, min(INPUT_FILES_MAX, self.records))
        _require_between("seed", self.seed, 0, 2**64 - 1)
        _require_between("memory_bytes_max", self.memory_bytes_max, MEMORY_BYTES_MIN, 2**50)
        if not self.stall_seconds_max > 0:
            raise PlanError(f"stall_seconds_max={self.stall_seconds_max}: must be positive")
        for option in ("input_url", "shuffle_url", "output_url"):
            url = getattr(self, option)
            if not url:
                raise PlanError(f"{option} is empty")
            if self.workers and url.startswith("memory:"):
                raise PlanError(f"{option}={url!r} lives in one process: use workers=0")
        if self._partition_records_likely_max > self.sort_records_max:
            raise PlanError(
                f"partitions={self.partitions}: a partition may reach "
                f"{self._partition_records_likely_max:,} records, and "
                f"memory_bytes_max={self.memory_bytes_max:,} sorts {self.sort_records_max:,}; "
                f"use more partitions or more memory"
            )

    @property
    def dataset_bytes(self) -> int:
        return self.records * RECORD_BYTES

    @property
    def producers(self) -> int:
        """Shuffle files: one per worker."""
        return min(max(self.workers, 1), self.records)

    @property
    def read_records_max(self) -> int:
        """Records asked of the file system at once."""
        return min(READ_BYTES_MAX, self.memory_bytes_max // 8) // RECORD_BYTES

    @property
    def shuffle_records_max(self) -> int:
        """Records of one batch of the shuffle."""
        affordable = self._batch_bytes_max // SHUFFLE_RECORD_BYTES
        return min(affordable, self.partitions * EXTENT_BYTES // RECORD_BYTES)

    @property
    def sort_records_max(self) -> int:
        """Records of the largest partition that a worker can sort."""
        return self._batch_bytes_max // SORT_RECORD_BYTES

    @property
    def _batch_bytes_max(self) -> int:
        aside = (3 * self.read_records_max + 2 * BLOCK_RECORDS) * RECORD_BYTES
        return self.memory_bytes_max - aside

    @property
    def _partition_records_likely_max(self) -> int:
        """Mean plus six standard deviations: uniform keys exceed it once in 10**9 partitions."""
        mean = self.records / self.partitions
        return min(self.records, math.ceil(mean + 6 * math.sqrt(mean)))


def _require_between(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise PlanError(f"{option}={value:,}: must be between {low:,} and {high:,}")

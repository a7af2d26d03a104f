"""Shuffle: group the input by key range, one intermediate file per producer.

Producer p takes the p-th even share of all input records, whatever the files are, and works through
it in batches as large as its memory allows: read a batch, order it by partition (a radix sort of
16-bit numbers), append it, note the counts. Larger batches make larger extents for the consumers.
See `shuffle_file` for the format and its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..crew import Crew, Workspace, crew_for
from ..errors import DataError
from ..extents import Extent, group_extents, slice_files, split_evenly
from ..plan import GraySortPlan
from ..records import BLOCK_RECORDS, RECORD_BYTES, key_prefix, partition_of
from ..shuffle_file import ShuffleIndex

if TYPE_CHECKING:
    from ..directory import Directory


@dataclass(frozen=True, slots=True)
class ShuffleShare:
    """Turn one producer's share of the input into its shuffle file."""

    producer: int
    share: Sequence[Extent]

    @property
    def part(self) -> str:
        return f"producer {self.producer}"

    def run(self, workspace: Workspace) -> int:
        """Number of records written."""
        plan = workspace.plan
        name = workspace.shuffle.name(self.producer)
        share_records = sum(extent.records for extent in self.share)
        batch = _Batch(min(plan.shuffle_records_max, share_records), plan.partitions)
        counts: list[NDArray[np.uint64]] = []
        with workspace.shuffle.create(name) as append:
            for extents in group_extents(self.share, plan.shuffle_records_max):
                counts.append(batch.load(workspace.input, extents, plan.read_records_max))
                batch.append_to(append)
            index = ShuffleIndex(name, np.array(counts).reshape(-1, plan.partitions))
            append(index.encode())
        return index.records

"""Shuffle: group the input by key range, one intermediate file per producer.

Producer p takes the p-th even share of all input records, however they are cut into files, and
works through it in batches as large as its memory allows: read a batch, order it by partition (a
radix sort of 16-bit numbers), append it, note the counts. Larger batches make larger extents for
the consumers. See `shuffle_file` for the format and its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..crew import Crew, crew_for
from ..errors import DataError
from ..extents import Extent, group_extents, slice_files, split_evenly
from ..plan import GraySortPlan
from ..records import RECORD_BYTES, key_prefix, partition_of, rearranged
from ..shuffle_file import ShuffleIndex
from ..workspace import Workspace


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
        batch_records = min(plan.shuffle_records_max, sum(extent.records for extent in self.share))
        batch = workspace.scratch(batch_records)
        partition = np.empty(batch_records, dtype=np.uint16)
        counts_by_batch = []
        with workspace.shuffle.create(name) as append:
            for extents in group_extents(self.share, batch_records):
                counts = np.zeros(plan.partitions, dtype=np.int64)
                filled = 0
                for piece in workspace.input.read(extents, plan.read_records_max):
                    place = slice(filled, filled + len(piece))
                    batch[place] = piece
                    partition[place] = partition_of(key_prefix(piece), plan.partitions)
                    counts += np.bincount(partition[place], minlength=plan.partitions)
                    filled += len(piece)
                order = np.argsort(partition[:filled], kind="stable")
                for block in rearranged(batch, order):
                    append(block)
                counts_by_batch.append(counts)
            index = ShuffleIndex(name, np.array(counts_by_batch))
            append(index.encode())
        return index.records


def shuffle(plan: GraySortPlan, crew: Crew | None = None) -> None:
    """Write the input files' records, grouped by partition, into `plan.producers` shuffle files."""
    home = Workspace(plan)
    input_records = _count_input(plan, home.input.sizes())
    home.shuffle.prepare()
    tasks = [
        ShuffleShare(producer, slice_files(input_records, start, stop))
        for producer, (start, stop) in enumerate(split_evenly(plan.records, plan.producers))
    ]
    with crew_for(plan, crew) as workers:
        workers.run("shuffle", tasks, 2 * plan.dataset_bytes)


def _count_input(plan: GraySortPlan, sizes: dict[str, int]) -> dict[str, int]:
    """Input file → records in it, which must be whole and `plan.records` in all."""
    for name, length_bytes in sizes.items():
        if length_bytes % RECORD_BYTES:
            raise DataError(
                f"{name} in {plan.input_url} is {length_bytes:,} bytes long, "
                f"no multiple of {RECORD_BYTES}: truncated, or not a file of records"
            )
    records = {name: length_bytes // RECORD_BYTES for name, length_bytes in sizes.items()}
    if sum(records.values()) != plan.records:
        raise DataError(
            f"{plan.input_url} holds {sum(records.values()):,} records in {len(records)} file(s), the plan says {plan.records:,}"
        )
    return records

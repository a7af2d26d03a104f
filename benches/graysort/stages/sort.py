"""Sort: gather one partition from every shuffle file, order it, write it as one output file.

The order is stable: equal keys keep the order in which the shuffle files hold them. numpy's stable
sorts do not vectorise, so keys are ordered by their first 8 bytes with the (vectorised, unstable)
default sort, and then only the records that share those 8 bytes, about none among random keys, are
put right by the last 2 bytes and their place of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crew import Crew, crew_for
from ..errors import DataError
from ..extents import Extent
from ..plan import GraySortPlan
from ..records import Records, key_prefix, key_suffix, rearranged
from ..shuffle_file import ShuffleIndex, read_index
from ..workspace import Workspace


def order_by_key(records: Records) -> NDArray[np.intp]:
    """The rows of `records` in stable ascending order of their 10-byte keys."""
    prefix = key_prefix(records)
    order = np.argsort(prefix)
    ranked = prefix[order]
    tied = np.zeros(len(order) + 1, dtype=np.bool_)  # tied[i]: ranks i-1 and i share a prefix
    np.equal(ranked[1:], ranked[:-1], out=tied[1:-1])
    if tied.any():
        ranks = np.flatnonzero(tied[1:] | tied[:-1])
        rows = order[ranks]
        order[ranks] = rows[np.lexsort((rows, key_suffix(records)[rows], prefix[rows]))]
    return order


@dataclass(frozen=True, slots=True)
class SortPartition:
    """Sort one partition into its output file."""

    partition: int
    extents: Sequence[Extent]

    @property
    def part(self) -> str:
        return f"partition {self.partition}"

    def run(self, workspace: Workspace) -> int:
        """Number of records written."""
        read_records_max = workspace.plan.read_records_max
        count = sum(extent.records for extent in self.extents)
        records = workspace.scratch(count)
        filled = 0
        for piece in workspace.shuffle.read(self.extents, read_records_max):
            records[filled : filled + len(piece)] = piece
            filled += len(piece)
        with workspace.output.create(workspace.output.name(self.partition)) as append:
            for block in rearranged(records, order_by_key(records)):
                append(block)
        return count


def sort(plan: GraySortPlan, crew: Crew | None = None) -> None:
    """Write each partition, sorted, into an output file of its own."""
    home = Workspace(plan)
    indexes = [read_index(home.shuffle, name, length_bytes) for name, length_bytes in home.shuffle.sizes().items()]
    _check_indexes(plan, indexes)
    home.output.prepare()
    tasks = [
        SortPartition(partition, [e for index in indexes for e in index.extents(partition)])
        for partition in range(plan.partitions)
    ]
    with crew_for(plan, crew) as workers:
        workers.run("sort", tasks, 2 * plan.dataset_bytes)


def _check_indexes(plan: GraySortPlan, indexes: Sequence[ShuffleIndex]) -> None:
    """The shuffle files must be for this plan, and each partition must fit a worker's memory."""
    for index in indexes:
        if index.partitions != plan.partitions:
            raise DataError(f"{index.name} has {index.partitions} partitions, the plan {plan.partitions}")
    records = sum(index.records for index in indexes)
    if records != plan.records:
        raise DataError(f"{plan.shuffle_url} holds {records:,} records in {len(indexes)} file(s), the plan says {plan.records:,}")
    sizes = np.concatenate([index.counts for index in indexes]).sum(axis=0)
    largest = int(sizes.argmax())
    if sizes[largest] > plan.sort_records_max:
        raise DataError(
            f"partition {largest} holds {sizes[largest]:,} records, and memory_bytes_max="
            f"{plan.memory_bytes_max:,} sorts {plan.sort_records_max:,}: use more partitions"
        )

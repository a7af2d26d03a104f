"""Generate: write the data set, and take its count and checksum on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checksum import Totals, totals_of
from ..crew import Crew, crew_for
from ..extents import split_evenly
from ..plan import GraySortPlan
from ..records import BLOCK_RECORDS, RECORD_BYTES, fill_records
from ..workspace import Workspace


@dataclass(frozen=True, slots=True)
class GenerateFile:
    """Write records `start` up to `stop` of the data set as one input file."""

    file_index: int
    start: int
    stop: int

    @property
    def part(self) -> str:
        return f"input file {self.file_index}"

    def run(self, workspace: Workspace) -> Totals:
        """Fill and append block by block; the totals of what was written."""
        totals = Totals()
        buffer = np.empty((BLOCK_RECORDS, RECORD_BYTES), dtype=np.uint8)
        with workspace.input.create(workspace.input.name(self.file_index)) as append:
            for first in range(self.start, self.stop, BLOCK_RECORDS):
                block = buffer[: min(BLOCK_RECORDS, self.stop - first)]
                fill_records(block, first, workspace.plan.seed)
                append(block)
                totals += totals_of(block)
        return totals


def generate(plan: GraySortPlan, crew: Crew | None = None) -> Totals:
    """Write `plan.records` records into `plan.input_files` files; returns what must survive."""
    Workspace(plan).input.prepare()
    slices = split_evenly(plan.records, plan.input_files)
    tasks = [GenerateFile(index, start, stop) for index, (start, stop) in enumerate(slices)]
    with crew_for(plan, crew) as workers:
        totals = workers.run("generate", tasks, plan.dataset_bytes)
    return sum(totals, Totals())

"""Validate: prove that the output is an ordered permutation of the generated records.

Ordered: no record has a smaller key than the one before it, within a file or across files.
Permutation: count and checksum (see `checksum`) equal those taken while generating. Like valsort,
validation also counts duplicate keys, which are allowed. What is wrong with the data is a fault in
the result, not an exception; only a file system that fails to answer raises.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..checksum import Totals
from ..crew import Crew, crew_for
from ..extents import Extent
from ..plan import GraySortPlan
from ..records import RECORD_BYTES
from ..summary import Summary
from ..workspace import Workspace


@dataclass(frozen=True, slots=True)
class Validation:
    """The verdict on the output."""

    totals: Totals
    """Of the output files."""
    expected: Totals
    """Of the input, when it was generated."""
    duplicates: int
    """Records whose key equals that of the record before."""
    faults: tuple[str, ...]
    """What is wrong, in words; empty when nothing is."""

    @property
    def is_valid(self) -> bool:
        return not self.faults


@dataclass(frozen=True, slots=True)
class ValidateFile:
    """Summarise one output file of so many whole records."""

    name: str
    records: int

    @property
    def part(self) -> str:
        return self.name

    def run(self, workspace: Workspace) -> Summary:
        """Stream the file through a summary."""
        summary = Summary()
        whole = Extent(self.name, 0, self.records)
        for piece in workspace.output.read([whole], workspace.plan.read_records_max):
            summary = summary.join(Summary.of(piece))
        return summary


def validate(plan: GraySortPlan, expected: Totals, crew: Crew | None = None) -> Validation:
    """Check the output files of `plan` against the totals that `generate` returned."""
    output = Workspace(plan).output
    sizes = output.sizes()
    tasks = [ValidateFile(name, length // RECORD_BYTES) for name, length in sizes.items()]
    total_bytes = sum(sizes.values())
    with crew_for(plan, crew) as workers:
        summaries = dict(zip(sizes, workers.run("validate", tasks, total_bytes), strict=True))

    names = {output.name(partition) for partition in range(plan.partitions)}
    faults = [f"{name} is missing" for name in sorted(names - sizes.keys())]
    faults += [f"{name} is not of this run" for name in sorted(sizes.keys() - names)]
    dataset, previous = Summary(), ""
    for name, summary in summaries.items():
        if sizes[name] % RECORD_BYTES:
            faults.append(f"{name} is {sizes[name]:,} bytes long: it ends inside a record")
        if summary.descents:
            faults.append(
                f"{name} is not sorted: {summary.descents:,} record(s) are smaller than the one "
                f"before, the first is record {summary.descent_first:,}"
            )
        joined = dataset.join(summary)
        if joined.descents > dataset.descents + summary.descents:
            faults.append(f"{name} begins with a smaller key than {previous} ends with")
        if summary.totals.records:
            dataset, previous = joined, name
    if dataset.totals.records != expected.records:
        faults.append(f"{dataset.totals.records:,} records, expected {expected.records:,}")
    elif dataset.totals.checksum != expected.checksum:
        faults.append(
            f"checksum {dataset.totals.checksum:016x}, expected {expected.checksum:016x}: "
            f"records were changed, or some lost and others repeated"
        )
    return Validation(dataset.totals, expected, dataset.duplicates, tuple(faults))

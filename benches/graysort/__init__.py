"""GraySort over any fsspec file system: generate, shuffle, sort and validate 100-byte records.

The benchmark of https://sortbenchmark.org, in the shape in which 3FS was measured with it: a
range-partitioning shuffle, one sort per partition, and a validation that proves that the output is
an ordered permutation of the input. Every byte is read and written through fsspec URLs; no stage
touches a temporary file, so what is measured is the file system behind the URLs.

    generate    N records                                          → input files
    shuffle     input files, split evenly over producers           → one shuffle file per producer
    sort        partition k of every shuffle file (`cat_ranges`)   → output file k
    validate    output files                                       → order, count, checksum

Partition k holds smaller keys than partition k+1, so output files 0, 1, 2 … concatenated are the
sorted data set. Stages run on worker processes; each worker opens its own file system.

    from benches.graysort import GraySortPlan, run

    if __name__ == "__main__":  # workers are spawned: they import this module again
        plan = GraySortPlan(
            records=10_000_000,
            input_url="fs3://127.0.0.1:8000/graysort/input",
            shuffle_url="fs3://127.0.0.1:8000/graysort/shuffle",
            output_url="fs3://127.0.0.1:8000/graysort/output",
        )
        report = run(plan)
        assert report.validation.is_valid, report.validation.faults

From a shell: `python -m benches.graysort --help`.
"""

from .checksum import Totals
from .crew import Crew, open_crew
from .errors import DataError, GraySortError, PlanError, StageError
from .pipeline import GraySortReport, StageReport, run
from .plan import GraySortPlan
from .stages.generate import generate
from .stages.shuffle import shuffle
from .stages.sort import sort
from .stages.validate import Validation, validate

__all__ = [
    "Crew",
    "DataError",
    "GraySortError",
    "GraySortPlan",
    "GraySortReport",
    "PlanError",
    "StageError",
    "StageReport",
    "Totals",
    "Validation",
    "generate",
    "open_crew",
    "run",
    "shuffle",
    "sort",
    "validate",
]

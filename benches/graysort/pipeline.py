"""`run`: the four stages in a row, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .crew import Crew, Progress, open_crew
from .plan import GraySortPlan
from .stages.generate import generate
from .stages.shuffle import shuffle
from .stages.sort import sort
from .stages.validate import Validation, validate
from .workspace import Workspace

GB: Final = 10**9
"""Rates are decimal, as in the published results."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage moved, and how long it took from its first look at the files to its last."""

    stage: str
    seconds: float
    read_bytes: int
    written_bytes: int

    @property
    def moved_bytes(self) -> int:
        return self.read_bytes + self.written_bytes

    @property
    def gb_per_s(self) -> float:
        """Bytes moved, read and written, per second."""
        return self.moved_bytes / self.seconds / GB


@dataclass(frozen=True, slots=True)
class GraySortReport:
    """The outcome of a run."""

    plan: GraySortPlan
    stages: tuple[StageReport, ...]
    validation: Validation

    @property
    def sort_seconds(self) -> float:
        """What GraySort counts: shuffle and sort, without making and checking the data."""
        return sum(s.seconds for s in self.stages if s.stage in ("shuffle", "sort"))

    @property
    def total_seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def sort_gb_per_s(self) -> float:
        """Data set size per second of `sort_seconds`: the benchmark's figure."""
        return self.plan.dataset_bytes / self.sort_seconds / GB

    @property
    def total_gb_per_s(self) -> float:
        """Data set size per second of all four stages."""
        return self.plan.dataset_bytes / self.total_seconds / GB

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Storage options stay out: they may hold credentials."""
        plan, validation = self.plan, self.validation
        return {
            "records": plan.records,
            "dataset_bytes": plan.dataset_bytes,
            "seed": plan.seed,
            "workers": plan.workers,
            "partitions": plan.partitions,
            "input_files": plan.input_files,
            "memory_bytes_max": plan.memory_bytes_max,
            "urls": [plan.input_url, plan.shuffle_url, plan.output_url],
            "stages": [
                {
                    "stage": stage.stage,
                    "seconds": stage.seconds,
                    "read_bytes": stage.read_bytes,
                    "written_bytes": stage.written_bytes,
                    "gb_per_s": stage.gb_per_s,
                }
                for stage in self.stages
            ],
            "sort_seconds": self.sort_seconds,
            "sort_gb_per_s": self.sort_gb_per_s,
            "total_seconds": self.total_seconds,
            "total_gb_per_s": self.total_gb_per_s,
            "is_valid": validation.is_valid,
            "checksum": f"{validation.totals.checksum:016x}",
            "duplicates": validation.duplicates,
            "faults": list(validation.faults),
        }


def run(plan: GraySortPlan, progress: Progress | None = None, *, keep: bool = False) -> GraySortReport:
    """Generate, shuffle, sort and validate.

    The files are deleted afterwards unless `keep`; after a failed validation, or an error, they
    stay as evidence. Starting the workers is not part of any stage's time.
    """
    directories = Workspace(plan).directories
    for directory in directories:
        directory.prepare()
    stages: list[StageReport] = []

    def measured(stage: str, work: Callable[[], ValueT], crew: Crew) -> ValueT:
        started_at = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - started_at
        stages.append(StageReport(stage, seconds, crew.traffic.read_bytes, crew.traffic.written_bytes))
        return value

    with open_crew(plan, progress) as crew:
        expected = measured("generate", lambda: generate(plan, crew), crew)
        measured("shuffle", lambda: shuffle(plan, crew), crew)
        measured("sort", lambda: sort(plan, crew), crew)
        validation = measured("validate", lambda: validate(plan, expected, crew), crew)

    if validation.is_valid and not keep:
        for directory in directories:
            directory.remove()
    return GraySortReport(plan, tuple(stages), validation)

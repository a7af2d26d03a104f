"""Who carries out the parts of a stage: a crew, in this process or in worker processes.

A stage is a list of tasks. A task is a small picklable value that names its part and does its work
in a `Workspace`, the plan with its three directories open. The crew hands tasks to whoever is free,
adds up the traffic, and stops everything at the first failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, TypeVar

from .directory import Directory, Meter, no_meter
from .errors import StageError
from .plan import GraySortPlan

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (stage, bytes moved so far, bytes to move in all)."""


class Workspace:
    """What a task may touch."""

    def __init__(self, plan: GraySortPlan, meter: Meter = no_meter) -> None:
        options = plan.storage_options
        self.plan = plan
        self.input = Directory("input", plan.input_url, options, meter)
        self.shuffle = Directory("shuffle", plan.shuffle_url, options, meter)
        self.output = Directory("output", plan.output_url, options, meter)

    @property
    def directories(self) -> tuple[Directory, Directory, Directory]:
        return self.input, self.shuffle, self.output


class Task(Protocol[ResultT_co]):
    """One part of a stage."""

    @property
    def part(self) -> str:
        """Its name in errors, such as "partition 7"."""

    def run(self, workspace: Workspace) -> ResultT_co:
        """Do it, on any worker, once."""


@dataclass(slots=True)
class Traffic:
    """Bytes that tasks have moved."""

    read_bytes: int = 0
    written_bytes: int = 0


class Crew(ABC):
    """A context manager that owns the workers of a run."""

    def __init__(self, plan: GraySortPlan, progress: Progress | None) -> None:
        self.plan = plan
        self.traffic = Traffic()
        """Of the latest stage."""
        self._progress = progress
        self._stage = ""
        self._total_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def run(self, stage: str, tasks: Sequence[Task[ResultT]], total_bytes: int) -> list[ResultT]:
        """Carry out all tasks; their results in the order of the tasks. `StageError` if one fails."""
        self.traffic = Traffic()
        self._stage = stage
        self._total_bytes = total_bytes
        self._moved(0, 0)
        return self._run(tasks)

    @abstractmethod
    def _run(self, tasks: Sequence[Task[ResultT]]) -> list[ResultT]: ...

    def _moved(self, read_bytes: int, written_bytes: int) -> None:
        traffic = self.traffic
        traffic.read_bytes += read_bytes
        traffic.written_bytes += written_bytes
        if self._progress:
            moved_bytes = traffic.read_bytes + traffic.written_bytes
            self._progress(self._stage, moved_bytes, self._total_bytes)


class InlineCrew(Crew):
    """One after the other in the calling process: for `memory://`, profilers and debuggers."""

    def __init__(self, plan: GraySortPlan, progress: Progress | None) -> None:
        super().__init__(plan, progress)
        self._workspace = Workspace(plan, self._moved)

    def _run(self, tasks: Sequence[Task[ResultT]]) -> list[ResultT]:
        return [self._run_one(task) for task in tasks]

    def _run_one(self, task: Task[ResultT]) -> ResultT:
        try:
            return task.run(self._workspace)
        except Exception as error:
            raise StageError(self._stage, task.part, describe(error)) from error


def describe(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}"


def open_crew(plan: GraySortPlan, progress: Progress | None = None) -> Crew:
    """The crew that the plan asks for; use it as a context manager."""
    if plan.workers == 0:
        return InlineCrew(plan, progress)
    from .processes import ProcessCrew

    return ProcessCrew(plan, progress)


@contextmanager
def crew_for(plan: GraySortPlan, crew: Crew | None) -> Iterator[Crew]:
    """`crew` itself, or one opened for this stage alone."""
    with nullcontext(crew) if crew else open_crew(plan) as chosen:
        yield chosen

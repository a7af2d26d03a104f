"""`Task` and `Crew`: what there is to do, and who sees that it gets done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, TypeVar

from ..plan import GraySortPlan
from ..workspace import Workspace

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (stage, bytes moved so far, bytes to move in all)."""


class Task(Protocol[ResultT_co]):
    """One part of a stage: a small value that can be pickled."""

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
    """Carries out the tasks of one stage after another; a context manager that owns its workers."""

    def __init__(self, plan: GraySortPlan, progress: Progress | None) -> None:
        self.plan = plan
        self.traffic = Traffic()
        """Of the latest stage."""
        self._progress = progress
        self._stage = "start"
        self._total_bytes = 0

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *exc_info: object) -> None:
        """Release the workers."""

    def run(self, stage: str, tasks: Sequence[Task[ResultT]], total_bytes: int) -> list[ResultT]:
        """Carry out all tasks; results in the order of the tasks. `StageError` if one fails."""
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


def describe(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}"

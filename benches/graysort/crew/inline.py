"""A crew of one, in the calling process."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import StageError
from ..plan import GraySortPlan
from ..workspace import Workspace
from .base import Crew, Progress, ResultT, Task, describe


class InlineCrew(Crew):
    """One task after the other: for `memory://`, profilers and debuggers."""

    def __init__(self, plan: GraySortPlan, progress: Progress | None) -> None:
        super().__init__(plan, progress)
        self._workspace = Workspace(plan, self._moved)

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    def _run(self, tasks: Sequence[Task[ResultT]]) -> list[ResultT]:
        return [self._run_one(task) for task in tasks]

    def _run_one(self, task: Task[ResultT]) -> ResultT:
        try:
            return task.run(self._workspace)
        except Exception as error:
            raise StageError(self._stage, task.part, describe(error)) from error

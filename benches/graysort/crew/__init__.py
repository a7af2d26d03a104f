"""Who carries out the parts of a stage: this process, or worker processes.

A stage is a list of tasks. A task names its part and does its work in a `Workspace`. The crew hands
tasks to whoever is free, adds up the traffic, and stops everything at the first failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ..plan import GraySortPlan
from .base import Crew, Progress, Task
from .inline import InlineCrew
from .processes import ProcessCrew

__all__ = ["Crew", "InlineCrew", "ProcessCrew", "Progress", "Task", "crew_for", "open_crew"]


def open_crew(plan: GraySortPlan, progress: Progress | None = None) -> Crew:
    """The crew that the plan asks for, at work already; use it as a context manager."""
    return ProcessCrew(plan, progress) if plan.workers else InlineCrew(plan, progress)


@contextmanager
def crew_for(plan: GraySortPlan, crew: Crew | None) -> Iterator[Crew]:
    """`crew` itself, or one opened for this stage alone."""
    with nullcontext(crew) if crew else open_crew(plan) as chosen:
        yield chosen

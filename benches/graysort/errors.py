"""What can go wrong, by who has to act.

    GraySortError
    ├── PlanError     the options make no sense: change them            (also a ValueError)
    ├── DataError     files are missing, left over, truncated, corrupt  (also an OSError)
    └── StageError    a worker failed or died on one part of a stage

A sort that runs but sorts wrongly is not an error: it is a `Validation` with faults.
"""

from __future__ import annotations


class GraySortError(Exception):
    """Base of everything this package raises on purpose."""


class PlanError(GraySortError, ValueError):
    """The plan is inconsistent; the message names the option and a value that would do."""


class DataError(GraySortError, OSError):
    """A file is not what its stage must have left; the message names the file."""


class StageError(GraySortError):
    """One part of a stage failed on a worker; all other workers have been stopped."""

    def __init__(self, stage: str, part: str, reason: str) -> None:
        super().__init__(f"{stage}, {part}: {reason}")
        self.stage = stage
        self.part = part
        self.reason = reason

"""What the rings of the simulation have in common: a seed is a run, a run has an outcome, and planted bugs must be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Tell = Callable[[str], None]
"""Hears a run line by line. It changes nothing of the run."""


@dataclass
class Outcome:
    """What came of a run."""

    seed: int
    fingerprint: str
    """Over everything that happened: equal fingerprints, equal runs."""
    failures: list[str]
    steps: int
    operations: int
    """Of all clients together."""
    figures: dict[str, int] = field(default_factory=dict)
    """What else a ring counts, by name. Meaningful when it is added up over many runs."""

    @property
    def is_clean(self) -> bool:
        """Every promise was kept."""
        return not self.failures

    def describe(self) -> str:
        """One line."""
        figures = "".join(f" {name} {value}" for name, value in self.figures.items())
        return f"seed {self.seed} fingerprint {self.fingerprint} steps {self.steps} operations {self.operations}{figures}"


class PlantedBug(Protocol):
    """A mistake one could make, planted on purpose."""

    @property
    def what(self) -> str:
        """The mistake, in a few words."""
        ...

    @property
    def seeds(self) -> int:
        """Within so many seeds it must be found; 0: seeds are slow to find it, so a run was arranged that does."""
        ...

    @property
    def arranged(self) -> str:
        """The run that was arranged for it, as documents name it; "" when seeds find it."""
        ...


class Ring(Protocol):
    """One ring of the simulation."""

    @property
    def seeds_per_piece(self) -> int:
        """Seeds that are run in one go, about a second's worth: no process gets less work, and no journal remembers less."""
        ...

    @property
    def bugs(self) -> Mapping[str, PlantedBug]:
        """Every planted bug, by name."""
        ...

    def run(
        self, seed: int, bug: str = "", *, is_planted: bool = True, tell: Tell | None = None, every_step: bool = False
    ) -> Outcome:
        """One run. `bug`: with this bug; unless `is_planted`, only in the kind of trouble that the bug shows in. `tell` hears the
        run, with `every_step` in all detail there is. KeyError for a bug that does not exist."""
        ...

    def run_arranged(self, bug: str) -> bool:
        """The run that was arranged for a bug: True when it shows the bug, and shows nothing without it."""
        ...


def caught_by(bug: PlantedBug) -> str:
    """How a bug must be found, as documents say it."""
    return bug.arranged or f"seeds: within {bug.seeds}"


def find_catcher(ring: Ring, name: str, base: int = 0) -> str:
    """What notices a planted bug and has nothing to say without it; "" when nothing does. Seeds are counted from `base`."""
    bug = ring.bugs[name]
    if bug.arranged:
        return bug.arranged if ring.run_arranged(name) else ""
    for count in range(bug.seeds):
        outcome = ring.run(base + count, name)
        if not outcome.is_clean and ring.run(base + count, name, is_planted=False).is_clean:
            return f"{count + 1} of {bug.seeds} seeds: `{outcome.failures[0].partition(':')[0]}`"
    return ""

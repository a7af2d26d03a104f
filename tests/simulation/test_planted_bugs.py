"""A simulator is trusted as far as it finds planted bugs: each within its budget of seeds, or in its scenario.

Those that take many seeds are looked for by `python -m fs3.sim ring1 bugs`; here a seed that finds each is replayed (test_ring1).
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fs3.sim.remembered import read_seeds
from fs3.sim.ring import find_catcher
from fs3.sim.ring1.bugs import BUGS, FAST_SEEDS
from fs3.sim.ring1.ring import ChainRing
from fs3.sim.ring1.target_host import Parts

SEEDS = Path(__file__).parent / "seeds.txt"


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if 0 < bug.seeds <= FAST_SEEDS])
def test_seeds_find(name: str) -> None:
    assert find_catcher(ChainRing(), name), f"{BUGS[name].what}: not found in {BUGS[name].seeds} seeds"


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.scenario])
def test_scenarios_find(name: str) -> None:
    assert ChainRing().run_arranged(name), BUGS[name].what


def test_every_bug_has_a_way_to_be_found() -> None:
    assert all(bool(bug.seeds) != bool(bug.scenario) for bug in BUGS.values())
    remembered = {bug for _, bug, _ in read_seeds(SEEDS)}
    assert {name for name, bug in BUGS.items() if bug.seeds > FAST_SEEDS} <= remembered


def test_a_planted_part_exchanges_what_there_is() -> None:
    # A method that was renamed in the product would leave its planted double uncalled, and the bug would silently be none.
    for name, bug in BUGS.items():
        for field in fields(Parts):
            kind = getattr(bug.parts, field.name)
            for base in kind.__mro__ if isinstance(kind, type) else ():
                if base.__module__.startswith("fs3.sim.ring1.bugs"):
                    doubles = [each for each, value in vars(base).items() if callable(value) and not isinstance(value, type)]
                    strange = [each for each in doubles if not any(hasattr(real, each) for real in base.__mro__[1:])]
                    assert not strange, f"{name}: {base.__name__} has {strange}, which it takes the place of nothing with"

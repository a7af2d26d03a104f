"""A simulator is trusted as far as it finds planted bugs: each within its budget of seeds, or in its scenario.

Those that take many seeds are looked for by `python -m fs3.sim.run --bugs`; here a seed that finds each is replayed (test_ring1).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim.ring1.bugs import BUGS, FAST_SEEDS, first_caught
from fs3.sim.ring1.run import run_seed
from fs3.sim.ring1.scenario import play
from fs3.sim.ring1.target_host import Parts

SCENARIOS = Path(__file__).parents[1] / "scenarios"
SEEDS = Path(__file__).parent / "seeds.txt"


def caught(seed: int, parts: Parts) -> bool:
    return not run_seed(seed, parts).is_clean


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if 0 < bug.seeds <= FAST_SEEDS])
def test_seeds_find(name: str) -> None:
    assert first_caught(BUGS[name], caught, base=0) is not None, f"{BUGS[name].what}: not found in {BUGS[name].seeds} seeds"


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.scenario])
def test_scenarios_find(name: str) -> None:
    text = (SCENARIOS / f"{BUGS[name].scenario}.txt").read_text()
    assert play(text) == text
    try:
        now = play(text, BUGS[name].parts)
    except AssertionError:
        return
    assert now != text, BUGS[name].what


def test_every_bug_has_a_way_to_be_found() -> None:
    assert all(bool(bug.seeds) != bool(bug.scenario) for bug in BUGS.values())
    remembered = {line.split()[1] for line in SEEDS.read_text().splitlines() if not line.startswith("#")}
    assert {name for name, bug in BUGS.items() if bug.seeds > FAST_SEEDS} <= remembered

"""Ring 2 is trusted as far as it finds planted bugs. The quick ones are looked for here, all of them by
`python -m fs3.sim ring2 bugs` (or with FS3_ALL_BUGS set)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fs3.sim.planting import plant
from fs3.sim.ring import caught_by, find_catcher
from fs3.sim.ring2.bugs import BUGS
from fs3.sim.ring2.ring import ClusterRing
from fs3.sim.ring2.scenes import SCENES, play
from tests.simulation.scrambled_memory import scrambled_memory

QUICK_SEEDS = 20
"""Budgets up to this are looked for in every run of the tests."""


QUICK = [name for name, bug in BUGS.items() if bug.seeds <= QUICK_SEEDS or os.environ.get("FS3_ALL_BUGS")]


@pytest.mark.parametrize("name", QUICK)
def test_it_is_found(name: str) -> None:
    assert find_catcher(ClusterRing(), name), f"{BUGS[name].what}: not found"


@pytest.mark.parametrize("name", SCENES)
def test_scenes_end_well(name: str) -> None:
    """And go the same way again, whatever lies where in memory: a walk of a set of what hashes by its address would not."""
    stories: list[list[str]] = [[], []]
    for number, story in enumerate(stories):
        with scrambled_memory(number):
            assert play(name, story.append) == ""
    assert stories[0] == stories[1]


def test_every_bug_has_a_way_to_be_found() -> None:
    assert all(bool(bug.seeds) != bool(bug.scene) for bug in BUGS.values())
    assert {bug.scene for bug in BUGS.values() if bug.scene} <= set(SCENES)


def test_a_bug_is_gone_after_its_run() -> None:
    before = {name: [owner.__dict__.get(attribute) for owner, attribute, _ in bug.patches] for name, bug in BUGS.items()}
    for bug in BUGS.values():
        with plant(bug.patches):
            assert all(owner.__dict__[attribute] is other for owner, attribute, other in bug.patches)
    assert before == {name: [owner.__dict__.get(attribute) for owner, attribute, _ in bug.patches] for name, bug in BUGS.items()}


def test_a_bug_that_would_change_nothing_is_refused() -> None:
    class Service:
        lease = 1

    with (
        pytest.raises(AssertionError, match="Service has no leases that a bug"),
        plant([(Service, "lease", 2), (Service, "leases", 2)]),
    ):
        pass
    assert Service.lease == 1


def test_the_documentation_lists_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulation-ring2.md").read_text()
    for name, bug in BUGS.items():
        assert f"| `{name}` | {bug.what} | {caught_by(bug)} |" in text

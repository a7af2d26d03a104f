"""One-sided transfers keep what they promise, and the model finds the bugs that are planted in them."""

from __future__ import annotations

import pytest

from fs3.sim.one_sided import UPDATES, Violation, World, run
from fs3.sim.one_sided_bugs import BUGS
from fs3.sim.planting import plant

SEEDS = 150


def test_many_runs_keep_what_is_promised() -> None:
    worlds = [run(seed) for seed in range(SEEDS)]
    assert all(len(world.answered) == UPDATES for world in worlds)
    # They went through what they are for.
    assert sum(world.path for world in worlds) > 2 * SEEDS
    assert sum(len(world.ended) for world in worlds) > 30 * SEEDS
    assert any(world.given_up for world in worlds)


def test_a_run_is_the_same_again() -> None:
    first, second = run(7), run(7)
    assert (first.now, first.applied, first.ended) == (second.now, second.applied, second.ended)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    with plant(BUGS[name].patches), pytest.raises(Violation):
        World(BUGS[name].seed).run()

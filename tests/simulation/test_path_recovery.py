"""Paths die and come back, payloads arrive whatever becomes of them, and the model finds the bugs that are planted in that."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fs3.sim.one_sided import Violation
from fs3.sim.path_recovery import run
from fs3.sim.path_recovery_bugs import BUGS
from fs3.sim.planting import plant

SEEDS = 20


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Each path that dies is a line of the log."""
    logger = logging.getLogger("fs3.transport")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def test_many_runs_keep_what_is_promised() -> None:
    worlds = [run(seed) for seed in range(SEEDS)]
    # They went through what they are for.
    assert sum(world.deaths for world in worlds) > 2 * SEEDS
    assert all(len(world.ends[0].asked_at) > 1 for world in worlds)
    assert all(world.by_path_at[-1] > world.healed_at for world in worlds)


def test_a_run_is_the_same_again() -> None:
    first, second = run(7), run(7)
    assert (first.deaths, first.by_path_at, first.ends[0].asked_at) == (second.deaths, second.by_path_at, second.ends[0].asked_at)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    with plant(BUGS[name].patches), pytest.raises(Violation):
        run(BUGS[name].seed)

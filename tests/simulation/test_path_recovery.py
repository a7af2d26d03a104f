"""Paths die and come back, payloads arrive whatever becomes of them, and the model finds the bugs that are planted in that."""

from __future__ import annotations

import pytest

from fs3.sim.path_recovery_bugs import BUGS
from fs3.sim.ring import find_catcher
from fs3.sim.seed_runs import load_ring

SEEDS = 20


def test_many_runs_keep_what_is_promised() -> None:
    outcomes = [load_ring("rdma").run(seed) for seed in range(SEEDS)]
    assert [outcome.describe() for outcome in outcomes if not outcome.is_clean] == []
    # They went through what they are for.
    assert sum(outcome.figures["deaths"] for outcome in outcomes) > 2 * SEEDS
    assert all(outcome.figures["by_path"] > 50 for outcome in outcomes)


def test_a_run_is_the_same_again_also_when_it_is_told() -> None:
    lines: list[str] = []
    assert load_ring("rdma").run(7) == load_ring("rdma").run(7, tell=lines.append)
    for part in ("client     asks for a path", "network    no device answers", "is given up, 1 payloads under way go by TCP"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    assert find_catcher(load_ring("rdma"), name)

"""Remembered seeds, and proof that a seed is one run. Fresh seeds are a command of their own: `python -m fs3.sim fresh`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.base.prng import Prng
from fs3.sim.remembered import read_seeds
from fs3.sim.ring1.bugs import BUGS
from fs3.sim.ring1.run import ChainRun, run_seed
from fs3.sim.ring1.swarm import ChainSwarm, draw_swarm, with_rollbacks
from fs3.sim.ring1.target_host import Parts

REMEMBERED = Path(__file__).parent / "seeds.txt"


@pytest.mark.parametrize(("seed", "bug", "cause"), read_seeds(REMEMBERED))
def test_remembered_seeds(seed: int, bug: str, cause: str) -> None:
    outcome = run_seed(seed)
    assert outcome.is_clean, f"{cause}: {outcome.failures}"
    if bug:
        assert not run_seed(seed, BUGS[bug].parts).is_clean, f"seed {seed} no longer notices: {cause}"


def test_a_run_is_the_same_in_every_process() -> None:
    seeds = (1, 42)
    here = [run_seed(seed).fingerprint for seed in seeds]
    for hash_seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        program = f"from fs3.sim.ring1.run import run_seed\nprint([run_seed(seed).fingerprint for seed in {seeds}])"
        there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == str(here)


def test_different_seeds_are_different_runs() -> None:
    assert len({run_seed(seed).fingerprint for seed in range(20)}) == 20


def test_tracing_changes_nothing() -> None:
    lines: list[str] = []
    assert run_seed(7, trace=lines.append).fingerprint == run_seed(7).fingerprint
    assert any("⇒ stage" in line for line in lines)


def test_every_kind_of_trouble_is_drawn() -> None:
    swarms = [draw_swarm(Prng(seed)) for seed in range(100)]
    for name in ChainSwarm.__dataclass_fields__.keys() - {"rollbacks"}:
        assert len({getattr(swarm, name) for swarm in swarms}) > 1, f"{name} is always the same"


def test_old_copies_of_directories_are_told_from_the_directories() -> None:
    lines: list[str] = []
    for seed in range(12):
        outcome = run_seed(seed, trace=lines.append, swarm=with_rollbacks(draw_swarm(Prng(seed))))
        assert outcome.is_clean, f"seed {seed}: {outcome.failures}"
    assert sum("is put back" in line for line in lines) >= 6


def test_runs_reach_what_they_are_for() -> None:
    runs = [ChainRun(seed, Parts()) for seed in range(120)]
    outcomes = [run.run() for run in runs]
    worlds = [run.cluster for run in runs]
    assert sum(outcome.operations for outcome in outcomes) > 40 * len(outcomes)
    assert all(len(world.manager.chain.serving_slots()) == len(world.hosts) for world in worlds)
    assert sum(outcome.figures["chain versions"] > 1 for outcome in outcomes) > len(outcomes) // 3
    assert any(host.incarnation > 1 for world in worlds for host in world.hosts.values())
    assert any(world.manager.incarnation > 1 for world in worlds)
    history = [operation for world in worlds for client in world.clients.values() for operation in client.history]
    assert max(operation.attempts for operation in history) > 3
    assert any(operation.code is None for operation in history)

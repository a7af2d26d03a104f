"""Fresh seeds, remembered seeds, and proof that a seed is one run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fs3.base.prng import Prng
from fs3.sim.ring1.bugs import BUGS
from fs3.sim.ring1.run import ChainRun, run_seed
from fs3.sim.ring1.swarm import ChainSwarm, draw_swarm
from fs3.sim.ring1.target_host import Parts

FRESH_SEEDS = 200
REMEMBERED = Path(__file__).parent / "seeds.txt"


def remembered() -> list[tuple[int, str, str]]:
    """(seed, planted bug it finds or "-", cause)"""
    lines = [line.split(maxsplit=2) for line in REMEMBERED.read_text().splitlines() if line and not line.startswith("#")]
    return [(int(seed), bug, cause) for seed, bug, cause in lines]


def test_fresh_seeds_are_clean() -> None:
    # Every day has its own seeds; the base is in the message, and replays them anywhere.
    base = int(os.environ.get("FS3_SEED_BASE", int(time.time()) // 86_400 * 1_000_000))
    sys.stdout.write(f"fresh seeds from {base}\n")
    failed = {seed: outcome.failures for seed in range(base, base + FRESH_SEEDS) if not (outcome := run_seed(seed)).is_clean}
    assert not failed, f"of {FRESH_SEEDS} seeds from {base} (FS3_SEED_BASE={base} replays them)"


@pytest.mark.parametrize(("seed", "bug", "cause"), remembered())
def test_remembered_seeds(seed: int, bug: str, cause: str) -> None:
    outcome = run_seed(seed)
    assert outcome.is_clean, f"{cause}: {outcome.failures}"
    if bug != "-":
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
    for name in ChainSwarm.__dataclass_fields__:
        assert len({getattr(swarm, name) for swarm in swarms}) > 1, f"{name} is always the same"


def test_runs_reach_what_they_are_for() -> None:
    worlds = [ChainRun(seed, Parts()) for seed in range(120)]
    outcomes = [world.run() for world in worlds]
    assert sum(outcome.operations for outcome in outcomes) > 40 * len(outcomes)
    assert all(len(world.manager.chain.serving_slots()) == len(world.hosts) for world in worlds)
    assert sum(outcome.chain_versions > 1 for outcome in outcomes) > len(outcomes) // 3
    assert any(host.incarnation > 1 for world in worlds for host in world.hosts.values())
    assert any(world.manager.incarnation > 1 for world in worlds)
    history = [operation for world in worlds for client in world.clients.values() for operation in client.history]
    assert max(operation.attempts for operation in history) > 3
    assert any(operation.code is None for operation in history)

"""Ring 2: remembered seeds, and proof that a seed is one run, whatever the process and the Python version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.base.prng import Prng
from fs3.sim.remembered import read_seeds
from fs3.sim.ring2.cluster_run import run_seed
from fs3.sim.ring2.ring import ClusterRing
from fs3.sim.ring2.swarm import ClusterSwarm, draw_swarm

REMEMBERED = Path(__file__).parent / "seeds-ring2.txt"
OTHER_PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")


@pytest.mark.parametrize(("seed", "bug", "cause"), read_seeds(REMEMBERED))
def test_remembered_seeds(seed: int, bug: str, cause: str) -> None:
    outcome = run_seed(seed)
    assert outcome.is_clean, f"{cause}: {outcome.failures}"
    if bug:
        assert not ClusterRing().run(seed, bug).is_clean, f"seed {seed} no longer notices: {cause}"


SEEDS = (1, 33, 204)
PROGRAM = f"""
import sys
from fs3.sim.ring2.cluster_run import run_seed
from tests.simulation.scrambled_memory import scrambled_memory
with scrambled_memory(int(sys.argv[1])):
    print([run_seed(seed).fingerprint for seed in {SEEDS}])
"""


def elsewhere(python: str, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([python, "-c", PROGRAM, hash_seed], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_run_is_the_same_in_every_process() -> None:
    here = str([run_seed(seed).fingerprint for seed in SEEDS])
    assert [elsewhere(sys.executable, hash_seed) for hash_seed in ("0", "12345")] == [here, here]


def other_pythons() -> list[str]:
    """Interpreters of other versions that have what fs3 needs. FS3_OTHER_PYTHONS (paths, with ":" between) names further ones."""
    named = [path for path in os.environ.get("FS3_OTHER_PYTHONS", "").split(":") if path]
    found = named + [path for name in OTHER_PYTHONS if (path := shutil.which(name)) is not None]
    usable = []
    for python in found:
        program = "import sys, msgspec, crc32c, google.protobuf; print(*sys.version_info[:2])"
        asked = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.split() != [str(part) for part in sys.version_info[:2]]:
            usable.append(python)
    return usable


def test_a_run_is_the_same_on_every_version_of_python() -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no other Python here has msgspec, protobuf and crc32c (FS3_OTHER_PYTHONS may name one)")
    here = str([run_seed(seed).fingerprint for seed in SEEDS])
    assert {python: elsewhere(python, "7") for python in others} == dict.fromkeys(others, here)


def test_different_seeds_are_different_runs() -> None:
    assert len({run_seed(seed).fingerprint for seed in range(6)}) == 6


def test_telling_changes_nothing() -> None:
    lines: list[str] = []
    steps: list[tuple[int, str, str]] = []
    told = run_seed(7, tell=lines.append, steps=lambda *step: steps.append(step))
    assert told.fingerprint == run_seed(7).fingerprint
    assert any("heals everything" in line for line in lines)
    assert len(steps) == told.steps


def test_every_kind_of_trouble_is_drawn() -> None:
    swarms = [draw_swarm(Prng(seed)) for seed in range(200)]
    for name in set(ClusterSwarm.__dataclass_fields__) - {
        "lease_ns",
        "inline_bytes",
        "cache_exchange_ms",
        "users",
        "zones",
        "has_security",
    }:
        assert len({getattr(swarm, name) for swarm in swarms}) > 1, f"{name} is always the same"


def test_runs_reach_what_they_are_for() -> None:
    lines: list[str] = []
    outcomes = [run_seed(seed, tell=lines.append) for seed in range(12)]
    assert sum(outcome.operations for outcome in outcomes) > 20 * len(outcomes)
    assert sum(outcome.figures["acknowledged"] for outcome in outcomes) > 5 * len(outcomes)
    told = "\n".join(lines)
    for happened in (
        "is killed", "loses its power", "is paused", "cuts ", "created f", "put ", "in epoch 2", ":offline", ":syncing",
        "has everything now",
    ):  # fmt: skip
        assert happened in told, f"never: {happened}"

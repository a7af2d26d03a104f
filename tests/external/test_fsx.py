"""fsx, which reads, writes, maps, cuts, punches and copies one file at random and compares all of it with what it has in memory,
on a mount. It is no part of this project: `FSX` names the program, built from xfstests (`ltp/fsx.c`). Needs root and
/dev/fuse."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fs3.sim.conformance.fuse import why_no_mount
from tests.mounts import embedded_mount
from tests.space import SpaceGuard

pytestmark = [pytest.mark.external, pytest.mark.timeout(1800)]

PROGRAM: Final = os.environ.get("FSX", "")
OPERATIONS: Final = int(os.environ.get("FSX_OPERATIONS", "5000"))
"""Of each run."""
SEEDS: Final = 3
SHAPES: Final = {
    "small": ("-l", "16000", "-c", "30"),
    "as it is": ("-c", "30"),
    "large": ("-l", "3000000", "-o", "300000", "-c", "100"),
    "direct": ("-Z", "-R", "-W", "-r", "4096", "-w", "4096", "-t", "4096"),
}
"""Files that are small enough to be kept beside their inodes, and others; closed and opened again, now and then."""


def why_not() -> str:
    """Why it cannot run here; "" when it can."""
    if not PROGRAM:
        return "FSX names no program"
    if not os.access(PROGRAM, os.X_OK):
        return f"FSX names {PROGRAM}, which cannot be run"
    return why_no_mount()


@pytest.fixture(scope="module")
def mounts(space_guard: SpaceGuard) -> Iterator[tuple[Path, Path]]:
    """Two of one cluster."""
    with space_guard.lend("fsx") as home:
        for name in ("one", "two"):
            (home / name).mkdir()
        with embedded_mount(home / "fs3", home / "one"), embedded_mount(home / "fs3", home / "two"):
            yield home / "one", home / "two"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("shape", SHAPES)
def test_operations_at_random(mounts: tuple[Path, Path], shape: str, seed: int) -> None:
    name = f"{shape.replace(' ', '-')}-{seed}"
    command = [PROGRAM, "-N", str(OPERATIONS), "-S", str(seed), *SHAPES[shape], str(mounts[0] / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "completed A-OK" in done.stdout
    assert (mounts[1] / name).read_bytes() == (mounts[0] / name).read_bytes()

"""The software of the last release, taken from the history of this repository, to run beside today's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.release_record import read_release

ROOT = Path(__file__).parents[1]


class Software:
    """A tree of fs3 whose commands are run."""

    def __init__(self, tree: Path) -> None:
        self.environment = {**os.environ, "PYTHONPATH": str(tree)}
        """Of processes that run it."""

    def run(self, *arguments: str) -> str:
        """What one `fs3` command prints. AssertionError with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fs3.cli.main", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"fs3 {' '.join(arguments)}: {done.stderr}"
        return done.stdout


def this_software() -> Software:
    """Of this tree."""
    return Software(ROOT)


def released_software(into: Path) -> Software:
    """The last release, unpacked and built in a directory. The test is skipped where the clone does not have its commit."""
    release = read_release()
    archived = subprocess.run(["git", "archive", release.commit], cwd=ROOT, capture_output=True)
    if archived.returncode:
        why = archived.stderr.decode(errors="replace").strip()
        pytest.skip(f"this clone does not have commit {release.commit[:12]}, the release of level {release.level}: {why}")
    into.mkdir()
    subprocess.run(["tar", "-x", "-C", str(into), "fs3", "proto", "hatch_build.py"], input=archived.stdout, check=True)
    subprocess.run([sys.executable, "hatch_build.py"], cwd=into, capture_output=True, check=True)
    return Software(into)

"""pjdfstest, a suite of thousands of rules of POSIX, on a mount. `PJDFSTEST` names the directory of a built copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.sim.conformance.fuse import why_no_mount
from tests.space import SpaceGuard

SUITE = os.environ.get("PJDFSTEST", "")

pytestmark = [
    pytest.mark.external,
    pytest.mark.processes,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not SUITE, reason="PJDFSTEST names no built copy of the suite"),
    pytest.mark.skipif(shutil.which("prove") is None, reason="prove is not installed"),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

CASES = 8798


@pytest.fixture
def root(space_guard: SpaceGuard) -> Iterator[Path]:
    """A directory of a mount that every user may reach."""
    command = [sys.executable, "-m", "fs3.cli.main"]
    with (
        space_guard.lend("pjdfstest") as home,
        LocalCluster(home / "cluster", targets=1) as cluster,
        tempfile.TemporaryDirectory(dir="/var/tmp") as place,
    ):
        os.chmod(place, 0o755)
        point = Path(place) / "mount"
        point.mkdir()
        subprocess.run([*command, "mount", cluster.url, point, "--allow-other"], check=True, timeout=60)
        try:
            (point / "work").mkdir()
            yield point / "work"
        finally:
            subprocess.run([*command, "umount", "--lazy", point], check=True, timeout=60)


def test_all_of_it(root: Path) -> None:
    done = subprocess.run(["prove", "-r", f"{SUITE}/tests"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    (cases,) = re.findall(r"Tests=(\d+)", done.stdout)
    assert int(cases) >= CASES

"""The POSIX file system test suite pjdfstest, on a mount. It is no part of this project: `PJDFSTEST` names a directory in which
it was built (`autoreconf -ifs && ./configure && make pjdfstest`). Needs root, /dev/fuse and `prove` (perl)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from fs3.api.fuse.options import FuseOptions
from fs3.sim.conformance.fuse import why_no_mount
from tests.mounts import embedded_mount

pytestmark = [pytest.mark.external, pytest.mark.timeout(3600)]

SUITE: Final = os.environ.get("PJDFSTEST", "")
JOBS: Final = 4
CASES_MIN: Final = 8798
"""A run of fewer has not seen all of the suite."""


def why_not() -> str:
    """Why it cannot run here; "" when it can."""
    if not SUITE:
        return "PJDFSTEST names no suite"
    if not os.access(Path(SUITE, "pjdfstest"), os.X_OK):
        return f"PJDFSTEST names {SUITE}, where pjdfstest was not built"
    if shutil.which("prove") is None:
        return "there is no prove (perl)"
    return why_no_mount()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_all_cases(tmp_path: Path) -> None:
    mounted = tmp_path / "mnt"
    mounted.mkdir()
    with embedded_mount(tmp_path / "fs3", mounted, FuseOptions(allow_other=True)):
        mounted.chmod(0o755)
        ran = subprocess.run(
            ["prove", "-j", str(JOBS), "-r", str(Path(SUITE, "tests").resolve())],
            cwd=mounted,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    told = re.search(r"Tests=(\d+)", ran.stdout)
    assert told is not None
    assert int(told[1]) >= CASES_MIN, ran.stdout[-500:]

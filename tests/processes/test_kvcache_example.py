"""The prefix cache of docs/kvcache.md runs as it stands, in one process after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "kvcache.md"
PROGRAMS = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if block.startswith("import ")]


def test_what_one_process_computed_the_next_one_knows(tmp_path: Path) -> None:
    (program,) = PROGRAMS
    script = tmp_path / "example.py"
    with LocalCluster(storage=2, replicas=2, targets=1) as cluster:
        script.write_text(program.replace("fs3://127.0.0.1:8000", cluster.url))
        for known in (0, 960):
            done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (0, f"{known} tokens were known, and now 960 are\n"), done.stderr

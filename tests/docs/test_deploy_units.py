"""The systemd units name commands and options that exist, and systemd itself finds nothing wrong with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_commands import ROOT, check

UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_commands_exist(unit: Path) -> None:
    for line in re.findall(r"^ExecStart(?:Pre)?=-?/usr/bin/env (fs3 .*)$", unit.read_text(), re.MULTILINE):
        check(line)
    assert (unit.suffix == ".service") == ("ExecStart=" in unit.read_text())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_them() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, UNITS)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "fs3" in line and "Failed to prepare filename" not in line]
    assert not complaints, "\n".join(complaints)

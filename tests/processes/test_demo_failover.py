"""`fs3 demo failover`, as a newcomer runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def fs3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, piped."""
    return subprocess.run([sys.executable, "-m", "fs3.cli.main", *arguments], capture_output=True, text=True, timeout=150)


def test_the_demo_tells_its_story() -> None:
    done = fs3("demo", "failover", "--speed", "4", "--role", "middle")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    moments = ["load runs", "kill -9 storage-", "the chain goes on without", "is started again", "serves again", "load has ended"]
    places = [said.index(moment) for moment in moments]
    assert places == sorted(places), said
    assert "offline" in said
    assert "nothing was lost, nothing old was shown" in said


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    assert "--role nobody: head, middle, tail" in fs3("demo", "failover", "--role", "nobody").stderr
    assert "--speed 100" in fs3("demo", "failover", "--speed", "100").stderr
    (tmp_path / "something").touch()
    refused = fs3("demo", "failover", "--dir", str(tmp_path))
    assert refused.returncode == 1
    assert str(tmp_path) in refused.stderr

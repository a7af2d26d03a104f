"""`fs3 admin fsck` while clients work and storage processes die and return: nothing is found where nothing is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from fs3.cli.local import LocalCluster
from fs3.drill.roles import is_excluded, process_in_role, status_of, wait_healthy, wait_status

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def fsck(cluster: LocalCluster) -> tuple[int, list[Any], str]:
    """(exit status, problems, standard error)."""
    command = [sys.executable, "-m", "fs3.cli.main", "admin", "fsck", "--json", cluster.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)["problems"] if done.stdout else [], done.stderr


def test_nothing_is_found_while_nodes_come_and_go(drilled: LocalCluster, under_load) -> None:
    with under_load(drilled, files=3, pages=2, registers=0, settled=0, readers=0, settled_readers=0) as load:
        load.wait_progress("file", 20, 60)
        assert fsck(drilled) == (0, [], "")
        for role in ("head", "tail"):
            victim = process_in_role(status_of(drilled), role)
            drilled.kill(victim)
            status, problems, _ = fsck(drilled)
            assert (status in (0, 2), problems) == (True, []), "at worst it cannot be checked"
            wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
            assert fsck(drilled)[:2] == (0, [])
            drilled.start(only=victim)
            assert fsck(drilled)[1] == []
            wait_healthy(drilled)
            assert fsck(drilled)[:2] == (0, [])
    assert fsck(drilled) == (0, [], "")

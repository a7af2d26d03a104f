"""Nodes are drained, removed, added, filled and lost while clients read and write; every byte is looked at on every replica."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.drill.roles import is_dead, wait_healthy, wait_status
from tests.processes.machine_lab import wait_until
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "moves.md").read_text()
BIN = Path(sys.executable).parent


@pytest.fixture
def four(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """A cluster of four storage processes."""
    with space_guard.lend("moves") as home, LocalCluster(home / "cluster", storage=4, targets=6) as cluster:
        yield cluster


def run_admin(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One `fs3 admin` command."""
    command = [sys.executable, "-P", "-m", "fs3.cli.main", "admin", *arguments, cluster.address, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def admin(cluster: LocalCluster, *arguments: str) -> dict[str, Any]:
    """What `fs3 admin` prints for programs."""
    done = run_admin(cluster, *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def spread(found: dict[str, Any]) -> float:
    """Of the bytes that nodes hold, the largest by the mean."""
    used = [node["used"] for node in found["nodes"]]
    return max(used) * len(used) / sum(used)


def test_a_node_is_drained_removed_added_filled_and_lost_under_load(four: LocalCluster, under_load) -> None:
    with under_load(four) as load:
        # First what one disk has: two of six targets, whose data are gone from there then.
        disk = four.directory.path / "storage-2" / "targets"
        first, second, *others = sorted(int(target.name) for target in disk.iterdir())
        moved = admin(four, "drain", "storage-2", "--target", str(first), "--target", str(second), "--wait")
        assert {node["node"]: node["targets"] for node in moved["nodes"]}["storage-2"] == len(others)
        assert not moved["departing"]

        def kept() -> list[int]:
            return sorted(int(target.name) for target in disk.iterdir() if target.name.isdecimal())

        wait_until(lambda: kept() == others, lambda: f"storage-2 has {kept()}", 20)
        refused = run_admin(four, "drain", "storage-2", "--target", str(first))
        assert refused.returncode != 0
        assert f"node 'storage-2' has no target {first}; its targets are {', '.join(map(str, others))}" in refused.stderr
        load.wait_progress("write", 50, 40)

        # Then the disk as a whole, which is all that the node has; the node itself is to hold nothing only after that.
        emptied = admin(four, "drain", "storage-2", "--disk", str(disk.parent), "--wait")
        told = {"node": "storage-2", "disk": str(disk.parent), "targets": 0, "used_bytes": 0, "known": True, "empty": True}
        assert emptied["drained_disks"] == [told]
        assert not emptied["departing"]
        assert kept() == []
        refused = run_admin(four, "drain", "storage-2", "--disk", "/nowhere")
        assert refused.returncode != 0
        assert f"node 'storage-2' has no disk '/nowhere'; its disks are {disk.parent}" in refused.stderr

        drained = admin(four, "drain", "storage-2", "--wait")
        targets = {node["node"]: node["targets"] for node in drained["nodes"]}
        assert targets["storage-2"] == 0
        assert sum(targets.values()) == 24
        load.wait_progress("write", 50, 40)
        admin(four, "remove", "storage-2")
        four.kill("storage-2", number=signal.SIGTERM)
        wait_healthy(four)
        refused = run_admin(four, "drain", "storage-3")
        assert refused.returncode != 0
        assert "have no other place: chains have 3 replicas on as many nodes, and 2 other nodes take targets" in refused.stderr

        # What comes back with the old directory is told so; with an empty one it is a new node.
        four.wipe("storage-2")
        four.start(only="storage-2")
        uneven = admin(four, "rebalance", "--dry-run")
        assert {move["to"] for move in uneven["moves"]} == {"storage-2"}
        even = admin(four, "rebalance", "--wait")
        assert spread(even) < spread(uneven)
        assert {node["node"]: node["targets"] for node in even["nodes"]}["storage-2"] >= 4
        load.wait_progress("write", 50, 40)

        four.kill("storage-3")
        wait_status(four, is_dead("storage-3"), 20, "storage-3 is given up")
        gone = admin(four, "forget", "storage-3", "--wait")
        assert {node["node"]: node["targets"] for node in gone["nodes"]} == {f"storage-{number}": 8 for number in (1, 2, 4)}
        with pytest.raises(FS3Error, match="'storage-3' was forgotten, because it was not heard: what it had is on other nodes"):
            four.start(only="storage-3")
        load.wait_progress("write", 50, 40)


def test_every_command_of_the_document(tmp_path: Path) -> None:
    port = str(free_ports(14))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("fs3 ") for line in lines)
    script = "\n".join(lines).replace("/tmp/fs3-data", str(tmp_path / "data")).replace(":8000", f":{port}")
    script = script.replace("fs3 up ", f"fs3 up --port {port} ")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(["bash", "-euxc", script], capture_output=True, text=True, timeout=200, env=environment)
    finally:
        subprocess.run([str(BIN / "fs3"), "down", "--data-dir", str(tmp_path / "data")], check=False, capture_output=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing was changed" in done.stdout


def test_every_command_is_in_the_document() -> None:
    named = set(re.findall(r"`fs3 admin ([a-z-]+)", DOCUMENT))
    assert named >= {"rebalance", "drain", "undrain", "remove", "replace", "forget", "moves"}

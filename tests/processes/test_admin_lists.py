"""Lists of what a cluster is made of, and names and attributes of its files, as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Three storage processes with one target each."""
    with space_guard.lend("lists") as home, LocalCluster(home / "cluster", targets=1) as local:
        yield local


def fs3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def must(*arguments: str) -> str:
    """Run a command that has to succeed."""
    done = fs3(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mode_of(url: str) -> int:
    """The mode that `fs3 stat` shows."""
    (document,) = json.loads(must("stat", "--json", url))
    return document["mode"] & 0o7777


def test_nodes_targets_and_tables(cluster: LocalCluster) -> None:
    nodes = json.loads(must("admin", "nodes", "--json", cluster.address))
    assert {node["name"] for node in nodes} == {"meta", "storage-1", "storage-2", "storage-3"}
    assert sorted(target for node in nodes for target in node["targets"]) == [1, 2, 3]
    targets = json.loads(must("admin", "targets", "--json", cluster.address))
    assert [target["target"] for target in targets] == [1, 2, 3]
    (table,) = json.loads(must("admin", "tables", "--json", cluster.address))
    assert (table["replicas"], table["chains"]) == (3, [1])
    for command, words in (("nodes", "storage-2"), ("targets", "serving"), ("tables", "replicas")):
        assert words in must("admin", command, cluster.address)
        assert words in must("admin", command, str(cluster.directory.path))


def test_names_of_a_file(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    must("mkdir", f"{cluster.url}names")
    must("cp", f"{tmp_path}/x", f"{cluster.url}names/x")
    must("ln", f"{cluster.url}names/x", f"{cluster.url}names/hard")
    must("ln", "-s", "x", f"{cluster.url}names/soft")
    listed = {entry["name"].rpartition("/")[2]: entry for entry in json.loads(must("ls", "--json", f"{cluster.url}names"))}
    assert listed.keys() == {"x", "hard", "soft"}
    assert listed["x"]["ino"] == listed["hard"]["ino"]
    assert must("cat", f"{cluster.url}names/soft") == "x"
    refused = fs3("ln", "fs3://127.0.0.1:1/x", f"{cluster.url}names/other")
    assert (refused.returncode, "are on different clusters" in refused.stderr) == (1, True)
    (summed,) = json.loads(must("du", "--json", f"{cluster.url}names"))
    assert summed["bytes"] >= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_permissions_and_owners(cluster: LocalCluster) -> None:
    must("mkdir", "-p", f"{cluster.url}tree/a/b")
    must("ln", "-s", "a", f"{cluster.url}tree/link")
    must("chmod", "-R", "750", f"{cluster.url}tree")
    assert [mode_of(f"{cluster.url}tree{below}") for below in ("", "/a", "/a/b")] == [0o750] * 3
    must("chmod", "1777", f"{cluster.url}tree")
    assert [mode_of(f"{cluster.url}tree{below}") for below in ("", "/a")] == [0o1777, 0o750]
    must("chown", "-R", "1234:root", f"{cluster.url}tree")
    (document,) = json.loads(must("stat", "--json", f"{cluster.url}tree/a/b"))
    assert (document["uid"], document["gid"]) == (1234, 0)
    for arguments, words in (
        (("chmod", "rwx"), "'rwx' is no octal number up to 7777"),
        (("chmod", "17777"), "is no octal number"),
        (("chown", "nobody-here"), "there is no user 'nobody-here' on this machine"),
        (("chown", ":nobody-here"), "there is no group 'nobody-here'"),
        (("chown", ":"), "names neither an owner nor a group"),
    ):
        done = fs3(*arguments, f"{cluster.url}tree")
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_layouts(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(300_000))
    must("mkdir", f"{cluster.url}small")
    must("layout", "--chunk-size", "64KiB", "--stripe", "1", f"{cluster.url}small")
    must("cp", f"{tmp_path}/big", f"{cluster.url}small/big")
    directory, file = json.loads(must("layout", "--json", f"{cluster.url}small", f"{cluster.url}small/big"))
    assert (directory["type"], directory["chunk_size"], directory["chains"]) == ("directory", 65536, [])
    assert (file["type"], file["chunk_size"], file["stripe"], file["chains"]) == ("file", 65536, 1, [1])
    assert "64.0 KiB" in must("layout", f"{cluster.url}small/big")
    done = fs3("layout", "--stripe", "2", f"{cluster.url}small/big")
    assert (done.returncode, "the layout of a file stays" in done.stderr) == (1, True)
    assert fs3("layout", "--chunk-size", "100000", f"{cluster.url}small").returncode == 1

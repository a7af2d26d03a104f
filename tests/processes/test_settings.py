"""Settings of a running cluster: changed, delivered, applied, seen; all or none; and over a restart of everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from tests.processes.machine_lab import wait_until
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Three storage processes."""
    with space_guard.lend("settings") as home, LocalCluster(home / "cluster", targets=1) as local:
        yield local


def fs3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def config(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `fs3 config`."""
    return fs3("config", *arguments, "--cluster", cluster.address)


def answer(cluster: LocalCluster, *arguments: str) -> object:
    """What `fs3 config … --json` says."""
    done = config(cluster, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def applied(cluster: LocalCluster, role: str) -> bool:
    """Every node of a role has applied the newest settings."""
    nodes = json.loads(fs3("status", cluster.address, "--json").stdout)["nodes"]
    own = [node for node in nodes if node["role"] == role]
    return all(node["config_version"] == node["config_newest"] > 0 and not node["config_problem"] for node in own)


def wait_applied(cluster: LocalCluster, role: str) -> None:
    """Until they have."""
    wait_until(lambda: applied(cluster, role), lambda: fs3("status", cluster.address).stdout, 30)


def test_a_change_reaches_the_metadata_services(cluster: LocalCluster, tmp_path: Path) -> None:
    assert config(cluster, "set", "meta.inline_bytes=0", "meta.stripe=1").returncode == 0
    wait_applied(cluster, "meta")
    (tmp_path / "small").write_text("small")
    assert fs3("cp", f"file://{tmp_path}/small", f"{cluster.url}small").returncode == 0
    assert "inline" not in fs3("stat", f"{cluster.url}small").stdout
    assert answer(cluster, "get", "meta.inline_bytes") == {"meta.inline_bytes": 0}
    assert config(cluster, "set", "meta.inline_bytes=default").returncode == 0
    assert answer(cluster, "get", "meta.inline_bytes") == {"meta.inline_bytes": 16384}


def test_a_change_reaches_storage_which_then_refuses_writes(cluster: LocalCluster, tmp_path: Path) -> None:
    assert config(cluster, "set", "storage.read_only=true").returncode == 0
    wait_applied(cluster, "storage")
    assert "applied" in fs3("status", cluster.address).stdout
    (tmp_path / "large").write_bytes(bytes(1_000_000))
    refused = fs3("cp", f"file://{tmp_path}/large", f"{cluster.url}large")
    assert refused.returncode == 1
    assert "read" in refused.stderr
    assert config(cluster, "set", "storage.read_only=false").returncode == 0
    wait_applied(cluster, "storage")
    assert fs3("cp", f"file://{tmp_path}/large", f"{cluster.url}large").returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("meta.stripe=4", "storage.frobnicate=1"), "there is no setting 'storage.frobnicate'"),
        (("meta.stripe=4", "storage.cache_share_min=0.9"), "storage.cache_share_min: 0.9 is more than storage.cache_share_max"),
        (("meta.stripe=4", "mgmtd.lease_ms=6000"), "mgmtd.lease_ms is set when the cluster is made"),
        (("meta.stripe=4", "--if-version", "9999"), "the settings have version"),
        ((), "nothing to change"),
    ],
)
def test_all_or_none(cluster: LocalCluster, change: tuple[str, ...], words: str) -> None:
    before = answer(cluster, "get")
    done = config(cluster, "set", *change)
    assert done.returncode == 1
    assert words in done.stderr
    assert answer(cluster, "get") == before


def test_half_a_file_changes_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    before = answer(cluster, "get")
    file = tmp_path / "half.toml"
    file.write_text("[meta]\nstripe = 3\n[storage]\nread_on")
    done = config(cluster, "set", "--file", str(file))
    assert (done.returncode, "half.toml is not TOML, or not all of it" in done.stderr) == (1, True), done.stderr
    assert answer(cluster, "get") == before
    file.write_text("[meta]\nstripe = 3\n")
    assert config(cluster, "set", "--file", str(file)).returncode == 0
    assert answer(cluster, "get", "meta.stripe") == {"meta.stripe": 3}


def test_history_and_differences(cluster: LocalCluster) -> None:
    assert config(cluster, "set", "storage.scrub_interval_s=1d").returncode == 0
    history = answer(cluster, "history")
    assert isinstance(history, list)
    newest = history[-1]
    assert newest["changed"] == {"storage.scrub_interval_s": 86400}
    assert "@" in newest["author"]
    assert answer(cluster, "diff", str(newest["version"] - 1)) == {"storage.scrub_interval_s": {"from": "1209600", "to": "86400"}}
    differing = answer(cluster, "diff")
    assert isinstance(differing, dict)
    assert differing["storage.scrub_interval_s"]["to"] == "86400"
    assert differing["cluster.targets_per_node"] == {"from": "4", "to": "1"}, "what the manager was started with"
    assert "is not kept" in config(cluster, "diff", "9999").stderr
    for command in ("get", "diff", "history"):
        assert "storage.scrub_interval_s" in config(cluster, command).stdout


def test_they_are_there_after_a_restart_of_everything(cluster: LocalCluster) -> None:
    assert config(cluster, "set", "storage.resync_fills_max=7").returncode == 0
    data = str(cluster.directory.path)
    assert fs3("down", "--data-dir", data).returncode == 0
    assert fs3("up", "--data-dir", data, "--detach").returncode == 0
    assert answer(cluster, "get", "storage.resync_fills_max") == {"storage.resync_fills_max": 7}
    wait_applied(cluster, "storage")

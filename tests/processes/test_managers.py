"""Several managers as processes on one store: killed, stopped, restarted. No chain notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from fs3.base.errors import FS3Error
from fs3.cli.local import LocalCluster
from fs3.cli.status import fetch_status

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(targets=1, mgmtds=2, metas=2) as local:
        yield local


def primary_of(status: dict[str, Any]) -> str:
    [name] = [manager["name"] for manager in status["managers"] if manager["primary"]]
    return str(name)


def wait_status(cluster: LocalCluster, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status that satisfies a condition; the test's timeout is the limit."""
    while True:
        try:
            status = asyncio.run(fetch_status(cluster.addresses))
        except FS3Error:
            continue  # nobody leads at the moment
        if condition(status):
            return status


def serving(status: dict[str, Any]) -> list[tuple[int, int]]:
    return [(chain["chain"], chain["version"]) for chain in status["chains"]]


def start_if_ended(cluster: LocalCluster, name: str) -> None:
    """Who was stopped in the very middle of a commit has been killed by one that waited."""
    if cluster.directory.running_pid(name) is None:
        cluster.start(only=name)


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_the_next_manager_takes_over_and_chains_stay_as_they_are(cluster: LocalCluster, how: str) -> None:
    before = cluster.status()
    first = primary_of(before)
    filesystem = fsspec.filesystem("fs3", cluster=cluster.address, skip_instance_cache=True)
    filesystem.pipe("/before", b"x" * 100_000)
    if how == "kill":
        cluster.kill(first)
    else:
        cluster.pause(first)
    after = wait_status(cluster, lambda status: primary_of(status) != first)
    assert after["epoch"] > before["epoch"]
    assert serving(after) == serving(before), "the nodes found the next manager while their leases ran"
    gone = [f"manager {first} does not answer"]
    wait_status(cluster, lambda status: [problem["text"] for problem in status["problems"]] == gone)
    assert filesystem.cat("/before") == b"x" * 100_000
    filesystem.pipe("/after", b"y" * 100_000)
    if how == "kill":
        cluster.start(only=first)
    else:
        cluster.resume(first)
        start_if_ended(cluster, first)
    cluster.wait_healthy()
    now = cluster.status()
    assert primary_of(now) == primary_of(after), "who comes back stands by"
    assert serving(now) == serving(before)
    assert filesystem.cat("/after") == b"y" * 100_000


def test_a_clean_stop_hands_over(cluster: LocalCluster) -> None:
    before = cluster.status()
    first = primary_of(before)
    cluster.stop(first)
    after = wait_status(cluster, lambda status: primary_of(status) != first)
    assert after["epoch"] == before["epoch"] + 1
    cluster.start(only=first)
    cluster.wait_healthy()


def test_status_is_shown_whichever_manager_is_down(cluster: LocalCluster) -> None:
    directory = str(cluster.directory.path)
    cluster.kill("mgmtd")
    shown = subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", "status", "--data-dir", directory, "--json"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert primary_of(document) == "mgmtd-2"
    assert [process["name"] for process in document["processes"] if not process["running"]] == ["mgmtd"]
    cluster.start(only="mgmtd")
    waited = subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", "status", "--data-dir", directory, "--wait", "healthy"],
        capture_output=True,
        text=True,
    )
    assert waited.returncode == 0, waited.stderr
    assert "is healthy; 1 of 1 chains have all their replicas" in waited.stdout.replace("\n", " ")


def test_a_cluster_that_stops_as_a_whole_is_the_same_afterwards(cluster: LocalCluster) -> None:
    before = cluster.status()
    cluster.stop()
    cluster.start()
    assert serving(cluster.status()) == serving(before), "nothing changed hands, nothing is resynced"


def test_processes_are_restarted_one_by_one(cluster: LocalCluster) -> None:
    before = {node["name"]: node["incarnation"] for node in cluster.status()["nodes"]}
    primary = primary_of(cluster.status())
    restart = [sys.executable, "-m", "fs3.cli.main", "restart", "--data-dir", str(cluster.directory.path)]
    done = subprocess.run([*restart, primary, "meta-2", "storage-1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    now = cluster.status()
    assert now["health"] == "healthy"
    assert primary_of(now) != primary
    after = {node["name"]: node["incarnation"] for node in now["nodes"]}
    assert after == before | {"meta-2": before["meta-2"] + 1, "storage-1": before["storage-1"] + 1}
    refused = subprocess.run([*restart, "storage-9"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "storage-9: this cluster has mgmtd, mgmtd-2" in refused.stderr


def test_a_wiped_node_comes_back_by_itself(cluster: LocalCluster) -> None:
    filesystem = fsspec.filesystem("fs3", cluster=cluster.address, skip_instance_cache=True)
    filesystem.pipe("/kept", b"z" * 1_000_000)
    before = {node["name"]: node["incarnation"] for node in cluster.status()["nodes"]}
    cluster.kill("storage-2")
    cluster.wipe("storage-2")
    cluster.start(only="storage-2")
    cluster.wait_healthy()
    after = {node["name"]: node["incarnation"] for node in cluster.status()["nodes"]}
    assert after["storage-2"] == before["storage-2"] + 1
    cluster.kill("storage-1", "storage-3")
    status = wait_status(cluster, lambda status: sum(not node["alive"] for node in status["nodes"]) == 2)
    assert status["health"] == "degraded"
    assert filesystem.cat("/kept") == b"z" * 1_000_000
    cluster.start()

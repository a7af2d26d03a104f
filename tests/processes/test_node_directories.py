"""Directories of storage nodes that are put back, lose a file, or are full: nothing is shown that is not the newest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.api.connect import connect
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.cluster import start as start_processes
from fs3.cli.local import LocalCluster
from fs3.client.routing import StaticRouting
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.core.health.problems import problems_of
from fs3.drill.journal import register_chunk
from fs3.drill.roles import StatusDocument, is_excluded, status_of, wait_healthy, wait_status
from fs3.drill.verify import pin_replica
from fs3.model.chunk import UpdateKind

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

CHUNK = register_chunk(7)
STORAGES = ("storage-1", "storage-2", "storage-3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "cluster", targets=1) as made:
        yield made


def try_write(cluster: LocalCluster, data: bytes) -> Code:
    async def go() -> Code:
        async with await connect(cluster.url) as client:
            chain = min(client.manager.routing.chains)
            io = WriteIO(CHUNK, chain, UpdateKind.WRITE, 0, memoryview(data))
            (result,) = await client.storage.update([io], timeout_ns=20 * SECOND)
            return Code(result.code)

    return asyncio.run(go())


def write(cluster: LocalCluster, data: bytes) -> None:
    assert try_write(cluster, data) is Code.OK


def read_everywhere(cluster: LocalCluster, size: int) -> set[bytes]:
    """What the replicas that serve have of the chunk, each asked by itself."""

    async def go() -> set[bytes]:
        found = set()
        async with await connect(cluster.url) as client:
            chain = min(client.manager.routing.chains)
            for place in range(len(client.manager.routing.chains[chain].serving_slots())):
                pinned = client.storage.with_routing(StaticRouting(pin_replica(client.manager.routing, place)))
                buffer = bytearray(size)
                (outcome,) = await pinned.read([ReadIO(CHUNK, chain, 0, memoryview(buffer))], timeout_ns=5 * SECOND)
                assert outcome.code is Code.OK, outcome
                found.add(bytes(buffer[: outcome.length]))
                await pinned.close()
        return found

    return asyncio.run(go())


def copy_directory(source: Path, copy: Path) -> Path:
    """Block files are preallocated: the copy takes no room for what was never written."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", "--sparse=always", source, copy], check=True)
    return copy


def copy_of(cluster: LocalCluster, name: str, place: Path) -> Path:
    """A copy of the directory of a process that is down."""
    return copy_directory(cluster.directory.path / name, place / name)


def put_back(cluster: LocalCluster, *copies: Path) -> None:
    for copy in copies:
        shutil.rmtree(cluster.directory.path / copy.name)
        copy_directory(copy, cluster.directory.path / copy.name)


def log_of(cluster: LocalCluster, name: str) -> str:
    return cluster.directory.log_path(name).read_text()


def test_an_old_copy_is_filled_before_it_serves(cluster: LocalCluster, tmp_path: Path) -> None:
    """The whole cluster is down, so that nobody has noticed; two starts of the node lie between the copy and its return."""
    write(cluster, b"old bytes")
    cluster.stop()
    copies = [copy_of(cluster, name, tmp_path / "copies") for name in ("storage-1", "storage-2")]
    cluster.start()
    write(cluster, b"new bytes, and more")
    cluster.stop()
    put_back(cluster, copies[0])
    cluster.start()
    assert read_everywhere(cluster, 100) == {b"new bytes, and more"}
    assert "old copy" in log_of(cluster, "storage-1")
    write(cluster, b"newest")
    cluster.stop()
    put_back(cluster, copies[1])
    cluster.start()
    assert len(serving(status_of(cluster))) == 3
    assert read_everywhere(cluster, 100) == {b"newest, and more"[:6] + b"tes, and more"}


def serving(status: StatusDocument) -> list[int]:
    return [slot["target"] for slot in status["chains"][0]["targets"] if slot["state"] == "serving"]


def test_a_whole_cluster_is_put_back(cluster: LocalCluster, tmp_path: Path) -> None:
    """With the manager's store: all of it is old alike, and works."""
    write(cluster, b"old bytes")
    cluster.stop()
    copies = [copy_of(cluster, name, tmp_path / "copies") for name in cluster.shape.names()]
    cluster.start()
    write(cluster, b"new bytes, and more")
    cluster.stop()
    put_back(cluster, *copies)
    cluster.start()
    assert read_everywhere(cluster, 100) == {b"old bytes"}


def test_all_replicas_are_put_back_and_the_manager_is_not(cluster: LocalCluster, tmp_path: Path) -> None:
    """Nobody serves, and it is said what to do. Then the loss is accepted."""
    write(cluster, b"old bytes")
    cluster.stop()
    copies = [copy_of(cluster, name, tmp_path / "copies") for name in STORAGES]
    cluster.start()
    write(cluster, b"new bytes, and more")
    cluster.stop()
    put_back(cluster, *copies)
    with cluster.directory.lock_changes():
        start_processes(cluster.directory, cluster.shape, cluster.shape.names(), lambda text: None)
    wait_status(cluster, names_accept_loss, 30, "the status to name the way out")
    status = status_of(cluster)
    assert not serving(status)
    [target, *_] = last_serving(status)
    accepted = accept_loss(cluster, target)
    assert accepted.returncode == 0, accepted.stderr
    assert f"target {target} of " in accepted.stdout
    wait_healthy(cluster)
    assert read_everywhere(cluster, 100) == {b"old bytes"}
    again = accept_loss(cluster, target)
    assert again.returncode != 0
    assert "when nobody serves" in again.stderr


def test_an_older_copy_of_the_managers_store_is_put_back(cluster: LocalCluster, tmp_path: Path) -> None:
    """As docs/metadata-recovery.md says: no target serves until a person says whose bytes count. The others are filled."""
    write(cluster, b"old bytes")
    cluster.stop()
    copy = copy_of(cluster, "mgmtd", tmp_path / "copies")
    cluster.start()
    write(cluster, b"new bytes, and more")
    cluster.stop()
    put_back(cluster, copy)
    with cluster.directory.lock_changes():
        start_processes(cluster.directory, cluster.shape, cluster.shape.names(), lambda text: None)
    status = wait_status(cluster, names_accept_loss, 30, "the status to name the way out")
    assert not serving(status)
    first, *others = last_serving(status)
    accepted = accept_loss(cluster, first)
    assert accepted.returncode == 0, accepted.stderr
    status = wait_status(cluster, lambda status: serving(status) == [first], 30, f"target {first} to serve alone")
    assert read_everywhere(cluster, 100) == {b"new bytes, and more"}
    nodes = {target["target"]: target["node"] for target in status["targets"]}
    for target in others:
        home = cluster.directory.path / nodes[target]
        cluster.stop(nodes[target])
        (home / "targets" / str(target)).rename(tmp_path / f"aside-{target}")
        cluster.start(nodes[target])
    wait_healthy(cluster)
    assert len(serving(status_of(cluster))) == 3
    assert read_everywhere(cluster, 100) == {b"new bytes, and more"}
    write(cluster, b"newest")


def test_the_disks_of_all_that_served_last_are_gone(cluster: LocalCluster) -> None:
    """One left its chain before, and has not the newest data: it may not take the place of those that had, without anybody who
    says so. With the loss accepted, the chain goes on, empty; `fs3 status` says what to do."""
    write(cluster, b"some bytes")
    out, *last = STORAGES
    [outdated] = [target["target"] for target in status_of(cluster)["targets"] if target["node"] == out]
    cluster.kill(out)
    wait_status(cluster, is_excluded(out), 30, f"{out} to leave its chain")
    write(cluster, b"newer")
    cluster.kill(*last)
    for name in last:
        cluster.wipe(name)
    with cluster.directory.lock_changes():
        start_processes(cluster.directory, cluster.shape, list(STORAGES), lambda text: None)
    wait_status(cluster, names_accept_loss, 30, "the status to name the way out")
    status = status_of(cluster)
    assert not serving(status)
    refused = accept_loss(cluster, outdated)
    assert refused.returncode != 0
    assert "one of those that served last may" in refused.stderr
    accepted = accept_loss(cluster, last_serving(status)[0])
    assert accepted.returncode == 0, accepted.stderr
    wait_healthy(cluster)
    write(cluster, b"and on")
    assert read_everywhere(cluster, 100) == {b"and on"}


def accept_loss(cluster: LocalCluster, target: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fs3.cli.main", "admin", "accept-loss", str(target), str(cluster.directory.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def last_serving(status: StatusDocument) -> list[int]:
    return [slot["target"] for slot in status["chains"][0]["targets"] if slot["state"] == "lastsrv"]


def names_accept_loss(status: StatusDocument) -> bool:
    return any("accept-loss" in problem.text for problem in problems_of(dict(status)))


def test_the_note_of_a_target_is_lost(cluster: LocalCluster) -> None:
    """Nobody knows then whether its store was complete: it is compared with the chain."""
    write(cluster, b"some bytes")
    cluster.stop()
    (note,) = (cluster.directory.path / "storage-2" / "targets").glob("*/target.json")
    before = json.loads(note.read_text())
    note.unlink()
    cluster.start()
    assert read_everywhere(cluster, 100) == {b"some bytes"}
    assert "target.json is missing" in log_of(cluster, "storage-2")
    after = json.loads(note.read_text())
    assert (after["whole"], after["target"]) == (True, before["target"])


def test_a_copy_beside_the_original_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    """For as long as the original sends heartbeats. The error names both."""
    write(cluster, b"some bytes")
    copy_directory(cluster.directory.path / "storage-2", tmp_path / "copy")
    serve = [sys.executable, "-m", "fs3.cli.main", "serve", "storage"]
    command = [*serve, "--name", "storage-2", "--data-dir", str(tmp_path / "copy")]
    manager = f"{cluster.shape.host}:{cluster.shape.ports('mgmtd')[0]}"
    done = subprocess.run([*command, "--mgmtd", manager], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    pid = cluster.directory.running_pid("storage-2")
    assert f"process {pid} at tcp://" in done.stderr, done.stderr
    assert done.stderr.count("tcp://") >= 2
    assert read_everywhere(cluster, 100) == {b"some bytes"}
    assert len(serving(status_of(cluster))) == 3


def fill(disk: Path) -> Path:
    """Leave not one block free."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as out:
        with contextlib.suppress(OSError):
            os.posix_fallocate(out.fileno(), 0, os.statvfs(disk).f_bavail * 4096)
        with contextlib.suppress(OSError):
            while out.write(b"x" * 4096):
                pass
    return ballast


@pytest.mark.parametrize("has_reserve", [True, False])
def test_a_node_starts_on_a_full_disk(small_only_disk: Path, has_reserve: bool) -> None:
    """With what is kept in reserve it starts as ever. Without, it is read-only, says so, and goes on once there is room."""
    disk = small_only_disk / "storage-1"
    # One copy: no other one goes on without it, after which it would have to be brought up to date, for want of room in vain.
    with LocalCluster(small_only_disk, storage=1, replicas=1, targets=1) as cluster:
        write(cluster, b"some bytes")
        cluster.stop()
        if not has_reserve:
            (disk / "reserve").unlink()
        ballast = fill(disk)
        cluster.start()
        assert read_everywhere(cluster, 100) == {b"some bytes"}
        assert try_write(cluster, b"other bytes") is Code.NO_SPACE
        wait_status(cluster, names_full_disk, 10, "the status to name the full disk")
        assert has_reserve == is_not_read_only(status_of(cluster))
        assert has_reserve != ("is read-only until its disk has room" in log_of(cluster, "storage-1"))
        ballast.unlink()
        wait_status(cluster, is_not_read_only, 20, "storage-1 to be written to again")
        write(cluster, b"other bytes")
        assert read_everywhere(cluster, 100) == {b"other bytes"}
        cluster.stop()
        cluster.start()
        assert read_everywhere(cluster, 100) == {b"other bytes"}


def names_full_disk(status: StatusDocument) -> bool:
    return any("the disk of storage-1 is nearly full" in problem.text for problem in problems_of(dict(status)))


def is_not_read_only(status: StatusDocument) -> bool:
    return not any("read-only" in target["reason"] for target in status["targets"])

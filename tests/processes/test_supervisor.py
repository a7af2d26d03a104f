"""Processes that end by themselves are started again, and those that are stopped are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.cli.directory import ClusterDirectory
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.cli.supervision import SupervisedProcesses, restarts_quick_max
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

NAMES = ("mgmtd", "meta", "storage-1")


def fs3(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fs3.cli.main", *arguments], capture_output=True, text=True, timeout=120)


def up(directory: ClusterDirectory, *options: str) -> str:
    done = fs3("up", "--data-dir", str(directory.path), "--detach", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def directory(space_guard: SpaceGuard) -> Iterator[ClusterDirectory]:
    """A small cluster, as a person starts it. Every test leaves it running; the last one stops it."""
    with space_guard.lend("supervised") as home:
        directory = ClusterDirectory(home / "cluster")
        try:
            up(directory, "--port", str(free_ports(6)), "--storage", "1", "--replicas", "1", "--targets", "1")
            yield directory
        finally:
            fs3("down", "--data-dir", str(directory.path))


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def kill_hard(directory: ClusterDirectory, name: str) -> int:
    """kill -9 of a process, behind the back of fs3, and wait until another one runs. Returns its pid."""
    pid = directory.running_pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: directory.running_pid(name) not in (None, pid))
    return directory.running_pid(name) or 0


def status(directory: ClusterDirectory) -> dict[str, Any]:
    done = fs3("status", "--data-dir", str(directory.path), "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def process_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    [process] = [process for process in document["processes"] if process["name"] == name]
    return dict(process)


def processes_on(directory: ClusterDirectory) -> list[str]:
    """Command lines of all processes that were started for a directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(part.startswith(os.fsencode(directory.path)) for part in command):
            found.append(b" ".join(command).decode())
    return found


def test_who_is_killed_is_back_and_the_status_says_so(directory: ClusterDirectory) -> None:
    kill_hard(directory, "storage-1")
    assert "was killed or crashed" in process_of(status(directory), "storage-1")["reason"], "only a parent knows more"
    pid = kill_hard(directory, "storage-1")
    assert fs3("status", "--data-dir", str(directory.path), "--wait", "healthy").returncode == 0
    document = status(directory)
    assert document["health"] == "healthy"
    process = process_of(document, "storage-1")
    assert (process["pid"], process["running"], process["restarts"], process["given_up"]) == (pid, True, 2, False)
    assert process["reason"] == "it was ended by SIGKILL"
    assert time.time() - process["ended_at"] < 170
    assert all(process_of(document, name)["restarts"] == 0 for name in ("mgmtd", "meta"))
    assert "was started again 2 times; it ended last at" in fs3("status", "--data-dir", str(directory.path)).stdout


def test_everybody_is_killed_at_once(directory: ClusterDirectory) -> None:
    before = {name: directory.running_pid(name) for name in NAMES}
    for pid in before.values():
        os.kill(pid or 0, signal.SIGKILL)
    for name, pid in before.items():
        wait_until(lambda name=name, pid=pid: directory.running_pid(name) not in (None, pid))  # type: ignore[misc]
    assert fs3("status", "--data-dir", str(directory.path), "--wait", "healthy").returncode == 0


def test_who_fails_at_once_for_ever_is_given_up_until_a_person_starts_it(directory: ClusterDirectory) -> None:
    supervised = SupervisedProcesses(directory)
    settings = directory.path / "storage.toml"
    settings.write_text("no_such_setting = 1\n")
    pid = directory.running_pid("storage-1")
    os.kill(pid or 0, signal.SIGKILL)
    wait_until(lambda: supervised.record("storage-1").given_up)
    document = status(directory)
    process = process_of(document, "storage-1")
    assert (process["running"], process["supervised"], process["restarts"]) == (False, False, restarts_quick_max)
    assert "no_such_setting" in process["reason"]
    [problem] = [problem["text"] for problem in document["problems"] if "is given up" in problem["text"]]
    assert problem.startswith(
        f"process storage-1 was started again {restarts_quick_max} times, and is given up: `fs3 up` starts it"
    )
    settings.unlink()
    assert "storage-1 started" in up(directory)
    process = process_of(status(directory), "storage-1")
    assert (process["running"], process["supervised"], process["restarts"], process["given_up"]) == (True, True, 0, False)


def test_a_supervisor_that_was_killed_is_missed_and_replaced(directory: ClusterDirectory) -> None:
    """It looks after processes that it has not started."""
    os.kill(directory.supervisor_pid() or 0, signal.SIGKILL)
    wait_until(lambda: directory.supervisor_pid() is None)
    assert "nobody starts them again when they end" in fs3("status", "--data-dir", str(directory.path)).stdout
    assert "they are supervised again" in up(directory)
    assert directory.supervisor_pid() is not None
    kill_hard(directory, "meta")


def test_down_leaves_nothing(directory: ClusterDirectory) -> None:
    assert len(processes_on(directory)) == len(NAMES) + 1
    for name in NAMES:  # the supervisor may be in the middle of starting somebody
        os.kill(directory.running_pid(name) or 0, signal.SIGKILL)
    done = fs3("down", "--data-dir", str(directory.path))
    assert done.returncode == 0, done.stderr
    assert processes_on(directory) == []


def test_what_is_stopped_or_killed_on_purpose_stays_down(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", storage=2, replicas=1, targets=1) as cluster:
        cluster.kill("storage-1")
        cluster.stop("meta")
        kill_hard(cluster.directory, "storage-2")  # so the supervisor has looked at everybody
        assert cluster.directory.running_pid("storage-1") is None
        assert cluster.directory.running_pid("meta") is None
        cluster.start()
        kill_hard(cluster.directory, "storage-1")
    assert processes_on(cluster.directory) == []

"""Disks in the wrong place, stores that lie, a manager that has forgotten: each is said clearly, and no byte is harmed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.drill.roles import is_dead, is_excluded, process_in_role, status_of, wait_healthy, wait_status

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def home(cluster: LocalCluster, name: str) -> Path:
    """The data directory of a process."""
    return cluster.directory.path / name


def said(cluster: LocalCluster, name: str) -> str:
    return " ".join(cluster.directory.log_path(name).read_text().split())


@contextmanager
def out(cluster: LocalCluster, name: str) -> Iterator[Path]:
    """A process is dead and its chain goes on without it; afterwards it runs on the directory it had and is well again."""
    cluster.kill(name)
    wait_status(cluster, is_excluded(name), 20, f"{name} to be left out")
    aside = home(cluster, name).with_name(f"{name}.aside")
    home(cluster, name).rename(aside)
    try:
        yield aside
    finally:
        cluster.kill(name)
        # What it counted its starts in goes with the directory: the old one's next start has the number of this one.
        wait_status(cluster, is_dead(name), 20, f"{name} to be given up")
        shutil.rmtree(home(cluster, name), ignore_errors=True)
        aside.rename(home(cluster, name))
        cluster.start(only=name)
    wait_healthy(cluster)


def refused(cluster: LocalCluster, name: str) -> str:
    """What a process says that must not start."""
    with pytest.raises(FS3Error) as raised:
        cluster.start(only=name)
    return " ".join(str(raised.value).split())


def test_the_disk_of_another_node(drilled: LocalCluster, under_load) -> None:
    victim = process_in_role(status_of(drilled), "tail")
    other = process_in_role(status_of(drilled), "middle")
    with under_load(drilled) as load, out(drilled, victim):
        shutil.copytree(home(drilled, other), home(drilled, victim), ignore=shutil.ignore_patterns("*.lock"))
        message = refused(drilled, victim)
        assert other in message, "whose it is"
        assert victim in message, "who wanted it"
        load.wait_progress("write", 50, 20)


def test_a_target_of_another_node_among_the_own(drilled: LocalCluster, under_load) -> None:
    """Only that target is refused, and its directory is left as it is."""
    victim, other = process_in_role(status_of(drilled), "tail"), process_in_role(status_of(drilled), "middle")
    with under_load(drilled) as load, out(drilled, victim) as aside:
        shutil.copytree(aside, home(drilled, victim))
        (own,) = (home(drilled, victim) / "targets").iterdir()
        shutil.rmtree(own)
        (foreign,) = (home(drilled, other) / "targets").iterdir()
        shutil.copytree(foreign, own)
        drilled.start(only=victim)
        status = wait_status(drilled, lambda status: bool(reason_of(status, victim)), 20, "the target to be refused")
        assert foreign.name in reason_of(status, victim)
        assert is_excluded(victim)(status)
        assert own.exists()
        load.wait_progress("write", 50, 20)


def reason_of(status: dict, node: str) -> str:
    return next(target["reason"] for target in status["targets"] if target["node"] == node)


def test_a_disk_from_another_cluster(drilled: LocalCluster, under_load, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "other", targets=1) as other:
        foreign = other.status()["cluster_id"]
    victim = process_in_role(status_of(drilled), "tail")
    with under_load(drilled) as load, out(drilled, victim):
        shutil.copytree(tmp_path / "other" / victim, home(drilled, victim))
        message = refused(drilled, victim)
        assert foreign in message, "whose it is"
        assert status_of(drilled)["cluster_id"] in message, "and whose it should be"
        load.wait_progress("write", 50, 20)


def test_two_processes_on_one_directory(drilled: LocalCluster, under_load) -> None:
    victim = process_in_role(status_of(drilled), "head")
    process = drilled.processes[victim]
    with under_load(drilled) as load:
        command = [
            *(sys.executable, "-m", "fs3.cli.main", "serve", "storage", "--name", victim),
            *("--data-dir", str(home(drilled, victim)), "--mgmtd", f"tcp://{drilled.address}"),
            *("--listen", f"127.0.0.1:{free_ports(1)}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        message = " ".join(done.stderr.split())
        assert done.returncode in (1, 2), message
        assert "Traceback" not in message
        assert str(process.pid) in message or str(home(drilled, victim)) in message
        load.wait_progress("write", 100, 20)
        assert drilled.directory.running_pid(victim) == process.pid
        assert not is_excluded(victim)(status_of(drilled))


@pytest.mark.parametrize("where", ["first pages", "everywhere", "zeros"])
def test_an_index_whose_bytes_have_changed(drilled: LocalCluster, under_load, where: str) -> None:
    """The process says so, serves nothing of it, keeps it for people, and is filled from the chain."""
    victim = process_in_role(status_of(drilled), "tail")
    with under_load(drilled) as load:
        drilled.kill(victim)
        wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
        (index,) = (home(drilled, victim) / "targets").glob("[0-9]*/index/data.mdb")
        spoil(index, where)
        drilled.start(only=victim)
        wait_healthy(drilled)
        load.wait_progress("write", 50, 20)
        kept = list((home(drilled, victim) / "targets").glob("*.damaged-*"))
        assert kept, "nothing is thrown away"
        assert "damaged" in said(drilled, victim)
    for each in kept:
        shutil.rmtree(each)


def spoil(path: Path, where: str) -> None:
    prng = random.Random(3)
    size = path.stat().st_size
    with path.open("r+b") as file:
        if where == "first pages":
            file.write(prng.randbytes(3 * 4096))
        elif where == "zeros":
            file.seek(2 * 4096)
            file.write(bytes(size - 2 * 4096))
        else:
            for at in range(2 * 4096, size, 512):
                file.seek(at + prng.randrange(500))
                file.write(prng.randbytes(3))


def test_a_manager_restored_from_an_old_copy(drilled: LocalCluster, under_load) -> None:
    """Nodes and clients know newer routing than the manager. They keep it and say so; with the right copy everything goes on."""
    store = home(drilled, "mgmtd") / "kv"
    old, new = store.with_name("old"), store.with_name("new")
    drilled.kill("mgmtd")
    shutil.copytree(store, old)
    drilled.start(only="mgmtd")
    wait_healthy(drilled)
    victim = process_in_role(status_of(drilled), "tail")
    with under_load(drilled, may_fail=lambda kind, why: True) as load:
        drilled.kill(victim)
        wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
        drilled.start(only=victim)
        wait_healthy(drilled)
        known = status_of(drilled)["routing_version"]
        drilled.kill("mgmtd")
        store.rename(new)
        old.rename(store)
        drilled.start(only="mgmtd")
        assert status_of(drilled)["routing_version"] < known
        logs = [name for name in drilled.shape.names() if name.startswith("storage")]
        wait_status(
            drilled, lambda _: any("older than the cluster" in said(drilled, name) for name in logs), 20, "somebody to say so"
        )
        drilled.kill("mgmtd")
        shutil.rmtree(store)
        new.rename(store)
        drilled.start(only="mgmtd")
        wait_healthy(drilled)
        load.wait_progress("write", 50, 40)

"""Processes of a cluster and of its mounts are killed while programs write: what was acknowledged is there, and it goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.sim.conformance.fuse import why_no_mount
from tests.mounted_programs import SyncingProgram, check_synced, start
from tests.process_mounts import fs3, kill_both, run, server_of, two_mounts
from tests.space import SpaceGuard

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

SETTINGS = "session_silence_ms = 15000\nsessions_interval_ms = 200\ncontacts_interval_ms = 200\n"
"""Locks of a mount that was killed end sooner than by themselves."""

INSERTS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute(f"pragma journal_mode={sys.argv[2]}")
db.execute("pragma synchronous=full")
db.execute("create table if not exists t (number integer primary key, filling text)")
number = 0
while True:
    db.execute("begin immediate")
    db.execute("insert into t values (?, ?)", (number, "x" * (number * 37 % 5000)))
    db.execute("insert into t values (?, ?)", (number + 1, ""))
    db.execute("update t set filling = filling || 'y' where number % 7 = ?", (number % 7,))
    db.execute("commit")
    number += 2
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    with space_guard.lend("mounts") as home:
        (home / "cluster").mkdir()
        (home / "cluster" / "meta.toml").write_text(SETTINGS)
        with LocalCluster(home / "cluster", targets=1) as cluster:
            yield cluster


@pytest.fixture
def mounts(cluster: LocalCluster, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with two_mounts(cluster, tmp_path) as roots:
        yield roots


def rows_of(path: Path) -> list[int]:
    """The rows of a database that is as it should be."""
    with sqlite3.connect(path, timeout=120) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        return [number for (number,) in db.execute("select number from t order by number")]


def test_databases_after_everything_was_killed(cluster: LocalCluster, mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    journals = "delete", "wal"
    programs = {journal: start(INSERTS, one / f"{journal}.db", journal) for journal in journals}
    acknowledged = dict.fromkeys(journals, 0)
    for journal, program in programs.items():
        assert program.stdout is not None
        while acknowledged[journal] < 20:
            line = program.stdout.readline()
            assert line, program.communicate()[1]
            acknowledged[journal] = int(line)
    cluster.kill()
    for point in (one.parent, two.parent):
        kill_both(point)
    for journal, program in programs.items():
        program.kill()
        assert program.stdout is not None
        for line in program.stdout:
            acknowledged[journal] = int(line)
        program.communicate()
    cluster.start()
    for point in (one.parent, two.parent):
        assert fs3("umount", str(point)).returncode == 0
        assert fs3("mount", cluster.url, str(point)).returncode == 0
    for journal, least in acknowledged.items():
        found = rows_of(one / f"{journal}.db")
        assert found == list(range(len(found)))
        assert len(found) % 2 == 0, "a transaction is there as a whole"
        assert len(found) >= least
        more = start(INSERTS.replace("number = 0", f"number = {len(found)}"), one / f"{journal}.db", journal)
        assert more.stdout is not None
        assert more.stdout.readline() == f"{len(found) + 2}\n"
        more.kill()
        more.communicate()


@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ,
    reason="runs alone (`make alone`): beside other tests a service took a minute to come back, twice, and why is not known",
)
def test_metadata_service_that_is_killed_under_load(cluster: LocalCluster, mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    load = SyncingProgram(one)
    load.wait(5)
    for _ in range(2):
        cluster.kill("meta")
        cluster.start(only="meta")
        load.wait(3)
    check_synced(two, load.end(kill=True))


def test_what_is_open_outlives_a_manager(cluster: LocalCluster, mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    load = SyncingProgram(one)
    load.wait(5)
    cluster.kill("mgmtd")
    cluster.start(only="mgmtd")
    load.wait(5)
    check_synced(two, load.end(kill=True))
    cluster.wait_healthy()


SERVES_ITSELF = """
import fcntl, os, sys
from pathlib import Path
from tests.mounts import embedded_mount

with embedded_mount(Path(sys.argv[1]), Path(sys.argv[2])):
    first, second = (os.open(Path(sys.argv[2]) / "f", os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(first, fcntl.LOCK_EX)
    print("waits", flush=True)
    fcntl.flock(second, fcntl.LOCK_EX)
"""


def test_a_process_that_waits_for_itself_is_resolved_by_force(tmp_path: Path) -> None:
    """It serves the mount that it waits on, so that the kernel neither ends it nor the mount."""
    point = tmp_path / "point"
    point.mkdir()
    program = start(SERVES_ITSELF, tmp_path / "cluster", point)
    assert program.stdout is not None
    assert program.stdout.readline() == "waits\n", program.communicate()[1]
    program.kill()
    done = fs3("umount", "--force", str(point))
    assert done.returncode == 0, done.stderr
    program.communicate(timeout=30)
    assert program.returncode == -signal.SIGKILL
    assert "is not mounted" in fs3("umount", "--force", str(point)).stderr


def test_a_mount_is_taken_away_whatever_happens_on_it(cluster: LocalCluster, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    assert fs3("mount", cluster.url, str(point)).returncode == 0
    file = os.open(point / "open", os.O_RDWR | os.O_CREAT)
    os.write(file, b"written before")
    assert "busy" in fs3("umount", str(point)).stderr
    assert fs3("umount", "--lazy", str(point)).returncode == 0
    assert list(point.iterdir()) == []
    os.write(file, b", and behind")
    os.close(file)
    assert fs3("mount", cluster.url, str(point)).returncode == 0
    assert (point / "open").read_bytes() == b"written before, and behind"
    server = server_of(point)
    os.kill(server, signal.SIGSTOP)
    waiting = start("import os, sys; os.stat(sys.argv[1])", point / "open")
    # It does not answer; nor does what asks it.
    assert fs3("umount", "--force", str(point)).returncode == 0
    assert waiting.wait(30) == 1
    os.kill(server, signal.SIGCONT)
    assert fs3("mount", cluster.url, str(point)).returncode == 0
    assert (point / "open").read_bytes() == b"written before, and behind"
    run(sys.executable, "-c", "import os, sys; os.unlink(sys.argv[1])", str(point / "open"))
    assert fs3("umount", str(point)).returncode == 0

"""Programs that share files on mounts: databases, locks, appends, mapped memory; and processes that are killed meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.drivers.fuse.mount import is_mounted
from fs3.sim.conformance.fuse import why_no_mount
from tests.mounted_programs import SyncingProgram, check_synced, finish, start
from tests.process_mounts import fs3, kill_both, run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "fs3" / "core" / "craq"

COUNTS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range(int(sys.argv[2])):
    db.execute("begin immediate")
    (count,) = db.execute("select count from counter").fetchone()
    db.execute("update counter set count = ?", (count + 1,))
    db.execute("insert into filling values (?)", ("x" * 3000,))
    db.execute("commit")
assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
"""

LOCKED_COUNTS = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for number in range(int(sys.argv[3])):
    fcntl.lockf(fd, fcntl.LOCK_EX, 8, int(sys.argv[2]))
    count = int.from_bytes(os.pread(fd, 8, int(sys.argv[2])), "little")
    os.pwrite(fd, (count + 1).to_bytes(8, "little"), int(sys.argv[2]))
    fcntl.lockf(fd, fcntl.LOCK_UN, 8, int(sys.argv[2]))
"""

APPENDS = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
first, lines, left = int(sys.argv[2]), int(sys.argv[4]), 40
for who in range(first, first + int(sys.argv[3])):
    if left:
        left -= 1
    else:
        assert os.wait()[1] == 0
    if not os.fork():
        for number in range(lines):
            line = b"%04d:%04d\\n" % (who, number)
            assert os.write(fd, line) == len(line)
        os._exit(0)
while True:
    try:
        _, status = os.wait()
    except ChildProcessError:
        break
    assert status == 0
"""

MAPS = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(fd, 0) as mapped:
    for at in range(int(sys.argv[2]), len(mapped) - 8, 100_000):
        mapped[at : at + 8] = b"mapped%02d" % int(sys.argv[2])
    mapped.flush()
"""


@pytest.mark.parametrize(("journal", "places"), [("delete", (0, 1)), ("wal", (0, 0))])
def test_sqlite_used_by_two_processes(mounts: tuple[Path, Path], journal: str, places: tuple[int, int]) -> None:
    """With a rollback journal from two mounts; with a write-ahead log, whose index is mapped memory, on one."""
    setup = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    tables = "create table counter (count); create table filling (text); insert into counter values (0)"
    run(sys.executable, "-c", setup, str(mounts[0] / "db"), f"pragma journal_mode={journal}; {tables}")
    finish([start(COUNTS, mounts[place] / "db", 15) for place in places])
    check = "import sqlite3, sys; print(*[sqlite3.connect(sys.argv[1]).execute(q).fetchone()[0] for q in sys.argv[2:]])"
    asked = "pragma integrity_check", "select count from counter", "select count(*) from filling"
    assert run(sys.executable, "-c", check, str(mounts[1] / "db"), *asked) == "ok 30 30\n"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_copies_nothing_the_second_time(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    run("rsync", "-a", f"{SOURCES}/", f"{one}/tree/")
    assert not [line for line in run("rsync", "-ai", f"{SOURCES}/", f"{two}/tree/").splitlines() if line.startswith(">f")]


def test_find_tells_the_same_of_both(mounts: tuple[Path, Path]) -> None:
    run("cp", "-a", str(SOURCES), str(mounts[0] / "tree"))
    said = [run("find", ".", "-printf", "%p %y %m %s %T@\n", cwd=place / "tree") for place in mounts]
    assert sorted(said[0].splitlines()) == sorted(said[1].splitlines())
    local = run("find", ".", "-type", "f", "-printf", "%p %y %m %s\n", cwd=SOURCES)
    there = run("find", ".", "-type", "f", "-printf", "%p %y %m %s\n", cwd=mounts[1] / "tree")
    assert sorted(local.splitlines()) == sorted(there.splitlines())


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock(1) is not installed")
def test_flock_of_the_shell_on_two_mounts(mounts: tuple[Path, Path]) -> None:
    (mounts[0] / "count").write_text("0\n")
    script = 'for i in $(seq 10); do flock "$0/lock" sh -c \'echo $(($(cat "$0") + 1)) > "$0"\' "$0/count"; done'
    programs = [subprocess.Popen(["sh", "-c", script, str(place)]) for place in mounts]
    assert [program.wait(60) for program in programs] == [0, 0]
    assert (mounts[1] / "count").read_text() == "20\n"


def test_ranges_locked_by_processes_of_two_mounts(mounts: tuple[Path, Path]) -> None:
    """Each range is counted in by two processes, one on each mount, while others count in other ranges of the same page."""
    (mounts[0] / "counts").write_bytes(bytes(100))
    finish([start(LOCKED_COUNTS, place / "counts", at, 25) for place in mounts for at in (0, 40)])
    for place in mounts:
        data = (place / "counts").read_bytes()
        assert [int.from_bytes(data[at : at + 8], "little") for at in (0, 40)] == [50, 50]


def test_a_thousand_processes_append(mounts: tuple[Path, Path]) -> None:
    """Of each mount forty at a time."""
    (mounts[0] / "log").touch()
    finish([start(APPENDS, place / "log", first, 500, 2) for first, place in ((0, mounts[0]), (500, mounts[1]))])
    for place in mounts:
        lines = (place / "log").read_text().splitlines()
        assert sorted(lines) == [f"{who:04}:{number:04}" for who in range(1000) for number in range(2)]


def test_memory_mapped_by_two_writers(mounts: tuple[Path, Path]) -> None:
    (mounts[0] / "mapped").write_bytes(b"." * 1_000_000)
    finish([start(MAPS, mounts[0] / "mapped", first) for first in (10, 50)])
    data = (mounts[1] / "mapped").read_bytes()
    assert len(data) == 1_000_000
    for first in (10, 50):
        assert {data[at : at + 8] for at in range(first, 999_992, 100_000)} == {b"mapped%02d" % first}
    assert data.count(b".") == 1_000_000 - 20 * 8


def test_a_mount_that_is_killed_under_load(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    one, two = mounts
    point = one.parents[1]
    load = SyncingProgram(one)
    load.wait(20)
    kill_both(point)
    rounds = load.end(kill=False)
    assert fs3("umount", str(point)).returncode == 0
    assert not is_mounted(str(point))
    check_synced(two, rounds)
    assert fs3("mount", drilled.url, str(point)).returncode == 0
    check_synced(one, rounds)


def test_a_storage_node_that_is_killed_under_load(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    one, two = mounts
    load = SyncingProgram(one)
    load.wait(10)
    drilled.kill("storage-1")
    load.wait(20)
    drilled.start(only="storage-1")
    drilled.wait_healthy()
    load.wait(10)
    check_synced(two, load.end(kill=True))

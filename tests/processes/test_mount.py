"""`fs3 mount` of a cluster of real processes, used by programs that know nothing of it."""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.drivers.fuse.mount import is_mounted
from fs3.sim.conformance.fuse import fails_with, why_no_mount
from tests.process_mounts import fs3, kill_both, run, two_mounts

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "fs3" / "core" / "craq"

SQLITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("create table if not exists t (a integer primary key, b text)")
for number in range(20):
    with db:
        db.execute("insert into t (b) values (?)", ("x" * 1000,))
assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
print(db.execute("select count(*) from t").fetchone()[0])
"""

MAPS = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    sys.stdout.buffer.write(mapped[int(sys.argv[2]) : int(sys.argv[3])])
"""


@pytest.fixture
def mounts(drilled: LocalCluster, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two mounts, each by a process of its own, on an empty directory of this test."""
    with two_mounts(drilled, tmp_path) as roots:
        yield roots


def test_trees_copied_moved_and_packed(mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = mounts
    run("cp", "-a", str(SOURCES), str(one / "tree"))
    run("diff", "-r", str(SOURCES), str(two / "tree"))
    run("mv", str(two / "tree"), str(two / "moved"))
    assert os.listdir(one) == ["moved"]
    run("tar", "-cf", str(tmp_path / "tree.tar"), "-C", str(one), "moved")
    (one / "unpacked").mkdir()
    run("tar", "-xf", str(tmp_path / "tree.tar"), "-C", str(one / "unpacked"))
    run("tar", "-df", str(tmp_path / "tree.tar"), "-C", str(two / "unpacked"))


def test_large_pieces_past_the_memory_of_the_kernel(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    size, piece = 5 << 20, 1 << 20
    buffer = mmap.mmap(-1, piece)
    for turn in range(2):
        data = os.urandom(size + 100 * turn)
        (one / "large").write_bytes(data)
        fd = os.open(two / "large", os.O_RDONLY | os.O_DIRECT)
        read = b""
        while count := os.preadv(fd, [buffer], len(read)):
            read += buffer[:count]
        os.close(fd)
        assert read == data


def test_attributes_that_wait_for_bytes_are_seen_elsewhere_when_the_file_is_closed_synced_or_looked_at(
    mounts: tuple[Path, Path],
) -> None:
    one, two = mounts
    seen = one / "seen", two / "seen"
    for end in ("close", "fsync", "stat"):
        fd = os.open(seen[0], os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
        os.write(fd, end.encode())
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(10**18, 10**18))
        match end:
            case "fsync":
                os.fsync(fd)
            case "stat":
                assert seen[0].stat().st_mode & 0o777 == 0o600
            case _:
                os.close(fd)
        found = seen[1].stat()
        assert (found.st_mode & 0o777, found.st_mtime_ns, seen[1].read_text()) == (0o600, 10**18, end)
        if end != "close":
            os.close(fd)
        seen[1].chmod(0o644)
        assert seen[0].stat().st_mode & 0o777 == 0o644
        seen[1].unlink()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    run("git", "init", "-q", str(one / "repository"))
    shutil.copytree(SOURCES, one / "repository" / "tree")
    run("git", "add", ".", cwd=one / "repository")
    run("git", "commit", "-q", "-m", "one", cwd=one / "repository")
    assert run("git", "status", "--short", cwd=one / "repository") == ""
    run("git", "-c", "safe.directory=*", "clone", "-q", str(two / "repository"), str(two / "clone"))
    run("git", "fsck", "--strict", cwd=one / "clone")
    run("git", "gc", "-q", cwd=one / "clone")
    assert run("git", "log", "--format=%s", cwd=two / "clone").strip() == "one"
    run("diff", "-r", "-x", "__pycache__", str(SOURCES), str(two / "clone" / "tree"))


def test_sqlite_with_its_rollback_journal(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    assert run(sys.executable, "-c", SQLITE, str(one / "db")).strip() == "20"
    assert run(sys.executable, "-c", SQLITE, str(two / "db")).strip() == "40"
    assert os.listdir(one) == ["db"]


def test_mapped_readers(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    data = "".join(f"{number:07}\n" for number in range(200_000)).encode()
    (one / "mapped").write_bytes(data)
    for start, end in ((0, 100), (777_777, 900_001), (1_599_990, 1_600_000)):
        assert run(sys.executable, "-c", MAPS, str(two / "mapped"), str(start), str(end)).encode() == data[start:end]


def test_a_mount_whose_processes_were_killed_is_taken_away_and_made_again(
    mounts: tuple[Path, Path], drilled: LocalCluster, tmp_path: Path
) -> None:
    one, two = mounts
    point = one.parent
    file = os.open(one / "synced", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"synced")
    os.fsync(file)
    kill_both(point)
    done = fs3("mount", drilled.url, str(point))
    assert done.returncode == 1
    assert "a mount whose process has died is there" in done.stderr
    assert fs3("umount", str(point)).returncode == 0, "though a file is open on it"
    fails_with(errno.ENOTCONN, os.close, file)
    assert not is_mounted(str(point))
    assert (two / "synced").read_bytes() == b"synced"
    assert fs3("mount", drilled.url, str(point)).returncode == 0
    assert (one / "synced").read_bytes() == b"synced"


def test_what_is_wrong_is_said(mounts: tuple[Path, Path], drilled: LocalCluster, tmp_path: Path) -> None:
    one, _ = mounts
    (tmp_path / "file").touch()
    (tmp_path / "free").mkdir()
    for arguments, said in (
        ((drilled.url, str(tmp_path / "none")), "No such file or directory"),
        ((drilled.url, str(tmp_path / "file")), "is not a directory"),
        ((drilled.url, str(one.parent)), "something is mounted there already"),
        ((drilled.url + "/below", str(tmp_path / "free")), "is not mounted: no such file or directory: 'below'"),
        (("fs3://127.0.0.1:1", str(tmp_path / "free")), "nobody listens at tcp://127.0.0.1:1"),
        ((drilled.url, str(tmp_path / "free"), "--cache", "-1"), "--cache is -1"),
    ):
        done = fs3("mount", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = fs3("umount", str(tmp_path / "free"))
    assert (done.returncode, done.stderr.strip()) == (1, f"fs3: is not mounted: '{tmp_path / 'free'}'")
    with (one / "open").open("wb"):
        assert "busy" in fs3("umount", str(one.parent)).stderr


def test_read_only_and_direct(drilled: LocalCluster, mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, _ = mounts
    (one / "f").write_bytes(b"x" * 10_000)
    point = tmp_path / "three"
    point.mkdir()
    assert fs3("mount", drilled.url, str(point), "--read-only", "--direct-io", "--cache", "1").returncode == 0
    try:
        there = point / tmp_path.name
        assert (there / "f").read_bytes() == b"x" * 10_000
        fails_with(errno.EROFS, os.open, there / "f", os.O_WRONLY)
        fails_with(errno.EROFS, os.mkdir, there / "d")
    finally:
        assert fs3("umount", str(point)).returncode == 0


def test_the_commands_of_the_document(drilled: LocalCluster, tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "mount.md").read_text(), re.DOTALL)
    script = script.replace("/mnt/fs3", str(tmp_path)).replace("127.0.0.1:8000", drilled.address)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euxc", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_line_of_fstab() -> None:
    from fs3.cli.mount import helper_arguments

    assert helper_arguments(["fs3://h:1", "/mnt", "-n", "-o", "rw,_netdev,allow_other,ro,cache=2,x-systemd.automount"]) == [
        *("mount", "fs3://h:1", "/mnt", "--allow-other", "--read-only", "--cache", "2")
    ]
    with pytest.raises(ValueError, match="option 'bogus' is not known"):
        helper_arguments(["fs3://h:1", "/mnt", "-o", "bogus"])
    with pytest.raises(ValueError, match="what to mount and where"):
        helper_arguments(["fs3://h:1"])

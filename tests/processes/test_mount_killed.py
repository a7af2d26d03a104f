"""The process that serves a mount is killed under load and replaced: no operation fails, nothing that was accepted is lost."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.cli.mount_plan import MountPlan
from fs3.drivers.fuse.mount import is_mounted
from fs3.sim.conformance.fuse import why_no_mount
from tests.process_mounts import fs3, holder_of, server_of, two_mounts

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]


@pytest.fixture
def mounts(drilled: LocalCluster, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two mounts, each by a process of its own, on an empty directory of this test."""
    with two_mounts(drilled, tmp_path) as roots:
        yield roots


def kill(point: Path) -> None:
    """The process that serves it; until another one answers."""
    server = server_of(point)
    os.kill(server, signal.SIGKILL)
    end = time.monotonic() + 60
    while server_of(point) == server and time.monotonic() < end:
        time.sleep(0.01)
    os.statvfs(point)


class Load:
    """Programs that use a mount, over and over, until told to stop."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.rounds: dict[str, int] = {}
        self.failures: list[str] = []
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[int], None]) -> None:
        """`work` is called with the number of its round."""

        def run() -> None:
            number = 0
            while not self.stopped.is_set():
                try:
                    work(number)
                except Exception as wrong:
                    self.failures.append(f"{name}, round {number}: {wrong!r}")
                    return
                number += 1
                self.rounds[name] = number

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait_rounds(self, more: int) -> None:
        """Until each has done so many more."""
        goals = {thread.name: self.rounds.get(thread.name, 0) + more for thread in self._threads}
        while not self.failures and any(self.rounds.get(name, 0) < goal for name, goal in goals.items()):
            time.sleep(0.01)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join(timeout=60)
        assert not self.failures


def test_no_operation_fails_and_nothing_is_lost(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    point = one.parent
    load = Load()

    def make_names(number: int) -> None:
        directory = one / f"d{number}"
        directory.mkdir()
        (directory / "a").symlink_to("nowhere")
        os.rename(directory, one / f"e{number}")
        os.unlink(one / f"e{number}" / "a")
        os.rmdir(one / f"e{number}")

    def write_small(number: int) -> None:
        path = one / f"s{number % 50}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for part in range(4):
            assert os.write(fd, b"%07d" % number) == 7, part
        os.close(fd)
        assert path.read_bytes() == b"%07d" % number * 4
        path.unlink()

    big = os.open(one / "big", os.O_RDWR | os.O_CREAT)

    def write_big(number: int) -> None:
        os.pwrite(big, bytes([number % 251]) * 300_000, number % 40 * 300_000)

    appended = os.open(one / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(number: int) -> None:
        os.write(appended, b"%09d\n" % number)

    locked = os.open(one / "locked", os.O_RDWR | os.O_CREAT)

    def lock(number: int) -> None:
        fcntl.lockf(locked, fcntl.LOCK_EX, 10, number % 7)
        fcntl.lockf(locked, fcntl.LOCK_UN, 10, number % 7)

    unnamed = os.open(one / "unnamed", os.O_RDWR | os.O_CREAT)
    os.unlink(one / "unnamed")

    def use_unnamed(number: int) -> None:
        os.pwrite(unnamed, b"%07d" % number, 0)
        assert os.pread(unnamed, 7, 0) == b"%07d" % number

    for name, work in (
        ("names", make_names),
        ("small", write_small),
        ("big", write_big),
        ("appends", append),
        ("locks", lock),
        ("unnamed", use_unnamed),
    ):
        load.start(name, work)
    servers = set()
    for _ in range(4):
        load.wait_rounds(3)
        servers.add(server_of(point))
        kill(point)
    load.wait_rounds(3)
    load.stop()
    assert len(servers) == 4
    os.close(big)
    data = (two / "big").read_bytes()
    last = load.rounds["big"] - 1
    for number in range(max(0, last - 39), last + 1):
        at = number % 40 * 300_000
        assert data[at : at + 300_000] == bytes([number % 251]) * 300_000
    os.close(appended)
    lines = (two / "log").read_bytes().splitlines()
    assert lines == [b"%09d" % number for number in range(load.rounds["appends"])]
    for fd in (locked, unnamed):
        os.close(fd)


def test_what_was_accepted_and_not_stored_outlives_the_process(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    point = one.parent
    small = os.open(one / "small", os.O_RDWR | os.O_CREAT)
    os.write(small, b"0123456789")
    os.ftruncate(small, 5)
    os.pwrite(small, b"ab", 8)
    large = os.open(one / "large", os.O_RDWR | os.O_CREAT)
    for part in range(50):
        os.pwrite(large, bytes([part]) * 100_000, part * 100_000)
    assert (two / "small").stat().st_size == 0, "it is not stored yet"
    kill(point)
    assert os.pread(small, 100, 0) == b"01234\0\0\0ab"
    os.pwrite(small, b"c", 0)
    os.close(small)
    os.close(large)
    assert (two / "small").read_bytes() == b"c1234\0\0\0ab"
    assert (two / "large").read_bytes() == b"".join(bytes([part]) * 100_000 for part in range(50))


def test_attributes_that_wait_for_bytes_outlive_the_process(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    when = 10**18 + 1
    files = {}
    for name in ("closed", "written"):
        files[name] = fd = os.open(one / name, os.O_RDWR | os.O_CREAT, 0o644)
        os.write(fd, b"bytes")
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(when, when))
        assert ((two / name).stat().st_mode & 0o777, (two / name).stat().st_size) == (0o644, 0), "they are not stored yet"
    kill(one.parent)
    os.write(files["written"], b" and more")
    for fd in files.values():
        os.close(fd)
    found = {name: (two / name).stat() for name in files}
    assert [found[name].st_mode & 0o777 for name in files] == [0o600, 0o600]
    assert [found[name].st_atime_ns for name in files] == [when, when]
    assert found["closed"].st_mtime_ns == when
    assert found["written"].st_mtime_ns > when, "it was written after the time was set"
    assert [(two / name).read_bytes() for name in files] == [b"bytes", b"bytes and more"]


def test_locks_and_what_waits_for_them_outlive_the_process(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "f").write_bytes(b"x")
    held = os.open(one / "f", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    other = os.open(two / "f", os.O_RDWR)
    ended = threading.Event()

    def wait() -> None:
        fcntl.flock(other, fcntl.LOCK_EX)
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    kill(one.parent)
    kill(two.parent)
    with pytest.raises(BlockingIOError):
        fcntl.flock(os.open(two / "f", os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not ended.is_set()
    fcntl.flock(held, fcntl.LOCK_UN)
    assert ended.wait(60)
    for fd in (held, other):
        os.close(fd)
    fd = os.open(one / "f", os.O_RDWR)
    # The kernel tells of a close when it has time: the lock is free, but not at once.
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def test_a_mounted_directory_stays_that_directory(drilled: LocalCluster, mounts: tuple[Path, Path], tmp_path: Path) -> None:
    one, _ = mounts
    (one / "a" / "caf\udce9").mkdir(parents=True)
    point = tmp_path / "m"
    point.mkdir()
    assert fs3("mount", f"{drilled.url}/{tmp_path.name}/a/caf\udce9/", str(point)).returncode == 0
    (point / "f").write_bytes(b"f")
    os.rename(one / "a", one / "b")
    kill(point)
    assert (point / "f").read_bytes() == b"f"
    (point / "g").write_bytes(b"g")
    assert sorted(os.listdir(one / "b" / "caf\udce9")) == ["f", "g"]
    assert fs3("umount", str(point)).returncode == 0


def test_the_holder_ends_with_the_mount(drilled: LocalCluster, tmp_path: Path) -> None:
    point = tmp_path / "m"
    point.mkdir()
    assert fs3("mount", drilled.url, str(point), "--log", str(tmp_path / "log")).returncode == 0
    holder = holder_of(point)
    assert holder is not None
    os.kill(server_of(point), signal.SIGSTOP)
    server = server_of(point)
    assert fs3("umount", str(point)).returncode == 0, "though its process is stopped"
    assert not is_mounted(str(point))
    os.kill(server, signal.SIGCONT)
    _wait_gone(point)


def test_sigterm_unmounts(drilled: LocalCluster, tmp_path: Path) -> None:
    for find in (server_of, holder_of):
        point = tmp_path / find.__name__
        point.mkdir()
        assert fs3("mount", drilled.url, str(point), "--log", str(tmp_path / "log")).returncode == 0
        process = find(point)
        assert process is not None
        os.kill(process, signal.SIGTERM)
        _wait_gone(point)
        assert not is_mounted(str(point))


def test_in_the_foreground(drilled: LocalCluster, tmp_path: Path) -> None:
    """The command is the holder then."""
    point = tmp_path / "m"
    point.mkdir()
    command = [sys.executable, "-m", "fs3.cli.main", "mount", "--foreground", drilled.url, str(point)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not is_mounted(str(point)):
        assert time.monotonic() < end
        time.sleep(0.01)
    (point / "f").write_bytes(b"x")
    assert holder_of(point) == running.pid
    kill(point)
    assert (point / "f").read_bytes() == b"x"
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert b"was killed by signal 9" in said
    assert not is_mounted(str(point))


def _wait_gone(point: Path) -> None:
    end = time.monotonic() + 60
    while holder_of(point) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_unmount_while_no_process_serves(drilled: LocalCluster, tmp_path: Path) -> None:
    """The cluster is away, so none can start."""
    point = tmp_path / "m"
    point.mkdir()
    with LocalCluster(tmp_path / "other", targets=1) as other:
        assert fs3("mount", other.url, str(point), "--log", str(tmp_path / "log")).returncode == 0
    os.kill(server_of(point), signal.SIGKILL)
    end = time.monotonic() + 60
    while b"another one starts" not in (tmp_path / "log").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert fs3("umount", str(point)).returncode == 0
    _wait_gone(point)


def test_programs_are_told_where_no_process_can_be_started(tmp_path: Path) -> None:
    """The time until then is a constant of the holder, made short here."""
    point = tmp_path / "m"
    point.mkdir()
    with LocalCluster(tmp_path / "other", targets=1) as other:
        script = "import fs3.cli.mount_holder as holder\nholder.answer_after_s = 0.5\nholder.main()\n"
        plan = MountPlan(other.url, other.url, str(point))
        read, write = os.pipe()
        command = [sys.executable, "-c", script, str(point), plan.to_word(), str(write)]
        with (tmp_path / "log").open("wb") as log:
            holder = subprocess.Popen(command, pass_fds=(write,), stderr=log)
        os.close(write)
        assert os.read(read, 100) == b"+"
        (point / "f").write_bytes(b"x")
        fd = os.open(point / "f", os.O_RDONLY)
    os.kill(server_of(point), signal.SIGKILL)
    with pytest.raises(TimeoutError):
        os.stat(point / "g")
    with pytest.raises(TimeoutError):
        os.close(fd)
    assert fs3("umount", str(point)).returncode == 0
    assert holder.wait(30) == 0

"""Locks of programs on two mounts: each as fcntl(2) and flock(2) say, wherever the other one is."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.sim.conformance.fuse import fails_with, why_no_mount

pytestmark = [
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
    pytest.mark.timeout(120),
]

_PROGRAM = """
import fcntl, os, signal, struct, sys
class Interrupted(Exception): pass
def interrupt(*_): raise Interrupted
signal.signal(signal.SIGUSR1, interrupt)
fd = os.open(sys.argv[1], os.O_RDWR)
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Interrupted:
        print("interrupted", flush=True)
    except OSError as wrong:
        print(wrong.errno, flush=True)
"""


class Program:
    """Another process with a file open, which does what it is told, one thing after the other."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, what: str) -> str:
        self.begin(what)
        return self.answer()

    def wait_blocked(self) -> None:
        """Until it waits in the kernel for a lock."""
        while "fuse" not in Path(f"/proc/{self._process.pid}/wchan").read_text() and not self._is_in_fuse():
            pass

    def _is_in_fuse(self) -> bool:
        return "request_wait_answer" in Path(f"/proc/{self._process.pid}/stack").read_text()

    def fileno(self) -> int:
        """Of what it answers on."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    @property
    def pid(self) -> int:
        return self._process.pid


def first_answered(*programs: Program) -> Program:
    """The one that has answered, as soon as one has."""
    return select.select(programs, (), ())[0][0]


@pytest.fixture
def roots(roots: tuple[Path, Path]) -> tuple[Path, Path]:
    """Two mounts of one cluster, with a file."""
    (roots[0] / "f").write_bytes(bytes(100))
    return roots


def wanted(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0)


def conflict(fd: int, kind: int, start: int, length: int) -> tuple[int, int, int, int]:
    """(type, start, length, process) of what F_GETLK tells."""
    found = struct.unpack("hhqqi", fcntl.fcntl(fd, fcntl.F_GETLK, wanted(kind, start, length)))
    return found[0], found[2], found[3], found[4]


@pytest.mark.parametrize("other", [0, 1])
def test_a_flock_keeps_others_out_until_its_last_descriptor_is_closed(roots: tuple[Path, Path], other: int) -> None:
    with Program(roots[other] / "f") as program:
        fd = os.open(roots[0] / "f", os.O_RDONLY)
        again = os.dup(fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert program.do("fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)") == str(errno.EAGAIN)
        os.close(fd)
        assert program.do("fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)") == str(errno.EAGAIN)
        fcntl.flock(again, fcntl.LOCK_SH)
        assert program.do("fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)") == "None"
        fails_with(errno.EAGAIN, fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert program.do("fcntl.flock(fd, fcntl.LOCK_UN)") == "None"
        fcntl.flock(again, fcntl.LOCK_EX)
        program.begin("fcntl.flock(fd, fcntl.LOCK_EX)")
        os.close(again)
        assert program.answer() == "None"


@pytest.mark.parametrize("other", [0, 1])
def test_ranges_are_of_processes_and_end_with_any_descriptor(roots: tuple[Path, Path], other: int) -> None:
    with Program(roots[other] / "f") as program:
        fd = os.open(roots[0] / "f", os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 30)") == "None"
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 29)") == str(errno.EAGAIN)
        assert conflict(fd, fcntl.F_RDLCK, 0, 0) == (fcntl.F_WRLCK, 30, 10, program.pid)
        assert conflict(fd, fcntl.F_WRLCK, 0, 30)[0] == fcntl.F_UNLCK
        fcntl.lockf(fd, fcntl.LOCK_UN, 5, 20)  # what is left is a part
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20)") == "None"
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25)") == str(errno.EAGAIN)
        os.close(os.open(roots[0] / "f", os.O_RDONLY))
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)") == "None"
        fails_with(errno.EAGAIN, fcntl.lockf, fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 1 << 40)
        os.close(fd)


def test_open_file_descriptions_own_ranges_until_they_are_closed(roots: tuple[Path, Path]) -> None:
    one, two = os.open(roots[0] / "f", os.O_RDWR), os.open(roots[0] / "f", os.O_RDWR)
    fcntl.fcntl(one, fcntl.F_OFD_SETLK, wanted(fcntl.F_WRLCK, 0, 10))
    fails_with(errno.EAGAIN, fcntl.fcntl, two, fcntl.F_OFD_SETLK, wanted(fcntl.F_RDLCK, 5, 1))
    os.close(os.open(roots[0] / "f", os.O_RDONLY))
    with Program(roots[1] / "f") as program:
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)") == str(errno.EAGAIN)
        os.close(one)  # the kernel tells of it after close(2) has returned
        assert program.do("fcntl.lockf(fd, fcntl.LOCK_EX, 1)") == "None"
    os.close(two)


@pytest.mark.parametrize("how", ["fcntl.lockf(fd, fcntl.LOCK_EX)", "fcntl.flock(fd, fcntl.LOCK_EX)"])
def test_a_signal_ends_waiting_and_leaves_nothing_behind(roots: tuple[Path, Path], how: str) -> None:
    with Program(roots[1] / "f") as program, Program(roots[1] / "f") as third:
        fd = os.open(roots[0] / "f", os.O_RDWR)
        assert eval(how) is None
        program.begin(how)
        program.wait_blocked()
        program.interrupt()
        assert program.answer() == "interrupted"
        program.begin(how)
        program.wait_blocked()
        program.__exit__()  # killed while it waits
        os.close(fd)
        assert third.do(how) == "None"


@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_a_holder_that_is_killed_keeps_nothing_locked(roots: tuple[Path, Path], how: str) -> None:
    lock = getattr(fcntl, how)
    fd = os.open(roots[0] / "f", os.O_RDWR)
    with Program(roots[1] / "f") as holder:
        assert holder.do(f"fcntl.{how}(fd, fcntl.LOCK_EX)") == "None"
        fails_with(errno.EAGAIN, lock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock(fd, fcntl.LOCK_EX)
    os.close(fd)


def test_processes_that_would_wait_for_each_other_are_told(roots: tuple[Path, Path]) -> None:
    with Program(roots[0] / "f") as one, Program(roots[1] / "f") as two:
        assert one.do("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)") == "None"
        assert two.do("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)") == "None"
        one.begin("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)")
        two.begin("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)")
        told = first_answered(one, two)
        assert told.answer() == str(errno.EDEADLK)
        assert told.do(f"fcntl.lockf(fd, fcntl.LOCK_UN, 1, {0 if told is one else 1})") == "None"
        assert (two if told is one else one).answer() == "None"


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_who_has_locked_sees_what_holders_before_wrote_though_it_stays_open(
    roots: tuple[Path, Path], size: int, how: str
) -> None:
    (roots[0] / "f").write_bytes(bytes(size))
    lock = getattr(fcntl, how)
    one, two = (os.open(root / "f", os.O_RDWR) for root in roots)
    for number in range(10):
        fd = (one, two)[number % 2]
        lock(fd, fcntl.LOCK_EX)
        assert int.from_bytes(os.pread(fd, 4, size // 2), "little") == number
        assert os.fstat(fd).st_size == size + number
        os.pwrite(fd, (number + 1).to_bytes(4, "little"), size // 2)
        os.pwrite(fd, b"x", size + number)
        lock(fd, fcntl.LOCK_UN)
    os.close(one)
    os.close(two)

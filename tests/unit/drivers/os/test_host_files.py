"""Memory and files that processes of a host share: seen as they are, or refused."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.os import host_files
from fs3.drivers.os.host_files import OsHostFiles

NBYTES = 3 * mmap.PAGESIZE
DATA = bytes(range(251)) * 100


@pytest.fixture
def files() -> OsHostFiles:
    return OsHostFiles()


def run(script: str, *arguments: object) -> str:
    """Run Python in another process; its stdout."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def open_fds() -> int:
    """How many this process has of what is opened here: other threads of it may open something else meanwhile."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum([bool(re.match(r"/memfd:fs3|/proc/\d+/fd$", at)) or at.endswith(("/file", "/it")) for at in found])


# --- memory ------------------------------------------------------------------------------------------------------------

LOOK = """
    import sys
    from fs3.drivers.os.host_files import OsHostFiles
    view = OsHostFiles().open_memory(sys.argv[1], int(sys.argv[2])).view
    print(bytes(view[:5]).decode(), view[-1], view.readonly, flush=True)
    sys.stdin.readline()
    print(bytes(view[:5]).decode(), flush=True)
"""


def test_another_process_sees_by_its_path_what_is_written(files: OsHostFiles) -> None:
    memory = files.create_memory(NBYTES)
    assert bytes(memory.view) == bytes(NBYTES)
    memory.view[:5] = b"first"
    memory.view[-1] = 7
    command = [sys.executable, "-c", textwrap.dedent(LOOK), memory.path, str(NBYTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "first 7 True\n"
        memory.view[:5] = b"later"
        memory.close()  # it is not found any more; who has it keeps it
        print(file=other.stdin, flush=True)
        assert other.stdout.readline() == "later\n"
    assert other.returncode == 0


def test_a_reader_cannot_write(files: OsHostFiles) -> None:
    memory = files.create_memory(NBYTES)
    view = files.open_memory(memory.path, NBYTES).view
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    memory.close()


def test_memory_outlives_the_process_that_made_it(files: OsHostFiles) -> None:
    script = """
        import sys
        from fs3.drivers.os.host_files import OsHostFiles
        memory = OsHostFiles().create_memory(int(sys.argv[1]))
        memory.view[:5] = b"alive"
        print(memory.path, flush=True)
        sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(NBYTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        path = other.stdout.readline().strip()
        memory = files.open_memory(path, NBYTES)
        assert memory.is_held()
        other.kill()
        other.wait()
    assert bytes(memory.view[:5]) == b"alive"
    assert not memory.is_held()
    with pytest.raises(OSError, match=path.rpartition("/")[0]):
        files.open_memory(path, NBYTES)


def test_a_process_lets_memory_go_before_its_locks(files: OsHostFiles, tmp_path: Path) -> None:
    """As soon as another process can have them, it is not found any more."""
    script = """
        import fcntl, os, sys
        from fs3.drivers.os.host_files import OsHostFiles
        fcntl.lockf(os.open(sys.argv[2], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
        memory = OsHostFiles().create_memory(int(sys.argv[1]))
        others = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
        print(memory.path, flush=True)
        sys.stdin.readline()
    """
    place = tmp_path / "lock"
    command = [sys.executable, "-c", textwrap.dedent(script), str(NBYTES), str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        memory = files.open_memory(other.stdout.readline().strip(), NBYTES)
        fd = os.open(place, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
        fcntl.lockf(fd, fcntl.LOCK_EX)
        assert not memory.is_held()
    os.close(fd)


def test_memory_that_was_closed_is_not_held(files: OsHostFiles) -> None:
    before = open_fds()
    made = files.create_memory(NBYTES)
    seen = files.open_memory(made.path, NBYTES)
    assert seen.is_held()
    made.close()
    assert not seen.is_held()
    del seen, made
    assert open_fds() == before


def test_its_size_stays(files: OsHostFiles) -> None:
    """A reader of what is missing would end with SIGBUS."""
    memory = files.create_memory(NBYTES)
    fd = os.open(memory.path, os.O_RDWR)
    for size in (0, NBYTES - 1, NBYTES + mmap.PAGESIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)
    memory.close()


def test_memory_of_another_size_is_refused(files: OsHostFiles) -> None:
    memory = files.create_memory(NBYTES)
    before = open_fds()
    for size in (NBYTES - 1, NBYTES + 1, 2 * NBYTES):
        with pytest.raises(OSError, match="no shared memory of that size"):
            files.open_memory(memory.path, size)
    assert open_fds() == before
    memory.close()


def test_what_could_become_shorter_is_refused(files: OsHostFiles, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(NBYTES))
    bare = os.memfd_create("bare", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(bare, NBYTES)
    read, write = os.pipe()
    before = open_fds()
    for path in (str(file), f"/proc/self/fd/{bare}", f"/proc/self/fd/{read}", str(tmp_path), "/dev/zero", str(tmp_path / "none")):
        with pytest.raises(OSError):  # noqa: PT011 - what it says differs, and is the system's
            files.open_memory(path, NBYTES)
    assert open_fds() == before
    fcntl.fcntl(bare, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    assert len(files.open_memory(f"/proc/self/fd/{bare}", NBYTES).view) == NBYTES
    for fd in (bare, read, write):
        os.close(fd)


def test_a_pipe_at_its_former_path_is_not_waited_for(files: OsHostFiles, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):  # noqa: PT011 - what it says is the system's
        files.open_memory(str(tmp_path / "pipe"), NBYTES)


def test_a_system_without_memory_to_share_says_so(files: OsHostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_fds()

    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(FS3Error, match="not implemented") as refused:
            files.create_memory(NBYTES)
    assert refused.value.code is Code.UNSUPPORTED
    with monkeypatch.context() as patch:
        patch.delattr(os, "memfd_create")
        with pytest.raises(FS3Error) as refused:
            files.create_memory(NBYTES)
    assert refused.value.code is Code.UNSUPPORTED
    assert open_fds() == before


# --- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_where_it_is_asked_for(files: OsHostFiles, tmp_path: Path, reads_at_once: bool) -> None:
    (tmp_path / "file").write_bytes(DATA)
    file = files.open_file(str(tmp_path / "file"))
    for offset, length in ((0, 4096), (4096, 4096), (1, 10), (len(DATA) - 5, 5), (0, len(DATA))):
        view = memoryview(bytearray(length))
        assert file.read_at_once(view, offset) == reads_at_once
        assert bytes(view) == (DATA[offset : offset + length] if reads_at_once else bytes(length))
    for offset in (len(DATA) - 4, len(DATA), 1 << 40, (1 << 63) - 1):
        assert not file.read_at_once(memoryview(bytearray(5)), offset), "it ends before"


def test_it_still_says_what_it_begins_with_at_its_path(files: OsHostFiles, tmp_path: Path) -> None:
    path = tmp_path / "owner"
    path.write_bytes(b"123 abc\n")
    file = files.open_file(str(path))
    assert file.still_says(b"123 abc\n")
    assert file.still_says(b"123")
    assert not file.still_says(b"123 abc\n.")
    assert not file.still_says(b"124 abc\n")
    path.write_bytes(b"")
    assert not file.still_says(b"1")
    path.write_bytes(b"124 abc\n")
    assert file.still_says(b"124 abc\n"), "it is looked at each time"
    path.rename(tmp_path / "other")
    assert not file.still_says(b"124 abc\n"), "it is not at its path any more"
    path.write_bytes(b"124 abc\n")
    assert not file.still_says(b"124 abc\n"), "another one is"
    path.unlink()
    path.symlink_to("other")
    assert not file.still_says(b"124 abc\n")
    assert not file.still_says(b"")
    path.unlink()
    (tmp_path / "other").rename(path)
    assert file.still_says(b"124 abc\n")
    assert file.still_says(b"")


def test_reads_that_would_wait_or_fail_are_not_done(files: OsHostFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(DATA)
    file = files.open_file(str(tmp_path / "file"))
    asked: list[int] = []

    def cold(fd: int, buffers: object, offset: int, flags: int) -> int:
        asked.append(flags)
        raise BlockingIOError

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "pread", broken)
    assert not file.read_at_once(memoryview(bytearray(10)), 0)
    assert asked == [os.RWF_NOWAIT]
    assert not file.still_says(DATA[:5])
    monkeypatch.setattr(os, "preadv", broken)
    assert not file.read_at_once(memoryview(bytearray(10)), 0)


def test_a_file_is_closed_when_nothing_refers_to_it(files: OsHostFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    before = open_fds()
    opened = [files.open_file(str(tmp_path / "file")) for _ in range(3)]
    assert open_fds() == before + 3
    del opened
    assert open_fds() == before


def make_link(path: Path) -> None:
    path.with_name("target").write_bytes(DATA)
    path.symlink_to("target")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file"),
        (make_link, "symbolic link"),
        (lambda path: os.mkfifo(path), "no regular file"),
        (lambda path: path.mkdir(), "no regular file"),
    ],
    ids=["gone", "link", "pipe", "directory"],
)
def test_what_is_no_file_is_refused_at_once(files: OsHostFiles, tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "it")
    before = open_fds()
    with pytest.raises(OSError, match=said):
        files.open_file(str(tmp_path / "it"))
    assert open_fds() == before


def test_what_belongs_to_another_user_is_refused(files: OsHostFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(DATA)
    memory = files.create_memory(NBYTES)
    owner = (tmp_path / "file").stat().st_uid
    real = os.fstat

    def of_another(fd: int) -> os.stat_result:
        found = list(real(fd))
        found[4] = owner + 1
        return os.stat_result(found)

    before = open_fds()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", of_another)
        patch.setattr(os, "geteuid", lambda: owner)
        with pytest.raises(PermissionError, match=f"user {owner + 1}"):
            files.open_file(str(tmp_path / "file"))
        with pytest.raises(PermissionError, match=f"user {owner + 1}"):
            files.open_memory(memory.path, NBYTES)
        patch.setattr(os, "geteuid", lambda: owner + 1)
        files.open_file(str(tmp_path / "file"))
        assert len(files.open_memory(memory.path, NBYTES).view) == NBYTES
    assert open_fds() == before
    memory.close()


def test_processes_with_one_clock_know_each_other(files: OsHostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from fs3.drivers.os.host_files import OsHostFiles; print(OsHostFiles().clock_space)"
    assert int(run(script)) == files.clock_space < 1 << 64
    monkeypatch.setattr(host_files, "_CLOCKS", "/proc/self/ns/none")
    assert files.clock_space == 0

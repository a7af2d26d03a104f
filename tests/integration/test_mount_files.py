"""A mount against what POSIX says, and two mounts against close-to-open."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import random
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fs3.api.fuse.options import FuseOptions
from fs3.base.limits import inline_bytes_default
from fs3.sim.conformance.fuse import fails_with, why_no_mount
from tests.mounts import embedded_mount

KERNEL = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
pytestmark = pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Path]:
    """A mount."""
    (tmp_path / "one").mkdir()
    with embedded_mount(tmp_path / "fs3", tmp_path / "one"):
        yield tmp_path / "one"


@pytest.fixture
def two(one: Path) -> Iterator[Path]:
    """Another one of the same cluster."""
    directory = one.parent / "two"
    directory.mkdir()
    with embedded_mount(one.parent / "fs3", directory):
        yield directory


def test_what_is_closed_is_seen_by_every_later_open(one: Path, two: Path) -> None:
    """Of every size around where files leave the metadata store, with the old bytes in the other kernel's memory."""
    for size in (1, 100, inline_bytes_default, inline_bytes_default + 1, 100_000, 5_000_000):
        for round_ in range(3):
            data = bytes([round_ + 1]) * (size + round_ % 2)
            (one / f"f{size}").write_bytes(data)
            assert (two / f"f{size}").stat().st_size == len(data)
            assert (two / f"f{size}").read_bytes() == data
            back = bytes([round_ + 100]) * size
            with (two / f"f{size}").open("r+b") as file:
                file.write(back)
            found = (one / f"f{size}").read_bytes()
            assert found[:size] == back
            assert len(found) == len(data)


def test_what_is_synced_is_seen_by_every_later_open(one: Path, two: Path) -> None:
    for size in (10, 200_000):
        with (one / f"f{size}").open("wb", buffering=0) as file:
            for round_ in range(4):
                file.write(bytes([round_ + 1]) * size)
                os.fsync(file.fileno())
                assert (two / f"f{size}").read_bytes()[-size:] == bytes([round_ + 1]) * size


def test_pages_stay_in_memory_where_nothing_changed(one: Path, two: Path) -> None:
    """And not where another mount wrote, also beside our own writes."""
    data = os.urandom(1_000_000)
    (one / "f").write_bytes(data)
    for _ in range(2):
        assert (one / "f").read_bytes() == data
    with (two / "f").open("r+b") as file:
        file.write(b"theirs")
    with (one / "f").open("r+b") as file:
        file.seek(500_000)
        file.write(b"ours")
    found = (one / "f").read_bytes()
    assert found == b"theirs" + data[6:500_000] + b"ours" + data[500_004:]
    assert (two / "f").read_bytes() == found


def test_writes_of_two_mounts_to_different_places_both_stay(one: Path, two: Path) -> None:
    for size in (1000, 1_000_000):
        path = f"f{size}"
        (one / path).write_bytes(bytes(size))
        with (one / path).open("r+b", buffering=0) as ours, (two / path).open("r+b", buffering=0) as theirs:
            os.pwrite(ours.fileno(), b"ours", 100)
            os.pwrite(theirs.fileno(), b"theirs", 300)
        found = (one / path).read_bytes()
        assert (found[100:104], found[300:306], len(found)) == (b"ours", b"theirs", size)
        assert (two / path).read_bytes() == found


def test_a_new_file_that_another_mount_writes_too(one: Path, two: Path) -> None:
    with (one / "f").open("wb", buffering=0) as ours:
        ours.write(b"0123456789")
        with (two / "f").open("r+b", buffering=0) as theirs:
            os.pwrite(theirs.fileno(), b"theirs", 20)
    found = (two / "f").read_bytes()
    assert found == b"0123456789" + bytes(10) + b"theirs"
    assert (one / "f").read_bytes() == found


def test_appends_of_two_mounts_never_lie_on_each_other(one: Path, two: Path) -> None:
    lines = 25

    def append(root: Path, who: int) -> None:
        with (root / "log").open("ab", buffering=0) as file:
            for number in range(lines):
                file.write(f"{who:02}:{number:04}\n".encode())

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(append, [one, two] * 3, range(6)))
    for root in (one, two):
        found = (root / "log").read_text().splitlines()
        assert sorted(found) == [f"{who:02}:{number:04}" for who in range(6) for number in range(lines)]
        for who in range(6):
            assert [line for line in found if line.startswith(f"{who:02}")] == sorted(
                line for line in found if line.startswith(f"{who:02}")
            )


def test_an_append_behind_what_another_mount_wrote_in_the_same_length(one: Path, two: Path) -> None:
    (one / "f").write_bytes(b"ours--")
    with (one / "f").open("ab", buffering=0) as file:
        file.write(b"1")
        with (two / "f").open("ab", buffering=0) as theirs:
            theirs.truncate(0)
            theirs.write(b"theirs1")
        file.write(b"2")
    assert (one / "f").read_bytes() == (two / "f").read_bytes() == b"theirs12"


def test_names_made_and_taken_away_elsewhere(one: Path, two: Path) -> None:
    (one / "d").mkdir()
    (one / "d" / "f").write_bytes(b"1")
    assert os.listdir(two / "d") == ["f"]
    os.rename(two / "d" / "f", two / "d" / "g")
    assert os.listdir(one / "d") == ["g"]
    fails_with(errno.ENOENT, os.stat, one / "d" / "f")
    os.unlink(one / "d" / "g")
    fails_with(errno.ENOENT, os.open, two / "d" / "g", os.O_RDONLY)


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_file_without_a_name_lives_as_long_as_it_is_open(one: Path, size: int) -> None:
    path = one / "f"
    path.write_bytes(bytes(size))
    with path.open("r+b", buffering=0) as file, path.open("rb", buffering=0) as reading:
        path.unlink()
        fails_with(errno.ENOENT, os.stat, path)
        assert os.fstat(file.fileno()).st_nlink == 0
        os.pwrite(file.fileno(), b"after", size)
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 100, size - 1) == b"\0after"
        assert os.pread(reading.fileno(), 100, size - 1) == b"\0after"
    assert os.listdir(one) == []


def test_a_file_that_another_one_takes_the_name_of_while_it_is_open(one: Path) -> None:
    (one / "f").write_bytes(b"old" * 50_000)
    (one / "new").write_bytes(b"new")
    with (one / "f").open("rb", buffering=0) as file:
        os.rename(one / "new", one / "f")
        assert os.pread(file.fileno(), 6, 149_994) == b"oldold"
    assert (one / "f").read_bytes() == b"new"


def test_times_that_are_set_through_a_handle_stay_when_it_is_closed(one: Path) -> None:
    for size in (10, 100_000):
        with (one / "f").open("wb", buffering=0) as file:
            file.write(bytes(size))
            os.utime(file.fileno(), ns=(10**18, 2 * 10**18))
        assert (one / "f").stat().st_mtime_ns == 2 * 10**18


def test_times_do_not_change_by_closing(one: Path) -> None:
    """`git` notes them before it closes, and looks whether they have changed."""
    for size in (10, 100_000):
        with (one / "f").open("wb", buffering=0) as file:
            file.write(bytes(size))
            before = os.fstat(file.fileno())
        after = (one / "f").stat()
        assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, size)


@pytest.mark.parametrize("size", [5, inline_bytes_default + 1])
def test_a_read_shows_in_the_access_time_and_nowhere_else(one: Path, two: Path, size: int) -> None:
    (one / "d").mkdir()
    (one / "d" / "f").write_bytes(b"x" * size)
    for place, read in (("d/f", Path.read_bytes), ("d", os.listdir)):
        before = (one / place).stat()
        assert before.st_atime_ns <= before.st_mtime_ns
        read(one / place)
        while (one / place).stat().st_atime_ns <= before.st_mtime_ns:
            time.sleep(0.05)
        after = (two / place).stat()
        assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_reads_leave_access_times_alone_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with embedded_mount(tmp_path / "fs3", tmp_path / "one", FuseOptions(noatime=True)):
        path = tmp_path / "one" / "f"
        path.write_bytes(b"x")
        before = path.stat()
        assert path.read_bytes() == b"x"
    with embedded_mount(tmp_path / "fs3", tmp_path / "one", FuseOptions(noatime=True)):
        assert path.stat().st_atime_ns == before.st_atime_ns


@pytest.mark.skipif(KERNEL < (6, 6), reason="the kernel does not ask a FUSE file system for it before Linux 6.6")
def test_the_time_of_birth_is_told_and_stays(one: Path) -> None:
    began = int(time.time())
    (one / "f").write_bytes(b"x")
    os.utime(one / "f", (1, 1))
    os.rename(one / "f", one / "g")
    told = subprocess.run(["stat", "-c", "%W", one / "g"], capture_output=True, text=True, check=True).stdout
    assert began <= int(told) <= time.time()


def test_set_ids_stay_until_a_file_is_given_away(one: Path) -> None:
    path = one / "f"
    path.write_bytes(b"x")
    os.chmod(path, 0o6755)
    assert stat.S_IMODE(path.stat().st_mode) == 0o6755
    os.chown(path, 1000, 1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_what_is_too_large_is_said_to_be(one: Path) -> None:
    (one / "f").write_bytes(b"x")
    fails_with(errno.ENAMETOOLONG, os.symlink, "t" * 4097, one / "l")
    fails_with(errno.EFBIG, os.truncate, one / "f", (1 << 60) + 1)
    fails_with(errno.EOPNOTSUPP, fallocate, one / "f", 0, 4096, 8)


def fallocate(path: Path, offset: int, length: int, mode: int) -> None:
    """fallocate(2) on a path."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR)
    try:
        if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)


def test_holes(one: Path, two: Path) -> None:
    data = os.urandom(10_000)
    for name, size in (("small", 0), ("large", 1_000_000)):
        (one / name).write_bytes(data + bytes(size))
        fallocate(one / name, 1000, 2000, 3)
        expected = data[:1000] + bytes(2000) + data[3000:] + bytes(size)
        assert (one / name).read_bytes() == expected
        assert (two / name).read_bytes() == expected
        fallocate(one / name, size + 10_000, 5000, 0)
        assert (two / name).read_bytes() == expected + bytes(5000)
    with (one / "sparse").open("wb", buffering=0) as file:
        os.pwrite(file.fileno(), b"data", 64 << 20)
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0
        assert 0 < os.lseek(file.fileno(), 0, os.SEEK_DATA) <= 64 << 20
        assert os.lseek(file.fileno(), 64 << 20, os.SEEK_HOLE) == (64 << 20) + 4
        fails_with(errno.ENXIO, os.lseek, file.fileno(), 65 << 20, os.SEEK_DATA)


def test_ranges_are_copied(one: Path, two: Path) -> None:
    data = os.urandom(3_000_000)
    (one / "from").write_bytes(data)
    with (one / "from").open("rb") as source, (one / "to").open("wb") as target:
        count = 0
        while count < len(data):
            count += os.copy_file_range(source.fileno(), target.fileno(), len(data) - count, count, count)
    assert (one / "to").read_bytes() == data
    assert (two / "to").read_bytes() == data


def test_listing_a_directory_while_it_changes(one: Path) -> None:
    names = [f"{number:04}" for number in range(3000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: (one / name).touch(), names))
    found = []
    with os.scandir(one) as listed:
        for number, entry in enumerate(listed):
            found.append(entry.name)
            if number % 10 == 0:
                os.unlink(one / entry.name)
    assert sorted(found) == names
    assert sorted(os.listdir(one)) == [name for number, name in enumerate(found) if number % 10]


@pytest.mark.parametrize("seed", range(3))
def test_random_calls_do_what_they_do_on_a_local_file(one: Path, tmp_path: Path, seed: int) -> None:
    """pread, pwrite, ftruncate, truncate, fsync, reopen and stat, of two handles, against the local file system."""
    draw = random.Random(seed)
    roots = [one, tmp_path / "local"]
    roots[1].mkdir()
    limit = draw.choice([2 * inline_bytes_default, 300_000])
    for root in roots:
        (root / "f").touch()
    handles = [[os.open(root / "f", os.O_RDWR) for root in roots] for _ in range(2)]
    for step in range(250):
        pair = draw.choice(handles)
        at = draw.randrange(limit)
        size = min(draw.choice([1, 10, 1000, 20_000]), limit)
        data = draw.randbytes(size)
        match draw.randrange(8):
            case 0 | 1 | 2:
                answers: list[object] = [os.pwrite(fd, data, at) for fd in pair]
            case 3 | 4:
                answers = [os.pread(fd, size, at) for fd in pair]
            case 5:
                for fd in pair:
                    os.ftruncate(fd, at)
                answers = [os.fstat(fd).st_size for fd in pair]
            case 6:
                for fd in pair:
                    os.fsync(fd)
                answers = [os.fstat(fd).st_size for fd in pair]
            case _:
                flags = os.O_RDWR | draw.choice([0, 0, 0, os.O_TRUNC])
                for place, root in enumerate(roots):
                    os.close(pair[place])
                    pair[place] = os.open(root / "f", flags)
                answers = [os.stat(root / "f").st_size for root in roots]
        assert answers[0] == answers[1], (seed, step)
    for pair in handles:
        for fd in pair:
            os.close(fd)
    assert (roots[0] / "f").read_bytes() == (roots[1] / "f").read_bytes()

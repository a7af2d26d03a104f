"""Files that lose their last name while programs have them open, on this mount and another one, and files that never had one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fs3.sim.conformance.fuse import fails_with, why_no_mount

pytestmark = [
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
    pytest.mark.timeout(120),
]


def link(fd: int, path: Path) -> None:
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)  # by linkat(2), which follows


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_open_files_are_read_and_written_after_their_name_is_gone(roots: tuple[Path, Path], size: int, by: int, how: str) -> None:
    (roots[0] / "f").write_bytes(b"o" * size)
    (roots[0] / "new").write_bytes(b"new")
    reading = os.open(roots[0] / "f", os.O_RDONLY)
    both = os.open(roots[0] / "f", os.O_RDWR)
    if how == "unlink":
        os.unlink(roots[by] / "f")
    else:
        os.rename(roots[by] / "new", roots[by] / "f")
    while os.fstat(both).st_nlink:
        """For as long as the kernel's clock does not tick, it answers from memory."""
    assert os.pread(reading, 10, size - 5) == b"ooooo"
    os.pwrite(both, b"after", size)
    assert os.pread(reading, 20, size - 2) == b"ooafter"
    os.fsync(both)
    assert os.fstat(reading).st_size == size + 5
    os.ftruncate(both, 50)
    assert os.pread(both, 100, 40) == b"o" * 10
    if size == 100 and by == 1:
        # A small file is gone with its name, so its bytes are in memory here, and stay small.
        fails_with(errno.ESTALE, os.pwrite, both, b"x" * 100_000, 50)
    else:
        os.pwrite(both, b"x" * 100_000, 50)
        assert os.fstat(reading).st_size == 100_050
    assert os.pread(both, 10, 40) == b"o" * 10
    for root in roots:
        assert sorted(os.listdir(root)) == (["new"] if how == "unlink" else ["f"])
    os.close(both)
    assert os.pread(reading, 1, 49) == b"o"
    os.close(reading)
    if how == "rename":
        assert (roots[1] / "f").read_bytes() == b"new"


@pytest.mark.parametrize("by", [0, 1])
def test_what_is_appended_to_an_open_file_without_a_name(roots: tuple[Path, Path], by: int) -> None:
    for size in (100, 200_000):
        (roots[0] / "f").write_bytes(b"o" * size)
        file = os.open(roots[0] / "f", os.O_RDWR | os.O_APPEND)
        os.write(file, b"before")
        os.unlink(roots[by] / "f")
        os.write(file, b"after")
        assert os.pread(file, 100, size) == b"beforeafter"
        os.close(file)


def test_bytes_that_were_not_stored_when_the_name_was_taken_away_elsewhere(roots: tuple[Path, Path]) -> None:
    for size in (100, 200_000):
        file = os.open(roots[0] / "f", os.O_RDWR | os.O_CREAT)
        os.write(file, b"x" * size)
        os.unlink(roots[1] / "f")
        os.fsync(file)
        os.write(file, b"y")
        assert os.pread(file, 10, size - 1) == b"xy"
        os.close(file)


@pytest.mark.parametrize("size", [0, 100, 200_000])
def test_a_file_that_was_made_without_a_name_gets_one(roots: tuple[Path, Path], size: int) -> None:
    one, two = roots
    file = os.open(one, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(file, b"t" * size)
    again = os.dup(file)
    os.close(file)
    assert os.listdir(one) == []
    assert os.fstat(again).st_nlink == 0
    (one / "taken").touch()
    fails_with(errno.EEXIST, link, again, one / "taken")
    link(again, one / "f")
    assert os.fstat(again).st_nlink == 1
    assert (two / "f").read_bytes() == b"t" * size
    os.link(two / "f", two / "g")
    os.pwrite(again, b"more", size)
    os.close(again)
    assert (two / "g").read_bytes() == b"t" * size + b"more"
    assert (one / "f").stat().st_mode & 0o777 == 0o640


def test_a_file_that_never_gets_a_name_vanishes(roots: tuple[Path, Path]) -> None:
    one, _ = roots
    with open(one, "wb", buffering=0, opener=lambda path, _: os.open(path, os.O_TMPFILE | os.O_RDWR)) as file:
        file.write(b"x" * 100_000)
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 10, 99_995) == b"xxxxx"
        reopened = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
    assert os.pread(reopened, 2, 0) == b"xx"
    os.close(reopened)
    assert os.listdir(one) == []
    file_ = os.open(one, os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    fails_with(errno.ENOENT, link, file_, one / "f")
    os.close(file_)
    (one / "f").touch()
    named = os.open(one / "f", os.O_RDONLY)
    os.unlink(one / "f")
    fails_with(errno.ENOENT, link, named, one / "f")
    os.close(named)

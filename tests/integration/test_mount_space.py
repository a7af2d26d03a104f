"""fallocate(2), SEEK_HOLE and SEEK_DATA, copy_file_range(2) on a mount."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from fs3.api.fuse import stored_counts
from fs3.base.limits import chunk_bytes_default
from fs3.base.units import SECOND
from fs3.sim.conformance.fuse import fails_with, why_no_mount

pytestmark = [
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
    pytest.mark.timeout(120),
]

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
CHUNK = 1 << 20
WHOLE = chunk_bytes_default

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@pytest.fixture(autouse=True)
def _waits_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy is late with them."""
    monkeypatch.setattr(stored_counts, "count_patience_ns", 60 * SECOND)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _LIBC.fallocate(fd, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("size", [1000, 3 * CHUNK])
def test_every_mode_of_fallocate(roots: tuple[Path, Path], size: int) -> None:
    one, two = roots
    data = bytearray(b"d" * size)
    fd = os.open(one / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, data)  # not stored yet when it is punched
    assert os.pread(fd, 10, size // 2) == b"d" * 10
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 100, size // 2)
    data[100 : 100 + size // 2] = bytes(size // 2)
    assert os.pread(fd, size, 0) == data
    fallocate(fd, KEEP_SIZE, 0, 10 * size)
    fallocate(fd, ZERO_RANGE | KEEP_SIZE, size - 10, 100)
    data[size - 10 :] = bytes(10)
    assert os.fstat(fd).st_size == size
    fallocate(fd, ZERO_RANGE, size - 20, 100)
    data[size - 20 :] = bytes(100)
    assert os.fstat(fd).st_size == size + 80
    fallocate(fd, 0, size, 200)
    data += bytes(120)
    fallocate(fd, 0, 0, 10)
    os.pwrite(fd, b"end", size + 197)
    data[size + 197 :] = b"end"
    for mode in (COLLAPSE_RANGE, INSERT_RANGE, PUNCH_HOLE):
        fails_with(errno.EOPNOTSUPP, fallocate, fd, mode, 0, 4096)
    fails_with(errno.EINVAL, fallocate, fd, 0, 0, 0)
    fails_with(errno.EFBIG, fallocate, fd, 0, 1 << 62, 1)
    assert os.pread(fd, 2 * size, 0) == data
    os.close(fd)
    for root in (one, two):
        assert (root / "f").read_bytes() == data


def test_a_small_file_is_made_long(roots: tuple[Path, Path]) -> None:
    fd = os.open(roots[0] / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"small")
    fallocate(fd, 0, 0, 5 * CHUNK)
    assert os.fstat(fd).st_size == 5 * CHUNK
    os.close(fd)
    assert (roots[1] / "f").read_bytes() == b"small" + bytes(5 * CHUNK - 5)


def test_where_data_is_and_where_holes_are(roots: tuple[Path, Path]) -> None:
    for root in roots:
        fd = os.open(root / root.name, os.O_RDWR | os.O_CREAT)
        fails_with(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
        os.pwrite(fd, b"first", 0)
        assert os.lseek(fd, 2, os.SEEK_DATA) == 2
        assert os.lseek(fd, 2, os.SEEK_HOLE) == 5
        os.pwrite(fd, b"x" * CHUNK, 4 * CHUNK)
        os.ftruncate(fd, 8 * CHUNK)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 5
        assert os.lseek(fd, 5, os.SEEK_DATA) == 4 * CHUNK
        assert os.lseek(fd, 4 * CHUNK + 1, os.SEEK_HOLE) == 5 * CHUNK
        fails_with(errno.ENXIO, os.lseek, fd, 5 * CHUNK, os.SEEK_DATA)
        fails_with(errno.ENXIO, os.lseek, fd, 8 * CHUNK, os.SEEK_HOLE)
        os.close(fd)


@pytest.mark.parametrize("size", [1000, 100_000, 3 * CHUNK + 17])
def test_ranges_are_copied(roots: tuple[Path, Path], size: int) -> None:
    one, two = roots
    data = os.urandom(size)
    source = os.open(one / "source", os.O_RDWR | os.O_CREAT)
    target = os.open(one / "target", os.O_RDWR | os.O_CREAT)
    os.write(source, data)  # not stored yet when it is copied
    os.write(target, b"t" * size)
    assert os.pread(target, 5, size // 2) == b"ttttt"
    done = 0
    while count := os.copy_file_range(source, target, size, done, 100 + done):
        done += count
    assert done == size
    os.pwrite(target, b"later", 200)
    wanted = bytearray(b"t" * 100 + data)
    wanted[200:205] = b"later"
    assert os.pread(target, 2 * size, 0) == wanted
    os.close(target)
    for root in (one, two):
        assert (root / "target").read_bytes() == wanted
    assert os.copy_file_range(source, source, 100, 0, size) == 100
    fails_with(errno.EINVAL, os.copy_file_range, source, source, 100, 0, 50)
    os.close(source)
    assert (two / "source").read_bytes() == data + data[:100]


def test_a_copy_of_holes_has_holes(roots: tuple[Path, Path]) -> None:
    source = os.open(roots[0] / "source", os.O_RDWR | os.O_CREAT)
    os.pwrite(source, b"x" * CHUNK, 20 * CHUNK)
    target = os.open(roots[0] / "target", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(source, target, 21 * CHUNK, 0, 0) == 21 * CHUNK
    assert os.lseek(target, 0, os.SEEK_DATA) == 20 * CHUNK
    os.close(source)
    os.close(target)
    assert (roots[1] / "target").read_bytes() == bytes(20 * CHUNK) + b"x" * CHUNK


def blocks(path: Path | int) -> int:
    return os.stat(path).st_blocks


def test_blocks_are_those_that_are_stored(roots: tuple[Path, Path]) -> None:
    one, two = roots
    fd = os.open(one / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * WHOLE, 0)
    assert blocks(fd) == WHOLE // 512
    os.ftruncate(fd, 1 << 40)
    assert blocks(fd) == blocks(one / "f") == WHOLE // 512
    assert blocks(two / "f") == WHOLE // 512
    os.pwrite(fd, b"x" * WHOLE, 25 * WHOLE)
    assert blocks(fd) == 2 * WHOLE // 512
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, WHOLE)
    assert blocks(fd) == blocks(one / "f") == WHOLE // 512
    os.close(fd)
    for root in roots:
        assert blocks(root / "f") == WHOLE // 512
        with os.scandir(root) as listed:
            assert [entry.stat().st_blocks for entry in listed] == [WHOLE // 512]
    os.truncate(two / "f", 0)
    assert blocks(one / "f") == blocks(two / "f") == 0


def test_blocks_of_what_is_written_behind_the_end(roots: tuple[Path, Path]) -> None:
    fd = os.open(roots[0] / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * WHOLE, 12 * WHOLE)
    os.close(fd)
    for root in roots:
        assert (os.stat(root / "f").st_size, blocks(root / "f")) == (13 * WHOLE, WHOLE // 512)
    fd = os.open(roots[1] / "f", os.O_RDWR)
    os.pwrite(fd, b"y" * WHOLE, 7 * WHOLE)
    os.close(fd)
    for root in roots:
        assert blocks(root / "f") == 2 * WHOLE // 512


def test_blocks_of_what_lies_behind_a_cut_of_another_mount(roots: tuple[Path, Path]) -> None:
    """A writer that does not know of the cut goes on where the file ended."""
    one, two = roots
    fd = os.open(one / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * (5 * WHOLE), 0)
    os.fsync(fd)
    os.truncate(two / "f", WHOLE)
    os.pwrite(fd, b"x" * WHOLE, 5 * WHOLE)
    os.close(fd)
    for root in roots:
        assert (os.stat(root / "f").st_size, blocks(root / "f")) == (6 * WHOLE, 2 * WHOLE // 512)


def test_blocks_of_a_file_without_holes_are_its_bytes(roots: tuple[Path, Path]) -> None:
    for size in (0, 1, 512, 20_000, 3 * CHUNK + 1):
        (roots[0] / "f").write_bytes(b"x" * size)
        for root in roots:
            assert blocks(root / "f") == -(-size // 512)


def test_blocks_of_a_copy(roots: tuple[Path, Path]) -> None:
    source = os.open(roots[0] / "source", os.O_RDWR | os.O_CREAT)
    os.pwrite(source, b"x" * WHOLE, 5 * WHOLE)
    target = os.open(roots[0] / "target", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(source, target, 6 * WHOLE, 0, 0) == 6 * WHOLE
    os.close(source)
    os.close(target)
    assert blocks(roots[1] / "target") == WHOLE // 512

"""Random calls on one file of a mount, through several handles and mapped memory, against a buffer in memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.base.limits import inline_bytes_default
from fs3.cli.local import LocalCluster
from fs3.sim.conformance.fuse import why_no_mount
from tests.process_mounts import two_mounts
from tests.space import SpaceGuard

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

STEPS = 250
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@pytest.fixture(scope="module")
def mounts(space_guard: SpaceGuard) -> Iterator[tuple[Path, Path]]:
    with (
        space_guard.lend("mounts") as home,
        LocalCluster(home / "cluster", targets=1) as cluster,
        two_mounts(cluster, home) as roots,
    ):
        yield roots


class Walk:
    """Calls drawn from a seed, each compared with what it does to the model."""

    def __init__(self, path: Path, other: Path, seed: int) -> None:
        """`other`: the same file on another mount."""
        self._path = path
        self._other = other
        self._draw = random.Random(seed)
        self._limit = self._draw.choice([inline_bytes_default, 300_000, 3_000_000])
        self._model = bytearray()
        self._handles = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]

    def close(self) -> None:
        for fd in self._handles:
            os.close(fd)

    def step(self) -> str:
        """One call; its name."""
        calls = [
            *(self.write, self.write, self.write, self.read, self.read, self.truncate, self.punch, self.allocate),
            *(self.map_write, self.map_read, self.copy, self.append, self.sync, self.reopen, self.seek, self.look_elsewhere),
        ]
        call = self._draw.choice(calls)
        fd = self._draw.choice(self._handles)
        call(fd)
        assert os.fstat(fd).st_size == len(self._model)
        return call.__name__

    def check(self) -> None:
        """All of it is as in the model."""
        for fd in self._handles:
            assert os.pread(fd, len(self._model) + 1, 0) == self._model

    def _range(self) -> tuple[int, int]:
        start = self._draw.randrange(self._limit)
        return start, min(self._draw.choice([1, 100, 5000, 70_000, 1_200_000]), self._limit - start)

    def _grow(self, length: int) -> None:
        self._model.extend(bytes(max(0, length - len(self._model))))

    def write(self, fd: int) -> None:
        start, size = self._range()
        data = self._draw.randbytes(size)
        assert os.pwrite(fd, data, start) == size
        self._grow(start)
        self._model[start : start + size] = data

    def append(self, fd: int) -> None:
        data = self._draw.randbytes(min(100, self._limit - len(self._model)))
        appending = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        assert os.write(appending, data) == len(data)
        os.close(appending)
        self._model += data

    def read(self, fd: int) -> None:
        start, size = self._range()
        assert os.pread(fd, size, start) == self._model[start : start + size]

    def truncate(self, fd: int) -> None:
        length = self._draw.randrange(self._limit)
        os.ftruncate(fd, length)
        del self._model[length:]
        self._grow(length)

    def punch(self, fd: int) -> None:
        start, size = self._range()
        mode = self._draw.choice([PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE, ZERO_RANGE])
        assert not _LIBC.fallocate(fd, mode, start, size), os.strerror(ctypes.get_errno())
        if not mode & KEEP_SIZE:
            self._grow(start + size)
        end = min(start + size, len(self._model))
        self._model[start:end] = bytes(max(0, end - start))

    def allocate(self, fd: int) -> None:
        start, size = self._range()
        mode = self._draw.choice([0, KEEP_SIZE])
        assert not _LIBC.fallocate(fd, mode, start, size), os.strerror(ctypes.get_errno())
        if not mode:
            self._grow(start + size)

    def copy(self, fd: int) -> None:
        start, size = self._range()
        size = min(size, max(0, len(self._model) - start))
        target = self._draw.randrange(self._limit)
        size = min(size, abs(target - start), self._limit - target)
        data = bytes(self._model[start : start + size])
        done = 0
        while done < size:
            done += os.copy_file_range(fd, self._draw.choice(self._handles), size - done, start + done, target + done)
        if size:
            self._grow(target)
            self._model[target : target + size] = data

    def map_write(self, fd: int) -> None:
        if not self._model:
            return
        start, size = self._range()
        data = self._draw.randbytes(max(0, min(size, len(self._model) - start)))
        with mmap.mmap(fd, len(self._model)) as mapped:
            mapped[start : start + len(data)] = data
            if self._draw.random() < 0.5:
                mapped.flush()
        self._model[start : start + len(data)] = data

    def map_read(self, fd: int) -> None:
        if not self._model:
            return
        start, size = self._range()
        with mmap.mmap(fd, len(self._model), prot=mmap.PROT_READ) as mapped:
            assert mapped[start : start + size] == self._model[start : start + size]

    def seek(self, fd: int) -> None:
        at, end = 0, len(self._model)
        while at < end:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as wrong:
                if wrong.errno != errno.ENXIO:
                    raise
                data = end
            assert not any(self._model[at:data]), "a hole is zeros"
            at = end if data == end else os.lseek(fd, data, os.SEEK_HOLE)
            assert at > data or at == end

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def reopen(self, fd: int) -> None:
        flags = self._draw.choice([0, 0, os.O_TRUNC])
        again = os.open(self._path, os.O_RDWR | flags)
        os.dup2(again, fd)
        os.close(again)
        if flags:
            self._model.clear()

    def look_elsewhere(self, fd: int) -> None:
        os.fsync(fd)
        assert self._other.read_bytes() == self._model


@pytest.mark.parametrize("seed", range(5))
def test_random_calls(mounts: tuple[Path, Path], seed: int) -> None:
    walk = Walk(mounts[0] / f"f{seed}", mounts[1] / f"f{seed}", seed)
    done: list[str] = []
    try:
        for _ in range(STEPS):
            done.append(walk.step())
            walk.check()
    except AssertionError as wrong:
        raise AssertionError(f"seed {seed}, step {len(done)} after {done[-5:]}") from wrong
    finally:
        walk.close()

"""What every file system on the FUSE driver must do, asked through the kernel. Subclass `FuseTests` and say what is mounted."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.fuse.mount import DEVICE, is_privileged, mount, unmount
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.records import MountOptions
from fs3.drivers.fuse.session import Session

_MAPS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 10_000) as mapped:
    mapped[5000:5005] = b"hello"
    mapped.flush()
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    assert mapped[4999:5006] == b"\\0hello\\0"
"""

MakeOperations = Callable[[], Coroutine[Any, Any, Operations]]


def why_no_mount() -> str:
    """Why nothing can be mounted by this process; "" when it can."""
    if not os.path.exists(DEVICE):
        return f"{DEVICE} is not here"
    if not is_privileged():
        return "this process may not mount"
    return ""


class MountThread:
    """A mount that a thread of this process serves, so that a test may use it as any program does."""

    def __init__(self, directory: Path, make: MakeOperations, options: MountOptions) -> None:
        self._directory = directory
        self._make = make
        self._options = options
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.session: Session | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fs3-fuse-test", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as wrong:
            self._failure = self._failure or wrong
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        operations = await self._make()
        fd = mount(str(self._directory), self._options)
        self.session = Session(fd, operations)
        await self.session.wait_ready()
        self._ready.set()
        await self.session.wait_ended()

    def close(self) -> None:
        """Unmount, and wait until the thread has ended."""
        with suppress(OSError):
            unmount(str(self._directory), lazily=True)
        self._thread.join(timeout=10)
        if self._thread.is_alive():  # a copy of the mount in another namespace keeps it
            assert self.session is not None
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(self.session.close(), self._loop)
            self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@contextmanager
def mounted(directory: Path, make: MakeOperations, options: MountOptions | None = None) -> Iterator[Path]:
    """A mount for the length of a `with` block."""
    serving = MountThread(directory, make, options or MountOptions())
    try:
        yield directory
    finally:
        serving.close()


def fails_with(number: int, call: Callable[..., object], *arguments: object) -> None:
    """The call fails with this errno."""
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        call(*arguments)
    assert caught.value.errno == number, caught.value


class FuseTests(ABC):
    """The conformance suite. Tests are plain methods; the runner needs pytest's `tmp_path`."""

    @abstractmethod
    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        """An empty file system, mounted on the directory."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Path]:
        """Of a mount."""
        why = why_no_mount()
        if why:
            pytest.skip(why)
        directory = tmp_path / "mnt"
        directory.mkdir()
        with self.mount(directory) as root:
            yield root

    def test_bytes_of_files(self, root: Path) -> None:
        path = root / "file"
        path.write_bytes(b"hello")
        assert path.read_bytes() == b"hello"
        with path.open("r+b") as file:
            file.seek(1)
            file.write(b"u")
        assert path.read_bytes() == b"hullo"
        with path.open("ab") as file:
            file.write(b"!")
        assert path.read_bytes() == b"hullo!"
        path.write_bytes(b"")
        assert path.stat().st_size == 0

    def test_large_files_and_holes(self, root: Path) -> None:
        data = os.urandom(3 << 20) + b"end"
        path = root / "large"
        path.write_bytes(data)
        assert path.read_bytes() == data
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), b"far", 8 << 20)
            assert os.pread(file.fileno(), 8, (8 << 20) - 4) == b"\0\0\0\0far"
        assert path.stat().st_size == (8 << 20) + 3
        os.truncate(path, 1000)
        assert path.read_bytes() == data[:1000]
        os.truncate(path, 2000)
        assert path.read_bytes() == data[:1000] + bytes(1000)

    def test_names(self, root: Path) -> None:
        (root / "a").mkdir()
        (root / "a" / "b").write_bytes(b"b")
        fails_with(errno.EEXIST, os.mkdir, root / "a")
        fails_with(errno.ENOTEMPTY, os.rmdir, root / "a")
        fails_with(errno.ENOENT, os.stat, root / "c")
        fails_with(errno.ENAMETOOLONG, os.mkdir, root / ("n" * 256))
        (root / ("n" * 255)).mkdir()
        os.rename(root / "a" / "b", root / "b")
        assert (root / "b").read_bytes() == b"b"
        assert os.listdir(root / "a") == []
        os.rename(root / "a", root / "d")
        assert sorted(os.listdir(root)) == ["b", "d", "n" * 255]
        os.unlink(root / "b")
        os.rmdir(root / "d")
        assert os.listdir(root) == ["n" * 255]

    def test_rename_over_what_is_there(self, root: Path) -> None:
        (root / "old").write_bytes(b"old")
        (root / "new").write_bytes(b"new")
        os.rename(root / "new", root / "old")
        assert (root / "old").read_bytes() == b"new"
        assert os.listdir(root) == ["old"]

    def test_links(self, root: Path) -> None:
        (root / "file").write_bytes(b"x")
        os.link(root / "file", root / "other")
        assert (root / "other").stat().st_nlink == 2
        assert (root / "other").stat().st_ino == (root / "file").stat().st_ino
        os.unlink(root / "file")
        assert (root / "other").read_bytes() == b"x"
        assert (root / "other").stat().st_nlink == 1
        os.symlink("other", root / "symlink")
        assert os.readlink(root / "symlink") == "other"
        assert (root / "symlink").read_bytes() == b"x"
        assert (root / "symlink").lstat().st_size == len("other")

    def test_attributes(self, root: Path) -> None:
        path = root / "file"
        path.write_bytes(b"x")
        os.chmod(path, 0o640)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        os.utime(path, ns=(-1_500_000_000, 1_234_567_890_123_456_789))
        assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789
        assert path.stat().st_atime_ns == -1_500_000_000
        os.utime(path)
        assert path.stat().st_mtime_ns > 1_600_000_000_000_000_000
        found = os.statvfs(root)
        assert found.f_blocks >= found.f_bfree > 0
        assert found.f_namemax == 255

    def test_attributes_that_are_set_between_a_write_and_the_close(self, root: Path) -> None:
        path, when = root / "file", 1_234_567_890_123_456_789
        with path.open("xb", buffering=0) as file:
            file.write(b"bytes")
            os.utime(file.fileno(), ns=(when, when))
            os.fchown(file.fileno(), os.getuid(), os.getgid())
            os.fchmod(file.fileno(), 0o604)
            assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o604
            assert path.stat().st_mtime_ns == when
            assert path.read_bytes() == b"bytes"
        assert (path.stat().st_mtime_ns, path.stat().st_size) == (when, 5)
        with path.open("r+b", buffering=0) as file:
            file.write(b"more")
            os.fchmod(file.fileno(), 0o640)
            os.utime(file.fileno(), ns=(when, when))
            file.write(b"!")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_mtime_ns > when, "it was written after the time was set"
        with path.open("wb", buffering=0) as file:
            file.write(b"gone")
            os.fchmod(file.fileno(), 0o600)
            path.unlink()
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
            assert os.fstat(file.fileno()).st_nlink == 0
        with (root / "grown").open("xb", buffering=0) as file:
            file.write(b"small")
            os.fchmod(file.fileno(), 0o600)
            file.write(bytes(100_000))
            os.utime(file.fileno(), ns=(when, when))
        found = (root / "grown").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_size) == (0o600, when, 100_005)

    def test_special_files_and_the_umask(self, root: Path) -> None:
        kinds = {"fifo": stat.S_IFIFO, "device": stat.S_IFCHR, "plain": stat.S_IFREG}
        before = os.umask(0o027)
        try:
            for name, kind in kinds.items():
                os.mknod(root / name, kind | 0o666, os.makedev(10, 300))
            (root / "directory").mkdir(0o777)
            os.close(os.open(root / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        finally:
            os.umask(before)
        for name, kind in kinds.items():
            found = (root / name).stat()
            assert (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)) == (kind, 0o640)
        assert (root / "device").stat().st_rdev == os.makedev(10, 300)
        assert stat.S_IMODE((root / "directory").stat().st_mode) == 0o750
        assert stat.S_IMODE((root / "file").stat().st_mode) == 0o750

    def test_extended_attributes(self, root: Path) -> None:
        path = root / "file"
        path.write_bytes(b"x")
        fails_with(errno.ENODATA, os.getxattr, path, "user.a")
        os.setxattr(path, "user.a", b"1" * 5000)
        os.setxattr(path, "user.b", b"")
        assert os.getxattr(path, "user.a") == b"1" * 5000
        assert os.getxattr(path, "user.b") == b""
        assert sorted(os.listxattr(path)) == ["user.a", "user.b"]
        os.removexattr(path, "user.a")
        assert os.listxattr(path) == ["user.b"]
        fails_with(errno.ENODATA, os.removexattr, path, "user.a")

    def test_many_names(self, root: Path) -> None:
        names = {f"{number:05}-{'n' * (number % 60)}" for number in range(1500)}
        for name in names:
            os.mkdir(root / name)
        assert set(os.listdir(root)) == names
        with os.scandir(root) as listed:
            assert all(entry.is_dir() and entry.inode() == entry.stat().st_ino for entry in listed)

    def test_shared_mappings(self, root: Path) -> None:
        # In another process: a page fault holds the interpreter, and the mount may be served by this one.
        (root / "mapped").write_bytes(bytes(10_000))
        subprocess.run([sys.executable, "-c", _MAPS, str(root / "mapped")], check=True, timeout=60)
        assert (root / "mapped").read_bytes()[4999:5006] == b"\0hello\0"

    def test_many_threads(self, root: Path) -> None:
        def work(number: int) -> None:
            path = root / f"file-{number}"
            for round_ in range(5):
                data = bytes([number, round_]) * 50_000
                path.write_bytes(data)
                assert path.read_bytes() == data

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(16)))
        assert len(os.listdir(root)) == 16

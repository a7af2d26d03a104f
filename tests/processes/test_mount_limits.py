"""The largest, longest and strangest that there may be, and what is beyond it, on a mount and through every other way in: POSIX's
errno each."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import fsspec
import pytest

import fs3
from fs3.base.ids import InodeId
from fs3.base.limits import file_bytes_max, name_bytes_max
from fs3.cli.local import LocalCluster
from fs3.model.inode import InodeType
from fs3.model.namespace import PathRef
from fs3.model.requests import Mknod, Stat
from fs3.sim.conformance.fuse import fails_with, why_no_mount

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(3600 if os.environ.get("FS3_DIRECTORY_ENTRIES") else 180),
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
]

ENTRIES: Final = int(os.environ.get("FS3_DIRECTORY_ENTRIES", "30000"))
"""Of a large directory."""
CREATORS: Final = 512
"""Requests that are under way at once while it is made."""
PATH_BYTES_MAX: Final = 4095
"""Of a path that a system call takes."""
SYMLINKS_MAX: Final = 40
"""Followed on one path."""
XATTR_BYTES_MAX: Final = 64 * 1024
"""Of a value."""


def inside(mount: Path) -> str:
    """The path in the cluster of a directory of a test."""
    return "/".join(["", *mount.parts[-2:]])


def test_names_of_any_bytes_and_lengths_through_every_layer(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    one, two = mounts
    names = [b"n" * name_bytes_max, b"\xff\xfe\x80" * 85, b"caf\xe9", b"line\nbreak", "é".encode() * 127, b" ", b"..."]
    for name in names:
        with open(os.fsencode(one) + b"/" + name, "wb") as file:
            file.write(name)
    assert sorted(os.listdir(os.fsencode(two))) == sorted(names)
    place = inside(one)
    files = fsspec.filesystem("fs3", cluster=drilled.address, skip_instance_cache=True)
    found = {os.fsencode(path.rpartition("/")[2]): files.cat_file(path) for path in files.ls(place, detail=False)}
    assert found == {name: name for name in names}

    async def ask() -> tuple[list[str], int]:
        async with await fs3.connect(drilled.url) as client:
            listed = [entry.name for entry in await client.list_all(place)]
            with pytest.raises(OSError, match="long") as refused:
                await client.mkdir(f"{place}/{'n' * (name_bytes_max + 1)}")
            return listed, refused.value.errno

    assert asyncio.run(ask()) == (sorted(map(os.fsdecode, names), key=os.fsencode), errno.ENAMETOOLONG)
    command = [sys.executable, "-m", "fs3.cli.main", "ls", drilled.url + place[1:]]
    told = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    assert all(name in told for name in names)
    for name in (b"n" * (name_bytes_max + 1), b"\xff" * (name_bytes_max + 1)):
        for call in (os.stat, os.mkdir, os.unlink, os.listxattr):
            fails_with(errno.ENAMETOOLONG, call, os.fsencode(one) + b"/" + name)
        with pytest.raises(OSError, match="long") as refused:
            files.pipe_file(f"{place}/{os.fsdecode(name)}", b"")
        assert refused.value.errno == errno.ENAMETOOLONG


def test_paths_as_long_as_may_be(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    one, two = mounts
    path = os.fsencode(one)
    while len(path) < PATH_BYTES_MAX - 202:
        path += b"/" + b"d" * 200
        os.mkdir(path)
    last = path + b"/" + b"f" * (PATH_BYTES_MAX - 1 - len(path))
    assert len(last) == PATH_BYTES_MAX
    with open(last, "wb") as file:
        file.write(b"deep")
    there = os.fsencode(two) + last.removeprefix(os.fsencode(one))
    assert Path(os.fsdecode(there)).read_bytes() == b"deep"
    fails_with(errno.ENAMETOOLONG, os.stat, last + b"f")
    # Names are looked up in their directory, so a tree may be deeper than any path.
    here = os.open(path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(b"e" * 250, dir_fd=here)
        below = os.open(b"e" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    files = fsspec.filesystem("fs3", cluster=drilled.address, skip_instance_cache=True)
    with pytest.raises(OSError, match="long") as refused:
        files.info("/" + "d/" * 2048 + "f")
    assert refused.value.errno == errno.ENAMETOOLONG


def test_symlinks_on_one_path(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    one, _ = mounts
    (one / "l0").write_bytes(b"end")
    for number in range(SYMLINKS_MAX + 1):
        os.symlink(f"l{number}", one / f"l{number + 1}")
    assert (one / f"l{SYMLINKS_MAX}").read_bytes() == b"end"
    fails_with(errno.ELOOP, os.stat, one / f"l{SYMLINKS_MAX + 1}")
    os.symlink("circle", one / "circle")
    fails_with(errno.ELOOP, os.stat, one / "circle")
    fails_with(errno.ELOOP, os.open, one / "l1", os.O_RDONLY | os.O_NOFOLLOW)

    async def ask() -> tuple[int, int]:
        async with await fs3.connect(drilled.url) as client:
            length = (await client.stat(f"{inside(one)}/l{SYMLINKS_MAX}")).length
            with pytest.raises(OSError, match="symbolic links") as refused:
                await client.stat(f"{inside(one)}/l{SYMLINKS_MAX + 1}")
            return length, refused.value.errno

    assert asyncio.run(ask()) == (3, errno.ELOOP)


def test_a_large_directory_is_listed_while_it_changes(mounts: tuple[Path, Path], drilled: LocalCluster) -> None:
    """Every name that is there all the time is listed once; others may be; and others use the mount meanwhile."""
    one, two = mounts

    async def fill() -> None:
        async with await fs3.connect(drilled.url) as client:
            here = (await client.meta.ask(Stat(PathRef(InodeId(1), inside(one)[1:]), follow=False))).id
            numbers = iter(range(ENTRIES))

            async def create() -> None:
                for number in numbers:
                    await client.meta.ask(Mknod(PathRef(here, f"f{number:07}"), InodeType.FILE, 0o644, 0))

            await asyncio.gather(*(create() for _ in range(CREATORS)))

    asyncio.run(fill())
    stopping = threading.Event()
    changed = 0

    def change() -> None:
        nonlocal changed
        while not stopping.is_set():
            name = one / f"f{changed * 7919 % ENTRIES:07}x"
            name.touch()
            name.rename(f"{name}y")
            os.unlink(f"{name}y")
            changed += 1

    changing = threading.Thread(target=change)
    changing.start()
    try:
        listed = [entry.name for entry in os.scandir(two)]
        plain = os.listdir(one)
    finally:
        stopping.set()
        changing.join()
    assert changed
    for names in (listed, plain):
        stayed = [name for name in names if len(name) == 8]
        assert len(stayed) == ENTRIES
        assert len(set(stayed)) == ENTRIES
        assert len(set(names)) == len(names)
    fails_with(errno.ENOTEMPTY, os.rmdir, two)
    fsspec.filesystem("fs3", cluster=drilled.address, skip_instance_cache=True).rm(inside(one), recursive=True)
    fails_with(errno.ENOENT, os.listdir, two / "below")


def test_files_of_holes_and_offsets(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    for offset in ((1 << 31) - 1, 1 << 31, (1 << 32) + 5, 1 << 45, file_bytes_max - 4):
        path = one / f"f{offset}"
        with path.open("wb") as file:
            assert os.pwrite(file.fileno(), b"byte", offset) == 4
        assert (two / path.name).stat().st_size == offset + 4
        with (two / path.name).open("rb") as file:
            assert os.pread(file.fileno(), 10, offset) == b"byte"
            assert os.pread(file.fileno(), 4, offset - 4) == bytes(4)
            assert os.pread(file.fileno(), 10, offset + 4) == b""
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) <= offset
            fails_with(errno.ENXIO, os.lseek, file.fileno(), offset + 4, os.SEEK_DATA)
    with (one / "f").open("wb") as file:
        fd = file.fileno()
        os.ftruncate(fd, file_bytes_max)
        assert os.fstat(fd).st_size == file_bytes_max
        largest = (1 << 63) - 1
        assert os.pwrite(fd, b"byte", file_bytes_max - 3) == 3, "as many as there is room for"
        for offset in (file_bytes_max, 1 << 62, largest - 4):
            fails_with(errno.EFBIG, os.pwrite, fd, b"byte", offset)
        for length in (file_bytes_max + 1, 1 << 62, largest):
            fails_with(errno.EFBIG, os.ftruncate, fd, length)
            fails_with(errno.EFBIG, os.truncate, two / "f", length)
            fails_with(errno.EFBIG, os.posix_fallocate, fd, 0, length)
            fails_with(errno.EFBIG, os.posix_fallocate, fd, length - 1, 1)
        with (one / f"f{1 << 31}").open("rb") as source:
            for offset in (file_bytes_max, 1 << 62):
                fails_with(errno.EFBIG, os.copy_file_range, source.fileno(), fd, 4, 1 << 31, offset)
        assert os.lseek(fd, largest, os.SEEK_SET) == largest
        with (one / "f").open("rb") as reading:
            # What no offset reaches the kernel refuses by itself, of any file system.
            fails_with(errno.EINVAL, os.pread, reading.fileno(), 2, largest)
            assert os.pread(reading.fileno(), 5, file_bytes_max - 3) == b"byt"
            assert os.pread(reading.fileno(), 5, 1 << 62) == b""
        appending = os.open(one / "f", os.O_WRONLY | os.O_APPEND)
        fails_with(errno.EFBIG, os.write, appending, b"more")
        os.close(appending)
        fails_with(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
        fails_with(errno.EINVAL, os.pread, fd, 1, -1)
        fails_with(errno.EINVAL, os.posix_fallocate, fd, 0, 0)
        os.ftruncate(fd, 5)
    assert (two / "f").read_bytes() == bytes(5)


def test_values_of_attributes_at_their_limit(mounts: tuple[Path, Path]) -> None:
    one, two = mounts
    (one / "f").touch()
    largest = os.urandom(XATTR_BYTES_MAX)
    os.setxattr(one / "f", b"user.\xff\xfe", largest)
    assert os.getxattr(two / "f", b"user.\xff\xfe") == largest
    fails_with(errno.E2BIG, os.setxattr, one / "f", "user.a", largest + b"x")
    os.setxattr(one / "f", "user.a", b"")
    assert os.getxattr(two / "f", "user.a") == b""
    fails_with(errno.ENOSPC, os.setxattr, one / "f", "user.b", largest)
    fails_with(errno.EEXIST, os.setxattr, one / "f", "user.a", b"", os.XATTR_CREATE)
    fails_with(errno.ENODATA, os.setxattr, one / "f", "user.c", b"", os.XATTR_REPLACE)
    fails_with(errno.ENODATA, os.getxattr, one / "f", "user.c")
    name = "user." + "n" * (name_bytes_max - 5)
    os.setxattr(one / "f", name, b"x")
    fails_with(errno.ERANGE, os.setxattr, one / "f", name + "n", b"x")
    fails_with(errno.EOPNOTSUPP, os.setxattr, one / "f", "unknown.a", b"x")
    assert sorted(os.listxattr(two / "f")) == sorted(["user.a", os.fsdecode(b"user.\xff\xfe"), name])

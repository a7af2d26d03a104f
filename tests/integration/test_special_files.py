"""Fifos, sockets and devices through the native client and fsspec: they have names and attributes, and no bytes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.asyn import sync

import fs3
from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.model.inode import InodeType, User

ROOT = User(0, 0)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3", user=ROOT) as client:
        await client.chmod("/", 0o777)
        yield client


async def test_every_kind_is_made_listed_and_removed(client: Client) -> None:
    sda1 = os.makedev(8, 1)
    kinds = {
        "a": (stat.S_IFIFO, InodeType.FIFO),
        "b": (stat.S_IFSOCK, InodeType.SOCKET),
        "c": (stat.S_IFBLK, InodeType.BLOCK_DEVICE),
        "d": (stat.S_IFCHR, InodeType.CHARACTER_DEVICE),
        "e": (stat.S_IFREG, InodeType.FILE),
        "f": (0, InodeType.FILE),
    }
    for name, (bits, kind) in kinds.items():
        made = await client.mknod(f"/{name}", bits | 0o666, sda1)
        device = kind in (InodeType.BLOCK_DEVICE, InodeType.CHARACTER_DEVICE)
        assert (made.type, made.mode, made.rdev) == (kind, 0o666 & ~client._umask, sda1 if device else 0)
    listed = await client.list_all("/", with_inodes=True)
    assert [(entry.name, entry.type) for entry in listed] == [(name, kind) for name, (_, kind) in kinds.items()]
    assert [entry.inode and entry.inode.rdev for entry in listed] == [0, 0, sda1, sda1, 0, 0]
    for name in kinds:
        await client.unlink(f"/{name}")
    assert await client.list_all("/") == []


async def test_opening_one_is_an_error_that_says_why(client: Client) -> None:
    await client.mknod("/fifo", stat.S_IFIFO | 0o600)
    for mode in ("r", "r+", "w", "a"):
        with pytest.raises(FS3Error, match="is a fifo") as caught:
            await client.open("/fifo", mode)
        assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, "/fifo")
    with pytest.raises(FS3Error, match="no type that can be made"):
        await client.mknod("/link", stat.S_IFLNK)
    with pytest.raises(PermissionError):
        await client.mknod("/dir", stat.S_IFDIR)


def test_fsspec_calls_them_other_and_leaves_them_alone(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"x")

    async def make() -> None:
        await (await fs._client()).mknod(f"{room}/fifo", stat.S_IFIFO | 0o600)

    sync(fs.loop, make)
    assert [(info["name"], info["type"]) for info in fs.ls(room)] == [(f"{room}/fifo", "other"), (f"{room}/x", "file")]
    info = fs.info(f"{room}/fifo")
    assert (info["type"], info["size"], fs.isfile(f"{room}/fifo"), fs.isdir(f"{room}/fifo")) == ("other", 0, False, False)
    assert fs.exists(f"{room}/fifo")
    for mode in ("rb", "wb", "ab", "r+b"):
        with pytest.raises(OSError, match=r"a fifo|a special file") as caught, fs.open(f"{room}/fifo", mode) as file:
            file.write(b"x")
        assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError, match=r"a fifo|a special file"):
        fs.pipe_file(f"{room}/fifo", b"x")
    fs.mv(f"{room}/fifo", f"{room}/moved")
    assert fs.info(f"{room}/moved")["type"] == "other"
    fs.rm(f"{room}/moved")
    assert fs.ls(room, detail=False) == [f"{room}/x"]

"""Extended attributes and ACLs through the native client and fsspec, on an embedded cluster and one of processes."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.api.xattrs import XATTR_CREATE, XATTR_REPLACE
from fs3.base.errors import FS3Error
from fs3.cli.metadata_copy import back_up, put_back
from fs3.client.fsck.cluster import Fsck
from fs3.core.meta.xattrs import xattr_bytes_max, xattr_value_bytes_max
from fs3.model.inode import User
from fs3.sim.acl_model import ModelAcl

ACCESS_ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
ROOT = User(0, 0)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3", user=ROOT) as client:
        yield client


async def write(client: Client, path: str, data: bytes, mode: str = "w") -> None:
    file = await client.open(path, mode)
    await client.pwrite(file, data)
    await client.close(file)


async def code_of(call: Any) -> int | None:
    with pytest.raises(FS3Error) as caught:
        await call
    return caught.value.errno


async def test_attributes_of_paths_and_open_files(client: Client) -> None:
    await write(client, "/f", b"content")
    file = await client.open("/f")
    assert (await client.set_xattr("/f", "user.color", b"red")).xattr_bytes == len("user.colorred")
    await client.set_xattr(file, b"user.\xff", b"\0" * xattr_value_bytes_max)
    assert await client.list_xattr(file) == ["user.color", "user.\udcff"]
    assert await client.get_xattr(file, "user.\udcff") == b"\0" * xattr_value_bytes_max
    await client.remove_xattr(file, b"user.\xff")
    assert await client.list_xattr("/f") == ["user.color"]
    await client.symlink("f", "/s")
    assert await client.get_xattr("/s", "user.color") == b"red"
    assert await client.list_xattr("/s", follow=False) == []


async def test_errors_have_the_numbers_of_posix_and_the_path(client: Client) -> None:
    await write(client, "/f", b"content")
    assert await code_of(client.get_xattr("/f", "user.a")) == errno.ENODATA
    assert await code_of(client.remove_xattr("/f", "user.a")) == errno.ENODATA
    assert await code_of(client.set_xattr("/f", "user.a", b"", XATTR_REPLACE)) == errno.ENODATA
    await client.set_xattr("/f", "user.a", b"", XATTR_CREATE)
    assert await code_of(client.set_xattr("/f", "user.a", b"", XATTR_CREATE)) == errno.EEXIST
    assert await code_of(client.set_xattr("/f", "other.a", b"")) == errno.EOPNOTSUPP
    assert await code_of(client.set_xattr("/f", "user.", b"")) == errno.EINVAL
    assert await code_of(client.set_xattr("/f", "user." + "x" * 251, b"")) == errno.ERANGE
    assert await code_of(client.set_xattr("/f", "user.b", bytes(xattr_value_bytes_max + 1))) == errno.E2BIG
    assert await code_of(client.set_xattr("/f", ACCESS_ACL, b"nonsense")) == errno.EINVAL
    for name in ("user.b", "user.c"):
        await client.set_xattr("/f", name, bytes(xattr_bytes_max // 2 - 20))
    assert await code_of(client.set_xattr("/f", "user.d", bytes(40))) == errno.ENOSPC
    with pytest.raises(FS3Error) as caught:
        await client.get_xattr("/missing", "user.a")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/missing")


async def test_users_of_one_directory(client: Client, tmp_path: Path) -> None:
    alice, bob = User(1000, 1000), User(1001, 1001, (50,))
    await client.mkdir("/d")
    await client.chown("/d", alice.uid, alice.gid)
    async with (
        await fs3.connect_embedded(tmp_path / "fs3", user=alice) as alices,
        await fs3.connect_embedded(tmp_path / "fs3", user=bob) as bobs,
    ):
        for name in (ACCESS_ACL, DEFAULT_ACL):
            await alices.set_xattr("/d", name, ModelAcl(7, 0, 0, {}, {50: 7}, 7).attribute())
        await write(alices, "/d/f", b"alice's")
        await alices.makedirs("/d/x/y")
        assert (await alices.stat("/d/f")).mode == 0o660, "the umask of the client is not taken off"
        await write(bobs, "/d/f", b"bob's", "r+")
        await write(bobs, "/d/x/y/f", b"new")
        assert await code_of(bobs.set_xattr("/d/f", ACCESS_ACL, b"")) == errno.EPERM
        await alices.chmod("/d/f", 0o600)
        assert await code_of(bobs.open("/d/f")) == errno.EACCES
    found = await Fsck(client.meta, client.storage, client.manager).check()
    assert found.problems == []


async def test_a_copy_of_a_file_leaves_attributes_behind(client: Client) -> None:
    await write(client, "/f", b"content")
    await client.set_xattr("/f", "user.a", b"1")
    await client.copy_file("/f", "/g")
    assert await client.list_xattr("/g") == []


async def test_attributes_are_in_a_copy_of_the_metadata(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    acl = ModelAcl(7, 5, 0, {1000: 6}, {}, 7).attribute()
    async with await fs3.connect_embedded(data, user=ROOT) as client:
        await write(client, "/f", b"content")
        await client.set_xattr("/f", "user.a", b"old")
        await client.set_xattr("/f", ACCESS_ACL, acl)
    await asyncio.to_thread(back_up, data / "meta", copy)
    async with await fs3.connect_embedded(data, user=ROOT) as client:
        await client.set_xattr("/f", "user.a", b"new")
        await client.remove_xattr("/f", ACCESS_ACL)
    await asyncio.to_thread(put_back, copy, data / "meta", time.time_ns())
    async with await fs3.connect_embedded(data, user=ROOT) as client:
        assert await client.list_xattr("/f") == [ACCESS_ACL, "user.a"]
        assert await client.get_xattr("/f", "user.a") == b"old"
        assert await client.get_xattr("/f", ACCESS_ACL) == acl


def test_attributes_through_fsspec(fs: Any, room: str) -> None:
    path = f"{room}/f"
    fs.pipe_file(path, b"content")
    fs.setxattr(path, "user.color", b"red")
    fs.setxattr(path, "user.size", b"4", flags=os.XATTR_CREATE)
    assert fs.listxattr(path) == ["user.color", "user.size"]
    assert fs.getxattr(path, "user.color") == b"red"
    fs.pipe_file(path, b"other content")
    fs.removexattr(path, "user.size")
    assert fs.listxattr(path) == ["user.color"], "a file that gets another content keeps them"
    for call in (lambda: fs.getxattr(path, "user.size"), lambda: fs.setxattr(path, "user.size", b"", os.XATTR_REPLACE)):
        with pytest.raises(FS3Error) as caught:
            call()
        assert (caught.value.errno, caught.value.filename) == (errno.ENODATA, path)
    fs.cp(path, f"{room}/g")
    assert fs.listxattr(f"{room}/g") == []

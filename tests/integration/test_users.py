"""One native client, many users: views that share its connections and open files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import fs3
from fs3.api import client as module
from fs3.api.client import Client
from fs3.base.errors import InvalidArgument
from fs3.model.inode import User


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3", user=User(0, 0)) as client:
        await client.chmod("/", 0o1777)
        yield client


async def write(client: Client, path: str, data: bytes, permissions: int = 0o666) -> None:
    file = await client.open(path, "w", permissions=permissions)
    await client.pwrite(file, data)
    await client.close(file)


async def test_users_own_what_they_create_and_are_kept_out_of_what_is_not_theirs(client: Client) -> None:
    alice, bob = client.as_user(1000, 1000, [50]), client.as_user(1001, 1001)
    await write(alice, "/a", b"alice's", 0o640)
    inode = await alice.chown("/a", gid=50)
    assert (inode.uid, inode.gid) == (1000, 50)
    with pytest.raises(PermissionError):
        await bob.open("/a")
    with pytest.raises(PermissionError):
        await bob.unlink("/a")
    friend = client.as_user(1001, 1001, [50])
    file = await friend.open("/a")
    assert await friend.pread(file, 100) == b"alice's"


async def test_small_files_of_many_users_keep_their_owners(client: Client) -> None:
    users = [client.as_user(uid, uid) for uid in range(1, 9)]
    opens = await asyncio.gather(*(user.open(f"/{index}", "x", permissions=0o600) for index, user in enumerate(users)))
    await asyncio.gather(*(user.close(file) for user, file in zip(users, opens, strict=True)))
    assert [inode.uid async for entry in client.list("/", with_inodes=True) if (inode := entry.inode)] == list(range(1, 9))
    found = await asyncio.gather(*(users[0].small_files.open(f"/{index}") for index in range(8)), return_exceptions=True)
    assert [isinstance(one, PermissionError) for one in found] == [False, *[True] * 7]


async def test_a_view_is_made_once_and_the_oldest_are_dropped(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "users_kept_max", 2)
    first, second = client.as_user(1, 1), client.as_user(2, 2)
    assert client.as_user(1, 1, ()) is first
    assert first.as_user(1, 1) is first, "also where another view is asked"
    assert first.as_user(1, 1, umask=0) is not first
    assert client.as_user(2, 2) is not second
    with pytest.raises(InvalidArgument):
        client.as_user(1, 1, range(1025))


async def test_the_umask_is_the_users_own(client: Client) -> None:
    await write(client.as_user(1, 1, umask=0o077), "/private", b"")
    await write(client.as_user(1, 1, umask=0), "/public", b"")
    assert ((await client.stat("/private")).mode, (await client.stat("/public")).mode) == (0o600, 0o666)


async def test_a_view_closes_nothing_and_ends_with_its_client(tmp_path: Path) -> None:
    client = await fs3.connect_embedded(tmp_path / "fs3", user=User(0, 0))
    view = client.as_user(0, 0)
    await view.aclose()
    assert not view.closed
    file = await view.open("/f", "w")
    await client.pwrite(file, b"x")
    await client.aclose()
    assert view.closed
    async with await fs3.connect_embedded(tmp_path / "fs3", user=User(0, 0)) as later:
        assert (await later.stat("/f")).length == 1, "what a view has open is closed with the client"

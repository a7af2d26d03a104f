"""Rewriting a file that is there: all of it at once, and the file stays what it is. docs/protocols/replace.md has the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.api.small_files import UnnamedFile
from fs3.base.errors import FS3Error
from fs3.base.ids import TableId
from fs3.base.status import Code
from fs3.client.fsck.cluster import Fsck
from fs3.model.inode import Inode, Layout

CHUNK = 64 * 1024
SMALL = Layout(TableId(0), CHUNK, 0)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3") as client:
        yield client
        report = await Fsck(client.meta, client.storage, client.manager).check()
        assert report.problems == []


async def content(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


async def put(client: Client, path: str, data: bytes) -> Inode:
    file = await client.open_unnamed("/", SMALL)
    await client.pwrite(file, data)
    return await client.close(file, path)


@pytest.mark.parametrize("length", [0, 10, 3 * CHUNK])
async def test_links_mode_and_owner_stay(client: Client, length: int) -> None:
    old = await put(client, "/f", b"o" * 2 * CHUNK)
    await client.link("/f", "/g")
    file = await client.open_unnamed("/", SMALL)
    await client.pwrite(file, b"n" * length)
    await client.chmod("/g", 0o600)
    new = await client.close(file, "/f")
    assert (new.id, new.nlink, new.mode, new.uid, new.birth_ns) == (old.id, 2, 0o600, old.uid, old.birth_ns)
    assert await client.stat("/g") == await client.stat("/f") == new
    assert await content(client, "/f") == await content(client, "/g") == b"n" * length


async def test_opening_for_writing_empties_every_name(client: Client) -> None:
    old = await put(client, "/f", b"o" * CHUNK)
    await client.link("/f", "/g")
    file = await client.open("/f", "w")
    assert (await client.stat("/g")).length == 0
    await client.pwrite(file, b"new")
    closed = await client.close(file)
    assert (closed.id, closed.nlink) == (old.id, 2)
    assert await content(client, "/g") == b"new"


async def test_a_copy_and_a_batch_rewrite_in_place_and_a_rename_does_not(client: Client) -> None:
    old = await put(client, "/f", b"old")
    await put(client, "/other", b"other")
    await client.link("/f", "/g")
    assert (await client.copy_file("/other", "/f")).id == old.id
    assert await content(client, "/g") == b"other"
    files = await client.open_unnamed_many([UnnamedFile("/")])
    await client.pwritev_many([(files[0], 0, b"batch")])  # type: ignore[list-item]
    (published,) = await client.publish_many([(files[0], "/f", False)])  # type: ignore[list-item]
    assert isinstance(published, Inode)
    assert published.id == old.id
    assert await content(client, "/g") == b"batch"
    await client.rename("/other", "/f")
    assert (await client.stat("/f")).id != old.id
    assert (await client.stat("/g")).nlink == 1
    assert await content(client, "/g") == b"batch"


async def test_a_reader_sees_the_old_file_to_its_end(client: Client) -> None:
    await put(client, "/f", b"o" * 2 * CHUNK)
    reading = await client.open("/f")
    await put(client, "/f", b"n" * 10)
    assert await client.pread(reading, reading.length) == b"o" * 2 * CHUNK


@pytest.mark.parametrize("how", ["close", "fsync", "truncate"])
async def test_who_writes_the_old_content_is_told(client: Client, how: str) -> None:
    await put(client, "/f", b"o" * 10)
    writing = await client.open("/f", "r+")
    await put(client, "/f", b"new")
    await client.pwrite(writing, b"late" * 100, 5)
    with pytest.raises(FS3Error, match="put in its place") as raised:
        await {"close": client.close, "fsync": client.fsync, "truncate": lambda file: client.truncate(file, 2)}[how](writing)
    assert (raised.value.code, raised.value.filename) == (Code.STALE, "/f")
    if how != "close":
        with pytest.raises(FS3Error, match="put in its place"):
            await client.pwrite(writing, b"again")
        await client.close(writing, discard=True)
    assert writing.closed
    assert await content(client, "/f") == b"new"


async def test_who_has_written_nothing_is_told_nothing(client: Client) -> None:
    await put(client, "/f", b"old")
    writing = await client.open("/f", "r+")
    await put(client, "/f", b"new")
    await client.close(writing)


async def test_an_appender_is_told_and_appends_to_the_new_content_once_it_opens_it(client: Client) -> None:
    await put(client, "/f", b"old.")
    appending = await client.open("/f", "a")
    await client.append(appending, b"one.")
    await put(client, "/f", b"new.")
    with pytest.raises(FS3Error) as raised:
        await client.append(appending, b"two.")
    assert raised.value.code is Code.STALE
    await client.abandon(appending)
    again = await client.open("/f", "a")
    await client.append(again, b"three.")
    await client.close(again)
    assert await content(client, "/f") == b"new.three."


async def test_of_two_writers_the_last_close_wins_whole(client: Client) -> None:
    old = await put(client, "/f", b"o" * 10)
    writers = [await client.open_unnamed("/", SMALL) for _ in range(8)]
    await asyncio.gather(*(client.pwrite(file, bytes([65 + i]) * (i + 1) * 20_000) for i, file in enumerate(writers)))
    closed = await asyncio.gather(*(client.close(file, "/f") for file in writers))
    last = max(closed, key=lambda inode: inode.change)
    assert {inode.id for inode in closed} == {old.id}
    found = await content(client, "/f")
    number = closed.index(last)
    assert found == bytes([65 + number]) * (number + 1) * 20_000
    assert await client.stat("/f") == last


async def test_the_name_goes_while_the_file_is_written(client: Client) -> None:
    old = await put(client, "/f", b"old")
    first, second = await client.open_unnamed("/"), await client.open_unnamed("/")
    await client.rename("/f", "/moved")
    await client.pwrite(first, b"first")
    new = await client.close(first, "/f")
    assert new.id != old.id
    assert await content(client, "/moved") == b"old"
    await client.unlink("/f")
    await client.pwrite(second, b"second")
    assert (await client.close(second, "/f")).id not in (old.id, new.id)
    assert await content(client, "/f") == b"second"


def test_rewriting_through_fsspec(fs: Any, room: str) -> None:
    """`wb`, `pipe` and a transaction keep the inode; an appender that has the old content open is told."""
    name = f"{room}/f"
    fs.pipe_file(name, b"old")
    inode = fs.info(name)["ino"]
    appending = fs.open(name, "ab")
    with fs.open(name, "wb") as file:
        file.write(b"new")
    assert fs.cat_file(name) == b"new"
    appending.write(b"late")
    with pytest.raises(OSError, match="replaced") as raised:
        appending.flush()
    assert raised.value.filename == name
    with suppress(OSError):
        appending.close()
    with fs.transaction, fs.open(name, "wb") as file:
        file.write(b"by a transaction")
    assert fs.cat_file(name) == b"by a transaction"
    fs.pipe_file(name, b"piped")
    assert fs.info(name)["ino"] == inode


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_every_way_of_writing_goes_through_symlinks_and_keeps_the_file(fs: Any, room: str, tmp_path: Path, size: int) -> None:
    new = b"n" * size
    (tmp_path / "local").write_bytes(new)
    fs.pipe_file(f"{room}/source", new)
    fs.pipe_file(f"{room}/f", b"old")
    fs.link(f"{room}/f", f"{room}/g")
    fs.symlink("f", f"{room}/s")
    fs.chmod(f"{room}/f", 0o640)
    kept = ("ino", "mode", "uid", "gid", "nlink", "created")
    before = fs.info(f"{room}/f")
    ways = (
        lambda path: fs.pipe_file(path, new),
        lambda path: fs.put_file(tmp_path / "local", path),
        lambda path: fs.cp_file(f"{room}/source", path),
        lambda path: fs.write_bytes(path, new),
    )
    for way in ways:
        for name in ("s", "g"):
            fs.pipe_file(f"{room}/f", b"old")
            way(f"{room}/{name}")
            assert fs.cat_file(f"{room}/f") == fs.cat_file(f"{room}/g") == new
            assert fs.info(f"{room}/s")["islink"]
            after = fs.info(f"{room}/f")
            assert [after[key] for key in kept] == [before[key] for key in kept]

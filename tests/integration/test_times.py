"""Times of files: an mtime that was set stays, and reads show in access times where that was asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api import access_times
from fs3.api.client import TIME_NOW, Client
from fs3.base.units import MILLISECOND
from fs3.model.inode import User

PAST = 1_000_000_000_123_456_789


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3", user=User(0, 0)) as client:
        yield client


async def test_an_mtime_that_is_set_before_the_close_stays(client: Client) -> None:
    file = await client.open("/f", "w")
    await client.pwrite(file, b"x")
    before = await client.utimes("/f", PAST, PAST)
    after = await client.close(file)
    assert (after.atime_ns, after.mtime_ns, after.length) == (PAST, PAST, 1)
    assert after.change > before.change, "the content changed all the same"


async def test_it_stays_after_a_sync_too(client: Client) -> None:
    file = await client.open("/f", "w")
    await client.pwrite(file, b"x")
    await client.utimes("/f", mtime_ns=PAST)
    await client.fsync(file)
    assert (await client.stat("/f")).mtime_ns == PAST
    assert (await client.close(file)).mtime_ns == PAST


async def test_a_later_write_counts(client: Client) -> None:
    file = await client.open("/f", "w")
    await client.pwrite(file, b"x")
    await client.utimes("/f", mtime_ns=PAST)
    await client.pwrite(file, b"y")
    after = await client.close(file)
    assert after.mtime_ns == after.ctime_ns > PAST


async def test_it_is_the_inodes_time_by_whichever_name_and_user_it_is_set(client: Client) -> None:
    alice = client.as_user(1000, 1000)
    await client.chmod("/", 0o777)
    file = await alice.open("/f", "x")
    await alice.pwrite(file, b"x")
    await alice.link("/f", "/g")
    await client.utimes("/g", mtime_ns=PAST)
    other = await client.open("/other", "x")
    await client.pwrite(other, b"x")
    assert (await client.close(other)).mtime_ns > PAST, "another file's is not kept"
    assert (await alice.close(file)).mtime_ns == PAST


async def test_a_truncation_after_it_counts(client: Client) -> None:
    file = await client.open("/f", "w")
    await client.pwrite(file, b"xyz")
    await client.utimes("/f", mtime_ns=PAST)
    assert (await client.truncate(file, 1)).mtime_ns > PAST
    assert (await client.close(file)).mtime_ns > PAST


async def test_now_is_a_time_as_well(client: Client) -> None:
    file = await client.open("/f", "w")
    await client.pwrite(file, b"x")
    touched = await client.utimes("/f", mtime_ns=TIME_NOW)
    assert (await client.close(file)).mtime_ns == touched.mtime_ns


@pytest.fixture
async def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(access_times, "access_tell_interval_ns", 1 * MILLISECOND)
    async with await fs3.connect_embedded(tmp_path / "fs3", user=User(0, 0), relatime=True) as client:
        yield client


async def written(client: Client, path: str) -> int:
    """The access time of a file that is new."""
    file = await client.open(path, "w", permissions=0o644)
    await client.pwrite(file, b"12345")
    return (await client.close(file)).atime_ns


async def told(client: Client, path: str, than: int) -> int:
    """The access time of a file, once it is another one."""
    while (atime := (await client.stat(path)).atime_ns) == than:
        pass
    return atime


async def read_into(client: Client, path: str) -> None:
    await client.pread_into(await client.open(path), bytearray(5))


async def read_many(client: Client, path: str) -> None:
    await client.preadv_many([(await client.open(path), 0, bytearray(5))])


async def read_on_a_thread(client: Client, path: str) -> None:
    file = await client.open(path)
    await client.pread(await client.open("/warm"), 1)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(client.pread_directly(file, memoryview(bytearray(5)), 0)))
    thread.start()
    await asyncio.to_thread(thread.join)
    if not done[0]:  # it may be left to the loop
        await client.pread(file, 5)


async def list_directory(client: Client, path: str) -> None:
    client.record_access(await client.stat(path))


@pytest.mark.parametrize("read", [read_into, read_many, read_on_a_thread, list_directory])
async def test_a_read_is_told_once_and_changes_nothing_else(reader: Client, read: Any) -> None:
    await written(reader, "/warm")
    before = await written(reader, "/f")
    inode = await reader.stat("/f")
    await read(reader, "/f")
    atime = await told(reader, "/f", before)
    after = await reader.stat("/f")
    assert (after.ctime_ns, after.mtime_ns, after.change) == (inode.ctime_ns, inode.mtime_ns, inode.change)
    asked: list[int] = []
    batch = reader.meta.batch

    async def note(requests: Any) -> Any:
        asked.append(len(requests))
        return await batch(requests)

    reader.meta.batch = note  # type: ignore[method-assign]
    await read(reader, "/f")
    await reader.aclose()
    assert asked == [], "it is told"
    assert after.atime_ns == atime


async def test_many_reads_are_one_request_of_each_user(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_times, "access_tell_interval_ns", 1 << 62)
    alice = reader.as_user(1000, 1000)
    for number in range(5):
        await written(reader, f"/{number}")
    sizes: list[int] = []
    for meta in (reader.meta, alice.meta):

        async def note(requests: Any, batch: Any = meta.batch) -> Any:
            sizes.append(len(requests))
            return await batch(requests)

        monkeypatch.setattr(meta, "batch", note)
    for number in range(5):
        client = alice if number < 2 else reader
        for _ in range(3):
            await client.pread(await client.open(f"/{number}"), 5)
    await reader.aclose()
    assert sorted(sizes) == [2, 3]


async def test_nothing_is_noted_where_it_was_not_asked_for(client: Client) -> None:
    before = await written(client, "/f")
    await read_into(client, "/f")
    client.record_access(await client.stat("/f"))
    assert client._accesses is None
    assert (await client.stat("/f")).atime_ns == before


async def test_no_more_inodes_wait_than_the_limit(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_times, "access_tell_interval_ns", 1 << 62)
    monkeypatch.setattr(access_times, "accesses_waiting_max", 2)
    before = [await written(reader, f"/{number}") for number in range(3)]
    for number in range(3):
        await read_into(reader, f"/{number}")
    accesses = reader._accesses
    assert accesses is not None
    assert len(accesses._waiting) == 2
    await accesses.close()
    assert [(await reader.stat(f"/{number}")).atime_ns > before[number] for number in range(3)] == [True, True, False]

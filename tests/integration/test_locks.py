"""Locks through the client, on services inside the process."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import DeadlineExceeded, FS3Error, InvalidArgument
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.model.lock import LOCK_END, Lock, LockKind, LockOwner, LockStep


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3") as client:
        file = await client.open("/f", "x")
        await client.pwrite(file, b"0", 0)
        await client.close(file)
        yield client


async def opens(client: Client, count: int, mode: str = "r+") -> list[File]:
    return [await client.open("/f", mode) for _ in range(count)]


async def is_refused(work: Any, code: Code, number: int) -> None:
    with pytest.raises(FS3Error) as caught:
        await work
    assert (caught.value.code, caught.value.errno, caught.value.filename) == (code, number, "/f")


async def test_a_flock_is_of_the_handle(client: Client) -> None:
    one, two = await opens(client, 2, "r")
    await client.lock(one)
    assert not await client.try_lock(two)
    assert not await client.try_lock(two, shared=True)
    await client.lock(one), "again"
    await client.lock(one, shared=True)
    assert await client.try_lock(two, shared=True)
    assert not await client.try_lock(one)
    await client.unlock(two)
    assert await client.try_lock(one)
    await client.close(one)
    assert await client.try_lock(two)


async def test_a_counter_under_a_lock_loses_nothing(client: Client) -> None:
    async def work(path: str) -> None:
        file = await client.open(path, "r+")
        for _ in range(10):
            async with client.hold_lock(file):
                value = int(await client.pread(file, 20))
                await asyncio.sleep(0)
                await client.pwrite(file, str(value + 1).encode(), 0)
        await client.close(file)

    await asyncio.gather(*(work("/f") for _ in range(8)))
    file = await client.open("/f")
    assert await client.pread(file, 20) == b"80"


async def test_who_locks_sees_the_length_that_was_left(client: Client) -> None:
    writer, reader = await client.open("/f", "r+"), await client.open("/f")
    await client.lock(writer)
    waiting = asyncio.ensure_future(client.lock(reader, shared=True))
    await client.pwrite(writer, b"x" * 70_000, 1)
    await client.unlock(writer)
    await waiting
    assert reader.length == 70_001


async def test_ranges_of_numbered_owners(client: Client) -> None:
    one, two = await opens(client, 2)
    await client.lock(one, start=0, length=100, owner=1)
    assert await client.try_lock(two, start=50, length=10, owner=1), "the same owner, through another handle"
    assert not await client.try_lock(one, start=50, length=10, owner=2)
    found = await client.get_lock(two, start=0, owner=2)
    assert found is not None
    assert (found.kind, found.start, found.end, found.exclusive) == (LockKind.RANGE, 0, 100, True)
    assert found.owner == LockOwner(found.owner.client, 1, False)
    await client.unlock(two, start=20, length=10, owner=1)
    assert await client.get_lock(one, start=20, length=10) is None
    await client.lock(one, start=100, owner=2)
    found = await client.get_lock(one, start=LOCK_END - 1)
    assert found is not None
    assert found.end == LOCK_END
    await client.close(two)
    assert await client.get_lock(one, start=0, length=100) is None, "closing any of its handles ends the owner's locks"


async def test_what_a_handle_may_lock(client: Client) -> None:
    reading, writing = await client.open("/f"), await client.open("/f", "r+")
    assert await client.try_lock(reading, start=0, shared=True)
    await is_refused(client.try_lock(reading, start=0), Code.NO_SESSION, errno.EBADF)
    await is_refused(client.lock(writing, start=0, owner=1, timeout_ns=1), Code.DEADLINE, errno.ETIMEDOUT)
    await client.close(reading)
    await is_refused(client.lock(reading), Code.INVALID, errno.EINVAL)


@pytest.mark.parametrize(
    "given", [{"length": 5}, {"start": -1}, {"start": 0, "length": -1}, {"start": LOCK_END}, {"start": 1, "length": LOCK_END}]
)
async def test_ranges_that_are_none(client: Client, given: dict[str, int]) -> None:
    (file,) = await opens(client, 1)
    with pytest.raises(InvalidArgument, match="'/f'"):
        await client.lock(file, **given)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="owner"):
        await client.lock(file, owner=-1)


async def test_who_is_cancelled_leaves_no_trace(client: Client) -> None:
    one, two, three = await opens(client, 3)
    await client.lock(one)
    waiting = asyncio.ensure_future(client.lock(two))
    await asyncio.sleep(0)
    waiting.cancel()
    last = asyncio.ensure_future(client.lock(three))
    await client.unlock(one)
    await last
    assert await client.get_lock(one) is not None
    await client.unlock(three)
    assert await client.try_lock(one)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_wait_may_end_in_time(client: Client) -> None:
    one, two = await opens(client, 2)
    await client.lock(one)
    with pytest.raises(DeadlineExceeded):
        await client.lock(two, timeout_ns=20 * MILLISECOND)
    await client.unlock(one)
    assert await client.try_lock(one)
    await client.unlock(one)
    await client.lock(two, timeout_ns=10_000 * MILLISECOND)


async def test_owners_that_would_wait_for_each_other_for_ever(client: Client) -> None:
    (file,) = await opens(client, 1)
    for owner in (1, 2):
        await client.lock(file, start=owner, length=1, owner=owner)

    async def work(owner: int) -> None:
        try:
            await client.lock(file, start=3 - owner, length=1, owner=owner)
        finally:
            await client.unlock(file, start=0, owner=owner)

    outcomes = await asyncio.gather(work(1), work(2), return_exceptions=True)
    (told,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(told, FS3Error)
    assert (told.code, told.errno) == (Code.DEADLOCK, errno.EDEADLK)


async def test_two_that_share_a_flock_may_both_want_it_alone(client: Client) -> None:
    files = await opens(client, 2)
    for file in files:
        await client.lock(file, shared=True)

    async def work(file: File) -> None:
        await client.lock(file)
        await client.unlock(file)

    await asyncio.gather(*map(work, files))


async def lose_locks(client: Client) -> None:
    """What the services do with a client that was silent for too long."""
    await client.meta.ask(Lock(InodeId(0), LockStep.RELEASE_CLIENT))


async def test_who_has_lost_its_locks_is_told_until_it_unlocks(client: Client) -> None:
    one, two, other = await opens(client, 3)
    await client.lock(one)
    await client.lock(two, start=0, length=10)
    await client.check_locks(one)
    await lose_locks(client)
    assert not one.locks_lost
    await client.lock(other, start=0, length=10), "it held none, and begins anew"
    assert one.locks_lost
    assert two.locks_lost
    assert not other.locks_lost
    for work in (client.lock(one), client.try_lock(one), client.get_lock(one), client.check_locks(one), client.unlock(one)):
        await is_refused(work, Code.LOCKS_LOST, errno.EIO)
    await client.lock(one)
    await is_refused(client.unlock(two, start=0), Code.LOCKS_LOST, errno.EIO)
    assert not await client.try_lock(two, start=5, length=1)
    await client.check_locks(other)


@pytest.mark.parametrize("step", ["check", "unlock", "get"])
async def test_how_it_learns_that_they_are_lost(client: Client, step: str) -> None:
    (file,) = await opens(client, 1)
    await client.lock(file)
    await lose_locks(client)
    ask = {"check": client.check_locks, "unlock": client.unlock, "get": client.get_lock}[step]
    await is_refused(ask(file), Code.LOCKS_LOST, errno.EIO)
    assert file.locks_lost is (step != "unlock")


async def test_the_end_of_a_block_says_that_its_lock_did_not_last(client: Client) -> None:
    (file,) = await opens(client, 1)
    with pytest.raises(FS3Error, match="silent"):
        async with client.hold_lock(file):
            await lose_locks(client)
    async with client.hold_lock(file):
        pass


async def test_a_removed_file_is_locked_no_more(client: Client) -> None:
    (file,) = await opens(client, 1, "r")
    await client.lock(file)
    await client.unlink("/f")
    await client.unlock(file)
    await client.close(file)

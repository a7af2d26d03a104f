"""What is remembered of the stored bytes of files with holes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from msgspec.structs import replace

from fs3.api.fuse import stored_counts
from fs3.api.fuse.stored_counts import StoredCounts
from fs3.base.errors import error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.runtime.tasks import TaskSet

INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 100, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT, has_holes=True)


class Storage:
    """Stands for a client: what is stored is a number."""

    def __init__(self) -> None:
        self.stored = 10
        self.asked: list[InodeId] = []
        self.fails = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def count_stored(self, inode: Inode, chunks_max: int) -> int:
        self.asked.append(inode.id)
        if self.fails:
            raise error(Code.ACCESS, "may not be read")
        await self.answers.wait()
        return self.stored


class Clock:
    def __init__(self) -> None:
        self.at = 0

    def now(self) -> int:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks() -> TaskSet:
    return TaskSet()


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def counts(storage: Storage, clock: Clock, tasks: TaskSet) -> StoredCounts:
    return StoredCounts(cast(Any, storage), cast(Any, clock), tasks)


async def test_a_file_is_counted_once_for_each_change(storage: Storage, counts: StoredCounts) -> None:
    assert counts.find(INODE) is None
    await counts.count(INODE)
    await counts.count(INODE)
    assert (counts.find(INODE), storage.asked) == (10, [5])
    later, storage.stored = replace(INODE, change=8), 20
    assert counts.find(later) is None
    await counts.count(later)
    assert counts.find(later) == 20
    counts.forget(INODE.id)
    assert counts.find(later) is None


async def test_what_storage_does_not_tell_is_asked_again_after_a_while(
    storage: Storage, counts: StoredCounts, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fs3.fuse")
    storage.fails = True
    for inode in (INODE, INODE, replace(INODE, id=InodeId(6))):
        await counts.count(inode)
    assert counts.find(INODE) is None
    assert storage.asked == [5, 6]
    assert [record.message for record in caplog.records] == ["what is stored of inode 5 is not known: may not be read"]
    storage.fails = False
    clock.at = stored_counts.failure_valid_ns - 1
    await counts.count(INODE)
    assert counts.find(INODE) is None
    clock.at += 1
    await counts.count(INODE)
    assert counts.find(INODE) == 10


async def test_a_file_that_has_changed_is_asked_for_at_once(storage: Storage, counts: StoredCounts) -> None:
    storage.fails = True
    await counts.count(INODE)
    storage.fails = False
    later = replace(INODE, change=8)
    await counts.count(later)
    assert counts.find(later) == 10


async def test_no_call_waits_for_long_and_an_answer_that_is_late_counts(
    storage: Storage, counts: StoredCounts, tasks: TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_counts, "count_patience_ns", 1)
    storage.answers.clear()
    await counts.count(INODE)
    await counts.count(INODE)
    assert counts.find(INODE) is None
    assert (storage.asked, len(tasks)) == ([5], 1)
    storage.answers.set()
    await tasks.join()
    assert counts.find(INODE) == 10


async def test_those_that_were_counted_longest_ago_are_forgotten(
    storage: Storage, counts: StoredCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_counts, "stored_counts_max", 2)
    files = [replace(INODE, id=InodeId(number)) for number in range(1, 4)]
    for file in files:
        await counts.count(file)
    assert [counts.find(file) for file in files] == [None, 10, 10]

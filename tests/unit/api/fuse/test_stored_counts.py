"""What is remembered of the stored bytes of files with holes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from fs3.api.fuse import stored_counts
from fs3.api.fuse.stored_counts import StoredCounts
from fs3.base.errors import error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.model.inode import NO_LAYOUT, Inode, InodeType

INODE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 100, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT, has_holes=True)


class Storage:
    """Stands for a client: what is stored is a number."""

    def __init__(self) -> None:
        self.stored = 10
        self.asked: list[InodeId] = []
        self.fails = False

    async def count_stored(self, inode: Inode, chunks_max: int) -> int:
        self.asked.append(inode.id)
        if self.fails:
            raise error(Code.ACCESS, "may not be read")
        return self.stored


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def counts(storage: Storage) -> StoredCounts:
    return StoredCounts(cast(Any, storage))


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


async def test_what_storage_does_not_tell_is_asked_again(storage: Storage, counts: StoredCounts) -> None:
    storage.fails = True
    await counts.count(INODE)
    assert counts.find(INODE) is None
    storage.fails = False
    await counts.count(INODE)
    assert counts.find(INODE) == 10


async def test_those_that_were_counted_longest_ago_are_forgotten(
    storage: Storage, counts: StoredCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_counts, "stored_counts_max", 2)
    files = [replace(INODE, id=InodeId(number)) for number in range(1, 4)]
    for file in files:
        await counts.count(file)
    assert [counts.find(file) for file in files] == [None, 10, 10]

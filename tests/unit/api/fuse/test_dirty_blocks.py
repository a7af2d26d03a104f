"""What is written and not stored yet: gathered, ordered, kept when storing fails, bounded."""

import asyncio
import errno

import pytest

from fs3.api.fuse.dirty_blocks import DirtyBlocks
from fs3.api.io.buffer_budget import BufferBudget
from fs3.api.io.write_behind import BLOCK_BYTES, file_behind_bytes_max
from fs3.base.units import MIB

CHUNK = 1 * MIB


class Storage:
    """Bytes of one file; what is to be stored waits, and fails, as told."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.open = asyncio.Event()
        self.open.set()
        self.failure: OSError | None = None
        self.stores: list[tuple[int, int]] = []

    async def store(self, data: memoryview, offset: int) -> int:
        self.stores.append((offset, len(data)))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data
        return len(data)


def blocks_of(storage: Storage, limit: int = 1 << 30) -> DirtyBlocks:
    return DirtyBlocks(storage.store, CHUNK, budget=BufferBudget(limit, limit // 2))


async def test_neighbouring_writes_are_stored_together() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    for at in range(0, 1000, 10):
        await blocks.write(memoryview(b"0123456789"), at)
    assert blocks.try_write(memoryview(b"changed"), 0)
    assert blocks
    assert blocks.end == 1000
    await blocks.drain()
    assert storage.stores == [(0, 1000)]
    assert bytes(storage.data) == b"changed789" + b"0123456789" * 99
    assert not blocks


async def test_full_blocks_leave_by_themselves_and_end_at_their_multiples() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    await blocks.write(memoryview(bytes(2 * BLOCK_BYTES)), 100)
    await blocks.drain()
    assert storage.stores == [(100, BLOCK_BYTES - 100), (BLOCK_BYTES, BLOCK_BYTES), (2 * BLOCK_BYTES, 100)]


async def test_writes_on_each_other_are_stored_in_their_order() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    storage.open.clear()
    await blocks.write(memoryview(b"aaaa"), 0)
    await blocks.write(memoryview(b"zz"), 1000)
    await blocks.write(memoryview(b"bb"), 2)
    draining = asyncio.ensure_future(blocks.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(storage.stores) == [(0, 4), (1000, 2)]
    storage.open.set()
    await draining
    assert bytes(storage.data[:4]) == b"aabb"


async def test_a_read_waits_for_what_lies_in_its_range_alone() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    await blocks.write(memoryview(b"aaaa"), 0)
    await blocks.write(memoryview(b"zz"), 1000)
    assert blocks.overlap(3, 5)
    assert not blocks.overlap(4, 1000)
    await blocks.settle(0, 4)
    assert storage.stores == [(0, 4)]
    assert blocks.overlap(1001, 1002)


async def test_what_could_not_be_stored_is_kept_told_and_tried_again() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    storage.failure = OSError(errno.ENOSPC, "no room")
    await blocks.write(memoryview(b"aaaa"), 0)
    for _ in range(2):
        with pytest.raises(OSError, match="no room") as caught:
            await blocks.drain()
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="no room"):
        await blocks.write(memoryview(b"bb"), 2)
    with pytest.raises(OSError, match="no room"):
        await blocks.settle(0, 1)
    storage.failure = None
    await blocks.write(memoryview(b"bb"), 2)
    await blocks.drain()
    assert bytes(storage.data) == b"aabb"


async def test_a_block_on_one_that_failed_waits_for_it() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    storage.failure = OSError(errno.EIO, "broken")
    storage.open.clear()
    await blocks.write(memoryview(b"aaaa"), 0)
    await blocks.write(memoryview(b"z"), 1000)
    await blocks.write(memoryview(b"bb"), 2)
    draining = asyncio.ensure_future(blocks.drain())
    storage.open.set()
    with pytest.raises(OSError, match="broken"):
        await draining
    assert (2, 2) not in storage.stores
    storage.failure = None
    await blocks.drain()
    assert bytes(storage.data[:4]) == b"aabb"
    assert storage.data[1000:] == b"z"


async def test_no_more_is_under_way_than_may_be() -> None:
    storage = Storage()
    blocks = blocks_of(storage)
    storage.open.clear()
    writing = asyncio.ensure_future(blocks.write(memoryview(bytes(2 * file_behind_bytes_max)), 0))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not writing.done()
    assert sum(size for _, size in storage.stores) <= file_behind_bytes_max
    storage.open.set()
    await writing
    await blocks.drain()
    assert len(storage.data) == 2 * file_behind_bytes_max


async def test_a_spent_budget_slows_a_writer_and_does_not_stop_it() -> None:
    storage = Storage()
    blocks = blocks_of(storage, limit=1 * MIB)
    data = bytes(range(256)) * 4096 * 6
    for at in range(0, len(data), 100_000):
        await blocks.write(memoryview(data)[at : at + 100_000], at)
    await blocks.drain()
    assert bytes(storage.data) == data
    await blocks.write(memoryview(b"x"), 0)
    assert blocks.drop() == 1
    assert not blocks

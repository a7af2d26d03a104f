"""Blocks that were overwritten are used again: block files grow with what is stored, not with what was ever written."""

import asyncio
from collections import deque

import pytest

from fs3.base.ids import InodeId, TargetId, file_chunk
from fs3.base.units import KIB, SECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.chunk_tools import FILL, REMOVE, WRITE, apply, noise, update_of

BLOCK = 64 * KIB
CHUNKS = [file_chunk(InodeId(9), index) for index in range(16)]
ROUNDS = 25
WINDOW = 4
"""Updates under way at any time."""
BARRIERS_BEHIND = 3
"""A block that a commit has retired is taken along by the next barrier that begins, and free when that is over; one more barrier
may have begun before the commit. Until then it stays beside the blocks that those barriers write."""


def open_store(directory, **config):
    return FileChunkStore.open(directory, TargetId(1), OsClock(), config=ChunkStoreConfig(disk_reserve_bytes=0, **config))


def file_bytes(store):
    return sum(path.stat().st_size for path in store.directory.glob("blocks-*"))


async def overwrite(store, kinds, *, between=lambda chunk: None):
    """Every chunk again and again, a window of them at a time. The most that the block files had."""
    todo = deque((chunk, number) for number in range(ROUNDS) for chunk in CHUNKS)
    largest = 0

    async def work():
        nonlocal largest
        while todo:
            chunk, number = todo.popleft()
            for kind in kinds:
                data = b"" if kind is REMOVE else noise(BLOCK, number)
                await apply(store, update_of(chunk, kind, 0, data, seq=number + 1))
            between(chunk)
            largest = max(largest, file_bytes(store))

    # Chunks of one worker are never those of another at the same time: the window is smaller than the file.
    await asyncio.gather(*(work() for _ in range(WINDOW)))
    return largest


@pytest.mark.parametrize("kinds", [(WRITE,), (FILL,), (WRITE, REMOVE)], ids=["overwritten", "filled", "removed and written"])
async def test_blocks_are_used_again(tmp_path, kinds):
    store = open_store(tmp_path / "target")
    largest = await overwrite(store, kinds)
    assert largest <= (len(CHUNKS) + BARRIERS_BEHIND * WINDOW) * BLOCK
    await store.close()


async def test_blocks_are_used_again_after_a_restart(tmp_path):
    store = open_store(tmp_path / "target")
    largest = await overwrite(store, (WRITE,))
    await store.close()
    again = open_store(tmp_path / "target", block_reuse_delay_ns=0)  # for one delay after opening, blocks rest
    assert await overwrite(again, (WRITE,)) <= max(largest, (len(CHUNKS) + BARRIERS_BEHIND * WINDOW) * BLOCK)
    await again.close()


async def test_blocks_that_were_read_meanwhile_are_used_again_when_they_have_rested(tmp_path):
    """Their pages may be in sockets still. What rests is what was overwritten within one delay, however much was before."""
    clock = SteppedClock()
    store = FileChunkStore.open(
        tmp_path / "target", TargetId(1), clock, config=ChunkStoreConfig(disk_reserve_bytes=0, block_reuse_delay_ns=2 * SECOND)
    )

    def read(chunk):
        found = store.read(chunk, 0, BLOCK)
        if found is not None:
            store.release(found.pin)
        clock.passed_ns += 2 * SECOND // len(CHUNKS)  # one delay, one round

    largest = await overwrite(store, (WRITE,), between=read)
    assert largest <= (2 * len(CHUNKS) + (BARRIERS_BEHIND + 1) * WINDOW) * BLOCK
    await store.close()


class SteppedClock(OsClock):
    """Goes on by itself, and further when it is told to."""

    def __init__(self):
        super().__init__()
        self.passed_ns = 0

    def now(self):
        return super().now() + self.passed_ns

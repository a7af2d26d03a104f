"""What the process before has sent may still lie in sockets when a store is opened: its blocks are left alone for a while."""

import asyncio

import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore
from fs3.drivers.chunks.files import BlockFiles
from fs3.sim.conformance.chunk_tools import REMOVE, WRITE, A, B, C, apply, content, noise, stage, update_of, write

DELAY = 2 * SECOND
SIZE = 200 * KIB


class ManualClock:
    def __init__(self):
        self.time = 100 * SECOND

    def now(self):
        return self.time

    def wall(self):
        return self.time


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def opened(tmp_path, clock):
    stores = []

    async def make(**config):
        """The store of this test, opened anew. The clock stands still meanwhile."""
        if stores:
            await stores[-1].close()
        config = {"disk_reserve_bytes": 0, "index_map_bytes": 16 * MIB, "block_reuse_delay_ns": DELAY, **config}
        stores.append(FileChunkStore.open(tmp_path / "target", TargetId(1), clock, config=ChunkStoreConfig(**config)))
        return stores[-1]

    yield make
    await stores[-1].close()


def send(store, chunk):
    """A reader has got a chunk by `sendfile`, as far as the store knows."""
    result = store.read(chunk, 0, SIZE)
    if result is not None:  # else the file system cannot tell what is in the page cache; the process ends anyway
        store.release(result.pin)
    return store.locate(chunk).offset


async def test_what_was_free_is_used_when_the_delay_has_passed(opened, clock):
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1))
    sent = send(store, A)
    await apply(store, update_of(A, REMOVE))
    store = await opened()
    space = store.get_space()
    await write(store, B, 0, noise(SIZE, 2))
    assert store.locate(B).offset != sent
    assert store.get_space().free <= space.free, "what rests counts as room all the time"
    clock.time += DELAY
    await write(store, C, 0, noise(SIZE, 3))
    assert store.locate(C).offset == sent
    assert await content(store, B) == noise(SIZE, 2)


async def test_what_becomes_free_soon_after_opening_rests_too(opened, clock):
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1))
    sent = send(store, A)
    store = await opened()
    clock.time += DELAY - 1
    await apply(store, update_of(A, REMOVE))
    await store.flush()
    assert store.get_space().pinned
    await write(store, B, 0, noise(SIZE, 2))
    assert store.locate(B).offset != sent
    clock.time += DELAY
    assert not store.get_space().pinned
    await write(store, C, 0, noise(SIZE, 3))
    assert store.locate(C).offset == sent


async def test_nothing_is_appended_in_place_before(opened, clock):
    """A longer version, cut since, may be what was sent."""
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1), reserve=2 * SIZE)
    sent = send(store, A)
    store = await opened()
    await write(store, A, SIZE, noise(1000, 2), reserve=2 * SIZE)
    moved = store.locate(A).offset
    assert moved != sent
    clock.time += DELAY
    await write(store, A, SIZE + 1000, noise(1000, 3), reserve=2 * SIZE)
    assert await content(store, A) == noise(SIZE, 1) + noise(1000, 2) + noise(1000, 3)


async def test_a_new_store_has_nothing_to_wait_for(opened):
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1), reserve=2 * SIZE)
    where = store.locate(A).offset
    await write(store, A, SIZE, noise(1000, 2), reserve=2 * SIZE)
    assert store.locate(A).offset == where
    await apply(store, update_of(A, REMOVE))
    await store.flush()
    assert not store.get_space().pinned


async def test_a_full_disk_waits_for_what_rests(opened, clock, monkeypatch):
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1))
    await apply(store, update_of(A, REMOVE))
    store = await opened()
    room = [0]
    monkeypatch.setattr(BlockFiles, "free_bytes", lambda files: room[0])

    def punch(files, place):
        room[0] = 10 * MIB
        return True

    monkeypatch.setattr(BlockFiles, "punch", punch)
    store._planner.disk_free_bytes = 0
    writing = asyncio.ensure_future(stage(store, update_of(B, WRITE, 0, noise(SIZE, 2))))
    await asyncio.sleep(0)
    await store.flush()
    assert not writing.done()
    clock.time += DELAY
    store._write_path._begin_barrier()
    assert (await writing).code is Code.OK


async def test_closing_does_not_wait_for_what_rests(opened, monkeypatch):
    store = await opened()
    await write(store, A, 0, noise(SIZE, 1))
    await apply(store, update_of(A, REMOVE))
    store = await opened()
    monkeypatch.setattr(BlockFiles, "free_bytes", lambda files: 0)
    store._planner.disk_free_bytes = 0
    writing = asyncio.ensure_future(stage(store, update_of(B, WRITE, 0, noise(SIZE, 2))))
    await asyncio.sleep(0)
    await store.flush()
    await store.close()
    assert (await writing).code is Code.SHUTTING_DOWN

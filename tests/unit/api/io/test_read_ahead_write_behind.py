"""Reading ahead and writing behind, over a fake file in memory."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator

import pytest

from fs3.api.io import read_ahead as reading
from fs3.api.io.buffer_budget import BufferBudget, buffer_bytes_first, file_buffer_bytes_min
from fs3.api.io.buffers import BufferPool, ReadBuffer
from fs3.api.io.read_ahead import ReadAheadReader
from fs3.api.io.write_behind import (
    WriteBehindWriter,
    block_bytes_for,
    file_behind_bytes_max,
)
from fs3.base.limits import client_write_call_bytes

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop

    async def end_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end_all(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class FakeFile:
    """Bytes, and what was asked of them."""

    def __init__(self, content: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.content = content
        self.loop = loop
        self.asked: list[tuple[int, int]] = []
        self.failures = 0

    async def fetch(self, offset: int, view: memoryview) -> int:
        self.asked.append((offset, len(view)))
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OSError("fetch failed")
        data = self.content[offset : offset + len(view)]
        view[: len(data)] = data
        return len(data)

    def fetch_directly(self, offset: int, view: memoryview) -> bool:
        return False


def make(length: int, loop: asyncio.AbstractEventLoop, ahead: bool = True) -> tuple[FakeFile, ReadAheadReader]:
    file = FakeFile(random.Random(1).randbytes(length), loop)
    return file, ReadAheadReader(file, length, ahead)


def test_reads_of_all_kinds_return_the_file(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(20 * MIB + 3, loop)
    rng = random.Random(2)
    at = 0
    for _ in range(400):
        if rng.random() < 0.1:
            at = rng.randrange(len(file.content))
        length = rng.choice((1, 100, 8 * KIB, 200 * KIB, 3 * MIB))
        if rng.random() < 0.5:
            assert reader.read(at, length) == file.content[at : at + length]
        else:
            buffer = bytearray(length)
            count = reader.read_into(at, memoryview(buffer))
            assert buffer[:count] == file.content[at : at + length]
            assert count == max(0, min(length, len(file.content) - at))
        at += length
    reader.close()


def test_reading_in_order_asks_for_large_ranges_ahead(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(32 * MIB, loop)
    assert b"".join(reader.read(at, 64 * KIB) for at in range(0, 32 * MIB, 64 * KIB)) == file.content
    assert len(file.asked) < 25
    assert sum(length for _, length in file.asked) <= 32 * MIB + reading.READ_AROUND_BYTES


def test_random_reads_ask_for_just_what_is_wanted(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(4 * MIB, loop)
    wanted = [(at * 70_001, 4096) for at in range(50, 1, -1)]
    for at, length in wanted:
        reader.read(at, length)
    assert file.asked == wanted


def test_small_reads_at_the_beginning_come_from_one_request(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(100 * KIB, loop)
    for at in range(0, 100, 10):
        assert reader.read(at, 10) == file.content[at : at + 10]
    assert file.asked == [(0, 100 * KIB)]


def test_without_reading_ahead_nothing_more_is_asked_for(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(MIB, loop, ahead=False)
    for at in range(0, MIB, 128 * KIB):
        reader.read(at, 128 * KIB)
    assert file.asked == [(at, 128 * KIB) for at in range(0, MIB, 128 * KIB)]


def test_a_fetch_ahead_that_fails_is_tried_when_it_is_needed(loop: asyncio.AbstractEventLoop) -> None:
    file, reader = make(16 * MIB, loop)
    for at in range(0, MIB, 256 * KIB):
        reader.read(at, 256 * KIB)
    data = b""
    for at in range(MIB, 16 * MIB, 256 * KIB):
        if at == 4 * MIB:
            file.failures = 1  # of one that is asked for ahead; reading it once more then works
        data += reader.read(at, 256 * KIB)
    assert data == file.content[MIB:]
    assert file.failures == 0


class FakeStore:
    """A file that is written to."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.stored: list[tuple[int, int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None

    async def store(self, data: memoryview, offset: int) -> int:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        end = offset + len(data)
        self.content += bytes(max(0, end - len(self.content)))
        self.content[offset:end] = data
        self.stored.append((offset, len(data)))
        return len(data)


@pytest.mark.parametrize("start", [0, 5, 100_000])
@pytest.mark.parametrize("chunk", [64 * KIB, 100_000, 4 * MIB])
def test_what_is_written_is_stored_once_and_in_place(loop: asyncio.AbstractEventLoop, start: int, chunk: int) -> None:
    store = FakeStore()
    writer = WriteBehindWriter(loop, store.store, "/x", start, chunk, block=chunk if chunk < MIB else 0)
    rng = random.Random(chunk + start)
    expected = bytearray(start)
    for length in (0, 1, 10, chunk - 11, chunk, chunk + 1, 3 * chunk, 10, 2 * chunk + 7):
        data = rng.randbytes(length)
        if rng.random() < 0.5:
            assert writer.write(data) == length
        else:
            changing = bytearray(data)
            assert writer.write(changing) == length
            changing[:] = bytes(length)
        expected += data
        assert writer.position == len(expected)
    writer.flush()
    assert store.content == expected
    assert sum(length for _, length in store.stored) == len(expected) - start
    inner = [offset for offset, _ in sorted(store.stored)[1:]]
    assert all(offset % writer.block == 0 for offset in inner)


def test_a_writer_waits_when_too_much_is_behind(loop: asyncio.AbstractEventLoop) -> None:
    store = FakeStore()
    store.open.clear()
    writer = WriteBehindWriter(loop, store.store, "/x", 0, 4 * MIB)
    taken = 0

    def write() -> None:
        nonlocal taken
        for _ in range(0, 2 * file_behind_bytes_max, MIB):
            taken += writer.write(bytearray(MIB))

    thread = threading.Thread(target=write)
    thread.start()
    while taken < file_behind_bytes_max and thread.is_alive():
        thread.join(0.01)
    thread.join(0.1)  # were it not to wait, it would have gone on by then
    assert thread.is_alive()
    assert file_behind_bytes_max <= taken <= file_behind_bytes_max + writer.block
    loop.call_soon_threadsafe(store.open.set)
    thread.join(20)
    writer.flush()
    assert len(store.content) == taken == 2 * file_behind_bytes_max


def test_the_first_failure_is_raised_from_then_on(loop: asyncio.AbstractEventLoop) -> None:
    store = FakeStore()
    store.failure = OSError(28, "no space")
    writer = WriteBehindWriter(loop, store.store, "/x", 0, 64 * KIB, block=64 * KIB)
    with pytest.raises(OSError, match="no space"):
        writer.write(bytes(2 * file_behind_bytes_max))
    for call in (writer.flush, lambda: writer.write(b"x")):
        with pytest.raises(OSError, match="no space"):
            call()
    writer.abandon()
    assert store.stored == []


def test_abandoning_waits_for_what_is_under_way(loop: asyncio.AbstractEventLoop) -> None:
    store = FakeStore()
    writer = WriteBehindWriter(loop, store.store, "/x", 0, 64 * KIB, block=64 * KIB)
    writer.write(bytes(200 * KIB))
    writer.abandon()
    before = list(store.stored)
    writer.abandon()
    assert store.stored == before
    assert (200 * KIB // (64 * KIB) * 64 * KIB, 8 * KIB) not in store.stored


@pytest.mark.parametrize("chunk", [64 * KIB, 1_000_000, 4 * MIB, 5 * MIB, 8 * MIB, 64 * MIB])
def test_blocks_suit_chunks(chunk: int) -> None:
    block = block_bytes_for(chunk)
    assert 2 * MIB < block <= client_write_call_bytes
    assert block % chunk == 0 or chunk > client_write_call_bytes


@pytest.mark.parametrize("length", [0, 1, 64 * KIB, 64 * KIB + 1, 3 * MIB])
def test_landings_become_bytes(length: int) -> None:
    data = random.Random(3).randbytes(length)
    for count in {length, length // 2, max(0, length - 1), 0}:
        buffer = ReadBuffer(length)
        assert len(buffer.view) == length
        buffer.view[:] = data
        assert buffer.take(count) == data[:count]


def test_blocks_are_used_again_within_the_limit() -> None:
    blocks = BufferPool(300)
    first, second = blocks.take(100), blocks.take(200)
    blocks.give(first)
    blocks.give(second)
    assert blocks.take(100) is first
    assert blocks.take(100) is not first
    assert blocks.take(200) is second
    blocks.give(bytearray(301))
    for _ in range(5):
        blocks.give(bytearray(100))
    assert len(blocks._spare) == 3


# --- one budget for all files ------------------------------------------------------------------------------------------


def test_a_writer_holds_memory_for_what_was_written(loop: asyncio.AbstractEventLoop) -> None:
    budget = BufferBudget(64 * MIB, MIB)
    writers = [WriteBehindWriter(loop, FakeStore().store, "/x", 0, 4 * MIB, budget=budget) for _ in range(500)]
    assert budget.held == 0
    for writer in writers:
        writer.write(b"1")
    assert budget.held == 500 * buffer_bytes_first
    for size in (10_000, 100_000, 1_000_000):
        before = budget.held
        writers[0].write(bytes(size))
        assert budget.held - before <= 2 * size
    for writer in writers:
        writer.flush()
    assert budget.held == 0


def test_many_writers_stay_within_the_budget_and_lose_nothing(loop: asyncio.AbstractEventLoop) -> None:
    budget = BufferBudget(5 * MIB, MIB)
    stores = [FakeStore() for _ in range(20)]
    writers = [WriteBehindWriter(loop, store.store, "/x", 0, 4 * MIB, budget=budget) for store in stores]
    rng = random.Random(7)
    expected = [bytearray() for _ in writers]
    most = 0
    for step in range(60):
        for writer, content in zip(writers, expected, strict=True):
            data = rng.randbytes(rng.choice((10, 3_000, 60_000, 300_000)))
            writer.write(data if step % 2 else bytearray(data))
            content += data
            most = max(most, budget.held)
    assert most <= 4 * MIB + 2 * len(writers) * file_buffer_bytes_min
    for writer, store, content in zip(writers, stores, expected, strict=True):
        writer.flush()
        assert store.content == content
    assert budget.held == 0


def test_a_writer_goes_on_when_nothing_of_the_budget_is_left(loop: asyncio.AbstractEventLoop) -> None:
    budget = BufferBudget(5 * MIB, MIB)
    idle = budget.open_share()
    idle.take_anyway(64 * MIB)
    store = FakeStore()
    writer = WriteBehindWriter(loop, store.store, "/x", 0, 4 * MIB, budget=budget)
    data = random.Random(8).randbytes(MIB)
    for at in range(0, MIB, 10_000):
        writer.write(data[at : at + 10_000])
        assert budget.held - idle.held <= 2 * file_buffer_bytes_min
    writer.flush()
    assert store.content == data


def test_a_failed_and_an_abandoned_writer_give_their_memory_back(loop: asyncio.AbstractEventLoop) -> None:
    budget = BufferBudget(64 * MIB, MIB)
    store = FakeStore()
    store.failure = OSError(28, "no space")
    failing = WriteBehindWriter(loop, store.store, "/x", 0, 64 * KIB, block=64 * KIB, budget=budget)
    with pytest.raises(OSError, match="no space"):
        failing.write(bytes(2 * file_behind_bytes_max))
    failing.abandon()
    writer = WriteBehindWriter(loop, FakeStore().store, "/x", 0, 4 * MIB, budget=budget)
    writer.write(bytearray(10 * MIB))
    writer.abandon()
    assert budget.held == 0


def test_many_readers_stay_within_the_budget_and_read_what_is_there(loop: asyncio.AbstractEventLoop) -> None:
    budget = BufferBudget(9 * MIB, MIB)
    content = random.Random(9).randbytes(20 * MIB)
    files = [FakeFile(content, loop) for _ in range(10)]
    readers = [ReadAheadReader(file, len(content), budget=budget) for file in files]
    for at in range(0, len(content), 512 * KIB):
        for reader in readers:
            assert reader.read(at, 512 * KIB) == content[at : at + 512 * KIB]
            assert budget.held <= 8 * MIB
    assert all(max(length for _, length in file.asked) > reading.READ_AROUND_BYTES for file in files)
    assert all(reader.read(len(content), 1) == b"" for reader in readers)
    assert budget.held == 0  # at their end, though they are open


def test_a_reader_reads_in_place_when_nothing_of_the_budget_is_left_and_ahead_again_later(
    loop: asyncio.AbstractEventLoop,
) -> None:
    budget = BufferBudget(9 * MIB, MIB)
    idle = budget.open_share()
    idle.take_anyway(64 * MIB)
    file = FakeFile(random.Random(10).randbytes(16 * MIB), loop)
    reader = ReadAheadReader(file, len(file.content), budget=budget)
    for at in range(0, 8 * MIB, MIB):
        assert reader.read(at, MIB) == file.content[at : at + MIB]
    assert file.asked == [(at, MIB) for at in range(0, 8 * MIB, MIB)]
    idle.give(idle.held)
    for at in range(8 * MIB, 12 * MIB, MIB):
        assert reader.read(at, MIB) == file.content[at : at + MIB]
    assert budget.held > 0
    del reader
    assert budget.held == 0


def test_all_of_a_small_file_is_had_unless_some_was_sent(loop: asyncio.AbstractEventLoop) -> None:
    store = FakeStore()
    budget = BufferBudget(MIB, KIB)
    writer = WriteBehindWriter(loop, store.store, "/x", 0, 4 * MIB, budget=budget)
    assert writer.take_unsent(10) == b""
    writer.write(b"01234")
    writer.write(b"56789")
    assert writer.take_unsent(9) is None
    assert writer.take_unsent(10) == b"0123456789"
    writer.flush()
    assert not store.content
    writer.write(b"more")
    writer.flush()
    assert writer.take_unsent(10) is None

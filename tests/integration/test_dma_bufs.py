"""Files and pages read into and written from dma-bufs: of a kernel that has them in memfds, and of this machine's, if it makes
any."""

from __future__ import annotations

import asyncio
import mmap
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fs3
from fs3.api.connect import connect_embedded
from fs3.api.io import dma_buf as module
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.device_memory import set_device_copier
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error, InvalidArgument, InvalidType
from tests.device_arrays import DeviceArray, MemmoveCopier
from tests.dma_bufs import END, READ, WRITE, FakeDmaBufs, RealDmaBufs, real_dma_buf_problem

pytestmark = pytest.mark.timeout(240)

PAGE = 5000
SIZE = 8 * mmap.PAGESIZE
OK, MISS = Status.OK, Status.MISS

KERNELS = [
    "fake",
    pytest.param("real", marks=pytest.mark.skipif(bool(real_dma_buf_problem()), reason=f"no dma-buf: {real_dma_buf_problem()}")),
]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "real":
        yield RealDmaBufs()
        return
    made = FakeDmaBufs()
    monkeypatch.setattr(module, "_kernel", made)
    yield made
    assert made.accesses == 0, "all accesses were ended"
    made.close()


@pytest.fixture
def fd(kernel: Any) -> Iterator[int]:
    made = kernel.make(bytes(SIZE))
    yield made
    os.close(made)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[fs3.Client]:
    async with await connect_embedded(str(tmp_path / "fs3")) as opened:
        yield opened


@pytest.fixture
async def cache(client: fs3.Client) -> AsyncIterator[KVCache]:
    async with await KVCache.of(client, namespace=uuid.uuid4().hex, page_bytes=PAGE) as opened:
        yield opened


def bytes_of(count: int) -> bytes:
    return bytes(number * number % 251 for number in range(count))


async def test_files(client: fs3.Client, kernel: Any, fd: int) -> None:
    data = bytes_of(20_000)
    kernel.store(fd, data)
    file = await client.open("/f", "w")
    with fs3.DmaBuf(fd) as buffer:
        assert await client.pwrite(file, buffer[:20_000], 3) == 20_000
        assert await client.pread(file, 30_000, 0) == bytes(3) + data
        assert await client.pwrite(file, buffer[:0], 3) == 0

        assert await client.pread_into(file, buffer[100:], 3) == 20_000
        assert kernel.load(fd, SIZE) == data[:100] + data + bytes(SIZE - 20_100)
        assert await client.pread_into(file, buffer, 30_000) == 0

        host, array = bytearray(9), np.zeros(4, np.uint16)
        requests = [(file, 3, host), (file, 4, buffer[:5000]), (file, 9_999, array), (file, 20_002, buffer[7000:7100])]
        assert await client.preadv_many(requests) == [9, 5000, 8, 1]
        assert (bytes(host), array.tobytes()) == (data[:9], data[9_996:10_004])
        assert kernel.load(fd, 5000) == data[1:5001]
        assert kernel.load(fd, 7001)[7000:] == data[-1:]

        kernel.store(fd, b"of the device")
        other = await client.open("/g", "w")
        assert await client.pwritev_many([(file, 0, b"abc"), (other, 0, buffer[:13])]) == [None, None]
        assert await client.pread(other, 100, 0) == b"of the device"
    await client.close(file)
    await client.close(other)
    assert buffer_budget.held == 0


async def test_pages(cache: KVCache, kernel: Any, fd: int) -> None:
    pages = [bytes_of(size) for size in (PAGE, 1, 3000, 2000)]
    keys = ["a", "b", "c", "d"]
    kernel.store(fd, b"".join(pages))
    with fs3.DmaBuf(fd) as buffer, cache.register_buffer(buffer):
        pieces = [buffer[8001:8501], pages[3][500:600], buffer[8601:10_001]]
        assert await cache.put_from(keys, [buffer[:PAGE], pages[1], buffer[5001:8001], pieces]) == [OK] * 4
        host = [bytearray(len(page)) for page in pages]
        assert await cache.get_into(keys, host) == [OK] * 4
        assert list(map(bytes, host)) == pages

        kernel.store(fd, b"." * SIZE)
        parts = [buffer[17:5017], buffer[6000:6001], buffer[7000:10_000], buffer[10_000:12_000]]
        absent = buffer[12_000:12_100]
        assert await cache.get_into([*keys, "e"], [*parts, absent]) == [OK] * 4 + [MISS]
        found = kernel.load(fd, SIZE)
        assert found[:6001] == b"." * 17 + pages[0] + b"." * 983 + pages[1]
        assert found[6001:12_000] == b"." * 999 + pages[2] + pages[3]
        assert found[12_000:] == b"." * (SIZE - 12_000)

        lengths = [-1] * 4
        rooms = [buffer[number * 6000 : (number + 1) * 6000] for number in range(4)]
        assert await cache.get_into(keys, rooms, lengths) == [OK] * 4
        assert lengths == list(map(len, pages))
        found = kernel.load(fd, SIZE)
        assert all(found[at * 6000 : at * 6000 + len(page)] == page for at, page in enumerate(pages))

        mixed = [buffer[:100], bytearray(50), (buffer[200:210], bytearray(5))]
        assert await cache.get_ranges_into(["a", "c", "d"], [(10, 100), (0, 50), (7, 15)], mixed) == [OK] * 3
        found = kernel.load(fd, SIZE)
        assert found[:100] == pages[0][10:110]
        assert mixed[1] == pages[2][:50]
        assert found[200:210] + mixed[2][1] == pages[3][7:22]  # type: ignore[index]
    assert buffer_budget.held == 0


async def test_beside_arrays_that_are_staged(client: fs3.Client, cache: KVCache, kernel: Any, fd: int) -> None:
    set_device_copier(MemmoveCopier())
    try:
        data = bytes_of(4000)
        kernel.store(fd, data)
        with fs3.DmaBuf(fd) as buffer:
            file = await client.open("/f", "w")
            writes = [(file, 0, buffer[:1000]), (file, 1000, DeviceArray(data[1000:2000])), (file, 2000, data[2000:])]
            assert await client.pwritev_many(writes) == [None] * 3
            array = DeviceArray(4000)
            assert await client.preadv_many([(file, 0, array), (file, 0, buffer[9000:13_000])]) == [4000, 4000]
            assert array.tobytes() == data
            assert kernel.load(fd, 13_000)[9000:] == data
            await client.close(file)
            assert await cache.put_from(["a"], [[DeviceArray(data[:5]), buffer[5:4000]]]) == [OK]
            rest = DeviceArray(3900)
            assert await cache.get_into(["a"], [[buffer[20_000:20_100], rest]]) == [OK]
            assert kernel.load(fd, 20_100)[20_000:] + rest.tobytes() == data
    finally:
        set_device_copier(None)


async def test_what_cannot_be_is_named(client: fs3.Client, cache: KVCache, kernel: Any, fd: int) -> None:
    file = await client.open("/f", "w")
    zeros = kernel.make(bytes(SIZE), readonly=True)
    with fs3.DmaBuf(zeros) as buffer:
        assert await client.pwrite(file, buffer) == SIZE
        for call in (client.pread_into(file, buffer), client.preadv_many([(file, 0, bytearray(1)), (file, 0, buffer)])):
            with pytest.raises(InvalidType, match=r"buffer is read-only \(DmaBuf\)"):
                await call
        assert await cache.put_from(["a"], [buffer[:10]]) == [OK]
        with pytest.raises(InvalidArgument, match="buffer 0 is read-only"):
            await cache.get_into(["a"], [buffer[:10]])
        with pytest.raises(InvalidArgument, match="buffer is read-only"):
            client.register_buffer(buffer)
        with pytest.raises(InvalidArgument, match="buffer 0 has 5001 bytes; pages here have 1 to 5000"):
            await cache.put_from(["b"], [buffer[:5001]])
        with pytest.raises(InvalidArgument, match="buffer 0 has 4 bytes; its range has 5"):
            await cache.get_ranges_into(["a"], [(0, 5)], [(fs3.DmaBuf(fd)[:4])])
        with pytest.raises(InvalidArgument, match="offset -1"):
            await client.pwrite(file, buffer, -1)
        with pytest.raises(InvalidType, match="is not bytes-like but DmaBuf"):
            await client.append(file, buffer)
    os.close(zeros)
    closed = fs3.DmaBuf(fd)
    closed.close()
    with pytest.raises(InvalidArgument, match="buffer is a dma-buf that was closed"):
        await client.pread_into(file, closed)
    with pytest.raises(InvalidArgument, match="data is a dma-buf that was closed"):
        await client.pwrite(file, closed)
    with pytest.raises(InvalidArgument, match="buffer 0 is a dma-buf that was closed"):
        await cache.put_from(["b"], [closed])
    with pytest.raises(InvalidArgument, match="buffer is a dma-buf that was closed"):
        client.register_buffer(closed)
    await client.close(file)


async def test_calls_that_are_given_up_end_their_access(client: fs3.Client, fd: int, kernel: Any) -> None:
    """As the fixture sees, where it can."""
    file = await client.open("/f", "w")
    with fs3.DmaBuf(fd) as buffer:
        await client.pwrite(file, buffer)
        reading = asyncio.ensure_future(client.pread_into(file, buffer))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await client.pread_into(file, buffer) == SIZE
        reading = asyncio.ensure_future(client.pread_into(file, buffer))
        await asyncio.sleep(0)
    assert await reading == SIZE, "it is mapped to the end of the call"
    await client.close(file)


async def test_a_kernel_that_cannot_begin_an_access_fails_the_call(
    client: fs3.Client, cache: KVCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeDmaBufs()
    monkeypatch.setattr(module, "_kernel", kernel)
    fd = kernel.make(bytes(SIZE))
    file = await client.open("/f", "w")
    await client.pwrite(file, b"bytes of a file")
    with fs3.DmaBuf(fd) as buffer:
        for flags in (READ | WRITE, READ | WRITE | END):
            kernel.failing = {flags}
            with pytest.raises(FS3Error, match="access to a dma-buf cannot be"):
                await client.pread_into(file, buffer)
            with pytest.raises(FS3Error, match="access to a dma-buf cannot be"):
                await cache.get_into(["a"], [buffer])
        kernel.failing = {READ}
        with pytest.raises(FS3Error, match="access to a dma-buf cannot be begun"):
            await client.pwrite(file, buffer)
        kernel.failing = set()
        assert await client.pread_into(file, buffer) == 15
        assert kernel.load(fd, 15) == b"bytes of a file"
    await client.close(file)
    os.close(fd)
    kernel.close()

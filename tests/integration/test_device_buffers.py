"""Files and pages read into and written from device memory, which is staged in host memory, and buffers that are registered."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

import fs3
from fs3.api.connect import connect_embedded
from fs3.api.io import device_staging
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.device_memory import set_device_copier
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import InvalidArgument, InvalidType
from tests.device_arrays import DeviceArray, MemmoveCopier

pytestmark = pytest.mark.timeout(120)

PAGE = 5000
STAGED = 4096
OK, MISS = Status.OK, Status.MISS


@pytest.fixture
def copier(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemmoveCopier]:
    monkeypatch.setattr(device_staging, "staged_bytes_max", STAGED)
    used = MemmoveCopier()
    set_device_copier(used)
    yield used
    set_device_copier(None)


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


async def test_files(client: fs3.Client, copier: MemmoveCopier) -> None:
    data = bytes_of(10_000)
    file = await client.open("/f", "w")
    assert await client.pwrite(file, DeviceArray(data, stream=5), 3) == 10_000
    assert copier.copies == [4096, 4096, 1808]
    assert set(copier.streams) == {5}
    assert await client.pwrite(file, DeviceArray(0, data=(0, False)), 3) == 0
    assert await client.pread(file, 20_000, 0) == bytes(3) + data

    array = DeviceArray(20_000)
    assert await client.pread_into(file, array, 3) == 10_000
    assert array.tobytes() == data + bytes(10_000)
    assert await client.pread_into(file, array, 30_000) == 0
    assert await client.pread_into(file, DeviceArray(0), 0) == 0

    host, first, second = bytearray(9), DeviceArray(5000), np.zeros(4, np.uint16)
    assert await client.preadv_many([(file, 3, host), (file, 4, first), (file, 9_999, second)]) == [9, 5000, 4]
    assert (bytes(host), first.tobytes(), second.tobytes()) == (data[:9], data[1:5001], data[-4:] + bytes(4))

    other = await client.open("/g", "w")
    assert await client.pwritev_many([(file, 0, b"abc"), (other, 0, DeviceArray(data[:5000]))]) == [None, None]
    assert await client.pread(file, 4, 0) == b"abc" + data[:1]
    assert await client.pread(other, 6000, 0) == data[:5000]
    await client.close(file)
    await client.close(other)
    assert max(copier.copies) <= STAGED
    assert buffer_budget.held == 0


async def test_pages(cache: KVCache, copier: MemmoveCopier) -> None:
    pages = [bytes_of(size) for size in (PAGE, 1, 3000, 2000)]
    keys = ["a", "b", "c", "d"]
    pieces = [DeviceArray(pages[3][:500]), pages[3][500:600], DeviceArray(pages[3][600:])]
    assert await cache.put_from(keys, [DeviceArray(pages[0]), pages[1], DeviceArray(pages[2]), pieces]) == [OK] * 4

    host = [bytearray(len(page)) for page in pages]
    assert await cache.get_into(keys, host) == [OK] * 4
    assert list(map(bytes, host)) == pages

    arrays = [DeviceArray(len(page)) for page in pages]
    absent = DeviceArray(b"as it was")
    assert await cache.get_into([*keys, "e"], [*arrays, absent]) == [OK] * 4 + [MISS]
    assert [array.tobytes() for array in arrays] == pages
    assert absent.tobytes() == b"as it was"

    rooms = [DeviceArray(b"." * (PAGE + 10)) for _ in pages]
    lengths = [-1] * 4
    assert await cache.get_into(keys, rooms, lengths) == [OK] * 4
    assert lengths == list(map(len, pages))
    for room, page in zip(rooms, pages, strict=True):
        assert room.tobytes() == page + b"." * (PAGE + 10 - len(page))

    parts = [DeviceArray(100), bytearray(50), (DeviceArray(10), bytearray(5))]
    assert await cache.get_ranges_into(["a", "c", "d"], [(10, 100), (0, 50), (7, 15)], parts) == [OK] * 3
    assert isinstance(parts[0], DeviceArray)
    assert isinstance(parts[2], tuple)
    assert parts[0].tobytes() == pages[0][10:110]
    assert parts[1] == pages[2][:50]
    assert parts[2][0].tobytes() + bytes(parts[2][1]) == pages[3][7:22]
    assert buffer_budget.held == 0


async def test_what_cannot_be_is_named(client: fs3.Client, cache: KVCache, copier: MemmoveCopier) -> None:
    file = await client.open("/f", "w")
    with pytest.raises(InvalidType, match="buffer is read-only"):
        await client.pread_into(file, DeviceArray(4, data=(8, True)))
    with pytest.raises(InvalidArgument, match="data has 4 bytes at address 0"):
        await client.pwrite(file, DeviceArray(4, data=(0, False)))
    with pytest.raises(InvalidArgument, match="buffer is not contiguous"):
        await client.preadv_many([(file, 0, bytearray(1)), (file, 0, DeviceArray(4, strides=(2,)))])
    with pytest.raises(InvalidArgument, match="offset -1"):
        await client.pread_into(file, DeviceArray(4), -1)
    with pytest.raises(TypeError, match=r"elements of type '.O8'"):
        await client.pwrite(file, DeviceArray(8, typestr="|O8", shape=(1,)))
    with pytest.raises(InvalidArgument, match="buffer 1 has 5001 bytes; pages here have 1 to 5000"):
        await cache.put_from(["a", "b"], [DeviceArray(5), DeviceArray(PAGE + 1)])
    with pytest.raises(InvalidArgument, match="buffer 0 is read-only"):
        await cache.get_into(["a"], [DeviceArray(4, data=(8, True))])
    with pytest.raises(InvalidArgument, match="buffer 0, piece 1, is not contiguous"):
        await cache.get_into(["a"], [[DeviceArray(4), DeviceArray(4, strides=(2,))]])
    with pytest.raises(InvalidArgument, match="buffer 0 has 4 bytes; its range has 5"):
        await cache.get_ranges_into(["a"], [(0, 5)], [DeviceArray(4)])
    await client.close(file)
    assert copier.copies == []
    assert (await cache.lookup(["a"])).statuses == [MISS]


async def test_registered_buffers_of_a_client(client: fs3.Client, cache: KVCache, copier: MemmoveCopier) -> None:
    memory = bytearray(100)
    for owner in (client, cache):
        registered = owner.register_buffer(memory)
        assert registered.nbytes == 100
        with pytest.raises(BufferError):
            memory.append(0)
        owner.unregister_buffer(registered)
        memory.append(0)
        memory.pop()
        owner.unregister_buffer(registered)
        assert owner.register_buffer(DeviceArray(7)).nbytes == 7
        with pytest.raises(InvalidArgument, match="buffer is read-only"):
            owner.register_buffer(b"bytes")
        with pytest.raises(TypeError, match="registered is not a RegisteredBuffer but bytearray"):
            owner.unregister_buffer(memory)  # type: ignore[arg-type]
    await client.aclose()
    with pytest.raises(InvalidArgument, match="the client is closed"):
        client.register_buffer(memory)

"""Holes of files: made, found and copied, against a model that keeps every byte."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.space import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import file_chunk
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.client.storage import stored_chunks

CHUNK = 1 << 16
PUNCH = PUNCH_HOLE | KEEP_SIZE


def stored(cluster: Any, file: File, count: int = 64) -> list[int]:
    """Indices of the chunks that storage has of a file."""
    return [index for index in range(count) if cluster.holders(file_chunk(file.inode.content_id, index))]


async def whole(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


async def data_from(client: Client, file: File, offset: int) -> int:
    """Where data begins; the end of the file where there is none."""
    try:
        return await client.seek_data(file, offset)
    except FS3Error as failure:
        if failure.code is not Code.BEYOND_END:
            raise
        return file.length


# --- fallocate --------------------------------------------------------------------------------------------------------


async def test_punching_gives_whole_chunks_back_and_zeros_the_rest(cluster: Any, a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 6 * CHUNK)
    await a.fallocate(file, CHUNK // 2, 4 * CHUNK, PUNCH)
    assert stored(cluster, file) == [0, 4, 5]
    expected = b"x" * (CHUNK // 2) + bytes(4 * CHUNK) + b"x" * (CHUNK + CHUNK // 2)
    assert await a.pread(file, 6 * CHUNK) == expected
    before = await a.stat("/f")
    await a.close(file)
    assert await whole(a, "/f") == expected
    assert (await a.stat("/f")).change > before.change


async def test_punching_touches_nothing_beside_the_range(cluster: Any, a: Client, b: Client) -> None:
    """Also what another client has written behind the end, which has not told of it yet."""
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 100)
    await a.fsync(file)
    theirs = await b.open("/f", "r+")
    await b.pwrite(theirs, b"y" * 100, 100)
    await a.fallocate(file, 0, 100, PUNCH)
    await a.close(file)
    await b.close(theirs)
    assert await whole(a, "/f") == bytes(100) + b"y" * 100


async def test_a_punch_writes_nothing_where_there_is_nothing(cluster: Any, a: Client) -> None:
    file = await a.open("/f", "w")
    await a.truncate(file, 1 << 50)
    await a.pwrite(file, b"x" * 10, 1 << 45)
    await a.fallocate(file, 5, (1 << 50) - 10, PUNCH)
    assert await a.stored_bytes(file) == 0
    assert await a.pread(file, 100, (1 << 45) - 50) == bytes(100)
    await a.fallocate(file, 0, file_bytes_max, PUNCH)
    assert (await a.close(file)).length == 1 << 50


async def test_behind_so_many_chunks_all_counts_as_stored(a: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_chunks, "chunks_per_page_max", 2)
    file = await a.open("/f", "w")
    for at in (0, 1, 5, 6, 20):
        await a.pwrite(file, b"x" * CHUNK, at * CHUNK)
    await a.truncate(file, 30 * CHUNK)
    inode = await a.close(file)
    assert inode.has_holes
    assert await a.count_stored(inode) == await a.count_stored(inode, 6) == 5 * CHUNK
    assert await a.count_stored(inode, 4) == 4 * CHUNK + 23 * CHUNK
    assert await a.count_stored(inode, 1) == 2 * CHUNK + 28 * CHUNK


async def test_the_end_of_a_range_that_reaches_into_a_short_chunk(cluster: Any, a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * (CHUNK + 10))
    await a.fallocate(file, 5, 2 * CHUNK - 6, PUNCH)
    assert await a.pread(file, 2 * CHUNK) == b"x" * 5 + bytes(CHUNK + 5)
    assert await a.stored_bytes(file) == CHUNK + 10
    await a.fallocate(file, 0, 2 * CHUNK, PUNCH)
    assert stored(cluster, file) == []
    assert file.length == CHUNK + 10


async def test_a_file_is_made_longer_and_never_shorter(cluster: Any, a: Client, b: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 10)
    await a.fallocate(file, 0, 20)
    assert (await b.stat("/f")).length == 20
    await a.fallocate(file, 0, 5)
    await a.fallocate(file, 100, 100, KEEP_SIZE)
    assert (await b.stat("/f")).length == 20
    await a.fallocate(file, 5, 100, ZERO_RANGE | KEEP_SIZE)
    assert (await b.stat("/f")).length == 20
    await a.fallocate(file, 15, 100, ZERO_RANGE)
    assert await whole(b, "/f") == b"x" * 5 + bytes(110)
    theirs = await b.open("/f", "r+")
    await b.truncate(theirs, 3)
    await a.fallocate(file, 0, 50)
    assert await whole(b, "/f") == b"x" * 3 + bytes(47)
    await a.close(file)
    await b.close(theirs)


async def test_what_is_not_supported_or_no_range_is_said(a: Client) -> None:
    file = await a.open("/f", "w")
    for mode in (0x02, 0x08, 0x20, 0x40, 0x12, 0x80):
        with pytest.raises(FS3Error, match=f"{mode:#x}") as caught:
            await a.fallocate(file, 0, 10, mode)
        assert caught.value.errno == errno.EOPNOTSUPP
    for offset, length in ((0, 0), (-1, 5), (0, -5)):
        with pytest.raises(InvalidArgument):
            await a.fallocate(file, offset, length)
    with pytest.raises(FS3Error) as caught:
        await a.fallocate(file, file_bytes_max - 5, 10)
    assert caught.value.errno == errno.EFBIG
    await a.close(file)
    reading = await a.open("/f")
    with pytest.raises(InvalidArgument, match="reading only"):
        await a.fallocate(reading, 0, 10)


# --- seeking ----------------------------------------------------------------------------------------------------------


async def test_data_and_holes_are_found(a: Client, b: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 100, 2 * CHUNK)
    await a.pwrite(file, b"x" * 2 * CHUNK, 5 * CHUNK)
    await a.truncate(file, 20 * CHUNK)
    reading = await b.open("/f")
    for client, handle in ((a, file), (b, reading)):
        assert await client.seek_data(handle, 0) == 2 * CHUNK
        assert await client.seek_data(handle, 2 * CHUNK + 5) == 2 * CHUNK + 5
        assert await client.seek_hole(handle, 2 * CHUNK) == 2 * CHUNK + 100
        assert await client.seek_data(handle, 2 * CHUNK + 100) == 5 * CHUNK
        assert await client.seek_hole(handle, 5 * CHUNK + 1) == 7 * CHUNK
        assert await client.seek_hole(handle, 3) == 3
        assert await client.stored_bytes(handle) == 100 + 2 * CHUNK
        for look, offset in ((client.seek_data, 7 * CHUNK), (client.seek_data, 20 * CHUNK), (client.seek_hole, 20 * CHUNK)):
            with pytest.raises(FS3Error) as caught:
                await look(handle, offset)
            assert (caught.value.code, caught.value.errno) == (Code.BEYOND_END, errno.ENXIO)
    await a.close(file)


async def test_a_file_without_holes_ends_in_one(a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * (3 * CHUNK + 1))
    assert await a.seek_hole(file, 0) == 3 * CHUNK + 1
    await a.close(file)


async def test_a_small_file_is_all_data(a: Client) -> None:
    appending = await a.open("/small", "a")
    await a.append(appending, b"x" * 100)
    await a.close(appending)
    file = await a.open("/small")
    assert file.inode.inline
    assert (await a.seek_data(file, 7), await a.seek_hole(file, 7), await a.stored_bytes(file)) == (7, 100, 100)
    with pytest.raises(FS3Error):
        await a.seek_data(file, 100)


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_a_range_is_copied_with_its_holes(cluster: Any, a: Client) -> None:
    source = await a.open("/source", "w")
    await a.pwrite(source, b"x" * (CHUNK + 7))
    await a.pwrite(source, b"y" * 10, 30 * CHUNK)
    await a.truncate(source, 40 * CHUNK)
    target = await a.open("/target", "w")
    await a.pwrite(target, b"t" * 60 * CHUNK)
    assert await a.copy_range(source, 5, target, 2 * CHUNK + 1, 100 * CHUNK) == 40 * CHUNK - 5
    model = bytearray(b"t" * 60 * CHUNK)
    copied = b"x" * (CHUNK + 2) + bytes(29 * CHUNK - 7) + b"y" * 10 + bytes(10 * CHUNK - 10)
    model[2 * CHUNK + 1 : 2 * CHUNK + 1 + len(copied)] = copied
    assert await a.pread(target, 60 * CHUNK) == model
    assert 20 not in stored(cluster, target)
    assert await a.copy_range(source, 40 * CHUNK, target, 0, 5) == 0
    await a.close(target)
    await a.close(source)


async def test_a_copy_may_end_in_a_hole_and_be_of_a_small_file(a: Client) -> None:
    source = await a.open("/source", "w")
    await a.pwrite(source, b"x" * 10)
    await a.truncate(source, 1 << 40)
    target = await a.open("/target", "w")
    assert await a.copy_range(source, 0, target, 3, 1 << 41) == 1 << 40
    assert (await a.close(target)).length == (1 << 40) + 3
    appending = await a.open("/small", "a")
    await a.append(appending, b"small")
    small, target = await a.open("/small"), await a.open("/target", "r+")
    assert await a.copy_range(small, 1, target, 0, 3) == 3
    assert await a.pread(target, 8) == b"mal" + b"x" * 5
    await a.close(target)
    await a.close(source)


async def test_ranges_of_one_file_must_not_overlap(a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"0123456789")
    with pytest.raises(InvalidArgument, match="overlap"):
        await a.copy_range(file, 0, file, 4, 5)
    assert await a.copy_range(file, 0, file, 5, 5) == 5
    assert await a.pread(file, 20) == b"0123401234"
    await a.close(file)


async def test_a_reader_of_what_was_removed_finds_its_data(cluster: Any, a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 10, 3 * CHUNK)
    await a.close(file)
    reading = await a.open("/f")
    await a.unlink("/f")
    assert await a.seek_data(reading, 0) == 3 * CHUNK
    target = await a.open("/g", "w")
    assert await a.copy_range(reading, 0, target, 0, 1 << 30) == 3 * CHUNK + 10
    await a.close(target)
    assert await whole(a, "/g") == bytes(3 * CHUNK) + b"x" * 10


@pytest.mark.parametrize("seed", range(6))
async def test_random_operations_agree_with_a_model(a: Client, seed: int) -> None:
    draw = random.Random(seed)
    file = await a.open("/f", "w")
    model = bytearray()

    def grow(end: int) -> None:
        model.extend(bytes(max(0, end - len(model))))

    for _ in range(60):
        offset, count = draw.randrange(8 * CHUNK), draw.choice((1, 100, CHUNK, 3 * CHUNK))
        if draw.random() < 0.4:
            offset -= offset % CHUNK
        end = offset + count
        match draw.randrange(6):
            case 0 | 1:
                data = draw.randbytes(count)
                await a.pwrite(file, data, offset)
                grow(end)
                model[offset:end] = data
            case 2:
                await a.fallocate(file, offset, count, PUNCH)
                cut = min(end, len(model))
                model[offset:cut] = bytes(max(0, cut - offset))
            case 3:
                await a.fallocate(file, offset, count, ZERO_RANGE)
                grow(end)
                model[offset:end] = bytes(count)
            case 4:
                source = draw.randrange(8 * CHUNK)
                count = min(count, abs(source - offset))
                count = max(0, min(count, len(model) - source))
                assert await a.copy_range(file, source, file, offset, count) == count
                if count:
                    grow(offset + count)
                    model[offset : offset + count] = model[source : source + count]
            case _:
                await a.truncate(file, offset)
                del model[offset:]
                grow(offset)
        assert await a.pread(file, 20 * CHUNK) == model
        at = 0
        while at < len(model):
            data_at = await data_from(a, file, at)
            assert not any(model[at:data_at])
            at = await a.seek_hole(file, data_at) if data_at < len(model) else len(model)
            assert at > data_at or at == len(model)
    await a.close(file)
    assert await whole(a, "/f") == model


async def test_punches_and_writes_of_neighbours_in_one_chunk(a: Client, b: Client) -> None:
    """Two clients write and punch halves of the same chunks, each its own: none loses what it was acknowledged."""
    file = await a.open("/f", "w")
    await a.pwrite(file, bytes(4 * CHUNK))
    await a.close(file)

    async def work(client: Client, begin: int, byte: bytes) -> None:
        mine = await client.open("/f", "r+")
        for turn in range(30):
            offset = begin + turn % 4 * CHUNK
            await client.pwrite(mine, byte * (CHUNK // 2), offset)
            assert await client.pread(mine, CHUNK // 2, offset) == byte * (CHUNK // 2)
            await client.fallocate(mine, offset + 7, CHUNK // 2 - 7, PUNCH)
            assert await client.pread(mine, CHUNK // 2, offset) == byte * 7 + bytes(CHUNK // 2 - 7)
        await client.close(mine)

    await asyncio.gather(work(a, 0, b"a"), work(b, CHUNK // 2, b"b"))

"""Files that are read on after they lost their name, while a duty reclaims whatever is removed without any delay."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, file_chunk
from fs3.base.status import Code
from fs3.core.meta.sessions import list_sessions
from fs3.model.namespace import PathRef
from fs3.model.requests import Put

CHUNK = 1 << 16
SIZE = 3 * CHUNK + 5
HOLE = 5 * CHUNK


async def put(client: Client, path: str, byte: bytes = b"o") -> None:
    """Bytes, a hole, and bytes again."""
    file = await client.open_unnamed("/")
    await client.pwrite(file, byte * SIZE)
    await client.pwrite(file, byte * CHUNK, HOLE)
    await client.close(file, path)


EXPECTED = b"o" * SIZE + bytes(HOLE - SIZE) + b"o" * CHUNK


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes to that")


def stored(cluster: Any, content: InodeId) -> bool:
    return any(cluster.holders(file_chunk(content, index)) for index in range(8))


def sessions_of(cluster: Any) -> list[InodeId]:
    return [one.content for one in cluster.rows.read_now(lambda txn: list_sessions(txn, None, 100))]


async def reclaim_others(cluster: Any, client: Client) -> None:
    """Whatever is queued now is reclaimed when this returns."""
    await put(client, "/other")
    content = (await client.stat("/other")).content_id
    await client.unlink("/other")
    await until(lambda: not stored(cluster, content))


async def whole(client: Client, file: File) -> bytes:
    return await client.pread(file, file.length)


@pytest.mark.parametrize("how", ["unlink", "rename", "publish", "put", "open"])
async def test_what_the_client_itself_removes_is_read_to_its_end(cluster: Any, a: Client, how: str) -> None:
    await a.mkdir("/d")
    await put(a, "/d/f")
    await put(a, "/new", b"n")
    file = await a.open("/d/f")
    doings: dict[str, Callable[[], Any]] = {
        "unlink": lambda: a.unlink("/d/f"),
        "rename": lambda: a.rename("/new", "/d/f"),
        "publish": lambda: put(a, "/d/f", b"n"),
        "put": lambda: a.meta.ask(Put(PathRef.of("/d/f"), b"small")),
        "open": lambda: a.open("/d/f", "w"),
    }
    await doings[how]()
    await reclaim_others(cluster, a)
    assert await whole(a, file) == EXPECTED
    assert await whole(a, file) == EXPECTED
    await a.close(file)
    await a.meta.readers._look()
    await until(lambda: not stored(cluster, file.inode.content_id))


async def test_what_another_client_removes_is_kept_when_it_was_told_of(cluster: Any, a: Client, b: Client) -> None:
    garbage = cluster.meta.garbage
    garbage._delay_ns = 1 << 60  # as a minute is, for keep-alives every ten seconds
    await put(a, "/f")
    file = await a.open("/f")
    young = await a.open("/f")
    await a.meta.readers._look()
    assert sessions_of(cluster) == []
    await b.unlink("/f")
    await a.meta.readers._look()
    assert sessions_of(cluster) == [file.inode.content_id]
    garbage._delay_ns = 0
    await reclaim_others(cluster, b)
    assert await whole(a, file) == EXPECTED
    await a.close(file)
    await a.meta.readers._look()
    assert await whole(a, young) == EXPECTED, "another handle is open on it"
    await a.close(young)
    await a.meta.readers._look()
    assert sessions_of(cluster) == []
    await until(lambda: not stored(cluster, file.inode.content_id))


async def test_a_look_at_a_hole_keeps_it_as_well(cluster: Any, a: Client, b: Client) -> None:
    cluster.meta.garbage._delay_ns = 1 << 60
    await put(a, "/f")
    file = await a.open("/f")
    await b.unlink("/f")
    assert await a.pread(file, 10, HOLE - 20) == bytes(10)
    cluster.meta.garbage._delay_ns = 0
    await reclaim_others(cluster, b)
    assert await whole(a, file) == EXPECTED


async def test_who_told_nothing_is_told_that_it_is_gone(cluster: Any, a: Client, b: Client) -> None:
    await put(a, "/f")
    file = await a.open("/f")
    await b.unlink("/f")
    await until(lambda: not stored(cluster, file.inode.content_id))
    for read in (a.pread(file, 10), a.preadv_many([(file, 0, bytearray(5))]), a.pread(file, 10)):
        with pytest.raises(FS3Error, match="removed") as caught:
            await read
        assert (caught.value.code, caught.value.filename) == (Code.STALE, "/f")


async def test_a_handle_that_is_forgotten_keeps_nothing(cluster: Any, a: Client) -> None:
    await put(a, "/f")
    file = await a.open("/f")
    content, gone = file.inode.content_id, weakref.ref(file)
    await a.unlink("/f")
    assert sessions_of(cluster) == [content]
    del file
    gc.collect()
    assert gone() is None
    await a.meta.readers._look()
    assert sessions_of(cluster) == []


async def test_a_client_that_is_closed_lets_go(cluster: Any, a: Client, b: Client) -> None:
    await put(a, "/f")
    file = await a.open("/f")
    await a.unlink("/f")
    await a.aclose()
    assert sessions_of(cluster) == []
    await until(lambda: not stored(cluster, file.inode.content_id))
    assert not await b.exists("/f")


async def test_opening_many_files_for_reading_asks_nothing_more(cluster: Any, a: Client) -> None:
    for number in range(20):
        await put(a, f"/f{number}")
    files = [await a.open(f"/f{number}") for number in range(20)]
    assert sessions_of(cluster) == []
    for file in files:
        await a.close(file)
    assert not a.meta.readers.has_sessions


async def test_a_writer_that_closes_what_the_client_reads_as_well(cluster: Any, a: Client, b: Client) -> None:
    await put(a, "/f")
    reading, writing = await a.open("/f"), await a.open("/f", "r+")
    await b.unlink("/f")
    await a.close(writing)
    await reclaim_others(cluster, b)
    assert await whole(a, reading) == EXPECTED

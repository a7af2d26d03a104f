"""The native client: the namespace's verbs and the bytes of files."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import EXCHANGE, NOREPLACE, Client
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import TableId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.read_plan import ReadIO
from fs3.model.inode import InodeType, Layout
from fs3.model.namespace import RemoveKind

CHUNK = 64 * 1024
SMALL = Layout(TableId(0), CHUNK, 0)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(tmp_path / "fs3") as client:
        yield client


async def test_pages_are_asked_for_ahead_and_may_be_left(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:03}" for number in range(25)]
    for name in names:
        await put(client, f"/{name}", b"")
    monkeypatch.setattr("fs3.api.namespace.list_entries_max", 10)
    pages = [[entry.name for entry in page if entry.inode is not None] async for page in client.list_pages("/", with_inodes=True)]
    assert pages == [names[:10], names[10:20], names[20:]]
    asked: list[str] = []
    ask = client.meta.ask

    async def note(request: Any, **options: Any) -> Any:
        asked.append(request.after)
        return await ask(request, **options)

    monkeypatch.setattr(client.meta, "ask", note)
    async with aclosing(client.list_pages("/")) as left_early:
        async for page in left_early:
            assert [entry.name for entry in page] == names[:10]
            await asyncio.sleep(0)
            assert asked == ["", "009"], "the next page is under way while this one is looked at"
            break


async def content(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


async def put(client: Client, path: str, data: bytes) -> None:
    file = await client.open(path, "w", SMALL)
    await client.pwrite(file, data)
    await client.close(file)


async def test_missing_parents_are_made_while_others_remove_them_for_being_empty(client: Client) -> None:
    """Every creation, rename and copy is one transaction with the directories it needs, so no removal comes in between."""
    done = asyncio.Event()

    async def remove_empty() -> int:
        removed = 0
        while not done.is_set():
            failures = await client.remove_many(["/a/b", "/a"], RemoveKind.DIRECTORY)
            removed += sum(failure is None for failure in failures)
        return removed

    async def work() -> None:
        await put(client, "/source", b"bytes")
        for number in range(30):
            goal = f"/a/b/{number}"
            for mode in ("w", "x", "a"):
                await client.close(await client.open(goal, mode, make_parents=True))
                await client.unlink(goal)
            await client.rename("/source", goal, make_parents=True)
            await client.rename(goal, "/source")
            await client.copy_file("/source", goal, make_parents=True)
            await client.unlink(goal)

    removing = [asyncio.create_task(remove_empty()) for _ in range(3)]
    try:
        await work()
    finally:
        done.set()
    assert sum(await asyncio.gather(*removing)) > 0
    assert await content(client, "/source") == b"bytes"


# --- bytes -----------------------------------------------------------------------------------------------------------


async def test_random_writes_and_truncations_against_a_bytearray(client: Client) -> None:
    rng = random.Random(7)
    file = await client.open("/x", "w", SMALL)
    model = bytearray()
    for _ in range(150):
        offset, length = rng.randrange(400_000), rng.choice((1, 100, CHUNK, 150_000))
        if rng.random() < 0.15:
            await client.truncate(file, offset)
            model = model[:offset] + bytes(max(0, offset - len(model)))
        elif rng.random() < 0.6:
            data = rng.randbytes(length)
            await client.pwrite(file, data, offset)
            model += bytes(max(0, offset - len(model)))
            model[offset : offset + length] = data
        else:
            assert await client.pread(file, length, offset) == model[offset : offset + length]
        assert file.length == len(model)
    await client.close(file)
    assert (await client.stat("/x")).length == len(model)
    assert await content(client, "/x") == model


async def test_concurrent_writes_through_one_handle(client: Client) -> None:
    data = os.urandom(40 * CHUNK + 17)
    file = await client.open("/x", "w", SMALL)
    step = 50_000
    await asyncio.gather(*(client.pwrite(file, data[at : at + step], at) for at in range(0, len(data), step)))
    closing = asyncio.gather(client.pwrite(file, b"end", len(data)), client.close(file))  # close waits for what is under way
    await closing
    assert await content(client, "/x") == data + b"end"


async def test_length_is_published_by_fsync_and_close(client: Client) -> None:
    file = await client.open("/x", "w")
    await client.pwrite(file, b"12345")
    assert ((await client.stat("/x")).length, file.length, file.modified) == (0, 5, True)
    await client.fsync(file)
    assert ((await client.stat("/x")).length, file.modified) == (5, False)
    before = await client.stat("/x")
    await client.fsync(file)
    assert (await client.stat("/x")).change == before.change
    await client.pwrite(file, b"6", 5)
    assert (await client.close(file)).length == 6
    assert (await client.stat("/x")).length == 6
    await client.close(file)


async def test_holes_read_as_zeros_and_stay_holes_when_copied(client: Client) -> None:
    file = await client.open("/x", "w", SMALL)
    await client.pwrite(file, b"a", 10 * CHUNK)
    await client.truncate(file, 30 * CHUNK + 5)
    await client.close(file)
    expected = bytes(10 * CHUNK) + b"a" + bytes(20 * CHUNK + 4)
    assert await content(client, "/x") == expected
    done: list[int] = []
    await client.copy_file("/x", "/y", done=done.append)
    assert await content(client, "/y") == expected
    assert sum(done) == len(expected)


async def test_many_ranges_of_many_files_at_once(client: Client) -> None:
    files, model = [], {}
    for index in range(5):
        model[index] = os.urandom(100_000 * index)
        await put(client, f"/{index}", model[index])
        files.append(await client.open(f"/{index}"))
    rng = random.Random(1)
    wanted = [(which := rng.randrange(5), rng.randrange(100_000 * which + 10), rng.randrange(90_000)) for _ in range(100)]
    buffers = [bytearray(length) for _, _, length in wanted]
    requests = [(files[which], offset, buffer) for (which, offset, _), buffer in zip(wanted, buffers, strict=True)]
    counts = await client.preadv_many(requests)
    for (which, offset, length), buffer, count in zip(wanted, buffers, counts, strict=True):
        expected = model[which][offset : offset + length]
        assert (count, buffer[:count]) == (len(expected), expected)
    assert await client.preadv_many([]) == []


async def test_a_reader_of_a_file_that_became_shorter_gets_its_new_end(client: Client) -> None:
    await put(client, "/x", os.urandom(3 * CHUNK))
    file = await client.open("/x")
    data = await client.pread(file, 3 * CHUNK)
    await client.truncate("/x", CHUNK + 5)
    assert await client.pread(file, 3 * CHUNK) == data[: CHUNK + 5]
    assert file.length == CHUNK + 5


async def test_arguments_are_checked_and_named(client: Client) -> None:
    await put(client, "/x", b"123")
    reader, writer = await client.open("/x"), await client.open("/y", "w")
    wrong = {
        "offset": lambda: client.pread(reader, 1, -1),
        "length": lambda: client.pread(reader, -1, 0),
        "offset is not an integer": lambda: client.pread_into(reader, bytearray(1), 1.5),  # type: ignore[arg-type]
        "buffer is read-only": lambda: client.pread_into(reader, b"1234"),
        "buffer is not contiguous": lambda: client.pread_into(reader, memoryview(bytearray(10))[::2]),
        "buffer is not bytes-like": lambda: client.pread_into(reader, 5),
        "data is not bytes-like": lambda: client.pwrite(writer, "text"),
        "opened for reading": lambda: client.pwrite(reader, b"x"),
        "length -1": lambda: client.truncate(writer, -1),
        "mode": lambda: client.open("/x", "rw"),
        "publish": lambda: client.close(writer, "/z"),
    }
    for message, call in wrong.items():
        with pytest.raises(InvalidArgument, match=message):
            await call()
    with pytest.raises(FS3Error, match="largest file") as caught:
        await client.pwrite(writer, b"xx", file_bytes_max - 1)
    assert caught.value.code is Code.FILE_TOO_LARGE
    await client.close(writer)
    for closed in (client.pwrite(writer, b"x"), client.pread(writer, 1), client.fsync(writer), client.truncate(writer, 0)):
        with pytest.raises(InvalidArgument, match="closed"):
            await closed
    assert await client.pread(reader, 100, 3) == b""
    assert await client.pread(reader, 0, 0) == b""
    assert await client.pread_into(reader, bytearray(0)) == 0
    assert await client.preadv_many([(reader, 1, bytearray(1))]) == [1]


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_modes_of_open(client: Client) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await client.open("/x", "r+")
    assert caught.value.filename == "/x"
    file = await client.open("/x", "x", permissions=0o600)
    await client.pwrite(file, b"12345")
    await client.close(file)
    assert (await client.stat("/x")).mode == 0o600
    with pytest.raises(FileExistsError):
        await client.open("/x", "x")
    file = await client.open("/x", "r+")
    await client.pwrite(file, b"X", 1)
    await client.close(file)
    assert await content(client, "/x") == b"1X345"
    file = await client.open("/x", "a")
    assert file.length == 5
    with pytest.raises(InvalidArgument, match="appending"):
        await client.pwrite(file, b"67", file.length)
    assert await client.append(file, b"6") == 5
    assert file.length == 6
    assert await content(client, "/x") == b"1X3456"
    assert await client.append(file, b"") == 6
    assert await client.append(file, b"7") == 6
    await client.close(file)
    other = await client.open("/x", "r+")
    assert await client.append(other, b"8") == 7
    await client.close(other)
    assert await content(client, "/x") == b"1X345678"
    await client.link("/x", "/other-name")
    await client.close(await client.open("/x", "w"))
    assert (await client.stat("/x")).length == 0
    assert await content(client, "/other-name") == b""
    with pytest.raises(IsADirectoryError):
        await client.open("/")
    opened = await client.open_many(["/x", "/missing", "/"])
    assert [type(one).__name__ for one in opened] == ["File", "NotFound", "IsADirectory"]


async def test_unnamed_files(client: Client) -> None:
    await client.mkdir("/d")
    file = await client.open_unnamed("/d")
    await client.pwrite(file, b"content")
    assert await client.list_all("/d") == []
    await put(client, "/d/taken", b"old")
    with pytest.raises(FileExistsError):
        await client.close(file, "/d/taken", exclusive=True)
    assert not file.closed
    with pytest.raises(FileNotFoundError):
        await client.close(file, "/missing/x")
    await client.close(file, "/d/taken")
    assert await content(client, "/d/taken") == b"content"
    dropped = await client.open_unnamed("/d")
    await client.pwrite(dropped, b"x")
    await client.close(dropped, discard=True)
    assert [entry.name for entry in await client.list_all("/d")] == ["taken"]
    with pytest.raises(FileNotFoundError):
        await client.open_unnamed("/missing")


@pytest.mark.parametrize("shrinks", ["before", "after", "before each round"])
async def test_a_read_of_many_chunks_ends_well_when_the_file_shrinks(
    client: Client, monkeypatch: pytest.MonkeyPatch, shrinks: str
) -> None:
    data = os.urandom(20 * CHUNK + 17)
    await put(client, "/x", data)
    file = await client.open("/x")
    storage = client._data._storage
    read = storage.read
    ends = [15 * CHUNK + 5, 9 * CHUNK, 5 * CHUNK + 1, CHUNK] if shrinks == "before each round" else [2 * CHUNK + 5]

    async def read_of_what_shrinks(ios: Sequence[ReadIO], **options: int) -> list[ReadOutcome]:
        if shrinks == "after":
            outcomes = await read(ios, **options)
        if ends:
            await client.truncate("/x", ends.pop(0))
        return outcomes if shrinks == "after" else await read(ios, **options)

    monkeypatch.setattr(storage, "read", read_of_what_shrinks)
    left = {"before": data[: 2 * CHUNK + 5], "after": data, "before each round": data[:CHUNK]}[shrinks]
    assert await client.pread(file, len(data)) == left
    assert not ends


async def test_discarding_takes_back_what_was_written_behind_the_end(client: Client) -> None:
    await put(client, "/x", b"kept")
    file = await client.open("/x", "r+")
    await client.pwrite(file, os.urandom(3 * CHUNK), 4)
    await client.close(file, discard=True)
    assert await content(client, "/x") == b"kept"
    await client.truncate("/x", 2 * CHUNK)
    assert await content(client, "/x") == b"kept" + bytes(2 * CHUNK - 4)


async def test_many_append_to_one_file(client: Client) -> None:
    def record(number: int, turn: int) -> bytes:
        return b"<%d.%d>" % (number, turn) * (1 if turn % 5 else CHUNK // 3)

    async def append(number: int) -> None:
        for turn in range(10):
            file = await client.open("/log", "a", SMALL)
            await client.append(file, record(number, turn))
            await client.close(file)

    await asyncio.gather(*(append(number) for number in range(5)))
    found = await content(client, "/log")
    order = sorted(((number, turn) for number in range(5) for turn in range(10)), key=lambda one: found.index(record(*one)))
    assert b"".join(record(*one) for one in order) == found
    for one in range(5):
        assert [turn for number, turn in order if number == one] == list(range(10))


async def test_an_appender_is_told_that_its_file_was_removed_or_replaced(client: Client) -> None:
    for replace in (lambda: client.unlink("/x"), lambda: client.rename("/y", "/x")):
        await put(client, "/y", b"new")
        await put(client, "/x", b"old")
        file = await client.open("/x", "a")
        await client.append(file, b"er")
        await replace()
        with pytest.raises(OSError, match="removed, or replaced") as caught:
            await client.append(file, b"est")
        assert caught.value.errno == errno.ESTALE
        assert caught.value.filename == "/x"
        await client.close(file)
    assert await content(client, "/x") == b"new"


async def test_an_append_is_behind_a_truncation_that_came_first(client: Client) -> None:
    await put(client, "/x", b"0" * 3 * CHUNK)
    file = await client.open("/x", "a")
    await client.truncate("/x", CHUNK + 1)
    assert await client.append(file, b"end") == CHUNK + 1
    await client.truncate("/x", 2 * CHUNK)
    assert await client.append(file, b"!") == 2 * CHUNK
    await client.close(file)
    assert await content(client, "/x") == b"0" * (CHUNK + 1) + b"end" + bytes(CHUNK - 4) + b"!"


async def test_closing_the_client_ends_its_sessions(tmp_path: Path) -> None:
    keeper = await fs3.connect_embedded(tmp_path)
    client = await fs3.connect_embedded(tmp_path)
    named, unnamed = await client.open("/named", "w"), await client.open_unnamed("/")
    await client.pwrite(named, b"12345")
    await client.pwrite(unnamed, b"12345")
    await client.aclose()
    await client.aclose()
    assert client.closed
    assert (await keeper.stat("/named")).length == 5
    assert [entry.name for entry in await keeper.list_all("/")] == ["named"]
    await keeper.aclose()


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    for run in range(3):
        async with await fs3.connect_embedded(tmp_path) as client:
            if run:
                assert await content(client, f"/{run - 1}") == bytes([run - 1]) * 200_000
            await put(client, f"/{run}", bytes([run]) * 200_000)


# --- names -----------------------------------------------------------------------------------------------------------


async def test_names(client: Client) -> None:
    await client.makedirs("/a/b/c")
    await client.makedirs("/a/b/c", exist_ok=True)
    with pytest.raises(FileExistsError):
        await client.makedirs("/a/b/c")
    await put(client, "/a/x", b"x")
    await client.symlink("x", "/a/link")
    assert await client.readlink("/a/link") == "x"
    with pytest.raises(InvalidArgument):
        await client.readlink("/a/x")
    assert (await client.lstat("/a/link")).type is InodeType.SYMLINK
    assert (await client.stat("/a/link")).id == (await client.stat("/a/x")).id
    assert [entry.name for entry in await client.list_all("/a")] == ["b", "link", "x"]
    assert [entry.name async for entry in client.list("/a", with_inodes=True, after="b") if entry.inode] == ["link", "x"]
    await put(client, "/y", b"y")
    with pytest.raises(FileExistsError):
        await client.rename("/a/x", "/y", NOREPLACE)
    await client.rename("/a/x", "/y", EXCHANGE)
    assert (await content(client, "/a/x"), await content(client, "/y")) == (b"y", b"x")
    await client.rename("/a/x", "/y")
    assert await content(client, "/y") == b"y"
    assert not await client.exists("/a/link")
    assert not await client.exists("/y/below")
    with pytest.raises(OSError, match="not empty"):
        await client.rmdir("/a")
    with pytest.raises(IsADirectoryError):
        await client.unlink("/a")
    await client.rmtree("/a")
    with pytest.raises(FileNotFoundError) as caught:
        await client.rmtree("/a")
    assert caught.value.filename == "/a"
    good, bad = await client.batch_stat(["/y", "/a"])
    assert not isinstance(good, FS3Error)
    assert isinstance(bad, FileNotFoundError)
    assert await client.batch_stat([]) == []


async def test_attributes(client: Client) -> None:
    await put(client, "/x", b"1")
    await client.chmod("/x", 0o640)
    await client.chown("/x", 7, 8)
    await client.utimes("/x", 1_000, 2_000_000_000_000_000_001)
    inode = await client.stat("/x")
    assert (inode.mode, inode.uid, inode.gid, inode.atime_ns, inode.mtime_ns) == (0o640, 7, 8, 1_000, 2_000_000_000_000_000_001)
    await client.mkdir("/d", 0o700)
    await client.set_layout("/d", Layout(TableId(0), 1 << 20, 0))
    await client.close(await client.open("/d/x", "w"))
    assert (await client.stat("/d/x")).layout.chunk_size == 1 << 20
    space = await client.statfs()
    assert space.total_bytes >= space.free_bytes > 0
    assert space.inodes >= 4


async def test_truncate_by_path(client: Client) -> None:
    await put(client, "/x", os.urandom(5 * CHUNK))
    data = await content(client, "/x")
    assert (await client.truncate("/x", CHUNK + 10)).length == CHUNK + 10
    assert await content(client, "/x") == data[: CHUNK + 10]
    await client.truncate("/x", 3 * CHUNK)
    assert await content(client, "/x") == data[: CHUNK + 10] + bytes(2 * CHUNK - 10)
    with pytest.raises(FileNotFoundError):
        await client.truncate("/missing", 0)


async def test_two_clients_of_one_directory_share_its_services(tmp_path: Path) -> None:
    one, two = await asyncio.gather(fs3.connect_embedded(tmp_path), fs3.connect_embedded(str(tmp_path)))
    await put(one, "/x", b"seen")
    assert await content(two, "/x") == b"seen"
    await one.aclose()
    assert await content(two, "/x") == b"seen"
    await two.aclose()
    async with await fs3.connect_embedded(tmp_path) as three:
        assert await content(three, "/x") == b"seen"


async def test_connect_says_what_is_wrong() -> None:
    for url, transport, message in (
        ("fs3://", "auto", "FS3_CLUSTER"),
        ("http://x", "auto", "fs3://"),
        ("fs3://127.0.0.1:1", "pigeon", "transport"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            await fs3.connect(url, transport=transport)


@pytest.mark.processes
@pytest.mark.parametrize("transport", ["auto", "tcp", "local", "grpc"])
async def test_every_transport(cluster_url: str, transport: str) -> None:
    data = os.urandom(1_000_000)
    async with await fs3.connect(cluster_url, transport=transport) as client:
        await put(client, f"/{transport}", data)
        assert await content(client, f"/{transport}") == data
        with pytest.raises(FileNotFoundError) as caught:
            await client.stat("/missing")
        assert caught.value.filename == "/missing"

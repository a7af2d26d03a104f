"""Open files that get names, lose them, are appended to through any handle, and are closed."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from fs3.api import session_ends
from fs3.api.client import Client
from fs3.base.errors import Exists, FS3Error, InvalidArgument, NotFound, error
from fs3.base.status import Code
from fs3.core.meta.sessions import list_sessions
from fs3.model.inode import FileSession

CHUNK = 1 << 16


def sessions_of(cluster: Any) -> list[FileSession]:
    return cluster.rows.read_now(lambda txn: list_sessions(txn, None, 100))  # type: ignore[no-any-return]


async def whole(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


# --- names of open files ----------------------------------------------------------------------------------------------


async def test_an_unnamed_file_gets_a_name_and_stays_open(a: Client, b: Client) -> None:
    file = await a.open_unnamed("/")
    await a.pwrite(file, b"first ")
    linked = await a.link_open(file, "/f")
    assert (linked.nlink, file.unnamed, file.path) == (1, False, "/f")
    assert await whole(b, "/f") == b"first "
    await a.pwrite(file, b"second", 6)
    with pytest.raises(InvalidArgument, match="name already"):
        await a.close(file, "/other")
    await a.link_open(file, "/g")
    await a.close(file)
    assert await whole(b, "/g") == b"first second"
    assert (await b.stat("/f")).nlink == 2


async def test_a_name_that_is_taken_is_not_given(a: Client) -> None:
    await a.close(await a.open("/taken", "w"))
    file = await a.open_unnamed("/")
    with pytest.raises(Exists):
        await a.link_open(file, "/taken")
    assert file.unnamed
    await a.close(file, "/f")
    with pytest.raises(InvalidArgument, match="closed"):
        await a.link_open(file, "/g")


async def test_a_file_that_was_removed_gets_no_name_again(a: Client) -> None:
    for mode in ("w", "r"):
        await a.close(await a.open("/f", "w"))
        file = await a.open("/f", mode)
        await a.unlink("/f")
        with pytest.raises(NotFound):
            await a.link_open(file, "/g")
        await a.close(file)


# --- appends ----------------------------------------------------------------------------------------------------------


async def test_one_handle_reads_writes_in_place_and_appends(a: Client, b: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"0123")
    assert await a.append(file, b"45") == 4
    theirs = await b.open("/f", "a")
    assert await b.append(theirs, b"67") == 6
    assert await a.append(file, b"89") == 8
    await a.pwrite(file, b"zero")
    assert await a.pread(file, 20) == b"zero456789"
    await a.close(file)
    await b.close(theirs)
    assert await whole(b, "/f") == b"zero456789"


async def test_a_write_during_an_append_is_published_by_the_close(a: Client, b: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 10)
    await asyncio.gather(a.append(file, b"a" * 3 * CHUNK), a.pwrite(file, b"y" * 5, 100 * CHUNK))
    await a.close(file)
    assert (await b.stat("/f")).length == 100 * CHUNK + 5
    found = await whole(b, "/f")
    assert (found[:10], found[10 : 10 + 3 * CHUNK]) == (b"x" * 10, b"a" * 3 * CHUNK)


async def test_many_handles_that_write_in_place_append(a: Client, b: Client) -> None:
    await a.close(await a.open("/f", "w"))

    async def work(client: Client, number: int) -> None:
        file = await client.open("/f", "r+")
        for turn in range(8):
            await client.append(file, b"<%d.%d>" % (number, turn))
        await client.close(file)

    await asyncio.gather(*(work(client, number) for number, client in enumerate((a, b, a, b))))
    found = await whole(a, "/f")
    records = [b"<%d.%d>" % (number, turn) for number in range(4) for turn in range(8)]
    assert sorted(found.replace(b">", b">|").split(b"|")[:-1]) == sorted(records)


@pytest.mark.parametrize("mode", ["a", "r+"])
async def test_a_removed_file_is_appended_to_by_who_wants_that(a: Client, mode: str) -> None:
    await a.close(await a.open("/f", "a"))
    file, other = await a.open("/f", mode), await a.open("/f", mode)
    await a.append(file, b"one ")
    await a.unlink("/f")
    with pytest.raises(FS3Error) as caught:
        await a.append(other, b"lost")
    assert caught.value.errno == errno.ESTALE
    assert await a.append(file, b"two", unnamed=True) == 4
    assert await a.pread(file, 20) == b"one two"
    await a.close(file)


async def test_an_unnamed_file_is_appended_to(a: Client) -> None:
    file = await a.open_unnamed("/")
    await a.append(file, b"one ")
    await a.append(file, b"two")
    await a.close(file, "/f")
    assert await whole(a, "/f") == b"one two"


async def test_only_handles_that_write_append(a: Client) -> None:
    await a.close(await a.open("/f", "w"))
    file = await a.open("/f")
    with pytest.raises(InvalidArgument, match="reading only"):
        await a.append(file, b"x")
    appending = await a.open("/f", "a")
    with pytest.raises(InvalidArgument, match="for appending"):
        await a.pwrite(appending, b"x")
    await a.close(appending)


# --- closes -----------------------------------------------------------------------------------------------------------


class Requests:
    """What a client asks of the metadata service."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        real = client.meta._send

        async def send(method: Any, message: Any, *args: Any, **options: Any) -> Any:
            self.seen.append(method.name)
            return await real(method, message, *args, **options)

        monkeypatch.setattr(client.meta, "_send", send)


async def until_ended(cluster: Any) -> None:
    for _ in range(1000):
        if not sessions_of(cluster):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a session stays")


async def test_a_close_behind_a_flush_asks_nothing(cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(a, monkeypatch)
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * 10)
    await a.fsync(file)
    change = (await b.stat("/f")).change
    closed = await a.close(file)
    assert requests.seen == ["Open", "Sync"]
    assert (closed.length, file.closed) == (10, True)
    await until_ended(cluster)
    assert requests.seen == ["Open", "Sync", "Batch"]
    assert (await b.stat("/f")).change == change


async def test_many_closes_are_one_request(cluster: Any, a: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [await a.open(f"/f{number}", "w") for number in range(30)]
    requests = Requests(a, monkeypatch)
    for file in files:
        await a.close(file)
    await until_ended(cluster)
    assert set(requests.seen) == {"Batch"}
    assert len(requests.seen) <= 2


async def test_what_was_written_since_is_published_by_the_close(a: Client, b: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"one")
    await a.fsync(file)
    await a.pwrite(file, b"two", 3)
    await a.close(file)
    assert await whole(b, "/f") == b"onetwo"


async def test_a_client_that_is_closed_ends_its_sessions(cluster: Any, a: Client) -> None:
    file = await a.open("/f", "w")
    await a.close(file)
    await a.open("/g", "w")
    assert len(sessions_of(cluster)) == 2
    await a.aclose()
    assert sessions_of(cluster) == []


async def test_discarding_takes_back_beside_a_handle_that_was_just_closed(a: Client, b: Client) -> None:
    await a.close(await a.open("/f", "w"))
    file = await a.open("/f", "r+")
    await a.pwrite(file, b"x" * 100)
    await a.close(await a.open("/f", "r+"))
    await a.close(file, discard=True)
    await b.truncate("/f", 100)
    assert await whole(b, "/f") == bytes(100)


async def test_a_session_that_cannot_be_ended_is_ended_later(cluster: Any, a: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_ends, "_RETRY_NS", 1)
    real, broken = a.meta.batch, [True]

    async def batch(requests: Any) -> Any:
        if broken and broken.pop():
            return [error(Code.UNAVAILABLE, "no service") for _ in requests]
        return await real(requests)

    monkeypatch.setattr(a.meta, "batch", batch)
    await a.close(await a.open("/f", "w"))
    await until_ended(cluster)
    assert not broken

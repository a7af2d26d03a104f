"""Truncation, ordered against writers it does not know of: what a file shows when it has been truncated, whoever does what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, file_chunk
from fs3.base.limits import call_timeout_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.meta.client_liveness import list_clients
from fs3.core.meta.errors import MetaError
from fs3.core.meta.trims import list_trims
from fs3.services.meta.trimmer import Trimmer

CHUNK = 1 << 16
OLD = 40 * CHUNK
FAR = 36 * CHUNK + 5


async def put(client: Client, path: str, data: bytes) -> None:
    file = await client.open(path, "w")
    await client.pwrite(file, data)
    await client.close(file)


async def content(client: Client, path: str) -> bytes:
    file = await client.open(path)
    return await client.pread(file, file.length)


def stored(cluster: Any, inode: InodeId) -> set[int]:
    """Indices of the chunks that storage has of a file."""
    return {index for index in range(OLD // CHUNK + 1) if cluster.holders(file_chunk(inode, index))}


def outstanding(cluster: Any) -> list[InodeId]:
    return cluster.rows.read_now(lambda txn: list_trims(txn, None, 10))  # type: ignore[no-any-return]


async def bury(cluster: Any, writer: Client) -> None:
    """The client has been silent for too long, as the duty sees it."""
    await writer.meta.close()
    sessions = cluster.meta.sessions
    mine = bytes(writer.meta._caller.client_id)
    ((client, record),) = [one for one in cluster.rows.read_now(lambda txn: list_clients(txn, None, 100)) if one[0] == mine]
    assert await sessions._presume_dead(client, record)
    before = sessions.pruned
    for _ in range(3):
        await sessions.step()
        if sessions.pruned > before:
            return
    raise AssertionError("the session stays")


async def test_what_the_handle_did_not_know_of_is_gone_too(cluster: Any, a: Client, b: Client) -> None:
    mine = await a.open("/f", "w")
    theirs = await b.open("/f", "r+")
    await b.pwrite(theirs, b"B" * OLD)
    await b.close(theirs)
    assert mine.length == 0
    await a.truncate(mine, 0)
    assert stored(cluster, mine.inode.id) == set()
    await a.pwrite(mine, b"a", FAR)
    await a.close(mine)
    assert await content(b, "/f") == bytes(FAR) + b"a"


async def test_what_nobody_has_published_yet_is_gone_too(cluster: Any, a: Client, b: Client) -> None:
    theirs = await b.open("/f", "w")
    await b.pwrite(theirs, b"B" * OLD)
    await a.truncate("/f", 0)
    await b.close(theirs)
    assert (await a.stat("/f")).length == 0
    await a.truncate("/f", OLD)
    assert await content(a, "/f") == bytes(OLD)


async def test_a_check_does_not_bring_it_back(cluster: Any, a: Client) -> None:
    await put(a, "/f", b"x" * OLD)
    await a.truncate("/f", 0)
    assert await cluster.repair(a) == []
    assert (await a.stat("/f")).length == 0


async def test_a_check_between_the_steps_does_not_bring_it_back(
    cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(a, "/f", b"x" * OLD)
    release = hold_trims(monkeypatch)
    cutting = asyncio.create_task(a.truncate("/f", 0))
    await until(lambda: bool(outstanding(cluster)))
    report = await cluster.check(b)
    release()
    assert report.problems == []
    await cutting
    assert await cluster.repair(a) == []
    assert (await a.stat("/f")).length == 0


async def test_the_repair_of_a_dead_writer_does_not_bring_it_back(cluster: Any, a: Client, b: Client) -> None:
    dying = await a.open("/f", "w")
    await a.pwrite(dying, b"D" * OLD)
    successor = await b.open("/f", "r+")
    assert successor.length == 0
    await b.truncate(successor, 0)
    await b.pwrite(successor, b"s" * 1000)
    await b.close(successor)
    await bury(cluster, a)
    assert await content(b, "/f") == b"s" * 1000


async def test_the_repair_of_a_dead_writer_finishes_the_truncation_first(
    cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = await a.open("/f", "w")
    await a.pwrite(dying, b"D" * OLD)
    with StoppedService(monkeypatch, b):
        with pytest.raises(FS3Error):
            await b.truncate("/f", 0)
        assert outstanding(cluster) == [dying.inode.id]
    await bury(cluster, a)
    assert (await b.stat("/f")).length == 0
    assert stored(cluster, dying.inode.id) == set()


async def test_a_service_that_stops_half_way_leaves_nothing_that_comes_back(
    cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(a, "/f", b"x" * OLD)
    writing = await b.open("/f", "r+")
    with StoppedService(monkeypatch, a):
        with pytest.raises(FS3Error) as caught:
            await a.truncate("/f", 10)
        assert caught.value.code is Code.DEADLINE
    assert (await b.stat("/f")).length == 10
    await b.pwrite(writing, b"b", FAR)
    await b.close(writing)
    # The write came before the cut was finished, so it is there or not; what was there before is not.
    found = await content(a, "/f")
    assert found in (b"x" * 10, b"x" * 10 + bytes(FAR - 10) + b"b")
    assert outstanding(cluster) == []
    await a.truncate("/f", OLD)
    found = await content(a, "/f")
    assert not any(found[10:FAR])
    assert not any(found[FAR + 1 :])


async def test_the_duty_finishes_what_was_left(cluster: Any, a: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(a, "/f", b"x" * OLD)
    await cluster.meta.trims.stop()
    with StoppedService(monkeypatch, a), pytest.raises(FS3Error):
        await a.truncate("/f", CHUNK + 1)
    await cluster.meta.trims.step()
    assert len(outstanding(cluster)) == 1, "whoever was asked may be at it"
    await cluster.meta.trims.step()
    assert outstanding(cluster) == []
    assert stored(cluster, (await a.stat("/f")).id) == {0, 1}
    assert await content(a, "/f") == b"x" * (CHUNK + 1)


async def test_a_late_cut_does_not_take_what_was_written_since(
    cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service is slow: another one has finished the truncation, and the file has been written anew, when its cuts arrive."""
    await put(a, "/f", b"x" * OLD)
    storage = cluster.meta._trimmer._chunks
    slow: list[Any] = []
    update = storage.update

    async def lagging(writes: Any, *, timeout_ns: int = 0) -> Any:
        if not slow:
            slow.append(list(writes))
            raise FS3Error(Code.UNAVAILABLE, "still on its way")
        return await update(writes, timeout_ns=timeout_ns)

    monkeypatch.setattr(storage, "update", lagging)
    await a.truncate("/f", 0)
    await put_in_place(a, "/f", b"new" * CHUNK)
    answers = await update(slow[0])
    assert slow[0]
    assert {answer.code for answer in answers} <= {Code.OK, Code.STALE_UPDATE}
    assert await content(b, "/f") == b"new" * CHUNK


async def put_in_place(client: Client, path: str, data: bytes) -> None:
    file = await client.open(path, "r+")
    await client.pwrite(file, data)
    await client.close(file)


async def test_readers_see_the_old_file_or_the_new_one(cluster: Any, a: Client, b: Client) -> None:
    await put(a, "/f", b"x" * OLD)
    done = False
    reads = 0

    async def read_on(client: Client, mode: str) -> None:
        nonlocal reads
        while not done:
            file = await client.open("/f", mode)
            for _ in range(3):
                found = await client.pread(file, OLD)
                reads += 1
                assert not found.strip(b"x"), "zeros, or what nobody has written"
                assert len(found) in (CHUNK + 7, OLD)
            await client.close(file)

    readers = [asyncio.create_task(read_on(client, mode)) for client, mode in ((b, "r"), (cluster.client(), "r+"))]
    for _ in range(5):
        await a.truncate("/f", CHUNK + 7)
        file = await a.open("/f", "r+")
        # From the end to the beginning, told only when all of it is there.
        for at in range(OLD - CHUNK, 0, -CHUNK):
            await a.pwrite(file, b"x" * CHUNK, at)
        await a.close(file)
    done = True
    await asyncio.gather(*readers)
    assert reads > 5


async def test_readers_between_the_steps_see_the_new_end(
    cluster: Any, a: Client, b: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(a, "/f", b"x" * OLD)
    early = await b.open("/f")
    release = hold_trims(monkeypatch)
    cutting = asyncio.create_task(a.truncate("/f", 5))
    await until(lambda: bool(outstanding(cluster)))
    assert await b.pread(early, OLD) == b"x" * OLD, "nothing is cut yet"
    assert await content(b, "/f") == b"xxxxx"
    release()
    await cutting
    assert await b.pread(early, OLD) == b"xxxxx"
    assert early.length == 5


async def test_a_file_with_two_names_is_opened_empty(cluster: Any, a: Client, b: Client) -> None:
    await put(a, "/f", b"")
    await a.link("/f", "/g")
    theirs = await b.open("/g", "r+")
    await b.pwrite(theirs, b"B" * OLD)
    mine = await a.open("/f", "w")
    await a.pwrite(mine, b"a", FAR)
    await a.close(mine)
    with pytest.raises(FS3Error, match="another file was put in its place"):
        await b.close(theirs)
    assert await content(b, "/g") == bytes(FAR) + b"a"


async def test_own_bytes_that_are_not_published_are_cut_and_stay_cut(a: Client) -> None:
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * OLD)
    await a.truncate(file, 50)
    await a.pwrite(file, b"y", FAR)
    await a.close(file)
    assert await content(a, "/f") == b"x" * 50 + bytes(FAR - 50) + b"y"


# --- close with discard -----------------------------------------------------------------------------------------------


async def test_discard_takes_back_what_was_appended_and_nothing_that_others_published(a: Client, b: Client) -> None:
    await put(a, "/f", b"x" * 10)
    mine = await a.open("/f", "r+")
    await a.pwrite(mine, b"a" * 100, 10)
    await a.close(mine, discard=True)
    await a.truncate("/f", 60)
    assert await content(a, "/f") == b"x" * 10 + bytes(50)
    mine = await a.open("/f", "r+")
    theirs = await b.open("/f", "r+")
    await b.pwrite(theirs, b"b" * 40, 60)
    await a.pwrite(mine, b"a" * 10, 100)
    await b.close(theirs)
    await a.close(mine, discard=True)
    assert (await content(b, "/f"))[60:] == b"b" * 40


async def test_discard_cuts_nothing_that_others_will_publish(a: Client, b: Client) -> None:
    mine = await a.open("/f", "w")
    await a.pwrite(mine, b"a", OLD)
    theirs = await b.open("/f", "r+")
    await b.pwrite(theirs, b"b" * OLD)
    await a.close(mine, discard=True)
    await b.close(theirs)
    assert await content(b, "/f") == b"b" * OLD


# --- handles whose session was ended ----------------------------------------------------------------------------------


async def lost_handle(cluster: Any, a: Client, b: Client) -> File:
    """A write handle of a file that was removed while its client was silent; the client is heard of again."""
    file = await a.open("/f", "w")
    await a.pwrite(file, b"x" * OLD)
    await a.fsync(file)
    await bury(cluster, a)
    await b.unlink("/f")
    await until(lambda: stored(cluster, file.inode.id) == set())
    return file


async def test_reading_a_file_that_is_gone_says_so_though_it_was_open_for_writing(cluster: Any, a: Client, b: Client) -> None:
    file = await lost_handle(cluster, a, b)
    for _ in range(2):
        with pytest.raises(FS3Error) as caught:
            await a.pread(file, 100)
        assert caught.value.code is Code.STALE
    with pytest.raises(FS3Error) as caught:
        await a.pwrite(file, b"y")
    assert caught.value.code is Code.STALE


async def test_a_client_that_is_heard_of_again_learns_which_handles_are_lost(cluster: Any, a: Client, b: Client) -> None:
    file = await lost_handle(cluster, a, b)
    kept = await a.open("/g", "w")
    a.meta._sessions._stopped = False
    a.meta._sessions._acknowledged_at -= 10**12
    await a.mkdir("/d")
    await until(lambda: file.is_lost)
    with pytest.raises(FS3Error) as caught:
        await a.pwrite(file, b"y")
    assert caught.value.code is Code.STALE
    await a.pwrite(kept, b"z")
    await a.close(kept)


# --- pieces -----------------------------------------------------------------------------------------------------------


async def until(what: Callable[[], bool]) -> None:
    for _ in range(1000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes to that")


def hold_trims(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Truncations stop before their second step until what is returned is called."""
    gate = asyncio.Event()
    finish = Trimmer.finish

    async def held(self: Trimmer, inode: InodeId) -> None:
        await gate.wait()
        await finish(self, inode)

    monkeypatch.setattr(Trimmer, "finish", held)
    return gate.set


class StoppedService:
    """Within it a service comes no further than the first step of a truncation, and the client gives up soon."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
        self._monkeypatch = monkeypatch
        self._client = client

    def __enter__(self) -> None:
        async def stuck(self: Trimmer, inode: InodeId) -> None:
            raise MetaError(Code.BUSY, "the service was stopped")

        self._client.meta._timeout_ns = SECOND
        self._context = self._monkeypatch.context()
        patch = self._context.__enter__()
        patch.setattr(Trimmer, "finish", stuck)

    def __exit__(self, *_: object) -> None:
        self._client.meta._timeout_ns = call_timeout_ns
        self._context.__exit__(None, None, None)

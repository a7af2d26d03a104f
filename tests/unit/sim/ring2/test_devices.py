"""The simulated network, store and disk: faults do what they are called after, and nothing is lost that was promised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fs3.base.checksum import checksums
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.txn import ReadTxn, Txn
from fs3.drivers.memory.network import CUT, HOLD, MemoryNetwork
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ReadGather
from fs3.sim.conformance.chunk_tools import check_read_codes
from fs3.sim.ring2.clock import SimClock
from fs3.sim.ring2.disk import DiskOptions, SimChunkStore, SimDisk, SimDisks
from fs3.sim.ring2.kv import SimKVEngine
from fs3.sim.ring2.loop import SimLoop, SimProcess, open_loop
from fs3.sim.ring2.network import LinkOptions, SimLinks

QUIET = LinkOptions(1000, 2000, 0, 0, 0)
DISK = DiskOptions(MILLISECOND, 2 * MILLISECOND, 0, 0, 0)
CHUNK = ChunkId(bytes(15) + b"\1")
TAG = Tag(ClientId(b"c" * 16), 1, 1)


def play(work: Callable[[SimLoop], Coroutine[Any, Any, Any]]) -> Any:
    with open_loop(1) as loop:
        return loop.run_until_complete(work(loop))


def write(data: bytes) -> Update:
    view = memoryview(data)
    return Update(
        chunk=CHUNK,
        kind=UpdateKind.WRITE,
        chain=ChainId(1),
        chain_version=1,
        version=0,
        offset=0,
        length=len(data),
        data=view,
        checksums=tuple(checksums(view)),
        tag=TAG,
    )


# --- network -----------------------------------------------------------------------------------------------------------


def test_links_block_one_way_and_count() -> None:
    with open_loop(1) as loop:
        links = SimLinks(loop, Prng(1), QUIET)
        links.block("a", "b")
        links.block("a", "b")
        assert links.carry("a", "b", 10) == HOLD
        assert 1000 <= links.carry("b", "a", 10) <= 2000
        links.unblock("a", "b")
        assert links.carry("a", "b", 10) == HOLD
        links.unblock("a", "b")
        assert links.carry("a", "b", 10) > 0


def test_a_dark_host_is_silent_both_ways() -> None:
    with open_loop(1) as loop:
        links = SimLinks(loop, Prng(1), QUIET)
        links.power_off("a")
        assert [links.carry("a", "b", 1), links.carry("b", "a", 1)] == [HOLD, HOLD]
        assert links.carry("b", "c", 1) > 0
        links.power_on("a")
        assert links.carry("a", "b", 1) > 0


def test_faults_are_drawn_as_often_as_they_are_asked_for() -> None:
    with open_loop(1) as loop:
        options = LinkOptions(1000, 2000, SECOND, 100, 6554)
        links = SimLinks(loop, Prng(1), options)
        verdicts = [links.carry("a", "b", 100) for _ in range(4000)]
        assert 250 < verdicts.count(CUT) < 600
        assert 200 < sum(verdict > 2000 for verdict in verdicts) < 600
        assert max(verdicts) >= SECOND
        links.heal(MemoryNetwork(SimClock(loop), links))
        assert all(1000 <= links.carry("a", "b", 100) <= 2000 for _ in range(1000))


def test_a_clog_ends() -> None:
    async def work(loop: SimLoop) -> None:
        links = SimLinks(loop, Prng(1), QUIET)
        links.clog("a", "b", SECOND)
        assert links.carry("a", "b", 1) >= SECOND
        assert links.carry("b", "a", 1) <= 2000
        await asyncio.sleep(1)
        assert links.carry("a", "b", 1) <= 2000

    play(work)


def test_size_counts_for_bulk_only() -> None:
    with open_loop(1) as loop:
        links = SimLinks(loop, Prng(1), LinkOptions(1000, 1000, 0, 0, 0))
        assert links.carry("a", "b", 10) == links.carry("a", "b", 4000) == 1000
        assert links.carry("a", "b", 1_000_000) == 1000 + 1_000_000


# --- store -------------------------------------------------------------------------------------------------------------


def put(key: bytes) -> Callable[[Txn], Coroutine[Any, Any, None]]:
    async def op(txn: Txn) -> None:
        txn.put(key, b"x")

    return op


async def keys(txn: ReadTxn) -> list[bytes]:
    return [key for key, _ in await txn.scan(b"\0", b"\xff", 100)]


def test_a_commit_takes_time_and_is_shared() -> None:
    async def work(loop: SimLoop) -> None:
        engine = SimKVEngine(loop, Prng(1), MILLISECOND, MILLISECOND)
        one, other = engine.open(), engine.open()
        before = loop.now
        first = asyncio.ensure_future(one.transact(put(b"a")))
        second = asyncio.ensure_future(other.transact(put(b"b")))
        await asyncio.sleep(0)
        assert await one.read(keys) == []
        await asyncio.gather(first, second)
        assert MILLISECOND <= loop.now - before < 2 * MILLISECOND
        assert await other.read(keys) == [b"a", b"b"]

    play(work)


def test_what_a_killed_process_had_submitted_is_there_up_to_some_point() -> None:
    async def work(loop: SimLoop) -> set[int]:
        counts = set()
        for seed in range(40):
            engine = SimKVEngine(loop, Prng(seed), MILLISECOND, MILLISECOND)
            process = SimProcess("a")

            async def submit(engine: SimKVEngine = engine) -> None:
                kv = engine.open()
                for key in (b"1", b"2", b"3"):
                    kv.submit(put(key), lambda *_: pytest.fail("a dead process was told"))

            loop.spawn(process, submit())
            await asyncio.sleep(0)
            loop.kill(process)
            engine.on_process_death(process)
            await asyncio.sleep(1)
            found = await engine.open().read(keys)
            assert found == [b"1", b"2", b"3"][: len(found)]
            counts.add(len(found))
        return counts

    assert play(work) == {0, 1, 2, 3}


# --- disk --------------------------------------------------------------------------------------------------------------


def new_store(loop: SimLoop, seed: int = 1, options: DiskOptions = DISK) -> SimChunkStore:
    store = SimChunkStore()
    store.attach(SimDisk(loop, Prng(seed), options), TargetId(1), None)
    return store


def test_a_stage_takes_time_and_survives_when_it_was_answered() -> None:
    async def work(loop: SimLoop) -> None:
        store = new_store(loop)
        before = loop.now
        assert (await store.stage(write(b"data"), 1, 1)).code is Code.OK
        assert loop.now - before >= MILLISECOND
        for seed in range(10):
            assert store.reopen_after_crash(Prng(seed)).list_pending() == [CHUNK]
            store._closed = False

    play(work)


def test_a_stage_that_was_under_way_is_there_or_not() -> None:
    async def work(loop: SimLoop) -> set[bool]:
        found = set()
        for seed in range(20):
            store = new_store(loop)
            process = SimProcess("a")
            loop.spawn(process, store.stage(write(b"data"), 1, 1))
            await asyncio.sleep(0.0001)
            loop.kill(process)
            found.add(bool(store.reopen_after_crash(Prng(seed)).list_pending()))
        return found

    assert play(work) == {True, False}


def test_commits_are_reported_and_reads_may_be_cold() -> None:
    async def work(loop: SimLoop) -> None:
        told: list[tuple[int, int]] = []
        store = new_store(loop, options=DiskOptions(MILLISECOND, MILLISECOND, 0, 0, 512))
        store.on_commit = lambda target, chunk, version, tag: told.append((target, version))
        await store.stage(write(b"data"), 1, 1)
        store.commit(CHUNK, 1, TAG, UpdateResult(Code.OK, 1, 4))
        assert told == [(1, 1)]
        warm = [store.read(CHUNK, 0, 10) for _ in range(50)]
        assert 10 < warm.count(None) < 40
        batch = ReadGather([0] * 20, [4] * 20)
        cold = store.read_many([CHUNK] * 20, batch, range(20), refuse_dirty=True)
        assert 0 < len(cold) < 20
        assert bytes((await store.read_cold(CHUNK, 0, 10)).parts[0]) == b"data"

    play(work)


def test_reads_are_answered_what_the_protocol_says() -> None:
    async def work(loop: SimLoop) -> None:
        await check_read_codes(new_store(loop))

    play(work)


def test_disks_outlive_processes_until_they_are_replaced() -> None:
    async def work(loop: SimLoop) -> None:
        disks = SimDisks("storage-1", SimDisk(loop, Prng(1), DISK))
        assert disks.next_incarnation() == 1
        disks.join(b"k" * 16)
        store = await disks.open_store(TargetId(7))
        await store.stage(write(b"data"), 1, 1)
        await store.close()
        disks.reopen()
        assert disks.targets() == [7]
        assert (await (await disks.open_store(TargetId(7))).read_cold(CHUNK, 0, 9, pending=True)).code is Code.OK
        assert disks.next_incarnation() == 2
        disks.wipe()
        assert (disks.targets(), disks.cluster, disks.next_incarnation()) == ([], b"", 0)
        disks.store_incarnation(3)
        assert disks.next_incarnation() == 4

    play(work)

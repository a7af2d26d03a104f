"""What the KV driver on etcd does when etcd is slow, full, started wrongly, compacted or absent; and with large transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fs3.base.errors import FS3Error, Unreachable, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.txn import ReadTxn, Txn
from fs3.drill.etcd_cluster import ETCD_FLAGS, EtcdCluster
from fs3.drivers.etcd.kv import EtcdKV
from fs3.drivers.etcd.state import find_state
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.kv import append_count, failure, get, puts, read_all_rows, scan, start_transaction
from fs3.wire.etcd import TXN, EtcdRange, decode_txn, encode_read, encode_txn
from tests.space import SpaceGuard

pytestmark = pytest.mark.processes

CLOCK = OsClock()
COMPACT = "/etcdserverpb.KV/Compact"


@asynccontextmanager
async def opened(etcd: EtcdCluster, name: str, patience_ns: int = 20 * SECOND) -> AsyncIterator:
    kv = await EtcdKV.open(etcd.endpoints, f"{name}/", CLOCK, patience_ns=patience_ns)
    try:
        yield kv
    finally:
        await kv.close()


# --- commits that are not answered -------------------------------------------------------------------------------------


class TroubledCalls:
    """In place of `EtcdClient.call`: of the next commits, the request or the reply is lost, or the request is late."""

    def __init__(self, kv, *troubles: str) -> None:
        self._call = kv._client.call
        self._row = kv._committer._row
        self.troubles = list(troubles)
        self.late: list[asyncio.Task[bytes]] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        kv._client.call = self

    async def __call__(self, method: str, request: bytes, **options) -> bytes:
        is_commit = method == TXN and b"counted" in request and self._row in request
        trouble = self.troubles.pop(0) if is_commit and self.troubles else ""
        if trouble == "request lost":
            raise error(Code.DISCONNECTED, "the request is lost")
        if trouble == "late":
            self.late.append(asyncio.ensure_future(self._send_late(method, request)))
            raise error(Code.DEADLINE, "the request is late")
        reply = await self._call(method, request, **options)
        if trouble == "reply lost":
            raise error(Code.DEADLINE, "the reply is lost")
        return reply

    async def _send_late(self, method: str, request: bytes) -> bytes:
        await self.may_go.wait()
        return await self._call(method, request)


@pytest.mark.parametrize("trouble", ["request lost", "reply lost", "late"])
async def test_an_operation_takes_effect_once_whatever_is_lost(etcd: EtcdCluster, trouble: str) -> None:
    async with opened(etcd, f"once-{trouble.replace(' ', '-')}") as kv:
        await kv.transact(append_count(b"counted"))
        calls = TroubledCalls(kv, trouble, trouble, "", trouble)
        values = [await kv.transact(append_count(b"counted")) for _ in range(6)]
        assert values == [1, 2, 3, 4, 5, 6]
        assert not calls.troubles
        for late in calls.late:
            assert not decode_txn(await late).succeeded or await kv.read(get(b"counted")) == b"7"
        assert await kv.read(get(b"counted")) == b"7"


async def test_a_commit_that_is_sent_twice_takes_effect_once(etcd: EtcdCluster) -> None:
    """As a gRPC library may do by itself: what is heard of is the answer to the second one."""
    async with opened(etcd, "twice") as kv:
        await kv.transact(append_count(b"counted"))
        call = kv._client.call

        async def send_twice(method: str, request: bytes, **options) -> bytes:
            if method == TXN and b"counted" in request:
                await call(method, request, **options)
            return await call(method, request, **options)

        kv._client.call = send_twice
        assert [await kv.transact(append_count(b"counted")) for _ in range(3)] == [1, 2, 3]
        await kv.transact(puts({b"counted": b"10"}))
        assert await kv.read(get(b"counted")) == b"10"


async def test_an_operation_that_cannot_even_begin_fails_alone(etcd: EtcdCluster) -> None:
    def refuses(txn: Txn):
        raise ValueError("no coroutine")

    async with opened(etcd, "no-coroutine") as kv:
        bad, good = start_transaction(kv, refuses), start_transaction(kv, append_count(b"counted"))
        assert isinstance(await failure(bad), ValueError)
        assert await good == 0
        with pytest.raises(ValueError, match="no coroutine"):
            await kv.read(refuses)


async def test_a_late_commit_does_not_undo_what_came_after_it(etcd: EtcdCluster) -> None:
    """A write that reads nothing: only the fence keeps it from taking place once more."""
    async with opened(etcd, "late") as kv:
        calls = TroubledCalls(kv, "late")
        calls.may_go.clear()
        await kv.transact(puts({b"counted": b"first"}))
        await kv.transact(puts({b"counted": b"second"}))
        calls.may_go.set()
        (late,) = calls.late
        assert not decode_txn(await late).succeeded
        assert await kv.read(get(b"counted")) == b"second"


async def test_a_commit_that_nothing_settles_is_in_doubt_until_it_is(etcd: EtcdCluster) -> None:
    async with opened(etcd, "doubt", patience_ns=500 * MILLISECOND) as kv:
        await kv.transact(append_count(b"counted"))
        call, silent = kv._client.call, True

        async def answers_nothing(method: str, request: bytes, **options) -> bytes:
            reply = await call(method, request, **options)  # carried out, and never heard of
            if silent:
                raise error(Code.DEADLINE, "no answer")
            return reply

        kv._client.call = answers_nothing
        why = await failure(start_transaction(kv, append_count(b"counted")))
        assert isinstance(why, FS3Error)
        assert why.code is Code.DEADLINE
        assert "not known" in str(why)
        silent = False
        assert await kv.transact(append_count(b"counted")) == 2, "it had taken place"


# --- what is compared --------------------------------------------------------------------------------------------------


READS = {
    "a row": (get(b"b"), {b"b": b"new"}, True),
    "a row that is deleted": (get(b"b"), {b"b": None}, True),
    "a row that was absent": (get(b"c"), {b"c": b"new"}, True),
    "another row": (get(b"b"), {b"c": b"new"}, False),
    "a scan": (scan(b"a", b"e", 10), {b"b": b"new"}, True),
    "a scan with a new row": (scan(b"a", b"e", 10), {b"c": b"new"}, True),
    "a scan with a row less": (scan(b"a", b"e", 10), {b"b": None}, True),
    "a scan of nothing, with a row": (scan(b"x", b"z", 10), {b"y": b"new"}, True),
    "a scan that ends at its limit, a row behind": (scan(b"a", b"z", 2), {b"c": b"new"}, False),
    "a scan that ends at its limit, a row within": (scan(b"a", b"z", 2), {b"ab": b"new"}, True),
    "a scan backwards, a row before its limit": (scan(b"a", b"z", 1, reverse=True), {b"c": b"new"}, False),
    "a scan backwards, a row within": (scan(b"a", b"z", 1, reverse=True), {b"e": b"new"}, True),
}
"""What an operation reads, what another process changes before it commits, and whether it then has to run again."""


@pytest.mark.parametrize("by_mark", [False, True], ids=["by rows", "by the mark"])
@pytest.mark.parametrize("case", READS)
async def test_an_operation_runs_again_when_what_it_read_was_changed(etcd: EtcdCluster, case: str, by_mark: bool) -> None:
    read, change, conflicts = READS[case]
    name = f"compare-{case}-{by_mark}".replace(" ", "-").replace(",", "")
    async with opened(etcd, name) as kv, opened(etcd, name) as other:
        await kv.transact(puts({b"a": b"1", b"b": b"1", b"d": b"1"}))
        kv._crowded_commits = 0 if by_mark else 100
        call, runs = kv._client.call, []

        async def call_after_the_other(method: str, request: bytes, **options) -> bytes:
            if method == TXN and b"~written" in request and len(runs) == 1:
                await other.transact(puts(change))
            return await call(method, request, **options)

        async def op(txn: Txn) -> object:
            found = await read(txn)
            runs.append(found)
            txn.put(b"~written", b"1")
            return found

        await kv.read(read)  # so that the operation misses nothing, and runs once
        kv._client.call = call_after_the_other
        result = await kv.transact(op)
        assert len(runs) == (2 if conflicts or by_mark else 1)
        assert result == await kv.read(read), "it has seen the state it was committed on"
        assert await kv.read(get(b"~written")) == b"1"


# --- members that are not as they should be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "named"), [((), "--max-txn-ops 4096"), (ETCD_FLAGS[:2], "--max-request-bytes 8388608")], ids=["operations", "bytes"]
)
async def test_members_that_admit_too_little_are_refused(
    space_guard: SpaceGuard, etcd: EtcdCluster, flags: tuple[str, ...], named: str
) -> None:
    with (
        space_guard.lend("etcd-flags") as directory,
        EtcdCluster(directory, 1, flags) as cluster,
        pytest.raises(FS3Error, match=named),
    ):
        async with opened(cluster, "flags"):
            pass


async def test_a_full_engine_is_no_space_and_reads_go_on(space_guard: SpaceGuard, etcd: EtcdCluster) -> None:
    flags = (*ETCD_FLAGS, "--quota-backend-bytes", str(8 << 20))
    with space_guard.lend("etcd-full") as directory, EtcdCluster(directory, 1, flags) as cluster:
        async with opened(cluster, "full") as kv:
            stored = 0
            why: BaseException | None = None
            while why is None:
                future = start_transaction(kv, puts({b"row %04d" % stored: bytes(500_000)}))
                await asyncio.wait({future})
                why = future.exception()
                stored += why is None
                assert stored < 100
            for problem in (why, await failure(start_transaction(kv, append_count(b"counted")))):
                assert isinstance(problem, FS3Error)
                assert problem.code is Code.NO_SPACE
                assert "--quota-backend-bytes" in str(problem)
            assert [key for key, _ in await read_all_rows(kv)] == [b"row %04d" % at for at in range(stored)]
            kv._state = await find_state(kv._client)
            assert "NOSPACE" in kv.problem
            assert "of its quota of 8 MB" in kv.problem


async def test_no_member_is_said_after_a_while_naming_them(etcd: EtcdCluster) -> None:
    async with opened(etcd, "absent", patience_ns=1 * SECOND) as kv:
        await kv.transact(append_count(b"counted"))

        async def refuses(method: str, request: bytes, **options) -> bytes:
            raise error(Code.UNAVAILABLE, "nobody is there")

        call, kv._client.call = kv._client.call, refuses
        for future in (start_transaction(kv, append_count(b"counted")), asyncio.ensure_future(kv.read(get(b"counted")))):
            why = await failure(future)
            assert isinstance(why, Unreachable)
            assert etcd.endpoints[0] in str(why)
        kv._client.call = call
        assert await kv.transact(append_count(b"counted")) >= 1


async def test_a_store_of_another_format_is_refused(etcd: EtcdCluster) -> None:
    async with opened(etcd, "format") as kv:
        keys, client = kv._keys, kv._client
        await client.call(TXN, encode_txn([], {keys.format: b"fs3-kv 99"}, ()))
    with pytest.raises(FS3Error, match="fs3-kv 99"):
        async with opened(etcd, "format"):
            pass


async def test_a_watch_whose_changes_were_compacted_begins_anew(etcd: EtcdCluster) -> None:
    async with opened(etcd, "compacted") as kv, opened(etcd, "compacted") as other:
        await kv.transact(puts({b"a": b"1", b"b": b"1"}))
        assert await kv.read(scan(b"", b"z", 10)) == [(b"a", b"1"), (b"b", b"1")]
        # It hears nothing while the other one writes, and what it missed is then compacted away.
        kv._feed._task.cancel()
        await asyncio.wait({kv._feed._task})
        kv._feed._watch.cancel()
        await asyncio.wait({kv._feed._watch})
        await other.transact(puts({b"a": b"2"}))
        await other.transact(puts({b"b": None, b"c": b"3"}))
        newest = decode_txn(await kv._client.call(TXN, encode_read([EtcdRange(b"x")]))).revision
        await kv._client.call(COMPACT, b"\x08" + varint(newest))
        kv._feed._task = asyncio.ensure_future(kv._feed._run(kv._cache.revision + 1))
        assert await kv.read(scan(b"", b"z", 10)) == [(b"a", b"2"), (b"c", b"3")]
        assert await kv.transact(append_count(b"counted")) == 0


async def test_a_snapshot_whose_moment_is_compacted_away_says_so(etcd: EtcdCluster) -> None:
    async with opened(etcd, "old-snapshot") as kv:
        await kv.transact(puts({b"%04d" % number: b"" for number in range(1000)}))
        pages = kv.snapshot()
        assert len(await anext(pages)) == 512
        await kv.transact(puts({b"a": b"1"}))
        newest = decode_txn(await kv._client.call(TXN, encode_read([EtcdRange(b"x")]))).revision
        await kv._client.call(COMPACT, b"\x08" + varint(newest))
        with pytest.raises(FS3Error, match="--auto-compaction-retention"):
            await anext(pages)
        assert sum([len(page) async for page in kv.snapshot()]) == 1001


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# --- large transactions ------------------------------------------------------------------------------------------------


async def test_operations_are_cut_into_transactions_that_etcd_admits(etcd: EtcdCluster) -> None:
    async with opened(etcd, "cut") as kv:
        many = [start_transaction(kv, puts({b"%02d %04d" % (at, row): b"v" for row in range(1000)})) for at in range(10)]
        for future in many:
            await future
        assert kv.stats.commits >= 3
        large = [start_transaction(kv, puts({b"large %02d" % at: bytes(1 << 20)})) for at in range(12)]
        for future in large:
            await future
        assert len(await kv.read(scan(b"0", b"a", 100_000))) == 10_000


async def test_an_operation_that_writes_too_much_fails_alone(etcd: EtcdCluster) -> None:
    async with opened(etcd, "too-much") as kv:
        rows = {b"%05d" % row: b"" for row in range(5000)}
        before, large, after = (start_transaction(kv, op) for op in (append_count(b"n"), puts(rows), append_count(b"n")))
        assert await before == 0
        why = await failure(large)
        assert isinstance(why, FS3Error)
        assert why.code is Code.TOO_LARGE
        assert await after == 1
        assert await read_all_rows(kv) == [(b"n", b"2")]


async def test_an_operation_may_read_more_rows_than_etcd_compares(etcd: EtcdCluster) -> None:
    async with opened(etcd, "reads-much") as kv, opened(etcd, "reads-much") as other:
        for part in range(3):
            await kv.transact(puts({b"row %05d" % (2000 * part + row): b"" for row in range(2000)}))

        async def count_rows(txn: Txn) -> int:
            found = await txn.scan(b"row ", b"row!", 100_000)
            txn.put(b"row %05d" % len(found), b"")
            return len(found)

        counted = await asyncio.gather(*(store.transact(count_rows) for store in (kv, other) for _ in range(3)))
        assert sorted(counted) == list(range(6000, 6006))
        # A process that comes and goes changes nothing of the store.
        async with opened(etcd, "reads-much"):
            assert await kv.transact(count_rows) == 6006
        assert await kv.transact(count_rows) == 6007


async def test_rows_are_known_to_be_absent_until_another_process_writes_them(etcd: EtcdCluster) -> None:
    async def look(txn: ReadTxn) -> list[bytes | None]:
        return await txn.get_many([b"k%d" % at for at in range(5)])

    async with opened(etcd, "absent-rows") as kv, opened(etcd, "absent-rows") as other:
        assert await kv.read(look) == [None] * 5
        for at in range(5):
            await other.transact(puts({b"k%d" % at: b"v"}))
            assert (await kv.read(look))[at] == b"v"


async def test_a_store_that_is_closed_leaves_nothing_on_its_loop(etcd: EtcdCluster) -> None:
    async with opened(etcd, "closed") as kv:
        await kv.transact(append_count(b"counted"))
    left = [task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    # The library's own task of the watch may still have to hear that it has ended.
    assert [coro for coro in left if not coro.__qualname__.startswith("_AioCall.")] == []

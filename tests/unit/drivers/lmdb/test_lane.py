"""The lane: group commit, what a batch may read, and what happens when a commit fails."""

import asyncio
import threading
from itertools import pairwise

import lmdb
import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import transactions_per_commit_max, transactions_per_turn_max
from fs3.base.status import Code
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.kv import LmdbKV
from fs3.sim.conformance.kv import append_count, failure, get, puts, read_all_rows, start_transaction


class Gate(Environment):
    """An environment whose commits wait to be let through, one by one, or made to fail."""

    def __init__(self, directory):
        super().__init__(directory, "kv", 1, map_bytes=1 << 24, map_bytes_max=1 << 24)
        self.started = threading.Semaphore(0)
        self.verdicts = []
        self.decided = threading.Semaphore(0)
        self.committed = []

    def write(self, txn, rows, *, use_reserve=False):
        self.started.release()
        self.decided.acquire()
        verdict = self.verdicts.pop(0)
        if verdict is not None:
            self.abort_write(txn)
            raise verdict
        self.committed.append(dict(rows))
        return super().write(txn, rows, use_reserve=use_reserve)

    def let(self, verdict=None):
        self.verdicts.append(verdict)
        self.decided.release()

    async def commit_started(self):
        await asyncio.get_running_loop().run_in_executor(None, self.started.acquire)


@pytest.fixture
async def gated(tmp_path):
    gate = Gate(tmp_path)
    kv = LmdbKV(gate, None)
    yield gate, kv
    for _ in range(20):
        gate.let()
    await kv.close()


async def test_operations_of_one_turn_share_a_commit(gated):
    gate, kv = gated
    futures = [start_transaction(kv, append_count(b"n")) for _ in range(transactions_per_turn_max)]
    gate.let()
    assert await asyncio.gather(*futures) == list(range(transactions_per_turn_max))
    assert kv.stats.commits == 1
    assert gate.committed == [{b"n": b"%d" % transactions_per_turn_max}]


async def test_the_next_batch_runs_while_one_is_committed(gated):
    gate, kv = gated
    first = start_transaction(kv, puts({b"a": b"1"}))
    await gate.commit_started()
    ran = []

    async def look(txn):
        ran.append(await txn.get(b"a"))
        txn.put(b"b", b"2")

    second = start_transaction(kv, look)
    await asyncio.sleep(0)
    assert ran == [b"1"], "the second batch runs at once, on the uncommitted writes"
    assert await kv.read(get(b"a")) is None, "but nobody else sees them"
    gate.let()
    await first
    assert await kv.read(get(b"a")) == b"1"
    assert not second.done()
    await gate.commit_started()
    gate.let()
    await second
    assert gate.committed == [{b"a": b"1"}, {b"b": b"2"}]


async def test_batches_are_limited(gated):
    gate, kv = gated
    first = start_transaction(kv, puts({b"a": b"1"}))
    await gate.commit_started()
    ran = []

    async def count(txn):
        ran.append(1)
        txn.put(b"n", b"%d" % len(ran))

    futures = [start_transaction(kv, count) for _ in range(2 * transactions_per_commit_max + 1)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(ran) == transactions_per_commit_max, "a full batch waits for the writer, and what is behind it waits too"
    for _ in range(20):
        gate.let()
    await asyncio.gather(first, *futures)
    # How full a later batch was when the writer came for it is a matter of luck; that none was over the limit is not.
    ends = [int(rows[b"n"]) for rows in gate.committed[1:]]
    assert ends[0] == transactions_per_commit_max
    assert ends[-1] == len(futures)
    assert all(end - begin <= transactions_per_commit_max for begin, end in pairwise([0, *ends]))


async def test_an_answer_that_rests_on_an_uncommitted_write_waits_for_it(gated):
    gate, kv = gated
    first = start_transaction(kv, puts({b"name": b"taken"}))
    await gate.commit_started()

    async def create(txn):
        if await txn.get(b"name"):
            raise FileExistsError("name")

    refused, looked = start_transaction(kv, create), start_transaction(kv, get(b"name"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not refused.done()
    assert not looked.done()
    gate.let()
    await first
    assert isinstance(await failure(refused), FileExistsError)
    assert await looked == b"taken"
    assert kv.stats.commits == 1, "a batch that writes nothing needs no commit"


async def test_a_full_store_fails_only_the_operations_that_do_not_fit(gated):
    """What read writes of a failed batch runs again without them; what shared its commit is tried in smaller commits."""
    gate, kv = gated
    first = [start_transaction(kv, append_count(b"n")) for _ in range(3)]
    await gate.commit_started()
    second = [start_transaction(kv, append_count(b"n")) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(2):
        gate.let(lmdb.DiskError("no room"))
    for _ in range(4):
        gate.let()
    why = await failure(first[0])
    assert isinstance(why, FS3Error)
    assert why.code is Code.NO_SPACE
    assert await asyncio.gather(*first[1:], *second) == [0, 1, 2, 3, 4], "as if the first operation had never been"
    assert gate.committed[0] == {b"n": b"1"}, "one alone; then more at once"
    assert len(gate.committed) < 5
    third = start_transaction(kv, append_count(b"n"))
    gate.let()
    assert await third == 5
    assert await read_all_rows(kv) == [(b"n", b"6")]


async def test_order_is_within_lease_across_a_failed_batch(gated):
    gate, kv = gated
    first = start_transaction(kv, append_count(b"n"))
    await gate.commit_started()
    more = [start_transaction(kv, append_count(b"n")) for _ in range(transactions_per_commit_max + 50)]
    for _ in range(transactions_per_commit_max // transactions_per_turn_max + 2):
        await asyncio.sleep(0)
    gate.let(lmdb.DiskError("no room"))
    for _ in range(20):
        gate.let()
    assert isinstance(await failure(first), FS3Error)
    assert await asyncio.gather(*more) == list(range(len(more)))


async def test_an_operation_that_waits_for_something_else_is_refused(gated):
    _, kv = gated

    async def sleepy(txn):
        txn.put(b"a", b"1")
        await asyncio.sleep(0)

    future = start_transaction(kv, sleepy)
    assert isinstance(await failure(future), RuntimeError)
    assert await read_all_rows(kv) == []


async def test_close_waits_for_the_disk(gated):
    gate, kv = gated
    first = start_transaction(kv, puts({b"a": b"1"}))
    await gate.commit_started()
    second = start_transaction(kv, puts({b"b": b"1"}))
    closing = asyncio.ensure_future(kv.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    gate.let()
    gate.let()
    await closing
    assert first.done()
    assert second.done()
    assert [sorted(rows) for rows in gate.committed] == [[b"a"], [b"b"]]


async def test_exceptions_that_callers_keep_hold_no_reader_slots(tmp_path):
    """A traceback reaches the snapshot its operation ran on; LMDB has few slots for readers."""
    environment = Environment(tmp_path, "kv", 1, map_bytes=1 << 24, map_bytes_max=1 << 24)
    kv = LmdbKV(environment, None)
    kept = []

    async def fail(txn):
        await txn.get(b"n")
        await txn.scan(b"", b"z", 3)
        raise ValueError("kept by its caller")

    for _ in range(300):
        kept.append(await failure(start_transaction(kv, fail)))
        with pytest.raises(ValueError, match="kept") as raised:
            await kv.read(fail)
        kept.append(raised.value)
        await kv.transact(append_count(b"n"))
    assert all(why.__traceback__ for why in kept)
    slots = environment._env.readers().count("\n") - 1
    assert slots <= 3
    assert await kv.read(get(b"n")) == b"300"
    await kv.close()


async def test_a_snapshot_that_cannot_be_renewed_hangs_nobody(gated, monkeypatch):
    """What was committed is acknowledged; what is not fails; nothing old is shown, nobody waits for ever, and it passes."""
    gate, kv = gated
    first = start_transaction(kv, puts({b"a": b"1"}))
    await gate.commit_started()
    second = [start_transaction(kv, puts({b"b": b"1"})) for _ in range(transactions_per_commit_max + 3)]
    await asyncio.sleep(0)

    def no_reader():
        raise lmdb.ReadersFullError("no slot is left")

    monkeypatch.setattr(gate, "begin_read", no_reader)
    gate.let()
    async with asyncio.timeout(20):
        await first
        assert {(await failure(future)).code for future in second} == {Code.DISK}
        with pytest.raises(FS3Error, match="no slot"):
            await kv.read(get(b"a"))
        third = start_transaction(kv, puts({b"c": b"1"}))
        gate.let()
        await third
    assert [sorted(rows) for rows in gate.committed] == [[b"a"], [b"c"]]


async def test_a_snapshot_is_not_read_after_its_end(gated):
    gate, kv = gated
    snapshot = kv._snapshots.newest
    first = start_transaction(kv, puts({b"a": b"1"}))
    gate.let()
    await first
    with pytest.raises(FS3Error, match="ended"):
        await snapshot.get(b"a")
    with pytest.raises(FS3Error, match="ended"):
        await snapshot.scan(b"", b"z", 1)
    snapshot.close()

"""Several processes on one store: conflicts, the lock, maps that others outgrow, forks."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import transactions_per_turn_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb import kv as lane
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.kv import LmdbKV as Lane
from fs3.drivers.lmdb.kv import lmdb_crowded_commits
from fs3.sim.conformance.kv import append_count, failure, get, puts, read_all_rows, start_transaction
from fs3.sim.conformance.kv_shared import process_peer

OPENING = "LmdbKV.open(directory, map_bytes=128 << 10)"


class Door(Environment):
    """An environment whose writer stops before it asks for the lock."""

    def __init__(self, directory, map_bytes=512 << 10):
        super().__init__(directory, "kv", 2, map_bytes=map_bytes, map_bytes_max=1 << 30)
        self.waiting = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def begin_write(self):
        self.waiting.release()
        self.open.acquire()
        return super().begin_write()

    async def is_waiting(self):
        await asyncio.get_running_loop().run_in_executor(None, self.waiting.acquire)


@pytest.fixture
async def shared(tmp_path):
    async with process_peer(OPENING, tmp_path) as peer:
        assert await peer.run("get", "n") is None
        door = Door(tmp_path)
        kv = Lane(door, None)
        yield door, kv, peer
        for _ in range(100):
            door.open.release()
        await kv.close()


async def test_a_batch_that_met_another_commit_runs_again_under_the_lock(shared):
    door, kv, peer = shared
    futures = [start_transaction(kv, append_count(b"n")) for _ in range(3)]
    await door.is_waiting()
    behind = [start_transaction(kv, append_count(b"n")) for _ in range(3)]
    await asyncio.sleep(0)
    assert await peer.run("count", "n", 1, 2) == [0, 1]
    door.open.release()
    assert await asyncio.gather(*futures, *behind) == [2, 3, 4, 5, 6, 7]
    assert kv.stats.conflicts == 1
    assert kv.stats.reruns == 6
    assert kv.stats.commits == 1
    assert await peer.run("get", "n") == "8"


async def test_the_lock_is_taken_first_until_others_are_silent(shared):
    door, kv, peer = shared
    first = start_transaction(kv, append_count(b"n"))
    await door.is_waiting()
    await peer.run("count", "n", 1, 1)
    door.open.release()
    assert await first == 1
    for number in range(lmdb_crowded_commits):
        ran = []

        async def op(txn, ran=ran):
            ran.append(await txn.get(b"n"))
            txn.put(b"n", b"%d" % (int(ran[0]) + 1))

        waiting = start_transaction(kv, op)
        await door.is_waiting()
        assert not ran, f"commit {number}: operations run once the lock is there"
        door.open.release()
        await waiting
        assert len(ran) == 1
    assert kv.stats.conflicts == 1
    last = start_transaction(kv, append_count(b"n"))
    await door.is_waiting()
    assert kv.stats.reruns == 1
    door.open.release()
    assert await last == lmdb_crowded_commits + 2


async def test_a_batch_that_fails_under_the_lock_gives_it_back(shared):
    door, kv, peer = shared
    first = start_transaction(kv, append_count(b"n"))
    await door.is_waiting()
    await peer.run("count", "n", 1, 1)
    door.open.release()
    await first

    async def refuse(txn):
        raise FileExistsError(await txn.get(b"n"))

    refused = [start_transaction(kv, refuse) for _ in range(2 * transactions_per_turn_max)]
    for _ in range(4):
        door.open.release()
    assert (await failure(refused[0])).args == (b"2",)
    assert await peer.run("count", "n", 1, 1) == [2], "nobody has the lock"
    for future in refused:
        await failure(future)


async def test_a_read_sees_what_another_process_committed_while_our_commit_waits(shared):
    door, kv, peer = shared
    ours = start_transaction(kv, puts({b"ours": b"1"}))
    await door.is_waiting()
    await peer.run("put", "theirs", "1")
    assert await read_all_rows(kv) == [(b"theirs", b"1")]
    door.open.release()
    await ours
    assert await read_all_rows(kv) == [(b"ours", b"1"), (b"theirs", b"1")]


async def test_a_map_that_another_process_outgrew_is_adopted(shared):
    door, kv, peer = shared
    for number in range(30):
        await peer.run("put", f"{number:03}", "x" * 90_000)
    assert len(await read_all_rows(kv)) == 30
    for _ in range(2):
        door.open.release()
    await kv.transact(puts({b"ours": b"1"}))
    assert await peer.run("get", "ours") == "1"


async def test_a_map_that_is_outgrown_while_our_commit_waits(shared):
    """It cannot be moved under the writer: reads wait for the commit, the commit is made again in the larger map."""
    door, kv, peer = shared
    ours = [start_transaction(kv, append_count(b"n")) for _ in range(3)]
    await door.is_waiting()
    for number in range(30):
        await peer.run("put", f"{number:03}", "x" * 90_000)
    reading = asyncio.ensure_future(kv.read(get(b"029")))
    called = []
    kv.submit_read(get(b"028"), lambda result, why: called.append((result, why)))
    await asyncio.sleep(0)
    assert not reading.done()
    assert not called
    for _ in range(2):
        door.open.release()
    assert await reading == b"x" * 90_000
    assert await asyncio.gather(*ours) == [0, 1, 2]
    assert called == [(b"x" * 90_000, None)]


async def test_a_commit_that_waits_for_another_process_is_complained_about(shared, monkeypatch, caplog):
    door, kv, _ = shared
    monkeypatch.setattr(lane, "lmdb_slow_commit_ns", SECOND // 1000)
    ours = start_transaction(kv, puts({b"ours": b"1"}))
    await door.is_waiting()
    async with asyncio.timeout(20):
        while "holds the lock" not in caplog.text:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.001)
    door.open.release()
    await ours


async def test_both_outgrow_the_map_in_turns(tmp_path):
    async with process_peer(OPENING, tmp_path) as peer:
        kv = LmdbKV.open(tmp_path, map_bytes=128 << 10)
        for number in range(0, 60, 2):
            await peer.run("put", f"{number:03}", "x" * 90_000)
            await kv.transact(puts({b"%03d" % (number + 1): b"y" * 90_000}))
        assert len(await read_all_rows(kv)) == 60
        await kv.close()


async def test_an_idle_process_lets_go_of_the_state_it_has_read(tmp_path):
    """Else no process could use the pages again that have changed since, and the store would grow with every commit."""
    async with process_peer(OPENING, tmp_path) as peer:
        kv = LmdbKV.open(tmp_path)
        environment = kv._environment._env
        await peer.run("put", "n", "0")
        await peer.run("get", "n")
        async with asyncio.timeout(30):
            while f" {peer.process.pid} " in environment.readers():
                await kv.transact(append_count(b"n"))
        await kv.close()


async def test_snapshots_of_the_dead_are_forgotten(tmp_path):
    """Else the pages they hold would never be used again, and the store would grow with every commit."""
    kv = LmdbKV.open(tmp_path)
    await kv.transact(puts({b"a": b"1"}))
    script = """
        import asyncio, os, sys
        from fs3.drivers.lmdb import LmdbKV
        from fs3.sim.conformance.kv import get

        async def main():
            kv = LmdbKV.open(sys.argv[1])
            await kv.read(get(b"a"))
            print(os.getpid(), flush=True)
            os.kill(os.getpid(), 9)

        asyncio.run(main())
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    dead = f" {int(died.stdout)} "
    assert dead in kv._environment._env.readers()
    kv._environment.clear_stale_readers()
    assert dead not in kv._environment._env.readers()
    await kv.close()


def test_a_forked_child_is_refused_and_harms_nobody(tmp_path):
    script = """
        import asyncio, os, sys
        from fs3.base.errors import FS3Error
        from fs3.drivers.lmdb import LmdbKV
        from fs3.sim.conformance.kv import append_count, get

        async def main():
            kv = LmdbKV.open(sys.argv[1])
            await kv.transact(append_count(b"n"))
            return kv

        async def child(kv):
            for attempt in (kv.read(get(b"n")), kv.transact(append_count(b"n"))):
                try:
                    await attempt
                except FS3Error as why:
                    print(why.code.name, "forked" in str(why), flush=True)
            await kv.close()
            try:
                LmdbKV.open(sys.argv[1])
            except FS3Error as why:
                print(why.code.name, "already open" in str(why), flush=True)

        async def parent(kv):
            # Only reading: a store belongs to the loop of its first transaction.
            print(await kv.read(get(b"n")), flush=True)

        kv = asyncio.run(main())
        pid = os.fork()
        if pid == 0:
            asyncio.run(child(kv))
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        asyncio.run(parent(kv))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["SHUTTING_DOWN True", "SHUTTING_DOWN True", "DISK True", "b'1'"]


async def test_a_child_of_this_process_does_not_harm_its_parent(tmp_path):
    kv = LmdbKV.open(tmp_path)
    await kv.transact(append_count(b"n"))
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass", close_fds=False)
    await child.wait()
    with pytest.raises(FS3Error) as refused:
        LmdbKV.open(tmp_path)
    assert refused.value.code is Code.BUSY
    assert f"pid {os.getpid()}" in str(refused.value)
    assert await kv.transact(append_count(b"n")) == 1
    await kv.close()

"""The lease of the write lock: who stands still with it is killed by one that waits; who gives signs is waited for."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.write_lock import HolderWatch, LockHolder, WriteLock
from fs3.sim.conformance.kv import get, puts

LEASE_NS = 400 * MILLISECOND

HOLDER = textwrap.dedent("""
    import asyncio, os, sys
    from fs3.drivers.lmdb import LmdbKV
    from fs3.sim.conformance.kv import puts

    async def main():
        kv = LmdbKV.open(sys.argv[1], lock_lease_ns=int(sys.argv[2]))
        await kv.transact(puts({b"opened": b"1"}))
        environment = kv._environment
        txn = environment.begin_write() if sys.argv[3] == "hold" else None
        print(os.getpid(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        if txn is not None:
            environment.write(txn, {b"theirs": b"1"})
        await asyncio.to_thread(sys.stdin.readline)
        await kv.close()

    asyncio.run(main())
""")


@asynccontextmanager
async def other_process(directory, what="hold"):
    """A process that has the store open and, to "hold", its write lock until it reads a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(directory),
        str(LEASE_NS),
        what,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert int(await process.stdout.readline()) == process.pid
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stop(process):
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(0.001)


@pytest.fixture
async def kv(tmp_path):
    kv = LmdbKV.open(tmp_path, lock_lease_ns=LEASE_NS)
    yield kv
    await kv.close()


async def test_a_stopped_holder_is_killed_by_one_that_waits(tmp_path, kv, caplog):
    await kv.transact(puts({b"ours": b"1"}))
    async with other_process(tmp_path) as holder:
        await stop(holder)
        writing = asyncio.ensure_future(kv.transact(puts({b"ours": b"2"})))
        assert await kv.read(get(b"ours")) == b"1", "reads wait for nobody"
        async with asyncio.timeout(30):
            await writing
            assert await holder.wait() == -signal.SIGKILL
    assert await kv.read(get(b"ours")) == b"2"
    assert await kv.read(get(b"theirs")) is None, "what it had not committed is undone"
    [said] = [record for record in caplog.records if "has been killed" in record.getMessage()]
    assert said.levelno == logging.ERROR
    assert f"process {holder.pid}" in said.getMessage()
    assert str(tmp_path) in said.getMessage()


async def test_a_holder_that_gives_signs_is_waited_for(tmp_path, kv):
    """Its disk is slow, say: for as long as its loop renews the lease, nobody ends it."""
    await kv.transact(puts({b"ours": b"1"}))
    lock = kv._environment.write_lock
    async with other_process(tmp_path) as holder:
        writing = asyncio.ensure_future(kv.transact(puts({b"ours": b"2"})))
        begun = lock.find_holder()
        assert begun.pid == holder.pid
        while lock.find_holder().renewal < begun.renewal + 3 * LEASE_NS // lock.tick_ns:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)
        assert not writing.done()
        assert holder.returncode is None
        holder.stdin.write(b"commit\n")
        await writing
        holder.stdin.write(b"end\n")
        assert await holder.wait() == 0
    assert await kv.read(get(b"theirs")) == b"1"


async def test_a_stopped_process_without_the_lock_is_left_alone(tmp_path, kv):
    async with other_process(tmp_path, "open") as other:
        await stop(other)
        watch = kv._environment.write_lock
        for number in range(20):
            await kv.transact(puts({b"ours": b"%d" % number}))
            assert watch.find_holder() is None
        other.send_signal(signal.SIGCONT)
        other.stdin.write(b"go on\nend\n")
        assert await other.wait() == 0


async def test_a_stopped_holder_holds_up_nobody_who_opens_the_store(tmp_path):
    async with other_process(tmp_path) as holder:
        await stop(holder)
        kv = LmdbKV.open(tmp_path, lock_lease_ns=LEASE_NS)
        await kv.transact(puts({b"ours": b"1"}))
        await kv.close()
        assert await holder.wait() == -signal.SIGKILL


async def test_a_holder_that_has_moved_on_is_not_killed(tmp_path, kv):
    """Between looking and ending, the lock may have gone to another, or the pid to somebody who never had it."""
    lock = kv._environment.write_lock
    async with other_process(tmp_path, "open") as other:
        assert lock._end(LockHolder(other.pid, 5)) == ""
        other.stdin.write(b"go on\nend\n")
        assert await other.wait() == 0
    assert lock._end(LockHolder(other.pid, 5)) == "", "gone already"


def test_a_holder_that_cannot_be_seen_is_named_and_waited_for(tmp_path):
    """A store on a volume that containers share: the waiter sees no pid of the holder, and must not guess."""
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("pid namespaces are not allowed here")
    lock = WriteLock(tmp_path, LEASE_NS)
    lock.acquire()
    lock.release()
    lock.acquire()
    script = """
        import sys
        from pathlib import Path
        from fs3.base.errors import FS3Error
        from fs3.drivers.lmdb.write_lock import WriteLock
        lock = WriteLock(Path(sys.argv[1]), int(sys.argv[2]))
        print(lock.find_holder())
        try:
            lock.acquire_ticking()
        except FS3Error as why:
            print(why.code.name, why)
    """
    said = subprocess.run(
        [*apart, sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(LEASE_NS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found, refused = said.stdout.splitlines()
    assert found == "LockHolder(pid=0, renewal=3)"
    assert refused.startswith("BUSY")
    assert str(tmp_path) in refused
    assert said.stderr.count("another pid namespace") == 1
    lock.close()


def test_the_lock_is_free_after_release_and_after_close(tmp_path):
    script = """
        import sys
        from pathlib import Path
        from fs3.drivers.lmdb.write_lock import WriteLock
        print(WriteLock(Path(sys.argv[1]), 10**9).find_holder())
    """

    def seen_by_another():
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    lock = WriteLock(tmp_path, SECOND)
    assert seen_by_another() == "None"
    lock.acquire()
    assert seen_by_another() == f"LockHolder(pid={os.getpid()}, renewal=2)"
    lock.tick(0)
    assert seen_by_another() == f"LockHolder(pid={os.getpid()}, renewal=3)"
    assert lock.find_holder() is None, "its own is none it would wait for"
    lock.release()
    lock.release()
    assert seen_by_another() == "None"
    lock.tick(0)
    assert seen_by_another() == "None", "nothing is renewed that is not held"
    lock.acquire()
    lock.close()
    assert seen_by_another() == "None"


class TestWatch:
    """Leases on the clock of whoever looks; here one of 800, looked at every 100."""

    def look(self, watch, times, holder):
        return [watch.observe(now, holder) for now in times]

    def test_a_whole_lease_without_a_sign(self):
        seen = self.look(HolderWatch(800), range(0, 1000, 100), LockHolder(7, 1))
        assert seen == [False] * 8 + [True] * 2

    def test_any_change_begins_anew(self):
        watch = HolderWatch(800)
        self.look(watch, range(0, 800, 100), LockHolder(7, 1))
        for changed in (LockHolder(7, 2), LockHolder(8, 2), None, LockHolder(8, 2)):
            assert not any(self.look(watch, range(800, 1600, 100), changed))

    def test_nobody_holds_it_for_ever(self):
        assert not any(self.look(HolderWatch(800), range(0, 10_000, 100), None))

    def test_time_that_was_not_watched_does_not_count(self):
        """The watcher was stopped too: it must not wake up and kill who would have woken up next."""
        watch = HolderWatch(800)
        assert self.look(watch, [0, 1_000_000, 2_000_000, 3_000_000], LockHolder(7, 1)) == [False] * 4
        assert self.look(watch, [4_000_000], LockHolder(7, 1)) == [True]

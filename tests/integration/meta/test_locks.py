"""Locks over services: restarts, lost answers, clients that die, and what their duty leaves."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fs3.api.file import File
from fs3.api.locks import FileLocks, range_of
from fs3.base.errors import FS3Error
from fs3.base.ids import SessionId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.meta.keepalive import SessionKeepAlive
from fs3.core.meta import keys
from fs3.core.meta.client_liveness import list_clients
from fs3.core.meta.fsck.snapshot_check import check_namespace
from fs3.model.lock import Lock, LockAnswer, LockStep


async def nothing(file):
    pass


class Locker:
    """One client with one handle of a file."""

    def __init__(self, cluster, inode, **options):
        self.meta = cluster.client(**options)
        self.locks = FileLocks(self.meta, nothing, nothing)
        self.file = File(inode, "/f", SessionId(9))
        self.want = range_of(self.file, False, None, 0)

    async def acquire(self, *, wait=True, deadline_ns=0):
        return await self.locks.acquire(self.file, None, self.want, wait=wait, deadline_ns=deadline_ns)

    async def unlock(self):
        await self.locks.unlock(self.file, None, self.want)


@pytest.fixture
async def lockers(cluster, meta):
    """Two of them."""
    opened = await meta.open("f", write=True, create=True)
    await meta.close_file(opened.inode.id, opened.session)
    made = [Locker(cluster, opened.inode) for _ in range(2)]
    yield made
    for one in made:
        await one.locks.close()
        await one.meta.close()


async def rows_of(cluster, prefix):
    return [key for key, _ in await cluster.kv.read(lambda txn: txn.scan(prefix, keys.end_of(prefix), 100))]


async def look(cluster, seconds):
    """Time passes, with a look every ten seconds."""
    for _ in range(seconds // 10):
        cluster.clock.advance(10)
        await cluster.service.sessions.step()


@asynccontextmanager
async def ticking(cluster):
    """Time passes by itself."""

    async def tick():
        while True:
            cluster.clock.advance(0.01)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        task.cancel()


async def until_asked(cluster, count):
    while sum(name == "Lock" for _, name in cluster.wire.calls) < count:  # noqa: ASYNC110 - a wire tells nobody
        await asyncio.sleep(0)


async def test_locks_and_waits_outlive_a_restart(cluster, lockers):
    one, two = lockers
    await one.acquire()
    waiting = asyncio.ensure_future(two.acquire())
    await until_asked(cluster, 2)
    await cluster.stop()
    await cluster.start()
    assert len(await rows_of(cluster, keys.LOCK)) == 3
    assert not await two.locks.acquire(two.file, 5, range_of(two.file, False, None, 0), wait=False)
    assert not waiting.done()
    await one.unlock()
    assert await waiting


async def test_a_dead_client_leaves_nothing(cluster, lockers):
    one, two = lockers
    await one.acquire()
    waiting = asyncio.ensure_future(two.acquire())
    await until_asked(cluster, 2)
    cluster.service.last_seen._clients.clear()
    for _ in range(7):
        cluster.clock.advance(10)
        cluster.service.last_seen.record(two.meta._caller.client_id)
        await cluster.service.last_seen.step()
        await cluster.service.sessions.step()
    assert await waiting
    dead = one.meta._caller.client_id
    assert dead not in {client for client, _ in await cluster.kv.read(lambda txn: list_clients(txn, None, 10))}
    assert not [key for key in await rows_of(cluster, keys.LOCK) if key.endswith(dead)]
    assert await cluster.kv.read(check_namespace) == []
    with pytest.raises(FS3Error) as told:
        await one.locks.check(one.file)
    assert told.value.code is Code.LOCKS_LOST
    assert one.file.locks_lost


async def test_a_row_that_an_older_version_forgot_is_made_again(cluster, lockers):
    one, _ = lockers
    await one.acquire()

    async def forget(txn):
        txn.delete(keys.client_key(one.meta._caller.client_id))

    await cluster.kv.transact(forget)
    await cluster.service.sessions.step()
    assert await cluster.kv.read(check_namespace) == []
    await look(cluster, 70)
    assert await rows_of(cluster, keys.LOCK) == []


@pytest.mark.parametrize("wait", [False, True])
async def test_a_lost_answer_is_asked_for_again(cluster, lockers, wait):
    one, two = lockers
    cluster.wire.mishaps = ["lost", Code.DISCONNECTED]
    assert await one.acquire(wait=wait)
    assert not await two.acquire(wait=False)
    cluster.wire.mishaps = ["lost"]
    await one.unlock()
    assert await two.acquire(wait=wait)


async def test_a_lock_whose_outcome_is_not_known_is_given_back(cluster, lockers, meta):
    _, two = lockers
    inode = two.file.inode
    hasty = Locker(cluster, inode, timeout_ns=SECOND // 50)
    cluster.wire.mishaps = ["lost"] * 10_000
    async with ticking(cluster):
        with pytest.raises(FS3Error) as unknown:
            await hasty.acquire(wait=False)
    assert unknown.value.code is Code.DEADLINE
    cluster.wire.mishaps = []
    assert await two.acquire()
    await two.unlock()
    assert await hasty.acquire(wait=False), "after its withdrawal"
    await hasty.locks.close()
    await hasty.meta.close()


async def test_what_is_given_up_late_takes_nothing_that_was_acquired_since(cluster, lockers):
    """The handle of an owner by number is closed while no service can be asked; the same owner locks through another handle."""
    one, two = lockers
    other = File(one.file.inode, "/f", SessionId(10))
    await one.locks.acquire(one.file, 7, one.want, wait=False)
    bindings = cluster.wire.bindings.pop("tcp://meta-1:1")
    releasing = asyncio.ensure_future(one.locks.release(one.file))
    await asyncio.sleep(0)
    locking = asyncio.ensure_future(one.locks.acquire(other, 7, one.want, wait=False))
    for _ in range(20):
        await asyncio.sleep(0)
    cluster.wire.bindings["tcp://meta-1:1"] = bindings
    await releasing
    assert await locking
    assert not await two.acquire(wait=False)


async def test_a_grant_from_before_a_loss_does_not_count(cluster, lockers):
    one, _ = lockers
    await one.acquire()
    ended = one.locks._epoch
    await one.meta.ask(Lock(one.file.inode.id, LockStep.RELEASE_CLIENT))
    with pytest.raises(FS3Error):
        await one.locks.check(one.file)
    other = File(one.file.inode, "/f", SessionId(10))
    ask = one.meta.ask

    async def answer_late(request, **options):
        await ask(request, **options)
        return LockAnswer(ended)

    one.meta.ask = answer_late
    with pytest.raises(FS3Error) as told:
        await one.locks.acquire(other, None, one.want, wait=False)
    one.meta.ask = ask
    assert told.value.code is Code.LOCKS_LOST
    assert other.locks_lost


async def test_a_client_that_holds_locks_tells_that_it_lives(cluster):
    told = asyncio.Queue()

    async def send():
        await told.put(None)

    sessions = SessionKeepAlive(cluster.clock, send, SECOND // 1000)
    sessions.hold_locks(True)
    for _ in range(2):
        cluster.clock.advance(1)
        await told.get()
    returns = []
    sessions.on_return = lambda: returns.append(None)
    cluster.clock.advance(100)
    sessions.on_acknowledged()
    assert returns, "what has become of its locks is asked"
    sessions.hold_locks(False)
    await sessions.stop()


async def test_a_client_that_closes_gives_up_its_locks(cluster, lockers):
    one, two = lockers
    await one.acquire()
    await one.locks.close()
    assert await two.acquire(wait=False)
    cluster.wire.mishaps = [Code.UNAVAILABLE] * 10_000
    async with ticking(cluster):
        await two.locks.close()
    cluster.wire.mishaps = []

"""What is particular about the chunk store in memory: its disasters."""

from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.model.chunk import ChannelRow
from fs3.sim.conformance.chunk_tools import (
    CLIENT,
    REMOVE,
    TRUNCATE,
    WRITE,
    A,
    B,
    C,
    D,
    apply,
    bytes_of,
    commit,
    content,
    noise,
    stage,
    update_of,
    write,
)


async def states_after_a_crash(prepare):
    """Every state that 60 crashes of a store find, as (committed, pending) of A and B and the seq of the channel."""
    found = set()
    for seed in range(60):
        store = MemoryChunkStore()
        await prepare(store)
        after = store.crash(Prng(seed))
        metas = [after.get(chunk) for chunk in (A, B)]
        row = after.get_channel(CLIENT, 3)
        found.add((*((meta.committed, meta.pending) if meta else None for meta in metas), row.seq if row else 0))
        assert (await store.stage(update_of(A, WRITE, 0, b"x"), 9, 1)).code is Code.SHUTTING_DOWN
    return found


async def test_each_unsynced_commit_is_within_lease_or_not_with_its_channel():
    async def prepare(store):
        first, second = update_of(A, WRITE, 0, b"one", seq=1), update_of(B, WRITE, 0, b"two", seq=2)
        results = [await stage(store, first), await stage(store, second)]
        commit(store, first, results[0])
        commit(store, second, results[1])

    a, b = (1, 0), (0, 1)
    assert await states_after_a_crash(prepare) == {(a, a, 2), (a, b, 1), (b, a, 2), (b, b, 0)}


async def test_a_barrier_takes_all_commits_along():
    async def prepare(store):
        await write(store, A, 0, b"one")
        await stage(store, update_of(B, WRITE, 0, b"two"))

    assert await states_after_a_crash(prepare) == {((1, 0), (0, 1), 1)}


async def test_flush_is_a_barrier():
    async def prepare(store):
        await write(store, A, 0, b"one")
        await store.flush()

    assert await states_after_a_crash(prepare) == {((1, 0), None, 1)}


async def test_removes_and_dropped_versions_may_come_back():
    async def prepare(store):
        await write(store, A, 0, b"one")
        removal = update_of(A, REMOVE, seq=5)
        staged = await stage(store, removal)
        await stage(store, update_of(B, WRITE, 0, b"two"))
        commit(store, removal, staged)
        store.drop_pending(B)

    assert await states_after_a_crash(prepare) == {
        (None, None, 5),
        (None, (0, 1), 5),
        ((1, 2), None, 1),
        ((1, 2), (0, 1), 1),
    }


async def test_channels_go_back_to_what_they_were():
    store = MemoryChunkStore()
    first = update_of(A, WRITE, 0, b"one", seq=1)
    before = commit(store, first, await stage(store, first))
    await stage(store, update_of(B, WRITE, 0, b"x"))
    second = update_of(A, WRITE, 0, b"two", seq=2)
    commit(store, second, await stage(store, second))
    seed = next(seed for seed in range(60) if Prng(seed).chance(1, 2))  # the state before the commit
    after = store.crash(Prng(seed))
    assert after.get_channel(CLIENT, 3) == ChannelRow(1, A, before)
    assert await content(after, A) == b"one"
    assert bytes_of(await after.read_cold(A, 0, 9, pending=True)) == b"two"


async def test_the_same_seed_finds_the_same_state():
    async def state(seed):
        store = MemoryChunkStore()
        updates = [update_of(chunk, WRITE, 0, b"x") for chunk in (A, B, C, D)]
        results = [await stage(store, update) for update in updates]
        for update, result in zip(updates, results, strict=True):
            commit(store, update, result)
        return store.crash(Prng(seed)).list(None, 9)

    assert await state(5) == await state(5)
    assert any([await state(5) != await state(seed) for seed in range(10)])


async def test_a_full_disk_takes_no_data_but_everything_else():
    store = MemoryChunkStore()
    await write(store, A, 0, noise(5000))
    store.is_full = True
    assert (await stage(store, update_of(A, WRITE, 0, b"x"))).code is Code.NO_SPACE
    assert store.get_space().free == 0
    await apply(store, update_of(A, TRUNCATE, 100))
    assert await content(store, A) == noise(5000)[:100]
    await apply(store, update_of(A, REMOVE))
    store.is_full = False
    await write(store, A, 0, b"x")


async def test_a_pending_version_rots_too():
    store = MemoryChunkStore()
    await stage(store, update_of(A, WRITE, 0, noise(5000)))
    store.rot(A, 4000, pending=True)
    assert (await store.read_cold(A, 0, 5000, pending=True)).code is Code.CHECKSUM

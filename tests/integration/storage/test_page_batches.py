"""Batches of KVCache pages with everything in them: there and not there, large and small, twice, damaged, of chains that do not
answer. Each key has its own answer at its own place, and a batch is a few requests and no task per page."""

import asyncio
import random
from types import SimpleNamespace

import pytest

from fs3.api.kvcache import CacheChange, KVCache, Status
from fs3.api.kvcache.page_io import ask_first_bytes
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.core.kvcache.pages import page_chunks
from fs3.model.chain import PublicState
from fs3.model.cluster import CacheNamespace

LARGE = ask_first_bytes + 1000
"""Such a page is put only when a lookup has not found it."""
OK, EXISTS, MISS, OTHER_LENGTH, CORRUPT = Status.OK, Status.EXISTS, Status.MISS, Status.OTHER_LENGTH, Status.CORRUPT
UNKNOWN = {Status.TIMEOUT, Status.ERROR}


@pytest.fixture
async def made(cluster):
    made = await cluster(memory=True)
    made.manager.set_table()
    return made


@pytest.fixture
def open_cache(made):
    """A handle of a client of its own on the one namespace."""

    def open_cache(**options):
        client = SimpleNamespace(storage=made.client(), manager=made.manager, closed=False)
        return KVCache(client, CacheNamespace(1, "pages", LARGE, 3, TableId(1)), **options)

    return open_cache


def page_of(key, length):
    """No two keys have a byte in common at most places, so that a shifted page is found out."""
    return random.Random(key).randbytes(length)


class Model:
    """What the namespace must have, beside what it says."""

    def __init__(self, cache, prng):
        self.cache = cache
        self.prng = prng
        self.pages = {}
        self.keys = [b"key-%d" % number for number in range(40)]

    def batch(self):
        """Some keys in any order, some of them twice."""
        return self.prng.choices(self.keys, k=self.prng.randrange(1, 60))

    async def put(self):
        keys = self.batch()
        pages = [page_of(key, self.prng.choice((1, 900, LARGE - 7, LARGE))) for key in keys]
        statuses = await self.cache.put_from(keys, pages)
        begun = dict(self.pages)
        for key, page, status in zip(keys, pages, statuses, strict=True):
            if key in begun:
                assert status is EXISTS
            elif status is OK:
                assert key not in self.pages, "stored twice"
                self.pages[key] = page
            else:
                assert status is EXISTS
        assert self.pages.keys() >= set(keys), "one of each key was stored"

    async def remove(self):
        keys = self.batch()[:8]
        assert await self.cache.remove(keys) == [OK] * len(keys)
        for key in keys:
            self.pages.pop(key, None)

    async def get(self):
        keys = self.batch()
        rooms = [bytearray(self.prng.choice((1, 900, LARGE))) for _ in keys]
        lengths = [-1] * len(keys)
        statuses = await self.cache.get_into(keys, rooms, lengths)
        for key, room, length, status in zip(keys, rooms, lengths, statuses, strict=True):
            page = self.pages.get(key)
            if page is None:
                assert (status, length) == (MISS, 0)
            elif len(page) > len(room):
                assert (status, length) == (OTHER_LENGTH, len(page))
            else:
                assert (status, bytes(room[:length])) == (OK, page)

    async def get_ranges(self):
        keys = self.batch()
        ranges = [(self.prng.randrange(1000), self.prng.randrange(1, 500)) for _ in keys]
        rooms = [bytearray(length) for _, length in ranges]
        statuses = await self.cache.get_ranges_into(keys, ranges, rooms)
        for key, (offset, length), room, status in zip(keys, ranges, rooms, statuses, strict=True):
            page = self.pages.get(key)
            if page is None:
                assert status is MISS
            elif offset + length > len(page):
                assert status is OTHER_LENGTH
            else:
                assert (status, bytes(room)) == (OK, page[offset : offset + length])

    async def lookup(self):
        keys = self.batch()
        found = await self.cache.lookup(keys, lease_ms=self.prng.choice((None, 50)))
        there = [key in self.pages for key in keys]
        assert found.bitmap == there
        assert found.statuses == [OK if each else MISS for each in there]
        assert found.lengths == [len(self.pages.get(key, b"")) for key in keys]
        assert found.hits == ([*there, False]).index(False)


@pytest.mark.parametrize("seed", range(3))
async def test_each_key_of_a_batch_has_its_own_answer(open_cache, seed):
    prng = random.Random(seed)
    model = Model(open_cache(), prng)
    for _ in range(40):
        await prng.choice((model.put, model.get, model.get, model.get_ranges, model.lookup, model.remove))()


@pytest.mark.parametrize("circuit_breaker", [True, False])
async def test_a_chain_that_does_not_answer_shifts_nothing(made, open_cache, help, circuit_breaker):
    """Neither in the first call, which waits for it, nor in those that leave it out."""
    cache = open_cache(circuit_breaker=circuit_breaker, timeout=1.5)
    keys = [b"%d" % number for number in range(40)]
    stored = keys[::3]
    assert await cache.put_from(stored, [page_of(key, 900) for key in stored]) == [OK] * len(stored)
    place = cache._get_placement().chain
    mute = {key for key, chunk in zip(keys, page_chunks(1, b"", keys), strict=True) if place(chunk) == ChainId(1)}
    assert 0 < len(mute) < len(keys)
    made.manager.set_chain(help.chain_of(1, 2, dict.fromkeys((1, 2, 3), PublicState.OFFLINE)))

    def check(statuses, there):
        for key, status in zip(keys, statuses, strict=True):
            assert (status in UNKNOWN) == (key in mute), "not known is not absent"
            assert key in mute or status.ok == (key in there)

    for _ in range(2):
        rooms = [bytearray(900) for _ in keys]
        statuses = await cache.get_into(keys, rooms)
        check(statuses, stored)
        assert all(bytes(room) == page_of(key, 900) for key, room, status in zip(keys, rooms, statuses, strict=True) if status.ok)
        found = await cache.lookup(keys, lease_ms=100)
        check(found.statuses, stored)
        assert found.bitmap == [status is OK for status in found.statuses]
        check(await cache.put_from(keys, [page_of(key, 900) for key in keys]), keys)
        stored = keys


async def test_clients_that_put_the_same_pages_at_once(open_cache):
    """As all ranks of a model with latent pages do: one OK for each page, EXISTS for all others, and the bytes are there."""
    caches = [open_cache() for _ in range(4)]
    for size in (900, LARGE):
        keys = [b"%d-%d" % (size, number) for number in range(20)]
        orders = [random.Random(seed).sample(keys, len(keys)) for seed in range(len(caches))]
        answers = await asyncio.gather(
            *(cache.put_from(order, [page_of(key, size) for key in order]) for cache, order in zip(caches, orders, strict=True))
        )
        told = [dict(zip(order, statuses, strict=True)) for order, statuses in zip(orders, answers, strict=True)]
        for key in keys:
            assert sorted(each[key].name for each in told) == ["EXISTS"] * 3 + ["OK"]
        rooms = [bytearray(size) for _ in keys]
        assert await caches[0].get_into(keys, rooms) == [OK] * len(keys)
        assert list(map(bytes, rooms)) == [page_of(key, size) for key in keys]


def damage(made, keys, nodes):
    """Mark the pages of these keys as damaged on some nodes, as a read or the scrub would."""
    for service in (made.services[node] for node in nodes):
        for shell in service.targets.values():
            for chunk in page_chunks(1, b"", keys):
                if shell.store.get(chunk) is not None:
                    shell.store.mark_bad(chunk, "a test said so")


@pytest.mark.parametrize("reader", ["get_into", "get_ranges_into"])
async def test_a_page_that_nobody_can_read_is_stored_anew(made, open_cache, reader):
    """Lookups would find it for ever, no get could have it, and puts would be told that it is there."""
    cache = open_cache()
    keys = [b"good", b"damaged", b"absent"]
    pages = [page_of(key, 900) for key in keys]
    assert await cache.put_from(keys[:2], pages[:2]) == [OK] * 2
    damage(made, [b"damaged"], made.services)
    rooms = [bytearray(900) for _ in keys]
    if reader == "get_into":
        statuses = await cache.get_into(keys, rooms)
    else:
        statuses = await cache.get_ranges_into(keys, [(0, 900)] * 3, rooms)
    assert statuses in ([OK, CORRUPT, MISS], [OK, MISS, MISS]), "the head finds it out as well"
    assert (await cache.lookup(keys)).bitmap == [True, False, False]
    assert await cache.put_from(keys, pages) == [EXISTS, OK, OK]
    assert await cache.get_into(keys, rooms) == [OK] * 3
    assert list(map(bytes, rooms)) == pages


async def test_a_page_that_is_damaged_everywhere_is_removed_by_the_head(made, open_cache):
    """Nobody reads it. Listeners are told that it is lost, and it is counted."""
    cache = open_cache()
    keys = [b"good", b"damaged"]
    async with cache.events() as events:
        assert await cache.put_from(keys, [page_of(key, 900) for key in keys]) == [OK] * 2
        damage(made, [b"damaged"], made.services)
        async with asyncio.timeout(60):
            told = [await anext(events) for _ in range(3)]
    assert (told[2].change, told[2].page_id) == (CacheChange.LOST, cache.page_ids([b"damaged"])[0])
    assert told[2].key == b"damaged", "its bytes are good, although they are marked"
    assert (await cache.lookup(keys)).bitmap == [True, False]
    assert sum(service.cache_statistics.of(1).lost for service in made.services.values()) == 1


@pytest.mark.parametrize("reader", ["get_into", "get_ranges_into"])
async def test_a_page_that_a_get_finds_lost_is_told_as_lost(made, open_cache, monkeypatch, reader):
    """Also when the get is before the head of its chain, and no client has asked for its removal."""
    monkeypatch.setattr("fs3.services.storage.cache.keeper.CacheKeeper.remove_lost", lambda keeper, chunk: None)
    cache = open_cache()
    keys = [b"removed", b"damaged", b"rotten"]
    async with cache.events() as events:
        assert await cache.put_from(keys, [page_of(key, 900) for key in keys]) == [OK] * 3
        await made.idle()
        damage(made, keys[1:], made.services)
        (rotten,) = page_chunks(1, b"", [b"rotten"])
        for store in made.memory.values():
            if store.get(rotten) is not None:
                store.rot(rotten, 70)
        rooms = [bytearray(900) for _ in keys]
        if reader == "get_into":
            assert await cache.get_into(keys, rooms) == [OK, CORRUPT, CORRUPT]
        else:
            assert await cache.get_ranges_into(keys, [(0, 900)] * 3, rooms) == [OK, CORRUPT, CORRUPT]
        await cache.remove([b"removed"])
        async with asyncio.timeout(60):
            told = [await anext(events) for _ in range(6)]
    causes = {event.page_id: (event.change, event.key) for event in told if event.change is not CacheChange.STORED}
    assert [causes[page] for page in cache.page_ids(keys)] == [
        (CacheChange.REMOVED, b"removed"),
        (CacheChange.LOST, b"damaged"),
        (CacheChange.LOST, None),
    ]
    assert sum(service.cache_statistics.of(1).lost for service in made.services.values()) == 2


async def test_a_page_is_not_lost_while_a_replica_does_not_answer(made, open_cache):
    """It may have it, and is asked again when the chain changes."""
    cache = open_cache(timeout=2, circuit_breaker=False)
    assert await cache.put_from([b"k"], [page_of(b"k", 900)]) == [OK]
    await made.idle()
    await made.crash(NodeId(3))
    damage(made, [b"k"], [1, 2])
    repairers = [each.repairer for node in (1, 2) for each in made.services[node].duties.by_target.values()]
    await made.until(lambda: sum("without a good copy" in repairer.reason for repairer in repairers) == 2)
    await made.idle()
    assert (await cache.lookup([b"k"])).statuses == [OK]
    await made.start(3)
    await made.until(lambda: sum(repairer.repaired_chunks for repairer in repairers) == 2)
    room = bytearray(900)
    assert await cache.get_into([b"k"], [room]) == [OK]
    assert room == page_of(b"k", 900)


ALL_BUT_THE_LAST = {1: PublicState.SERVING, 2: PublicState.SERVING, 3: PublicState.OFFLINE}


@pytest.mark.parametrize("reader", ["get_into", "get_ranges_into", "list"])
@pytest.mark.parametrize("gone", ["silent", "offline"])
async def test_a_page_stays_while_a_replica_that_may_have_it_cannot_be_asked(made, open_cache, help, reader, gone):
    """The other copies are damaged: not known is neither absent nor lost, and nothing is removed."""
    cache = open_cache(timeout=2, circuit_breaker=False)
    keys = [b"%d" % number for number in range(6)]
    pages = [page_of(key, 900) for key in keys]
    assert await cache.put_from(keys, pages) == [OK] * 6
    await made.idle()
    chains = dict(made.manager.routing.chains)
    await made.crash(NodeId(3))
    if gone == "offline":
        for chain in chains:
            made.manager.set_chain(help.chain_of(chain, chains[chain].version + 1, ALL_BUT_THE_LAST))
        await made.settled()
    damage(made, keys, [1, 2])
    rooms = [bytearray(900) for _ in keys]
    if reader == "get_into":
        statuses = await cache.get_into(keys, rooms)
        assert set(statuses) <= UNKNOWN, statuses
    elif reader == "get_ranges_into":
        assert set(await cache.get_ranges_into(keys, [(0, 900)] * 6, rooms)) <= UNKNOWN
    else:
        with pytest.raises(FS3Error, match="cannot be listed"):
            await cache.list()
    await made.idle()
    last = [made.memory[TargetId(chain * 100 + 3)] for chain in chains]
    there = [chunk for chunk in page_chunks(1, b"", keys) if any(store.get(chunk) is not None for store in last)]
    assert len(there) == 6, "a good copy was removed"
    assert set((await cache.lookup(keys)).statuses) == {OK}


async def test_a_page_that_one_replica_can_give_stays(made, open_cache):
    cache = open_cache()
    keys = [b"%d" % number for number in range(10)]
    pages = [page_of(key, 900) for key in keys]
    assert await cache.put_from(keys, pages) == [OK] * 10
    damage(made, keys, [1, 2])
    rooms = [bytearray(900) for _ in keys]
    assert await cache.get_into(keys, rooms) == [OK] * 10
    assert list(map(bytes, rooms)) == pages
    assert await cache.put_from(keys, pages) == [EXISTS] * 10


async def test_a_batch_makes_no_task_for_each_page(made, open_cache):
    """Neither in the client nor in the nodes, all of which are on this loop: a task costs more than a small page does."""
    cache = open_cache()
    count = 400
    tasks = []
    loop = asyncio.get_running_loop()

    def make_task(loop, coroutine, **options):
        tasks.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(make_task)
    try:
        for size in (100, 5000):
            keys = [b"%d-%d" % (size, number) for number in range(count)]
            pages = [page_of(key, size) for key in keys]
            rooms = [bytearray(size) for _ in keys]
            for name, call in {
                "lookup": lambda keys=keys: cache.lookup(keys, lease_ms=1000),
                "get": lambda keys=keys, rooms=rooms: cache.get_into(keys, rooms),
                "ranges": lambda keys=keys, rooms=rooms: cache.get_ranges_into(keys, [(1, 9)] * count, rooms),
                "touch": lambda keys=keys: cache.touch(keys),
            }.items():
                if name == "get":
                    assert await cache.put_from(keys, pages) == [OK] * count
                    await made.idle()
                tasks.clear()
                await call()
                assert len(tasks) < count // 10, (name, size, sorted(set(tasks)))
    finally:
        loop.set_task_factory(None)


async def test_a_node_that_has_gone_while_others_stay(made, open_cache):
    """What it served is asked for elsewhere, and each answer is at its key's place."""
    cache = open_cache(timeout=5)
    keys = [b"%d" % number for number in range(30)]
    assert await cache.put_from(keys, [page_of(key, 900) for key in keys]) == [OK] * 30
    await made.crash(NodeId(2))
    rooms = [bytearray(900) for _ in [*keys, b"absent"]]
    assert await cache.get_into([*keys[:7], b"absent", *keys[7:]], rooms) == [OK] * 7 + [MISS] + [OK] * 23
    assert [bytes(room) for room in rooms[:7] + rooms[8:]] == [page_of(key, 900) for key in keys]

"""Budgets of pages kept by real services: which page goes, who decides it, and what becomes of puts that wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from fs3.api.kvcache import KVCache, Status
from fs3.base.ids import ChainId, TableId
from fs3.base.units import SECOND
from fs3.core.kvcache.pages import page_chunks
from fs3.core.kvcache.recency.recency import Recency
from fs3.core.kvcache.recency.sample import restore_part
from fs3.model.cluster import CacheNamespace

PAGE = 1000
KEYS = [f"k{number:02}" for number in range(10)]
TAKEN = PAGE + 64 + 3
"""Bytes of a page as it is stored."""
NAMESPACE = CacheNamespace(1, "pages", PAGE, 3, TableId(1), budget_bytes=10 * TAKEN)
CHAIN = ChainId(1)


@pytest.fixture
def make(cluster):
    """A cluster of one chain, whose namespace may have ten pages."""

    async def make(**options):
        made = await cluster(start=False, chains=1, **options)
        manager = made.manager
        manager.set_table()
        manager.set_namespaces(NAMESPACE, next_id=2)

        async def find_namespace(name, timeout_ns=0):
            return NAMESPACE

        manager.find_namespace = find_namespace
        await made.start()
        await known(made)
        return made

    return make


@pytest.fixture
async def made(make):
    made = await make(memory=True)
    made.manager.follows = True
    return made


async def known(made, budget_bytes=NAMESPACE.budget_bytes):
    """Every node knows the namespace and what it may take."""

    def is_known(service):
        namespace = service.namespaces.get(1)
        return namespace is not None and namespace.budget_bytes == budget_bytes

    await made.until(lambda: all(is_known(service) for service in made.services.values()))


def open_cache(made, **options):
    """A handle of a client of its own."""
    client = SimpleNamespace(storage=made.client(), manager=made.manager, closed=False)
    return KVCache(client, NAMESPACE, **options)


def page_of(key):
    return key.encode() * 333 + b"x"


async def put(cache, *keys):
    return await cache.put_from(keys, [page_of(key) for key in keys])


async def fill(made):
    """All the pages there may be, one after the other. The handle that put them."""
    cache = open_cache(made)
    for key in KEYS:
        assert await put(cache, key) == [Status.OK]
    return cache


async def read(cache, keys):
    """One after the other: {key: status}"""
    found = {}
    for key in keys:
        buffer = bytearray(PAGE)
        (found[key],) = await cache.get_into([key], [buffer])
        assert found[key] is not Status.OK or bytes(buffer) == page_of(key)
    return found


def stored(made):
    """The keys each running replica has."""
    chunks = dict(zip(page_chunks(1, b"", [key.encode() for key in KEYS]), KEYS, strict=True))
    return [
        {chunks.get(chunk, "another") for chunk in made.store(1, node).chunks if made.store(1, node).chunks[chunk].committed}
        for node in made.services
    ]


def count(made):
    """Pages of each running replica, by its keeper."""
    return [made.services[node].caches.by_target[made.shell(1, node).target].cache.pages for node in made.services]


def head(made):
    chain = made.manager.routing.chains[CHAIN]
    return chain.serving_slots()[0].node


async def waiting(made, node):
    """The keeper of a node, once a put waits there for room."""
    keeper = made.shell(1, node).cache
    await made.until(lambda: len(keeper._waiting))
    return keeper


def from_target(request):
    return bool(request.from_target)


async def test_more_is_put_than_there_is_room_for(made):
    cache = open_cache(made)
    for number in range(0, 60, 6):
        keys = [f"m{each:02}" for each in range(number, number + 6)]
        assert await put(cache, *keys) == [Status.OK] * 6
        assert max(count(made)) <= 10
    await made.idle()
    assert count(made) == [10, 10, 10]
    assert (await cache.usage()).bytes == 10 * TAKEN
    assert (await cache.usage()).counters.evicted == 50
    made.assert_clean()


async def test_a_touched_page_stays_and_an_untouched_one_goes(made):
    cache = await fill(made)
    touched = [key for key in KEYS if key != "k06"]
    assert await cache.touch(touched) == [Status.OK] * 9
    assert await put(cache, "new") == [Status.OK]
    await made.idle()
    assert stored(made) == [{*touched, "another"}] * 3
    assert await read(cache, KEYS) == {key: Status.OK if key in touched else Status.MISS for key in KEYS}


async def test_a_lookup_is_no_touch(made):
    cache = await fill(made)
    assert (await cache.lookup(KEYS[:1])).hits == 1
    assert await put(cache, "new") == [Status.OK]
    await made.idle()
    assert stored(made) == [{*KEYS[1:], "another"}] * 3


async def test_ranks_that_put_one_page_have_one_page_evicted(made):
    await fill(made)
    made.network.hold("Update", from_target)
    ranks = [asyncio.ensure_future(put(open_cache(made), "new")) for _ in range(6)]
    keeper = made.shell(1, head(made)).cache
    await made.until(lambda: len(keeper._waiting) == 6)
    await made.until(lambda: made.network.held)
    made.network.let_go()
    statuses = [status for (status,) in await asyncio.gather(*ranks)]
    assert statuses.count(Status.OK) >= 1
    assert set(statuses) <= {Status.OK, Status.EXISTS}
    await made.idle()
    assert stored(made) == [{*KEYS[1:], "another"}] * 3


async def test_a_budget_that_is_lowered_while_pages_are_there(made):
    cache = await fill(made)
    less = msgspec.structs.replace(NAMESPACE, budget_bytes=4 * TAKEN)
    made.manager.set_namespaces(less, next_id=2)
    await known(made, less.budget_bytes)
    await made.until(lambda: count(made) == [4, 4, 4])
    assert stored(made) == [set(KEYS[6:])] * 3
    assert await put(cache, "new") == [Status.OK]
    await made.idle()
    assert stored(made) == [{*KEYS[7:], "another"}] * 3


async def test_what_is_leased_is_not_evicted_and_a_put_is_told_so(made):
    cache = await fill(made)
    found = await cache.lookup(KEYS, lease_ms=60_000)
    assert await put(cache, "new") == [Status.NO_SPACE]
    assert stored(made) == [set(KEYS)] * 3
    await found.lease.release()
    assert await put(cache, "new") == [Status.OK]
    await made.idle()
    assert max(count(made)) == 10


async def test_the_next_head_keeps_to_the_budget(made):
    cache = await fill(made)
    node = head(made)
    await made.crash(node)
    made.manager.lose(node)
    await made.settled()
    assert head(made) != node
    assert await put(cache, "new") == [Status.OK]
    assert await put(cache, "two") == [Status.OK]
    await made.idle()
    assert count(made) == [10, 10]
    first, second = stored(made)
    assert first == second


async def test_a_put_that_waits_at_a_head_that_leaves_is_stored_by_the_next(made):
    cache = await fill(made)
    node = head(made)
    made.network.hold("Update", from_target)
    putting = asyncio.ensure_future(put(cache, "new"))
    keeper = await waiting(made, node)
    made.network.let_go()
    made.network.hold("Update", from_target)
    assert made.shell(1, node).leave_chain("a test says so")
    await made.until(lambda: head(made) != node)
    made.network.let_go()
    assert await putting == [Status.OK]
    assert len(keeper._waiting) == 0
    await made.until(lambda: not any(shell.replica.flights.lanes for shell in shells(made)))
    assert max(count(made)) <= 10


async def test_a_put_that_waits_at_a_head_that_stops_is_stored_by_the_next(made):
    cache = await fill(made)
    node = head(made)
    made.network.hold("Update", from_target)
    putting = asyncio.ensure_future(put(cache, "new"))
    await waiting(made, node)
    stopping = asyncio.ensure_future(made.stop_node(node))
    await made.until(lambda: head(made) != node)
    made.network.let_go()
    assert await putting == [Status.OK]
    await stopping
    await made.idle()
    assert max(count(made)) <= 10


async def test_a_client_that_goes_while_its_put_waits_leaves_nothing_behind(made):
    cache = await fill(made)
    made.network.hold("Update", from_target)
    putting = asyncio.ensure_future(put(cache, "new"))
    keeper = await waiting(made, head(made))
    putting.cancel()
    await asyncio.wait([putting])
    made.network.let_go()
    await made.until(lambda: keeper._waiting.is_empty and keeper.cache.is_settled and not keeper.cache.under_way_bytes)
    await made.idle()
    assert max(count(made)) <= 10
    await made.until(lambda: all(call.ended for call in made.network.calls))
    made.assert_clean()


def shells(made):
    return [shell for service in made.services.values() for shell in service.targets.values()]


# --- what is written down ----------------------------------------------------------------------------------------------


USED_LAST_TO_FIRST = KEYS[::-1]


async def use_backwards(make):
    """A cluster of one node with real disks, whose pages were read in the opposite order to that in which they were stored."""
    made = await make(nodes=1)
    cache = await fill(made)
    assert set((await read(cache, USED_LAST_TO_FIRST)).values()) == {Status.OK}
    return made


async def restart(made):
    await made.start()
    await known(made)
    await made.until(lambda: all(keeper.is_restored for keeper in made.services[1].caches.by_target.values()))
    return open_cache(made)


def file_of(made):
    return made.path / "node-1" / "targets" / "101" / "recency"


def written_order(made):
    """The keys in the order in which the file has them."""
    if not file_of(made).exists():
        return []
    chunks = dict(zip(page_chunks(1, b"", [key.encode() for key in KEYS]), KEYS, strict=True))
    recency = Recency(1, 0)
    for chunk in chunks:
        recency.insert(chunk, 1, SECOND)
    data, at = file_of(made).read_bytes(), 0
    while at < len(data):
        at = restore_part(data, at, {1: recency}, SECOND)
    return [chunks[recency.victim(SECOND, lambda chunk: False)] for _ in chunks]


async def kept(cache):
    """Of the pages, those that are there."""
    return {key for key, status in (await read(cache, KEYS)).items() if status is Status.OK}


async def test_a_clean_stop_writes_the_order_down_and_a_start_takes_it_over(make):
    made = await use_backwards(make)
    await made.stop_node(1)
    assert file_of(made).stat().st_size
    cache = await restart(made)
    assert await put(cache, "new", "two") == [Status.OK] * 2
    assert await kept(cache) == set(KEYS[:8])


async def test_the_order_is_written_down_while_the_node_runs(make, monkeypatch):
    monkeypatch.setattr("fs3.services.storage.cache.keepers.recency_sample_ns", 1)
    made = await use_backwards(make)
    await made.until(lambda: written_order(made) == USED_LAST_TO_FIRST)
    await made.crash(1)
    cache = await restart(made)
    assert await put(cache, "new", "two") == [Status.OK] * 2
    assert await kept(cache) == set(KEYS[:8])


async def test_a_node_that_is_killed_before_it_has_written_anything_starts_cold(make):
    made = await use_backwards(make)
    await made.crash(1)
    assert not file_of(made).exists()
    cache = await restart(made)
    assert await put(cache, "new", "two") == [Status.OK] * 2
    assert len(await kept(cache)) == 8


@pytest.mark.parametrize("name", ["empty", "truncated", "a flipped bit", "another format"])
async def test_a_damaged_order_keeps_no_node_from_starting(make, name, caplog):
    made = await use_backwards(make)
    await made.stop_node(1)
    whole = file_of(made).read_bytes()
    damaged = {
        "empty": b"",
        "truncated": whole[:-1],
        "a flipped bit": bytes([*whole[:-1], whole[-1] ^ 1]),
        "another format": b"[1, 2]",
    }[name]
    file_of(made).write_bytes(damaged)
    caplog.clear()
    cache = await restart(made)
    lines = [line for line in caplog.messages if "order of its pages is damaged" in line]
    assert len(lines) == (name != "empty")
    assert await put(cache, "new", "two") == [Status.OK] * 2
    assert len(await kept(cache)) == 8

"""Leases, pins, usage and events of pages, by real services: what a head promises, and what it forgets."""

import asyncio
from types import SimpleNamespace

import pytest

from fs3.api.kvcache import CacheChange, KVCache, Status
from fs3.base.ids import ChainId, TableId
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.seams import EvictionCause
from fs3.core.kvcache.pages import page_chunks
from fs3.core.kvcache.placement import Placement
from fs3.model.chain import PublicState
from fs3.model.cluster import CacheNamespace, NamespacePage

PAGE = 1000
KEYS = [f"key {number}" for number in range(8)]
NAMESPACE = CacheNamespace(1, "pages", PAGE, 3, TableId(1), pin_bytes=3 * 1100)


@pytest.fixture
async def made(cluster):
    made = await cluster(memory=True, start=False)
    manager = made.manager
    manager.set_table()

    async def list_namespaces(prefix="", after=""):
        return NamespacePage([NAMESPACE], more=False, version=1, next_id=2)

    async def find_namespace(name, timeout_ns=0):
        return NAMESPACE

    manager.list_namespaces, manager.find_namespace = list_namespaces, find_namespace
    await made.start()
    await made.until(lambda: all(service.namespaces.get(1) for service in made.services.values()))
    return made


@pytest.fixture
def open_cache(made):
    """A handle of a client of its own on the one namespace."""

    def open_cache(**options):
        client = SimpleNamespace(storage=made.client(), manager=made.manager, closed=False)
        return KVCache(client, NAMESPACE, **options)

    return open_cache


@pytest.fixture
async def cache(open_cache):
    cache = open_cache()
    assert await cache.put_from(KEYS, [bytes([number]) * PAGE for number in range(8)]) == [Status.OK] * 8
    return cache


def head_of(made, key, cache):
    """The shell of the head that has a key's page, and its chunk."""
    (chunk,) = page_chunks(cache.namespace_id, cache.salt, [key.encode()])
    chain = made.manager.routing.chains[Placement(list(made.manager.routing.chains)).chain(chunk)]
    node = chain.serving_slots()[0].node
    return made.shell(chain.id, node), chunk


def is_held(made, key, cache):
    shell, chunk = head_of(made, key, cache)
    return shell.cache.cache.is_held(chunk, shell._clock.now())


async def test_what_a_lookup_leases_is_held_until_it_is_released(made, cache):
    found = await cache.lookup([*KEYS, "absent"], lease_ms=5000)
    assert (found.hits, found.statuses[-1]) == (8, Status.MISS)
    assert (found.lease.pages, list(found.lease.unleased)) == (8, [])
    assert found.lengths == [PAGE] * 8 + [0]
    assert all(is_held(made, key, cache) for key in KEYS)
    async with found.lease:
        pass
    assert not any(is_held(made, key, cache) for key in KEYS)
    await found.lease.release()


async def test_a_lookup_without_a_lease_holds_and_renews_nothing(made, cache):
    assert (await cache.lookup(KEYS)).lease is None
    assert not any(is_held(made, key, cache) for key in KEYS)
    found = await cache.lookup(KEYS, lease_ms=10)
    for _ in range(20):
        await cache.lookup(KEYS)
        await asyncio.sleep(0.001)
    await made.until(lambda: not any(is_held(made, key, cache) for key in KEYS))
    assert found.lease.pages == 8


async def test_the_leases_of_a_worker_that_died_end_by_themselves(made, open_cache, cache):
    worker = open_cache()
    await worker.lookup(KEYS, lease_ms=30)
    await worker.close()
    await made.until(lambda: not any(is_held(made, key, cache) for key in KEYS))
    assert all(service.page_leases.count == 0 for service in made.services.values())


async def test_only_the_head_answers(made, cache):
    await cache.lookup(KEYS, lease_ms=1000)
    heads = {chain.serving_slots()[0].node for chain in made.manager.routing.chains.values()}
    assert {int(endpoint.rpartition("/")[2]) for endpoint, _ in made.network.requests("Lease")} == heads


async def test_a_page_that_is_being_evicted_is_a_miss(made, cache):
    shell, chunk = head_of(made, KEYS[0], cache)
    shell.cache._evictions._chosen.add(chunk)
    shell.cache.cache.begin_eviction(chunk, EvictionCause.BUDGET)
    found = await cache.lookup(KEYS, lease_ms=1000)
    assert found.statuses == [Status.MISS] + [Status.OK] * 7
    assert found.lease.pages == 7


async def test_what_somebody_removes_goes_although_it_is_leased(cache, open_cache):
    found = await cache.lookup(KEYS, lease_ms=5000)
    assert await open_cache().remove(KEYS[:1]) == [Status.OK]
    statuses = await cache.get_into(KEYS[:2], [bytearray(PAGE), bytearray(PAGE)])
    assert statuses == [Status.MISS, Status.OK]
    await found.lease.release()


async def test_a_lookup_beyond_the_room_for_leases_is_answered(made, cache):
    for service in made.services.values():
        service.page_leases._pages_max = 0
    found = await cache.lookup(KEYS, lease_ms=5000)
    assert found.hits == 8
    assert (found.lease.pages, list(found.lease.unleased)) == (0, list(range(8)))
    assert (await cache.usage()).counters.leases_refused == len({id(head_of(made, key, cache)[0]) for key in KEYS})


async def test_a_head_that_takes_over_knows_no_leases(made, cache):
    made.manager.follows = True
    found = await cache.lookup(KEYS, lease_ms=60_000)
    before, _ = head_of(made, KEYS[0], cache)
    node = next(slot.node for slot in before.chain.slots if slot.target == before.target)
    await made.crash(node)
    made.manager.lose(node)
    await made.settled()
    assert head_of(made, KEYS[0], cache)[0] is not before
    assert not is_held(made, KEYS[0], cache)
    again = await cache.lookup(KEYS, lease_ms=1000)
    assert again.hits == 8
    assert is_held(made, KEYS[0], cache)
    await found.lease.release()


@pytest.mark.parametrize(
    ("lease_ms", "wrong", "said"),
    [
        (60_001, ValueError, "lease_ms 60001: 1 to 60000"),
        (0, ValueError, "lease_ms 0"),
        (-1, ValueError, "lease_ms -1"),
        (1.5, TypeError, "lease_ms is not an integer but float"),
        ("5", TypeError, "lease_ms is not an integer but str"),
        (True, TypeError, "lease_ms is not an integer but bool"),
    ],
)
async def test_leases_that_cannot_be(cache, lease_ms, wrong, said):
    with pytest.raises(wrong, match=said):
        await cache.lookup(KEYS, lease_ms=lease_ms)


# --- pins ------------------------------------------------------------------------------------------------------------


async def test_hard_pins_hold_within_their_budget(made, cache):
    statuses = await cache.pin(KEYS, hard=True)
    assert set(statuses) == {Status.OK, Status.NO_SPACE}
    held = [is_held(made, key, cache) for key in KEYS]
    assert held == [status is Status.OK for status in statuses]
    usage = await cache.usage()
    assert usage.hard_pins == sum(held)
    assert usage.hard_pin_bytes <= NAMESPACE.pin_bytes
    assert usage.counters.pins_refused == 8 - sum(held)
    assert await cache.unpin(KEYS) == [Status.OK] * 8
    assert not any(is_held(made, key, cache) for key in KEYS)


async def test_soft_pins_are_a_preference(made, cache):
    assert await cache.pin([*KEYS, "absent"], ttl=60.0) == [Status.OK] * 8 + [Status.MISS]
    assert not any(is_held(made, key, cache) for key in KEYS)
    for key in KEYS:
        shell, chunk = head_of(made, key, cache)
        assert shell.cache.records.pins.is_preferred(chunk, shell._clock.now())
    assert (await cache.usage()).soft_pins == 8
    await cache.remove(KEYS[:3])
    assert (await cache.usage()).soft_pins == 5


@pytest.mark.parametrize(
    ("ttl", "wrong"), [(0, ValueError), (-1.0, ValueError), (1e9, ValueError), ("1", TypeError), (float("nan"), ValueError)]
)
async def test_pins_that_cannot_be(cache, ttl, wrong):
    with pytest.raises(wrong, match="ttl"):
        await cache.pin(KEYS, ttl=ttl)
    with pytest.raises(TypeError, match="hard is not a bool"):
        await cache.pin(KEYS, hard="no")


async def test_touches(cache):
    assert await cache.touch([*KEYS, "absent"]) == [Status.OK] * 8 + [Status.MISS]


# --- usage and events ------------------------------------------------------------------------------------------------


async def test_usage_counts_what_others_stored_and_one_copy(cache, open_cache):
    other = open_cache()
    await other.put_from(["more"], [b"m" * PAGE])
    for handle in (cache, other):
        usage = await handle.usage()
        assert (usage.pages, usage.missing_chains) == (9, 0)
        assert usage.bytes == sum(PAGE + 64 + len(key) for key in [*KEYS, "more"])
        assert usage.counters.puts == 9
    await cache.lookup(KEYS)
    await cache.get_into(KEYS, [bytearray(PAGE) for _ in KEYS])
    counters = (await cache.usage()).counters
    assert (counters.keys_asked, counters.keys_found, counters.gets) == (8, 8, 8)
    assert (cache.statistics.keys_asked, cache.statistics.prefix_keys) == (8, 8)


async def test_events_tell_everything_in_order(cache, open_cache):
    async with open_cache().events() as events:
        await cache.put_from(["new"], [b"n" * 10])
        await cache.remove(["new"])
        stored, removed = [await anext(events) for _ in range(2)]
        assert (stored.change, stored.key, stored.length) == (CacheChange.STORED, b"new", 10)
        assert removed.change is CacheChange.REMOVED
        assert stored.page_id == removed.page_id == cache.page_ids(["new"])[0]


async def test_a_stream_goes_on_where_another_one_was(cache, open_cache):
    async with cache.events() as events:
        await cache.put_from(["one"], [b"1"])
        assert (await anext(events)).key == b"one"
        token = events.token
        await cache.put_from(["two"], [b"2"])
        assert (await anext(events)).key == b"two"
    again = open_cache().events(token)
    assert (await anext(again)).key == b"two"
    assert await again.read(SECOND // 100) == []
    again.close()


async def test_a_listener_of_a_head_that_failed_has_missed_something(made, cache):
    made.manager.follows = True
    async with cache.events() as events:
        before, _ = head_of(made, KEYS[0], cache)
        node = next(slot.node for slot in before.chain.slots if slot.target == before.target)
        await made.crash(node)
        made.manager.lose(node)
        async with asyncio.timeout(20):
            assert (await anext(events)).change is CacheChange.MISSED
        await cache.put_from(["after"], [b"a"])
        async with asyncio.timeout(20):
            while (event := await anext(events)).change is CacheChange.MISSED:
                pass
        assert event.key == b"after"


async def test_who_listens_leaves_nothing_behind(made, cache, monkeypatch):
    monkeypatch.setattr("fs3.client.storage.page_events.event_wait_ns", SECOND // 5)
    events = cache.events()
    await events.start()
    reading = asyncio.ensure_future(anext(events))
    await made.until(lambda: sum(service._event_feed.waiting for service in made.services.values()) == 2)
    reading.cancel()
    await asyncio.wait([reading])
    events.close()
    await made.until(lambda: not sum(service._event_feed.waiting for service in made.services.values()))


@pytest.mark.parametrize(("token", "wrong"), [("x", ValueError), ("AAAA", ValueError), (b"AAAA", TypeError), ("é", ValueError)])
async def test_what_is_no_token(cache, token, wrong):
    with pytest.raises(wrong, match="token"):
        cache.events(token)


async def test_a_dead_node_is_told_as_chains_that_are_missing(made, cache):
    chain = made.manager.routing.chains[ChainId(1)]
    await made.crash(chain.serving_slots()[0].node)
    usage = await cache.usage()
    assert usage.missing_chains == 1
    assert PublicState.SERVING in {slot.state for slot in chain.slots}


async def test_a_head_that_cannot_be_asked_is_not_a_miss(made, open_cache, cache):
    chain = made.manager.routing.chains[ChainId(1)]
    await made.crash(chain.serving_slots()[0].node)
    found = await open_cache(timeout=0.3).lookup(KEYS, lease_ms=1000)
    assert Status.MISS not in found.statuses
    assert {Status.TIMEOUT, Status.ERROR} & set(found.statuses)

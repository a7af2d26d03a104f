"""The prefix hit rate of a whole cluster: counted by several clients, told to real services, added up."""

from types import SimpleNamespace

import pytest

from fs3.api.kvcache import KVCache
from fs3.base.errors import FS3Error
from fs3.base.ids import TableId
from fs3.base.status import Code
from fs3.model.cluster import CacheNamespace, NamespacePage
from fs3.model.page_usage import LookupCounters

KEYS = [f"key {number}" for number in range(8)]
NAMESPACES = {
    name: CacheNamespace(number, name, 100, 3, TableId(1), owner="team") for number, name in enumerate(("pages", "others"), 1)
}


@pytest.fixture
async def made(cluster):
    made = await cluster(memory=True, start=False)
    manager = made.manager
    manager.set_table()

    async def list_namespaces(prefix="", after=""):
        return NamespacePage(sorted(NAMESPACES.values(), key=lambda each: each.name), more=False, version=1, next_id=3)

    async def find_namespace(name, timeout_ns=0):
        return NAMESPACES[name]

    manager.list_namespaces, manager.find_namespace = list_namespaces, find_namespace
    await made.start()
    await made.until(lambda: all(service.namespaces.get(2) for service in made.services.values()))
    return made


@pytest.fixture
def open_cache(made):
    """A handle of a client of its own."""

    def open_cache(name="pages"):
        return KVCache(SimpleNamespace(storage=made.client(), manager=made.manager, closed=False), NAMESPACES[name])

    return open_cache


def reports(made):
    return [endpoint for endpoint, _ in made.network.requests("ReportLookups")]


def counted(made, namespace_id=1):
    total = LookupCounters()
    for service in made.services.values():
        total.add(service.cache_statistics.find_reported(namespace_id) or LookupCounters())
    return total


async def test_prefixes_of_several_clients_are_added_up(made, open_cache):
    first, second = open_cache(), open_cache()
    await first.put_from([*KEYS[:4], *KEYS[6:]], [bytes(100)] * 6)
    for _ in range(3):
        assert (await first.lookup(KEYS)).hits == 4
    assert (await second.lookup(KEYS[:2], lease_ms=1000)).hits == 2
    assert (await second.lookup(["absent", *KEYS])).hits == 0
    assert reports(made) == [], "no lookup waits for a report"
    await first.close()
    await second.close()
    assert len(reports(made)) == 2
    usage = await open_cache().usage()
    assert usage.lookups == LookupCounters(lookups=5, keys_asked=35, keys_found=26, prefix_keys=14) == counted(made)
    assert usage.lookups.hit_rate == 14 / 35
    assert usage.counters.lookups >= 5, "as the nodes see them"


async def test_a_handle_sees_what_it_found_itself(made, open_cache):
    cache, other = open_cache(), open_cache("others")
    await other.lookup(KEYS[:3])
    await cache.lookup(KEYS)
    assert (await cache.usage()).lookups == LookupCounters(lookups=1, keys_asked=8) == cache.statistics
    await cache.lookup(KEYS)
    assert (await cache.usage()).lookups == LookupCounters(lookups=2, keys_asked=16) == cache.statistics
    assert (await other.usage()).lookups == LookupCounters(lookups=1, keys_asked=3)


async def test_a_client_that_dies_takes_its_last_seconds_with_it(made, open_cache):
    cache, other = open_cache(), open_cache()
    await cache.lookup(KEYS)
    await cache._client.storage.close()
    await other.lookup(KEYS)
    await cache.close()
    await other.close()
    assert counted(made) == LookupCounters(lookups=1, keys_asked=8)


async def test_nodes_do_not_count_what_there_is_not(made, help):
    request = help.pb.ReportLookupsRequest(namespace_id=77, lookups=help.pb.LookupCounters(lookups=1))
    channel = made.network.connect("fake://1")
    with pytest.raises(FS3Error, match="namespace 77 is not known") as refused:
        await channel.call(help.STORAGE.ReportLookups, request)
    assert refused.value.code is Code.BUSY
    made.services[1].namespaces.next_id = 100  # it was deleted
    await channel.call(help.STORAGE.ReportLookups, request)
    assert made.services[1].cache_statistics.namespaces == []


async def test_another_node_is_told_when_one_is_not_there(made, open_cache):
    cache = open_cache()
    await cache.lookup(KEYS)
    await cache.usage()
    (told,) = reports(made)
    await cache.lookup(KEYS)
    del made.network.servers[told]
    await cache.usage()
    assert counted(made) == LookupCounters(lookups=1, keys_asked=8), "no node has counted the second one yet"
    await cache.close()
    assert reports(made)[:2] == [told, told] != reports(made)[1:]
    assert counted(made) == LookupCounters(lookups=2, keys_asked=16)

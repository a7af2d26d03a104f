"""Events of a KVCache on a cluster of processes and on one inside this process: the key and the cause of whatever happens to its
pages, also of those that were stored before there were listeners."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

import fs3
from fs3.api.connect import connect_embedded
from fs3.api.kvcache import CacheChange, CacheEvent, EventStream, KVCache, Status
from fs3.base.units import SECOND

pytestmark = pytest.mark.timeout(180)

PAGE = 70_000
PATIENCE_SECONDS = 60
OK = Status.OK


@pytest.fixture
async def client(fs3_options: dict[str, str]) -> AsyncIterator[fs3.Client]:
    connecting = connect_embedded(fs3_options["path"]) if "path" in fs3_options else fs3.connect(fs3_options["cluster"])
    async with await connecting as opened:
        yield opened


@pytest.fixture
async def cache(client: fs3.Client) -> AsyncIterator[KVCache]:
    """A namespace of this test's own."""
    async with await KVCache.of(client, namespace=uuid.uuid4().hex, page_bytes=PAGE) as opened:
        yield opened
    await KVCache.delete_namespace(client, opened.name)


def keys_of(name: str, count: int) -> list[bytes]:
    """Some of them of the greatest length, which stand in front of their pages all the same."""
    return [f"{name}-{number}".encode().ljust(4096 if number % 5 == 0 else 8, b".") for number in range(count)]


async def put(cache: KVCache, keys: list[bytes]) -> None:
    assert set(await cache.put_from(keys, [key[:8] * (PAGE // 8) for key in keys])) == {OK}


async def read_changes(events: EventStream, count: int) -> list[CacheEvent]:
    """The next events; every one of a page is named as the page's key says."""
    found: list[CacheEvent] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < count:
            found += await events.read(SECOND, count - len(found))
    return found


def by_key(cache: KVCache, events: list[CacheEvent], change: CacheChange) -> set[bytes]:
    """The keys of events that are all of one kind."""
    assert {event.change for event in events} == {change}
    keys = [event.key for event in events]
    assert None not in keys
    found = [key for key in keys if key is not None]
    assert cache.page_ids(found) == [event.page_id for event in events]
    assert len(set(found)) == len(found), "a page is told once"
    return set(found)


async def test_pages_that_clients_remove(cache: KVCache) -> None:
    keys = keys_of("page", 40)
    await put(cache, keys)
    async with cache.events() as events:
        assert set(await cache.remove(keys)) == {OK}
        assert by_key(cache, await read_changes(events, len(keys)), CacheChange.REMOVED) == set(keys)
        await put(cache, keys)
        assert by_key(cache, await read_changes(events, len(keys)), CacheChange.STORED) == set(keys)


async def test_pages_that_are_evicted(client: fs3.Client, cache: KVCache) -> None:
    keys = keys_of("page", 60)
    await put(cache, keys)
    async with cache.events() as events:
        await KVCache.set_namespace(client, cache.name, budget_bytes=20 * (PAGE + 5000))
        evicted = await read_changes(events, 30)
        gone = by_key(cache, evicted, CacheChange.EVICTED)
        assert gone < set(keys)
        found = await cache.lookup(list(gone))
        assert not any(found.bitmap), "what is told to be gone is gone"


async def test_pages_whose_time_is_over(client: fs3.Client, cache: KVCache) -> None:
    keys = keys_of("page", 20)
    await put(cache, keys)
    async with cache.events() as events:
        await KVCache.set_namespace(client, cache.name, ttl=1)
        assert by_key(cache, await read_changes(events, len(keys)), CacheChange.EXPIRED) == set(keys)


async def test_a_stream_that_is_resumed_tells_the_keys_of_what_went_meanwhile(cache: KVCache) -> None:
    keys = keys_of("page", 20)
    await put(cache, keys)
    async with cache.events() as events:
        await cache.remove(keys[:10])
        assert by_key(cache, await read_changes(events, 5), CacheChange.REMOVED) < set(keys)
        token = events.token
    await cache.remove(keys[10:])
    resumed = cache.events(token)
    assert len(by_key(cache, await read_changes(resumed, 15), CacheChange.REMOVED)) == 15
    resumed.close()


async def test_a_namespace_that_is_cleared(cache: KVCache) -> None:
    """One event, however many pages there were; what comes then is of the namespace as it is from then on."""
    await put(cache, keys_of("page", 30))
    async with cache.events() as events:
        await cache.clear()
        assert [event.change for event in await read_changes(events, 2)] == [CacheChange.CLEARED, CacheChange.MISSED]
        await put(cache, [b"new"])
        assert by_key(cache, await read_changes(events, 1), CacheChange.STORED) == {b"new"}
        await cache.remove([b"new"])
        assert by_key(cache, await read_changes(events, 1), CacheChange.REMOVED) == {b"new"}
        assert await events.read(SECOND // 10) == []

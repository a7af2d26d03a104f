"""Every call of a KVCache as a user makes it, on a cluster of processes and on one inside this process: what it answers, with
nothing to do, and when it cannot be."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import fs3
from fs3.api.connect import connect_embedded
from fs3.api.kvcache import CacheChange, KVCache, PageLease, Status
from fs3.base.errors import Exists, FS3Error, InvalidArgument, NotFound
from fs3.base.status import Code

pytestmark = pytest.mark.timeout(120)

PAGE = 70_000
OK, EXISTS, MISS = Status.OK, Status.EXISTS, Status.MISS


@pytest.fixture
async def client(fs3_options: dict[str, str]) -> AsyncIterator[fs3.Client]:
    connecting = connect_embedded(fs3_options["path"]) if "path" in fs3_options else fs3.connect(fs3_options["cluster"])
    async with await connecting as opened:
        yield opened


@pytest.fixture
async def cache(client: fs3.Client) -> AsyncIterator[KVCache]:
    """A namespace of this test's own."""
    name = uuid.uuid4().hex
    async with await KVCache.of(client, namespace=name, page_bytes=PAGE, budget_bytes=100 * PAGE, pin_bytes=2 * PAGE) as opened:
        yield opened
    await KVCache.delete_namespace(client, name)


def page_of(number: int, size: int = PAGE) -> bytes:
    return number.to_bytes(2, "big") * (size // 2) + b"." * (size % 2)


async def test_the_life_of_pages(cache: KVCache) -> None:
    keys = [b"%d" % number for number in range(6)]
    pages = [page_of(number, 1 + number * 13_999) for number in range(6)]
    assert await cache.put_from(keys[:5], pages[:5]) == [OK] * 5
    assert await cache.put_from(keys, pages) == [EXISTS] * 5 + [OK]

    found = await cache.lookup([*keys, b"absent"], lease_ms=5000)
    assert (found.hits, found.bitmap, found.lengths) == (6, [True] * 6 + [False], [*map(len, pages), 0])
    assert isinstance(found.lease, PageLease)
    async with found.lease:
        rooms = [bytearray(PAGE) for _ in keys]
        lengths = [0] * 6
        assert await cache.get_into(keys, rooms, lengths) == [OK] * 6
        assert [bytes(room[:length]) for room, length in zip(rooms, lengths, strict=True)] == pages
        assert (await cache.usage()).leased_pages == 6

    memory = np.zeros((3, 1000), np.uint8)
    with cache.register_buffer(memory) as registered:
        assert registered.nbytes == 3000
        ranges = [(0, 1000), (500, 1000), (1, 1000)]
        assert await cache.get_ranges_into(keys[3:], ranges, memory) == [OK] * 3
    for row, page, (begin, length) in zip(memory, pages[3:], ranges, strict=True):
        assert row.tobytes() == page[begin : begin + length]

    assert await cache.touch([*keys, b"absent"]) == [OK] * 6 + [MISS]
    assert await cache.pin([keys[0], b"absent"], hard=True) == [OK, MISS]
    assert await cache.pin(keys[1:3], ttl=60) == [OK] * 2
    usage = await cache.usage()
    assert (usage.pages, usage.hard_pins, usage.soft_pins, usage.missing_chains) == (6, 1, 2, 0)
    assert usage.bytes >= sum(map(len, pages))
    assert await cache.unpin([*keys, b"absent"]) == [OK] * 6 + [MISS]

    assert sorted((await cache.list()).pages) == sorted(zip(keys, map(len, pages), strict=True))
    assert await cache.remove([keys[1], b"absent"]) == [OK] * 2
    assert (await cache.lookup(keys)).hits == 1
    await cache.clear()
    assert (await cache.lookup(keys)).statuses == [MISS] * 6
    assert await cache.list() == ([], None, 0)
    assert (cache.statistics.lookups, cache.statistics.unknown) == (3, 0)


async def test_nothing_to_do(cache: KVCache) -> None:
    for call in (cache.touch, cache.pin, cache.unpin, cache.remove):
        assert await call([]) == []
    assert await cache.put_from([], []) == await cache.get_into([], []) == await cache.get_ranges_into([], [], []) == []
    assert await cache.get_into([], [], []) == []
    assert await cache.lookup([]) == (0, [], [], [], None)
    leased = await cache.lookup([], lease_ms=1000)
    assert isinstance(leased.lease, PageLease)
    assert leased.lease.pages == 0
    await leased.lease.release()
    assert cache.page_ids([]) == []
    assert (await cache.lookup(["absent"], lease_ms=1000)).statuses == [MISS]


async def test_what_happens_is_told(cache: KVCache) -> None:
    async with cache.events() as events:
        async with asyncio.timeout(60):
            await cache.put_from([b"k"], [page_of(1)])
            stored = await anext(events)
            await cache.remove([b"k"])
            removed = await anext(events)
            await cache.clear()
            cleared = [(await anext(events)).change for _ in range(2)]
    assert (stored.change, stored.key, stored.length) == (CacheChange.STORED, b"k", PAGE)
    assert (removed.change, removed.page_id) == (CacheChange.REMOVED, stored.page_id)
    assert cleared == [CacheChange.CLEARED, CacheChange.MISSED]


async def test_namespaces(client: fs3.Client) -> None:
    name = f"{uuid.uuid4().hex}/made"
    made = await KVCache.create_namespace(client, name, page_bytes=100, replicas=1, budget_bytes=1000, ttl=60, owner="team")
    with pytest.raises(Exists):
        await KVCache.create_namespace(client, name, page_bytes=100)
    with pytest.raises(FS3Error) as refused:
        await KVCache.of(client, namespace=name, page_bytes=200)
    assert refused.value.code is Code.NAMESPACE_DIFFERS
    for settings in ({"budget_bytes": 99}, {"ttl": 0}, {"ttl": -1}, {"pin_bytes": 2000}):
        with pytest.raises(InvalidArgument, match=next(iter(settings))):
            await KVCache.set_namespace(client, name, **settings)
    assert await KVCache.get_namespace(client, name) == made
    changed = await KVCache.set_namespace(client, name, budget_bytes=math.inf)
    assert (changed.budget_bytes, changed.ttl_ms, changed.owner) == (0, 60_000, "team")
    assert [each.name for each in await KVCache.list_namespaces(client, name[:-4])] == [name]
    assert [usage.namespace.name for usage in await KVCache.list_usage(client, name)] == [name]
    assert (await KVCache.clear_namespace(client, name)).id > made.id
    await KVCache.delete_namespace(client, name)
    for gone in (KVCache.get_namespace, KVCache.clear_namespace, KVCache.delete_namespace):
        with pytest.raises(NotFound):
            await gone(client, name)


CALLS: dict[str, Any] = {
    "put_from": lambda cache, keys: cache.put_from(keys, [bytes(9)] * 2),
    "get_into": lambda cache, keys: cache.get_into(keys, [bytearray(9)] * 2),
    "get_ranges_into": lambda cache, keys: cache.get_ranges_into(keys, [(0, 9)] * 2, [bytearray(9)] * 2),
    "lookup": lambda cache, keys: cache.lookup(keys),
    "remove": lambda cache, keys: cache.remove(keys),
    "touch": lambda cache, keys: cache.touch(keys),
    "pin": lambda cache, keys: cache.pin(keys),
    "unpin": lambda cache, keys: cache.unpin(keys),
}


@pytest.mark.parametrize("call", CALLS)
async def test_bad_keys_are_named_by_every_call(cache: KVCache, call: str) -> None:
    for keys, wrong, says in (
        (["a", ""], InvalidArgument, "key 1 has 0 bytes"),
        (["a", b"x" * 4097], InvalidArgument, "key 1 has 4097 bytes"),
        (["a", "\udcff"], InvalidArgument, "key 1 .*no UTF-8"),
        (["a", 7], TypeError, "key 1 is neither bytes nor str but int"),
        (b"ab", TypeError, "keys: one bytes"),
    ):
        with pytest.raises(wrong, match=says):
            await CALLS[call](cache, keys)
    assert await cache.list() == ([], None, 0)


@pytest.mark.parametrize("call", [*CALLS, "list", "usage", "clear", "events", "page_ids", "register_buffer"])
async def test_misuse_is_told_by_every_call(client: fs3.Client, call: str) -> None:
    name = uuid.uuid4().hex
    cache = await KVCache.of(client, namespace=name, page_bytes=PAGE)

    async def use() -> object:
        if call in CALLS:
            return await CALLS[call](cache, ["a", "b"])
        answer = getattr(cache, call)(*{"page_ids": [["a"]], "register_buffer": [bytearray(1)]}.get(call, []))
        return await answer if asyncio.iscoroutine(answer) else answer

    with pytest.raises(RuntimeError, match=f"{name}.*belongs to another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(use()))
    await KVCache.delete_namespace(client, name)
    await cache.close()
    with pytest.raises(InvalidArgument, match=f"{name}.*is closed"):
        await use()

"""A fleet of workers puts, gets and has pages evicted while the heads of the chains are killed: an oracle looks at every byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter

import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.ids import ChainId, TargetId, page_range
from fs3.cli.local import LocalCluster
from fs3.core.kvcache.budget.shares import share_of
from fs3.drill.roles import process_in_role, status_of, wait_healthy

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

PAGE = 20_000
BUDGET_PAGES = 60
BUDGET = BUDGET_PAGES * PAGE
WORKERS = 8
ROUNDS = 25


def page_of(key: bytes) -> bytes:
    return hashlib.shake_128(key).digest(PAGE)


async def work(number: int, cache: KVCache, told: Counter[Status]) -> None:
    """Puts ever other pages, some of them together with all other workers, and reads what it and others have put."""
    draw = random.Random(number)
    for turn in range(ROUNDS):
        keys = [b"%d-%d-%d" % (number, turn, index) for index in range(3)] + [b"all-%d" % turn]
        told.update(await cache.put_from(keys, [page_of(key) for key in keys]))
        others = [b"%d-%d-0" % (draw.randrange(WORKERS), max(0, turn - 1)), b"all-%d" % draw.randrange(turn + 1)]
        wanted = [*keys, *others, b"hot"]
        buffers = [bytearray(PAGE) for _ in wanted]
        statuses = await cache.get_into(wanted, buffers)
        for key, buffer, status in zip(wanted, buffers, statuses, strict=True):
            assert status in (Status.OK, Status.MISS, Status.TIMEOUT, Status.ERROR), (key, status)
            assert status is not Status.OK or bytes(buffer) == page_of(key), f"other bytes for {key!r}"


async def used_bytes(client: Client, cache: KVCache, chain: ChainId, target: TargetId) -> int:
    """What one replica has of the namespace."""
    after, until = page_range(cache.namespace_id)
    used = 0
    while True:
        page = await client.storage.list_chunks(chain, target, after=after, until=until)
        used += sum(row.length for row in page.rows)
        if not page.more or not page.rows:
            return used
        after = page.rows[-1].chunk


async def explain_use(client: Client, cache: KVCache) -> str:
    """ "" when no replica has more than its chain's share of the budget, and one page."""
    routing = client.manager.routing
    table = next(table for table in routing.tables.values() if table.replicas == 3)
    for place, chain in enumerate(table.chains):
        share = share_of(BUDGET, place, len(table.chains))
        for slot in routing.chains[chain].serving_slots():
            used = await used_bytes(client, cache, chain, slot.target)
            if used > share * 1.01 + PAGE + 200:
                return f"target {slot.target} has {used} bytes of a share of {share}"
    return ""


def test_heads_are_killed_while_a_fleet_puts_gets_and_evicts() -> None:
    with LocalCluster(targets=2) as cluster:
        asyncio.run(break_while_working(cluster))


async def break_while_working(cluster: LocalCluster) -> None:
    async with await connect(cluster.url) as client:
        cache = await KVCache.of(client, namespace="fleet", page_bytes=PAGE, budget_bytes=BUDGET, circuit_breaker=False)
        assert await cache.put_from([b"hot"], [page_of(b"hot")]) == [Status.OK]
        told: Counter[Status] = Counter()
        working = asyncio.gather(*(work(number, cache, told) for number in range(WORKERS)))
        for _ in range(2):
            await asyncio.sleep(1)
            victim = process_in_role(await asyncio.to_thread(status_of, cluster), "head")
            await asyncio.to_thread(cluster.kill, victim)
            await asyncio.to_thread(cluster.start, victim)
            await asyncio.to_thread(wait_healthy, cluster)
            assert not await explain_use(client, cache)
        await working
        await asyncio.to_thread(wait_healthy, cluster)
        assert not await explain_use(client, cache)
        # Far more was put than there is room for, and hardly a put went wrong.
        stored = told[Status.OK] + told[Status.EXISTS]
        assert told[Status.OK] > 4 * BUDGET_PAGES, told
        assert stored > 0.9 * WORKERS * ROUNDS * 4, told

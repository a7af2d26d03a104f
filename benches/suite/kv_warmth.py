"""How warm a full KVCache is after a restart of the whole cluster, and after the head of a chain was killed.

Pages are asked for by Zipf's law, and put where they are missing, so the share that is found stays the same as long as the cache
knows which pages were used lately. Every byte that comes back is looked at. While the head is dead, pages of chains that it has
no part in are read all the time.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from benches.cache.pages import PageOracle, numbered, stored_bytes
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.ids import ChunkId
from fs3.cli.local import LocalCluster
from fs3.core.kvcache.placement import Placement
from fs3.drill.roles import is_excluded, process_in_role, serving_processes, status_of, wait_healthy, wait_status

if TYPE_CHECKING:
    from benches.run import Context
    from fs3.api.client import Client

KEPT_MIN = 0.95
"""Of the share found before."""
STALL_MAX_S = 0.5
"""Of gets of other chains while a head dies."""
RUNS = 3
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Shape:
    """What is asked for."""

    page_bytes: int = 4096
    pages: int = 4000
    """That are asked for."""
    budget_pages: int = 800
    alpha: float = 0.9
    """Page k is asked for in proportion to k ** -alpha."""
    call_pages: int = 64
    warming_calls: int = 150
    calls: int = 100
    """Of each measurement."""
    other_pages: int = 32
    """Read all the time while a head is dead."""


def measure(context: Context, shape: Shape | None = None) -> list[Row]:
    """The rows of warmth."""
    wanted = shape or Shape()
    before, restarted, failed_over, stalls, calm = [], [], [], [], []
    for turn in range(min(context.runs, RUNS)):
        directory = context.directory / f"warmth-{turn}"
        with LocalCluster(directory, replicas=2) as cluster:
            bench = _Bench(cluster, wanted, turn)
            before.append(run(bench.find_before()))
            cluster.stop()
            cluster.start()
            restarted.append(run(bench.find_again()))
            found, slowest, slowest_before = run(bench.find_without_head())
            failed_over.append(found)
            stalls.append(slowest * 1e3)
            calm.append(slowest_before * 1e3)
    limit = Spread.of(before)
    about = {"budget": f"{wanted.budget_pages} of {wanted.pages} pages", "runs": "each on a cluster of its own"}
    return [
        Row(
            "kv_warmth", "share found after a restart", "share", Spread.of(restarted), "before", limit, must_ratio=KEPT_MIN,
            extra=about,
        ),
        Row(
            "kv_warmth", "share found after a head was killed", "share", Spread.of(failed_over), "before", limit,
            must_ratio=KEPT_MIN, note="no byte was wrong", extra=about,
        ),
        Row(
            "kv_warmth", "slowest get of other chains while a head dies", "ms", Spread.of(stalls), "ms before", Spread.of(calm),
            must_value=STALL_MAX_S * 1e3, lower_is_better=True,
        ),
    ]  # fmt: skip


class _Bench:
    def __init__(self, cluster: LocalCluster, shape: Shape, seed: int) -> None:
        self._cluster = cluster
        self._shape = shape
        self._oracle = PageOracle(shape.page_bytes)
        self._buffers = self._oracle.buffers(shape.call_pages)
        self._random = random.Random(seed)
        self._popularity = list(accumulate(rank**-shape.alpha for rank in range(1, shape.pages + 1)))

    async def find_before(self) -> float:
        """The share that is found once the cache is full and has seen enough."""
        async with await connect(self._cluster.url) as client:
            cache = await self._open(client)
            await self._ask(cache, self._shape.warming_calls)
            return await self._ask(cache, self._shape.calls)

    async def find_again(self) -> float:
        """The share that is found by a client that begins now."""
        async with await connect(self._cluster.url) as client:
            return await self._ask(await self._open(client), self._shape.calls)

    async def find_without_head(self) -> tuple[float, float, float]:
        """Kill the head of the first chain. The share that is found once the chains do without it, and how many seconds the
        slowest get of other chains takes meanwhile, and took before."""
        async with await connect(self._cluster.url) as client:
            cache = await self._open(client)
            status = await asyncio.to_thread(status_of, self._cluster)
            victim = process_in_role(status, "head")
            spared = [chain["chain"] for chain in status["chains"] if victim not in serving_processes(status, chain["chain"])]
            others = await self._store_on(client, spared)
            times: list[tuple[float, float]] = []
            reading = asyncio.get_running_loop().create_task(self._read_others(*others, times))
            try:
                await asyncio.sleep(1.0)
                killed = time.perf_counter()
                await asyncio.to_thread(self._cluster.kill, victim)
                await asyncio.to_thread(wait_status, self._cluster, is_excluded(victim), 30, f"{victim} to be left out")
                over = time.perf_counter()
                found = await self._ask(cache, self._shape.calls)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            if reading.done() and not reading.cancelled() and (failure := reading.exception()):
                raise failure
            await asyncio.to_thread(self._cluster.start, victim)
            await asyncio.to_thread(wait_healthy, self._cluster)
        meanwhile = max(seconds for begin, seconds in times if killed - seconds <= begin <= over)
        return found, meanwhile, max(seconds for begin, seconds in times if begin + seconds < killed)

    async def _open(self, client: Client) -> KVCache:
        shape = self._shape
        budget = shape.budget_pages * stored_bytes(shape.page_bytes, numbered("p", [0])[0])
        return await KVCache.of(
            client, namespace="warm@1/zipf", page_bytes=shape.page_bytes, timeout=TIMEOUT_S, budget_bytes=budget
        )

    async def _ask(self, cache: KVCache, calls: int) -> float:
        """The share of the keys whose pages were there. Pages that were not are put."""
        asked = found = 0
        for _ in range(calls):
            drawn = [bisect(self._popularity, self._random.random() * self._popularity[-1]) for _ in self._buffers]
            keys = numbered("p", dict.fromkeys(drawn))
            statuses = await self._oracle.read(cache, keys, self._buffers)
            missing = [key for key, status in zip(keys, statuses, strict=True) if status is not Status.OK]
            asked += len(keys)
            found += len(keys) - len(missing)
            if missing:
                await cache.put_from(missing, self._oracle.pages(missing))
        return found / asked

    async def _store_on(self, client: Client, chains: list[int]) -> tuple[KVCache, list[bytes]]:
        """Pages of a namespace of their own, all on these chains."""
        cache = await KVCache.of(client, namespace="warm@1/others", page_bytes=self._shape.page_bytes, timeout=TIMEOUT_S)
        placement = Placement(cache.get_chains())
        candidates = numbered("o", range(100 * self._shape.other_pages))
        on_them = [
            key
            for key, page in zip(candidates, cache.page_ids(candidates), strict=True)
            if placement.chain(ChunkId(page)) in chains
        ]
        keys = on_them[: self._shape.other_pages]
        statuses = await cache.put_from(keys, self._oracle.pages(keys))
        if not keys or not all(status.ok for status in statuses):
            raise RuntimeError(f"{len(keys)} pages of chains {chains} were told {set(statuses)}")
        return cache, keys

    async def _read_others(self, cache: KVCache, keys: list[bytes], times: list[tuple[float, float]]) -> None:
        """One call after the other, until it is cancelled; when each began and how long it took. RuntimeError for a miss."""
        buffers = self._oracle.buffers(len(keys))
        while True:
            begin = time.perf_counter()
            statuses = await self._oracle.read(cache, keys, buffers)
            times.append((begin, time.perf_counter() - begin))
            if set(statuses) != {Status.OK}:
                raise RuntimeError(f"pages of other chains were told {set(statuses)} while a head was dead")
            await asyncio.sleep(0.005)

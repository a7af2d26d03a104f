"""Gets of a KVCache while pages are put and evicted, beside the same gets while the same pages are put and none has to go.

The namespace is full. In each run one process puts as many pages as the budget has room for, evenly over some seconds, once with
that budget, so that each page put takes the place of another, and once without one; meanwhile this process gets pages that are
used all the time. What the puts themselves cost the gets, which share the machine with them, is a row of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

from benches.cache.pages import PageOracle, numbered, stored_bytes
from benches.cache.putters import Putter, Wanted, opened_putters
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.kvcache import KVCache, Status
from fs3.base.units import MIB

if TYPE_CHECKING:
    from benches.run import Context

KEPT_MIN = 0.85
"""Of the gets without eviction."""
DEADLINE_S = 1.0
"""Of a get."""
ALONE_S = 2.0
"""How long gets are measured with nothing else to do."""


@dataclass(frozen=True)
class Shape:
    """How much is stored, put and read."""

    page_bytes: int = MIB
    budget_pages: int = 256
    """More than a hundred on each chain: smaller shares have no watermarks."""
    hot_pages: int = 32
    """Read all the time."""
    get_pages: int = 4
    """In one get."""
    put_pages: int = 8
    """In one put."""
    seconds: float = 4.0
    """Over which the puts of a run are spread."""


@dataclass
class Gets:
    """What became of the gets of one kind of run."""

    rates: list[float] = field(default_factory=list)
    """GB/s of each run."""
    slowest_s: list[float] = field(default_factory=list)
    """Of each run."""
    missed: int = 0
    """Pages that were not there. The client puts them again."""


def measure(context: Context, shape: Shape | None = None) -> list[Row]:
    """The rows of gets beside evictions."""
    return run(_measure(context, shape or Shape()))


async def _measure(context: Context, shape: Shape) -> list[Row]:
    name = "evict@1/mixed"
    first = numbered("put", [0])[0]
    budget = shape.budget_pages * stored_bytes(shape.page_bytes, first)
    kinds = {"alone": Gets(), "beside puts": Gets(), "beside puts and evictions": Gets()}
    async with await KVCache.open(
        context.cluster.url, namespace=name, page_bytes=shape.page_bytes, timeout=DEADLINE_S, transport="tcp", budget_bytes=budget
    ) as cache:
        with opened_putters(1, context.cluster.url, name, shape.page_bytes, 0) as (putter,):
            bench = _Bench(cache, putter, shape)
            await bench.fill()
            for turn in range(context.runs):
                await bench.get_alone(kinds["alone"])
                ways = [(budget, kinds["beside puts and evictions"]), (math.inf, kinds["beside puts"])]
                for limit, gets in ways if turn % 2 else reversed(ways):
                    await KVCache.set_namespace(context.cluster.url, name, budget_bytes=limit)
                    await bench.get_beside_puts(gets, is_full=limit == budget)
            evicted = (await cache.usage()).counters.evicted
        await KVCache.delete_namespace(context.cluster.url, name)
    if evicted < context.runs * shape.budget_pages // 2:
        raise RuntimeError(f"{evicted} pages were evicted, of {context.runs * shape.budget_pages} that others came for")
    return _rows(kinds, shape, evicted)


def _rows(kinds: dict[str, Gets], shape: Shape, evicted: int) -> list[Row]:
    alone, beside, evicting = kinds.values()
    puts = f"{shape.budget_pages} pages of {shape.page_bytes // 1024} KiB put in {shape.seconds:g} s"
    about = {"puts of a run": puts, "evicted": evicted, "missed gets": {name: gets.missed for name, gets in kinds.items()}}
    return [
        Row(
            "kv_evict", "gets while pages are put and evicted", "GB/s", Spread.of(evicting.rates),
            "GB/s, none evicted", Spread.of(beside.rates), must_ratio=KEPT_MIN, note=puts, extra=about,
        ),
        Row(
            "kv_evict", "slowest get while pages are put and evicted", "ms", _milliseconds(evicting.slowest_s),
            "ms, none evicted", _milliseconds(beside.slowest_s), must_value=DEADLINE_S * 1e3,
            lower_is_better=True, note="its deadline is what must be kept",
        ),
        Row(
            "kv_evict", "gets while pages are put", "GB/s", Spread.of(beside.rates), "GB/s, nothing else to do",
            Spread.of(alone.rates), note="what the puts cost the gets: client, replicas and disk are on one machine",
        ),
    ]  # fmt: skip


def _milliseconds(seconds: list[float]) -> Spread:
    return Spread.of([each * 1e3 for each in seconds])


class _Bench:
    def __init__(self, cache: KVCache, putter: Putter, shape: Shape) -> None:
        self._cache = cache
        self._putter = putter
        self._shape = shape
        self._oracle = PageOracle(shape.page_bytes)
        self._buffers = self._oracle.buffers(shape.get_pages)
        self._hot = numbered("hot", range(shape.hot_pages))
        self._next = 0
        """The number of the next page to put."""

    async def fill(self) -> None:
        """Until every chain has its share, with the hot pages among what came last."""
        await self._put(2 * self._shape.budget_pages, seconds=0.0)
        await self._store_hot(self._hot)
        await self._get_all()

    async def get_alone(self, gets: Gets) -> None:
        """For a while, with nothing else to do."""
        until = time.perf_counter() + ALONE_S
        await self._get_while(lambda: time.perf_counter() < until, gets)

    async def get_beside_puts(self, gets: Gets, *, is_full: bool) -> None:
        """For as long as the puts of a run take. What they stored beyond the budget is removed again."""
        shape = self._shape
        wanted = Wanted("put", self._next, shape.budget_pages, shape.put_pages, shape.seconds)
        self._next += wanted.count
        self._putter.begin(wanted)
        await self._get_while(lambda: not self._putter.is_done(), gets)
        outcome = self._putter.finish()
        if outcome.count_failed():
            raise RuntimeError(f"puts failed: {outcome.statuses}")
        if not is_full:
            removal = Wanted("put", wanted.first, wanted.count, shape.put_pages, is_removal=True)
            await asyncio.to_thread(self._putter.do, removal)

    async def _get_while(self, goes_on: Callable[[], bool], gets: Gets) -> None:
        """One call after the other, every page verified by the client; and looked at here once, at the end."""
        count, slowest = 0, 0.0
        parts = [self._hot[at : at + self._shape.get_pages] for at in range(0, len(self._hot), self._shape.get_pages)]
        began = time.perf_counter()
        for keys in cycle(parts):
            begin = time.perf_counter()
            if not goes_on():
                break
            statuses = await self._cache.get_into(keys, self._buffers[: len(keys)])
            slowest = max(slowest, time.perf_counter() - begin)
            count += sum(status is Status.OK for status in statuses)
            if missing := [key for key, status in zip(keys, statuses, strict=True) if status is not Status.OK]:
                gets.missed += len(missing)
                await self._store_hot(missing)
        gets.rates.append(count * self._shape.page_bytes / (time.perf_counter() - began) / 1e9)
        gets.slowest_s.append(slowest)
        await self._get_all()

    async def _get_all(self) -> None:
        for at in range(0, len(self._hot), self._shape.get_pages):
            await self._oracle.read(self._cache, self._hot[at : at + self._shape.get_pages], self._buffers)

    async def _store_hot(self, keys: list[bytes]) -> None:
        for key in keys:
            await self._cache.put_from([key], [self._oracle.page(key)])

    async def _put(self, count: int, seconds: float) -> None:
        wanted = Wanted("put", self._next, count, self._shape.put_pages, seconds)
        self._next += count
        outcome = await asyncio.to_thread(self._putter.do, wanted)
        if outcome.count_failed():
            raise RuntimeError(f"puts failed: {outcome.statuses}")

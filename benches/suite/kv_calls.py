"""Calls of a KVCache beside calls that do the same another way: lookups with a lease beside those without one, and jobs that are
submitted and polled beside calls of the asynchronous class."""

from __future__ import annotations

import asyncio
import select
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches.cache.pages import PageOracle, numbered
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.kvcache import BlockingKVCache, KVCache, Status

if TYPE_CHECKING:
    from benches.run import Context

LEASE_RATIO_MAX = 1.3
JOBS_RATIO_MIN = 0.9
LEASE_MS = 10_000
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Pages:
    """Pages of one size, and how they are put and got."""

    page_bytes: int
    call_pages: int
    calls: int
    """Of a run."""
    title: str


@dataclass(frozen=True)
class Shape:
    """How much is asked."""

    keys: int = 1000
    """Of a lookup."""
    lookups: int = 60
    """Of each kind in a run."""
    under_way: int = 2
    """Calls, or jobs, at once."""
    pages: tuple[Pages, ...] = (Pages(4_497_408, 8, 6, "4.5 MB"), Pages(4096, 128, 40, "4 KiB"))


def measure(context: Context, shape: Shape | None = None) -> list[Row]:
    """The rows of calls beside calls."""
    wanted = shape or Shape()
    rows = [run(_leases(context, wanted))]
    for pages in wanted.pages:
        rows += _jobs(context, pages, wanted.under_way)
    return rows


async def _leases(context: Context, shape: Shape) -> Row:
    """Lookups of keys that are all there, in turn with a lease, which is released before the next one, and without."""
    plain, leased = [], []
    keys = numbered("k", range(shape.keys))
    async with await KVCache.open(
        context.cluster.url, namespace="calls@1/lease", page_bytes=64, timeout=TIMEOUT_S, transport="tcp"
    ) as cache:
        statuses = await cache.put_from(keys, [bytes(64)] * len(keys))
        if not all(status.ok for status in statuses):
            raise RuntimeError(f"puts failed: {set(statuses)}")
        for _ in range(context.runs):
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(shape.lookups):
                for lease_ms, spent in ((None, times[0]), (LEASE_MS, times[1])):
                    began = time.perf_counter()
                    found = await cache.lookup(keys, lease_ms=lease_ms)
                    spent.append(time.perf_counter() - began)
                    if found.hits != len(keys):
                        raise RuntimeError(f"a lookup found {found.hits} of {len(keys)} pages")
                    if found.lease is not None:
                        if found.lease.pages != len(keys):
                            raise RuntimeError(f"{found.lease.pages} of {len(keys)} pages were leased")
                        await found.lease.release()  # type: ignore[misc]
            plain.append(statistics.median(times[0]) * 1e3)
            leased.append(statistics.median(times[1]) * 1e3)
    await KVCache.delete_namespace(context.cluster.url, "calls@1/lease")
    return Row(
        "kv_calls", f"lookup of {shape.keys} keys with a lease", "ms", Spread.of(leased), "ms without", Spread.of(plain),
        must_ratio=LEASE_RATIO_MAX, lower_is_better=True,
    )  # fmt: skip


def _jobs(context: Context, pages: Pages, under_way: int) -> list[Row]:
    """Puts and gets of the same pages, in turn as jobs and as calls."""
    rates: dict[str, tuple[list[float], list[float]]] = {"put": ([], []), "get": ([], [])}
    name = f"calls@1/{pages.page_bytes}"
    options = {"namespace": name, "page_bytes": pages.page_bytes, "replicas": 1, "timeout": TIMEOUT_S, "transport": "tcp"}
    bench = _Jobs(pages, under_way)
    with BlockingKVCache(context.cluster.url, **options) as blocking:

        async def call(turn: int) -> None:
            async with await KVCache.open(context.cluster.url, **options) as cache:
                keys = bench.keys("call", turn)
                rates["put"][1].append(await bench.call_puts(cache, keys))
                await bench.call_gets(cache, keys)  # warms
                rates["get"][1].append(await bench.call_gets(cache, keys))
                await _remove(cache, keys)

        def submit(turn: int) -> None:
            keys = bench.keys("job", turn)
            rates["put"][0].append(bench.submit_puts(blocking, keys))
            bench.submit_gets(blocking, keys)
            rates["get"][0].append(bench.submit_gets(blocking, keys))
            for part in keys:
                blocking.remove(part)

        for turn in range(context.runs):
            if turn % 2:
                submit(turn)
                run(call(turn))
            else:
                run(call(turn))
                submit(turn)
    run(KVCache.delete_namespace(context.cluster.url, name))
    unit, scale = ("GB/s", pages.page_bytes / 1e9) if pages.page_bytes > 1 << 20 else ("pages/s", 1.0)
    return [
        Row(
            "kv_calls", f"{kind} jobs, {pages.call_pages} pages of {pages.title} each, {under_way} under way", unit,
            Spread.of([each * scale for each in jobs]), f"{unit} by the asynchronous class",
            Spread.of([each * scale for each in calls]), must_ratio=JOBS_RATIO_MIN,
        )
        for kind, (jobs, calls) in rates.items()
    ]  # fmt: skip


async def _remove(cache: KVCache, keys: Sequence[Sequence[bytes]]) -> None:
    for part in keys:
        await cache.remove(part)


Work = Callable[[list[Sequence[bytes]]], Coroutine[None, None, None]]


class _Jobs:
    """Both ways to do the same. Every method returns pages per second."""

    def __init__(self, pages: Pages, under_way: int) -> None:
        self._pages = pages
        self._oracle = PageOracle(pages.page_bytes)
        self._rooms = [self._oracle.buffers(pages.call_pages) for _ in range(under_way)]

    def keys(self, prefix: str, turn: int) -> list[list[bytes]]:
        """Of each call of a run."""
        count = self._pages.call_pages
        return [numbered(prefix, range(at * count, (at + 1) * count)) for at in self._calls(turn)]

    def _calls(self, turn: int) -> range:
        return range(turn * self._pages.calls, (turn + 1) * self._pages.calls)

    async def call_puts(self, cache: KVCache, keys: Sequence[Sequence[bytes]]) -> float:
        async def work(waiting: list[Sequence[bytes]]) -> None:
            while waiting:
                part = waiting.pop()
                _check(await cache.put_from(part, self._oracle.pages(part)))

        return await self._timed([work] * len(self._rooms), keys)

    async def call_gets(self, cache: KVCache, keys: Sequence[Sequence[bytes]]) -> float:
        def reader(room: Sequence[memoryview]) -> Work:
            async def work(waiting: list[Sequence[bytes]]) -> None:
                while waiting:
                    part = waiting.pop()
                    _check(await cache.get_into(part, room))
                    last[id(room)] = part, room

            return work

        last: dict[int, tuple[Sequence[bytes], Sequence[memoryview]]] = {}
        rate = await self._timed([reader(room) for room in self._rooms], keys)
        for part, room in last.values():
            self._oracle.check(part, room, [Status.OK] * len(part))
        return rate

    async def _timed(self, works: Sequence[Work], keys: Sequence[Sequence[bytes]]) -> float:
        waiting = list(reversed(keys))
        began = time.perf_counter()
        await asyncio.gather(*(work(waiting) for work in works))
        return self._pages.call_pages * len(keys) / (time.perf_counter() - began)

    def submit_puts(self, cache: BlockingKVCache, keys: Sequence[Sequence[bytes]]) -> float:
        return self._submit("put", cache, keys)

    def submit_gets(self, cache: BlockingKVCache, keys: Sequence[Sequence[bytes]]) -> float:
        return self._submit("get", cache, keys)

    def _submit(self, kind: str, cache: BlockingKVCache, keys: Sequence[Sequence[bytes]]) -> float:
        """As many jobs under way as there are calls otherwise; the next one begins when one is over."""
        waiting = list(reversed(keys))
        free = list(self._rooms)
        begun: dict[int, tuple[Sequence[bytes], list[memoryview]]] = {}
        event = cache.event_fd(kind)
        began = time.perf_counter()
        while waiting or begun:
            while waiting and free:
                part, room = waiting.pop(), free.pop()
                job = cache.submit_get(part, room) if kind == "get" else cache.submit_put(part, self._oracle.pages(part))
                begun[job] = part, room
            select.select([event], [], [], TIMEOUT_S)
            for result in cache.poll(kind):
                _check(result.statuses)
                part, room = begun.pop(result.job)
                free.append(room)
        rate = self._pages.call_pages * len(keys) / (time.perf_counter() - began)
        if kind == "get":
            self._oracle.check(part, room, [Status.OK] * len(part))
        return rate


def _check(statuses: Sequence[Status]) -> None:
    if not all(status.ok for status in statuses):
        raise RuntimeError(f"pages were told {set(statuses)}")

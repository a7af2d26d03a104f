"""How far a KVCache is ever above its budget, while processes put more than there is room for as fast as they can.

What the heads of the chains say they have (`KVCache.usage`) is asked again and again meanwhile. A budget is kept by each chain
for its share; what may be above it is a hundredth, and a page for each chain.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches.cache.pages import numbered, stored_bytes
from benches.cache.putters import Putter, Wanted, opened_putters
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.kvcache import KVCache
from fs3.base.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benches.run import Context

SLACK = 0.01
"""Of the budget, that may be above it; beside one page on each chain."""
RUNS = 3
SAMPLES_KEPT = 200
"""Of the last run, for the plot."""


@dataclass(frozen=True)
class Shape:
    """How much is put, and into how little room."""

    page_bytes: int = 256 * KIB
    budget_bytes: int = 128 * MIB
    writers: int = 8
    pages: int = 160
    """That each writer puts in a run."""
    call_pages: int = 8


@dataclass
class Sample:
    """What there was at one moment."""

    at_s: float
    """Since the puts began."""
    bytes: int


def measure(context: Context, shape: Shape | None = None) -> list[Row]:
    """The rows of budgets."""
    return run(_measure(context, shape or Shape()))


async def _measure(context: Context, shape: Shape) -> list[Row]:
    name = "budget@1/full"
    url = context.cluster.url
    above, rates, evictions = [], [], []
    samples: list[Sample] = []
    counts = []
    async with await KVCache.open(
        url, namespace=name, page_bytes=shape.page_bytes, timeout=10, budget_bytes=shape.budget_bytes
    ) as cache:
        chains = len(cache.get_chains())
        with opened_putters(shape.writers, url, name, shape.page_bytes, 0) as putters:
            # The first run fills the namespace; from the second on every page takes the place of another.
            for turn in range(1 + min(context.runs, RUNS)):
                before = (await cache.usage()).counters
                samples, seconds = await _put_and_sample(cache, putters, shape, turn)
                after = (await cache.usage()).counters
                most = max(sample.bytes for sample in samples)
                above.append(100 * (most / shape.budget_bytes - 1))
                counts.append(len(samples))
                if turn:
                    rates.append((after.puts - before.puts) * shape.page_bytes / seconds / 1e9)
                    evictions.append((after.evicted - before.evicted) / seconds)
        await KVCache.delete_namespace(url, name)
    page = stored_bytes(shape.page_bytes, numbered("0-", [0])[0])
    step = max(1, len(samples) // SAMPLES_KEPT)
    timeline = [[round(sample.at_s, 3), sample.bytes / shape.budget_bytes] for sample in samples[::step]]
    return [
        Row(
            "kv_budget", f"most above the budget, {shape.writers} writers", "%", Spread.of(above),
            must_value=100 * (SLACK + chains * page / shape.budget_bytes), lower_is_better=True,
            note=f"of {shape.budget_bytes / 1e6:.0f} MB on {chains} chains; {sum(counts)} looks at it",
            extra={"looks of each run": counts, "timeline": timeline},
        ),
        Row("kv_budget", f"puts into a full namespace, {shape.writers} writers", "GB/s", Spread.of(rates)),
        Row("kv_budget", "evictions meanwhile", "pages/s", Spread.of(evictions)),
    ]  # fmt: skip


async def _put_and_sample(cache: KVCache, putters: Sequence[Putter], shape: Shape, turn: int) -> tuple[list[Sample], float]:
    """All writers put, each pages of its own; what there is meanwhile, and how long they take."""
    began = time.perf_counter()
    for number, putter in enumerate(putters):
        putter.begin(Wanted(f"{number}-", turn * shape.pages, shape.pages, shape.call_pages))
    samples = []
    while not all(putter.is_done() for putter in putters):
        usage = await cache.usage()
        samples.append(Sample(time.perf_counter() - began, usage.bytes))
        if usage.missing_chains:
            raise RuntimeError(f"{usage.missing_chains} chains did not say what they have")
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - began
    for outcome in [putter.finish() for putter in putters]:
        if outcome.count_failed() > shape.pages // 20:
            raise RuntimeError(f"puts failed: {outcome.statuses}")
    samples.append(Sample(time.perf_counter() - began, (await cache.usage()).bytes))
    return samples, seconds

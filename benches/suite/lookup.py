"""Lookups of a thousand keys in clusters of 6 and of 400 chains: what they cost must not grow with the chains.

The clusters of this family are its own: three storage processes and three replicas for the few chains, seven and one replica for
the many, since a storage process has at most 64 targets.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.peers import Redis, redis
from benches.record import Row, Spread
from fs3.api.kvcache import KVCache
from fs3.cli.local import LocalCluster

if TYPE_CHECKING:
    from benches.run import Context

KEYS = 1000
STORED = 300
PAGE_BYTES = 4096
LOOKUPS = 60
SHAPES = {
    6: ({"storage": 3, "replicas": 3, "targets": 6}, 0.8),
    399: ({"storage": 7, "replicas": 1, "targets": 57}, 0.9),
}
"""Chains -> the shape of a cluster that has them, and the milliseconds to reach."""
SHAPE_TRIED = {"storage": 1, "replicas": 1, "targets": 4}
"""Of the cluster where the bench is only tried out."""


def measure(context: Context) -> list[Row]:
    """The rows of lookups."""
    rows = []
    with redis(context.directory / "redis-lookup") as peer:
        for chains, (shape, must) in SHAPES.items():
            wanted = shape if context.scale == 1 else SHAPE_TRIED
            with LocalCluster(context.directory / f"lookup-{chains}", **wanted) as cluster:
                rows.append(run(_measure(context, cluster, chains, must, peer)))
    return rows


async def _measure(context: Context, cluster: LocalCluster, chains: int, must: float, peer: Redis | None) -> Row:
    keys = [b"stored-%d" % number for number in range(STORED)] + [b"absent-%d" % number for number in range(KEYS - STORED)]
    lookups = context.sized(LOOKUPS, 4)
    values, echoes, peers = [], [], []
    async with await KVCache.open(
        cluster.url, namespace="bench@1/lookup", page_bytes=PAGE_BYTES, timeout=60, transport="tcp"
    ) as cache:
        page = memoryview(bytes(PAGE_BYTES))
        for status in await cache.put_from(keys[:STORED], [page] * STORED):
            if not status.ok:
                raise RuntimeError(f"a put failed: {status}")
        if peer is not None:
            peer.put(keys[:STORED], [page] * STORED)
        for turn in chain((-1,), context.turns()):
            times = []
            for _ in range(lookups):
                began = time.perf_counter()
                found = await cache.lookup(keys)
                times.append(time.perf_counter() - began)
                if found.hits != STORED:
                    raise RuntimeError(f"a lookup found {found.hits} of {STORED} pages")
            if turn < 0:
                continue
            values.append(statistics.median(times) * 1e3)
            echoes.append(1e3 / limits.echo(16_000, context.sized(2000, 20)))
            if peer is not None:
                peers.append(_median_ms(lambda: _expect(peer.count(keys)), lookups))
    return Row(
        "lookup", f"lookup of {KEYS} keys, {chains} chains", "ms", Spread.of(values), "ms raw echo of 16 kB", Spread.of(echoes),
        must_value=must, lower_is_better=True, peer_name="ms Redis by redis-py", peer=Spread.of(peers) if peers else None,
    )  # fmt: skip


def _median_ms(call: Callable[[], None], times: int) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found) * 1e3


def _expect(found: int) -> None:
    if found != STORED:
        raise RuntimeError(f"{found} of {STORED} keys exist")

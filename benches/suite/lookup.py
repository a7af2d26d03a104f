"""Lookups of a thousand keys in clusters of 6 and of 400 chains: what they cost must not grow with the chains.

The clusters of this family are its own: three storage processes and three replicas for the few chains, seven and one replica for
the many, since a storage process has at most 64 targets.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.peers.mooncake import Mooncake, mooncake
from benches.peers.redis import Redis, redis
from benches.record import Peer, Row, Spread
from fs3.api.kvcache import KVCache
from fs3.cli.local import LocalCluster

if TYPE_CHECKING:
    from benches.run import Context

KEYS = 1000
STORED = 300
PAGE_BYTES = 4096
WANTED = [b"stored-%d" % number for number in range(STORED)] + [b"absent-%d" % number for number in range(KEYS - STORED)]
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
    with ExitStack() as stack:
        peers: dict[str, Redis | Mooncake] = {}
        if (by_redis := stack.enter_context(redis(context.directory / "redis-lookup"))) is not None:
            peers["Redis by redis-py"] = by_redis
        if (by_mooncake := stack.enter_context(mooncake(context.directory / "mooncake-lookup"))) is not None:
            peers["Mooncake"] = by_mooncake
        page = memoryview(bytearray(PAGE_BYTES))
        for peer in peers.values():
            peer.put(WANTED[:STORED], [page] * STORED)
        for chains, (shape, must) in SHAPES.items():
            tried = shape if context.scale == 1 else SHAPE_TRIED
            with LocalCluster(context.directory / f"lookup-{chains}", **tried) as cluster:
                rows.append(run(_measure(context, cluster, chains, must, peers)))
    return rows


async def _measure(
    context: Context, cluster: LocalCluster, chains: int, must: float, peers: Mapping[str, Redis | Mooncake]
) -> Row:
    lookups = context.sized(LOOKUPS, 4)
    values, echoes = [], []
    of_peers: dict[str, list[float]] = defaultdict(list)
    async with await KVCache.open(
        cluster.url, namespace="bench@1/lookup", page_bytes=PAGE_BYTES, timeout=60, transport="tcp"
    ) as cache:
        page = memoryview(bytes(PAGE_BYTES))
        for status in await cache.put_from(WANTED[:STORED], [page] * STORED):
            if not status.ok:
                raise RuntimeError(f"a put failed: {status}")
        for turn in chain((-1,), context.turns()):
            times = []
            for _ in range(lookups):
                began = time.perf_counter()
                found = await cache.lookup(WANTED)
                times.append(time.perf_counter() - began)
                if found.hits != STORED:
                    raise RuntimeError(f"a lookup found {found.hits} of {STORED} pages")
            if turn < 0:
                continue
            values.append(statistics.median(times) * 1e3)
            echoes.append(1e3 / limits.echo(16_000, context.sized(2000, 20)))
            for name, peer in peers.items():
                of_peers[name].append(_median_ms(lambda count=peer.count: _expect(count(WANTED)), lookups))  # type: ignore[misc]
    return Row(
        "lookup", f"lookup of {KEYS} keys, {chains} chains", "ms", Spread.of(values), "ms raw echo of 16 kB", Spread.of(echoes),
        must_value=must, lower_is_better=True, peers=[Peer(f"ms {name}", Spread.of(times)) for name, times in of_peers.items()],
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

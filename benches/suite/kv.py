"""KVCache pages, three durable replicas: 64 tokens of DeepSeek-V3 over all layers, one layer's, and 4 KiB. Every get is verified.

Puts stand beside a raw chain of three processes that receive, pass on, write and sync blocks as large as a call (as a page, where
those are large); gets beside a raw `sendfile` of as many bytes. The peer is Redis by redis-py: durable (`appendfsync always`)
beside puts, in memory beside gets.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.peers import DURABLE, Redis, redis
from benches.record import Row, Spread
from fs3.api.kvcache import KVCache

if TYPE_CHECKING:
    from benches.run import Context

PAGE_BYTES_MIN = 4096
CHAIN_STREAMS = 4
"""Blocks the raw chain has under way."""


@dataclass(frozen=True)
class Size:
    """Pages of one size, and what is to be reached with them."""

    page_bytes: int
    named: str
    pages: int
    """In one call."""
    calls: int
    must_put: float
    """Of large pages a ratio to the limit, of others a figure; so is `must_get`."""
    must_get: float
    unit: str
    """ "GB/s" or "pages/s"."""
    is_large: bool = False
    """Whether its goals are ratios, and a block of the raw chain is a page and not a call."""

    def figure(self, seconds: float, calls: int) -> float:
        """What so many calls in so many seconds are, in this size's unit."""
        each = self.page_bytes / 1e9 if self.unit == "GB/s" else 1
        return calls * self.pages * each / seconds


SIZES = (
    Size(4_497_408, "4.5 MB", 8, 4, 0.8, 0.70, "GB/s", is_large=True),
    Size(73_728, "74 kB", 128, 6, 0.3, 4.0, "GB/s"),
    Size(4096, "4 KiB", 128, 30, 20_000, 200_000, "pages/s"),
)


def measure(context: Context) -> list[Row]:
    """The KVCache rows."""
    tried = (replace(size, page_bytes=context.sized(size.page_bytes, PAGE_BYTES_MIN)) for size in SIZES)
    return [row for size in tried for row in run(_measure(context, size))]


async def _measure(context: Context, size: Size) -> list[Row]:
    figures: dict[str, list[float]] = defaultdict(list)
    pages = [memoryview(os.urandom(size.page_bytes)) for _ in range(size.pages)]
    buffers = [memoryview(bytearray(size.page_bytes)) for _ in range(size.pages)]
    calls = context.sized(size.calls, 2)
    call_bytes = size.pages * size.page_bytes
    block, blocks = (size.page_bytes, calls * size.pages) if size.is_large else (call_bytes, max(8, calls))
    with ExitStack() as stack:
        durable = stack.enter_context(redis(context.directory / "redis-durable", DURABLE))
        volatile = stack.enter_context(redis(context.directory / "redis"))
        cache = await _open(context, size)
        try:
            for turn in chain((-1,), context.turns()):  # the first warms: connections, blocks, the servers' memory
                keys = [[b"%d-%d-%d" % (turn, call, page) for page in range(size.pages)] for call in range(calls)]
                measured = {"put": size.figure(await _put(cache, keys, pages), calls)}
                await _get(cache, keys, buffers)
                measured["get"] = size.figure(await _get(cache, keys, buffers), calls)
                if any(buffer != page for buffer, page in zip(buffers, pages, strict=True)):
                    raise RuntimeError("a page came back with other bytes")
                pushed = limits.raw_chain(context.directory, block, blocks, CHAIN_STREAMS) / call_bytes
                measured["chain"] = size.figure(1 / pushed, 1)
                sent = limits.sendfile_to_recv_into(context.directory, call_bytes, 3 * calls * call_bytes, 2) / call_bytes
                measured["sendfile"] = size.figure(1 / sent, 1)
                if durable is not None and volatile is not None:
                    measured["AOF put"] = size.figure(_redis_put(durable, keys, pages), calls)
                    _redis_put(volatile, keys, pages)
                    measured["get peer"] = size.figure(_redis_get(volatile, keys), calls)
                    measured["raw redis"] = size.figure(volatile.raw_get(keys[-1], size.page_bytes, calls), calls)
                    durable.clear()
                    volatile.clear()
                if turn >= 0:
                    for name, value in measured.items():
                        figures[name].append(value)
                await cache.clear()
        finally:
            await cache.close()
    return _rows(size, figures)


async def _open(context: Context, size: Size) -> KVCache:
    """The namespace of a size."""
    return await KVCache.open(
        context.cluster.url,
        namespace=f"bench@1/{size.named}",
        page_bytes=size.page_bytes,
        replicas=3,
        timeout=60,
        transport="tcp",
    )


async def _put(cache: KVCache, keys: Sequence[Sequence[bytes]], pages: Sequence[memoryview]) -> float:
    """Seconds."""
    began = time.perf_counter()
    for call in keys:
        result = await cache.put_from(call, pages)
        if not all(status.ok for status in result):
            raise RuntimeError(f"a put failed: {result}")
    return time.perf_counter() - began


async def _get(cache: KVCache, keys: Sequence[Sequence[bytes]], buffers: Sequence[memoryview]) -> float:
    """Seconds."""
    began = time.perf_counter()
    for call in keys:
        result = await cache.get_into(call, buffers)
        if not all(status.ok for status in result):
            raise RuntimeError(f"a get failed: {result}")
    return time.perf_counter() - began


def _redis_put(peer: Redis, keys: Sequence[Sequence[bytes]], pages: Sequence[memoryview]) -> float:
    began = time.perf_counter()
    for call in keys:
        peer.put(call, pages)
    return time.perf_counter() - began


def _redis_get(peer: Redis, keys: Sequence[Sequence[bytes]]) -> float:
    began = time.perf_counter()
    for call in keys:
        peer.get(call)
    return time.perf_counter() - began


def _rows(size: Size, figures: dict[str, list[float]]) -> list[Row]:
    spreads = {name: Spread.of(values) for name, values in figures.items() if values}
    named = f"{size.named}, {size.pages} a call"
    unit = size.unit
    short = unit.removeprefix("pages")
    put = Row(
        "kv", f"put {named}, 3 replicas", unit, spreads["put"], f"{short} raw chain of {'pages' if size.is_large else 'calls'}",
        spreads["chain"], peer_name=f"{short} Redis, one copy, appendfsync always", peer=spreads.get("AOF put"),
    )  # fmt: skip
    get = Row(
        "kv", f"get {named}, verified", unit, spreads["get"], f"{short} raw sendfile, recv_into", spreads["sendfile"],
        peer_name=f"{short} Redis by redis-py, in memory", peer=spreads.get("get peer"),
    )  # fmt: skip
    if size.is_large:
        put.must_ratio, get.must_ratio = size.must_put, size.must_get
    else:
        put.must_value, get.must_value = size.must_put, size.must_get
    if "raw redis" in spreads:
        get.extra["raw redis"] = spreads["raw redis"].median
        get.note = f"Redis by a raw socket: {spreads['raw redis'].median:.3g}{short}"
    return [put, get]

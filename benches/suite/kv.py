"""KVCache pages, three durable replicas: 64 tokens of DeepSeek-V3 over all layers, one layer's, and 4 KiB. Every get is verified.

Puts stand beside a raw chain of three processes that receive, pass on, write and sync blocks as large as a call (as a page, where
those are large); gets beside a raw `sendfile` of as many bytes. Peers: Ceph, three copies, as durable as those of fs3; Redis by
redis-py, one copy, durable (`appendfsync always`) beside puts, in memory beside gets; Mooncake, one copy in memory.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.peers.ceph import ceph
from benches.peers.mooncake import mooncake
from benches.peers.redis import DURABLE, redis
from benches.record import Peer, Row, Spread
from fs3.api.kvcache import KVCache

if TYPE_CHECKING:
    from benches.run import Context

PAGE_BYTES_MIN = 4096
CEPH = "Ceph, 3 copies, durable"
REDIS_DURABLE = "Redis, one copy, appendfsync always"
REDIS = "Redis by redis-py, in memory"
REDIS_RAW = "Redis by a raw socket, in memory"
MOONCAKE = "Mooncake, one copy, in memory"
PEERS = (CEPH, REDIS_DURABLE, REDIS, REDIS_RAW, MOONCAKE)
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
    must_ceph: float | None = None
    """Ratio of puts to those of Ceph."""
    is_large: bool = False
    """Whether its goals are ratios, and a block of the raw chain is a page and not a call."""

    def figure(self, seconds: float, calls: int) -> float:
        """What so many calls in so many seconds are, in this size's unit."""
        each = self.page_bytes / 1e9 if self.unit == "GB/s" else 1
        return calls * self.pages * each / seconds


SIZES = (
    Size(4_497_408, "4.5 MB", 8, 4, 0.8, 0.70, "GB/s", 1.2, is_large=True),
    Size(73_728, "74 kB", 128, 6, 0.3, 4.0, "GB/s", 2.0),
    Size(4096, "4 KiB", 128, 30, 20_000, 200_000, "pages/s"),
)


def measure(context: Context) -> list[Row]:
    """The KVCache rows."""
    tried = (replace(size, page_bytes=context.sized(size.page_bytes, PAGE_BYTES_MIN)) for size in SIZES)
    return [row for size in tried for row in run(_measure(context, size))]


async def _measure(context: Context, size: Size) -> list[Row]:
    figures: dict[str, list[float]] = defaultdict(list)
    pages = [memoryview(bytearray(os.urandom(size.page_bytes))) for _ in range(size.pages)]
    buffers = [memoryview(bytearray(size.page_bytes)) for _ in range(size.pages)]
    calls = context.sized(size.calls, 2)
    call_bytes = size.pages * size.page_bytes
    block, blocks = (size.page_bytes, calls * size.pages) if size.is_large else (call_bytes, max(8, calls))
    with ExitStack() as stack:
        rivals = _Rivals(stack, context)
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
                measured |= rivals.measure(size, keys, pages, buffers)
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


class _Rivals:
    """The peers that are installed, which do what fs3 did."""

    def __init__(self, stack: ExitStack, context: Context) -> None:
        self._durable = stack.enter_context(redis(context.directory / "redis-durable", DURABLE))
        self._volatile = stack.enter_context(redis(context.directory / "redis"))
        self._mooncake = stack.enter_context(mooncake(context.directory / "mooncake"))
        self._ceph = stack.enter_context(ceph(context.directory / "ceph"))

    def measure(
        self, size: Size, keys: Sequence[Sequence[bytes]], pages: Sequence[memoryview], buffers: Sequence[memoryview]
    ) -> dict[str, float]:
        """The figure of each, by the name of its row and its own."""
        calls = len(keys)
        found = {}

        def figure(work: Callable[[Sequence[bytes]], object]) -> float:
            began = time.perf_counter()
            for call in keys:
                work(call)
            return size.figure(time.perf_counter() - began, calls)

        if (store := self._ceph) is not None:
            objects = [bytes(page) for page in pages]  # what librados takes
            found["put", CEPH] = figure(lambda call: store.put(call, objects))
            found["get", CEPH] = figure(lambda call: store.get(call, size.page_bytes))
            store.clear()
        if (durable := self._durable) is not None:
            found["put", REDIS_DURABLE] = figure(lambda call: durable.put(call, pages))
            durable.clear()
        if (volatile := self._volatile) is not None:
            for call in keys:
                volatile.put(call, pages)
            found["get", REDIS] = figure(volatile.get)
            found["get", REDIS_RAW] = size.figure(volatile.raw_get(keys[-1], size.page_bytes, calls), calls)
            volatile.clear()
        if (memory := self._mooncake) is not None:
            found["put", MOONCAKE] = figure(lambda call: memory.put(call, pages))
            found["get", MOONCAKE] = figure(lambda call: memory.get_into(call, buffers))
            memory.clear()
        return {f"{row} {name}": value for (row, name), value in found.items()}


def _rows(size: Size, figures: dict[str, list[float]]) -> list[Row]:
    spreads = {name: Spread.of(values) for name, values in figures.items() if values}
    named = f"{size.named}, {size.pages} a call"
    unit = size.unit
    short = unit.removeprefix("pages")
    put = Row(
        "kv", f"put {named}, 3 replicas", unit, spreads["put"], f"{short} raw chain of {'pages' if size.is_large else 'calls'}",
        spreads["chain"],
    )  # fmt: skip
    get = Row("kv", f"get {named}, verified", unit, spreads["get"], f"{short} raw sendfile, recv_into", spreads["sendfile"])
    for row, name in ((row, name) for row in (put, get) for name in PEERS):
        if (spread := spreads.get(f"{row.figure.partition(' ')[0]} {name}")) is not None:
            must = size.must_ceph if row is put and name == CEPH else None
            row.peers.append(Peer(f"{short} {name}", spread, must))
    if size.is_large:
        put.must_ratio, get.must_ratio = size.must_put, size.must_get
    else:
        put.must_value, get.must_value = size.must_put, size.must_get
    return [put, get]

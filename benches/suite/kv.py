"""KVCache: pages of 64 tokens of DeepSeek-V3 (4 497 408 bytes), eight a call; lookups of a thousand keys."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.kvcache import KVCache

if TYPE_CHECKING:
    from benches.run import Context

PAGE_BYTES = 4_497_408
PAGES = 8
CALLS = 6
LOOKUPS = 40


def measure(context: Context) -> list[Row]:
    """The KVCache rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    puts, gets, chains, raws, lookups, echoes = [], [], [], [], [], []
    pages = [memoryview(os.urandom(PAGE_BYTES)) for _ in range(PAGES)]
    buffers = [memoryview(bytearray(PAGE_BYTES)) for _ in range(PAGES)]
    async with await KVCache.open(
        context.cluster.url, namespace="bench@1/fp8", page_bytes=PAGE_BYTES, replicas=3, timeout=60, transport="tcp"
    ) as cache:
        stored: list[bytes] = []
        for run in range(context.runs):
            keys = [f"{run}-{call}-{page}".encode() for call in range(CALLS) for page in range(PAGES)]
            began = time.perf_counter()
            for call in range(CALLS):
                result = await cache.put_from(keys[call * PAGES : (call + 1) * PAGES], pages)
                if not all(status.ok for status in result):
                    raise RuntimeError(f"a put failed: {result}")
            puts.append(CALLS * PAGES * PAGE_BYTES / (time.perf_counter() - began) / 1e9)
            stored += keys
            chains.append(limits.raw_chain(context.directory, PAGE_BYTES, CALLS * PAGES, 4) / 1e9)
            for turn in range(2):  # the first turn warms
                began = time.perf_counter()
                for call in range(CALLS):
                    result = await cache.get_into(keys[call * PAGES : (call + 1) * PAGES], buffers)
                    if not all(status.ok for status in result):
                        raise RuntimeError(f"a get failed: {result}")
                if turn:
                    gets.append(CALLS * PAGES * PAGE_BYTES / (time.perf_counter() - began) / 1e9)
            if any(buffer != page for buffer, page in zip(buffers, pages, strict=True)):
                raise RuntimeError("a page came back with other bytes")
            raws.append(limits.sendfile_to_recv_into(context.directory, PAGE_BYTES, 300 * PAGE_BYTES, 2) / 1e9)
            asked = [*stored, *(f"absent-{index}".encode() for index in range(1000))][:1000]
            times = []
            for _ in range(LOOKUPS):
                began = time.perf_counter()
                found = await cache.lookup(asked)
                times.append(time.perf_counter() - began)
            if found.hits != min(len(stored), 1000):
                raise RuntimeError(f"lookup found {found.hits} of {len(stored)} pages")
            lookups.append(sorted(times)[len(times) // 2] * 1e3)
            echoes.append(1e3 / limits.echo(16_000, 2000))
    raw, chain, echo = Spread.of(raws), Spread.of(chains), Spread.of(echoes)
    return [
        Row("kv", "put, 8 pages a call, 3 replicas", "GB/s", Spread.of(puts), "GB/s raw chain", chain, must_ratio=0.40),
        Row("kv", "get, 8 pages a call, verified", "GB/s", Spread.of(gets), "GB/s raw sendfile, recv_into", raw, must_ratio=0.70),
        Row("kv", "lookup of 1 000 keys", "ms", Spread.of(lookups), "ms raw echo", echo, must_value=5.0, lower_is_better=True),
    ]  # fmt: skip

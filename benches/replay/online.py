"""A trace against a cluster: what a node of the service would see.

Each request looks up the keys of all its pages, gets those found from the first on, and puts the others, as an engine does that
computes them. Every page carries its key at both ends, and a get that brings another page's bytes ends the run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benches import limits
from benches.record import Row, Spread
from benches.replay.policies import LRU, Infinite, Policy
from benches.replay.simulate import replay
from benches.replay.trace import Request, split_blocks
from fs3.api.kvcache import KVCache, Status
from fs3.base.limits import page_header_bytes

CALL_PAGES = 8
"""In one get or put."""
TIMEOUT_S = 60.0
_STAMP_BYTES = 16
PAGE_BYTES_MIN = 2 * _STAMP_BYTES


@dataclass(frozen=True)
class Load:
    """What is replayed, and how."""

    requests: Sequence[Request]
    page_bytes: int
    pages_per_block: int
    workers: int
    """Requests under way at once."""
    is_paced: bool
    """Requests begin when the trace says, or when a worker is free, whichever is later; otherwise as soon as one is."""
    replicas: int
    budget_bytes: int = 0
    """0: none."""
    transport: str = "auto"
    gets_only: bool = False
    """The pages that are asked for most are stored before the time begins, as many as nine tenths of the budget have room for,
    and none is put meanwhile."""
    get_rate_min: float = 0.0
    """GB/s of gets to reach; 0: none."""


@dataclass
class Report:
    """What was measured."""

    requests: int = 0
    seconds: float = 0.0
    asked_pages: int = 0
    hit_pages: int = 0
    """Found, like all before them in their request."""
    gone_pages: int = 0
    """Found by the lookup and gone before the get."""
    put_pages: int = 0
    refused_pages: int = 0
    """Puts that were not stored."""
    evicted_pages: int = 0
    """Stored by this run and missing in a later lookup, each time that happened."""
    got_bytes: int = 0
    put_bytes: int = 0
    late_s: list[float] = field(default_factory=list)
    """How long after its time each request began."""
    lookup_s: list[float] = field(default_factory=list)
    get_s: list[float] = field(default_factory=list)
    put_s: list[float] = field(default_factory=list)
    lru_share: float = 0.0
    """What LRU of one line would find at the same budget, each request done before the next one begins; without a budget, what a
    cache finds that never runs full."""
    raw_bytes_per_second: float = 0.0
    """Of the machine: a warm file, in pages, from another process over a socket."""
    get_rate_min: float = 0.0
    """GB/s of gets to reach; 0: none."""

    def rows(self, trace: str) -> list[Row]:
        """As benches report."""
        about = {"trace": trace, "requests": self.requests, "seconds": round(self.seconds, 2)}
        counts = {
            **about,
            "asked_pages": self.asked_pages,
            "hit_pages": self.hit_pages,
            "gone_pages": self.gone_pages,
            "put_pages": self.put_pages,
            "refused_pages": self.refused_pages,
        }
        seconds = max(self.seconds, 1e-9)
        raw = Spread.of([self.raw_bytes_per_second / 1e9])
        found = self.hit_pages / max(self.asked_pages, 1)
        lru = Spread.of([self.lru_share])
        gets, puts = self.got_bytes / seconds / 1e9, self.put_bytes / seconds / 1e9
        rows = [
            Row("kv-replay", f"{trace}: share of pages found", "share", _one(found), "by LRU, one by one", lru, extra=counts),
            Row(
                "kv-replay", f"{trace}: gets", "GB/s", _one(gets), "GB/s raw sendfile, recv_into", raw,
                must_value=self.get_rate_min or None, extra=about,
            ),
            Row("kv-replay", f"{trace}: puts", "GB/s", _one(puts), extra=about),
            Row("kv-replay", f"{trace}: evictions", "pages/s", _one(self.evicted_pages / seconds), extra=about),
        ]  # fmt: skip
        for name, times in (
            ("lookup of a request's pages", self.lookup_s),
            (f"get of up to {CALL_PAGES} pages", self.get_s),
            (f"put of up to {CALL_PAGES} pages", self.put_s),
            ("request begun late by", self.late_s),
        ):
            if times:
                percentiles = {f"p{share}": _percentile(times, share / 100) * 1e3 for share in (50, 90, 99)}
                spread = Spread(percentiles["p50"], min(times) * 1e3, max(times) * 1e3, len(times))
                rows.append(
                    Row("kv-replay", f"{trace}: {name}", "ms", spread, lower_is_better=True, extra={**about, **percentiles})
                )
        return rows


async def replay_online(url: str, load: Load, directory: Path) -> Report:
    """Replay in a namespace of its own, which is deleted at the end. `directory`: for the file of the raw limit."""
    report = Report(get_rate_min=load.get_rate_min)
    name = f"replay@{os.urandom(6).hex()}"
    budget = {"budget_bytes": load.budget_bytes} if load.budget_bytes else {}
    async with await KVCache.open(
        url,
        namespace=name,
        page_bytes=load.page_bytes,
        replicas=load.replicas,
        timeout=TIMEOUT_S,
        transport=load.transport,
        **budget,
    ) as cache:
        try:
            replaying = _Replay(cache, load, report)
            if load.gets_only:
                await replaying.store()
            await replaying.run()
        finally:
            await KVCache.delete_namespace(url, name)
    report.lru_share = _share_of_lru(load)
    total = min(256, max(16, (1 << 28) // load.page_bytes)) * load.page_bytes
    is_local = load.transport in ("auto", "local")
    report.raw_bytes_per_second = await asyncio.to_thread(
        lambda: limits.sendfile_to_recv_into(directory, load.page_bytes, total, is_local=is_local)
    )
    return report


class _Replay:
    def __init__(self, cache: KVCache, load: Load, report: Report) -> None:
        self._cache = cache
        self._load = load
        self._report = report
        self._body = memoryview(os.urandom(load.page_bytes - PAGE_BYTES_MIN))
        self._stored: set[bytes] = set()
        self._waiting: asyncio.Queue[Request | None] = asyncio.Queue(maxsize=1)

    async def store(self) -> None:
        """The pages that are asked for most, those last: where chance gives a target more than its share, the others go first.
        RuntimeError when one is not stored."""
        load = self._load
        asked = Counter(page for request in load.requests for page in split_blocks(request, load.pages_per_block))
        room = load.budget_bytes * 9 // 10 // (load.page_bytes + _STAMP_BYTES + page_header_bytes) if load.budget_bytes else None
        wanted = [_key(page) for page, _ in reversed(asked.most_common(room))]
        for at in range(0, len(wanted), CALL_PAGES):
            keys = wanted[at : at + CALL_PAGES]
            statuses = await self._cache.put_from(keys, [[key, self._body, key] for key in keys])
            if not all(status.ok for status in statuses):
                raise RuntimeError(f"pages were not stored: {set(statuses)}")

    async def run(self) -> None:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.workers):
                group.create_task(self._work(began))
            for request in self._load.requests:
                if self._load.is_paced:
                    await asyncio.sleep(max(0.0, began + request.timestamp_ms / 1000 - time.perf_counter()))
                await self._waiting.put(request)
            for _ in range(self._load.workers):
                await self._waiting.put(None)
        self._report.seconds = time.perf_counter() - began

    async def _work(self, began: float) -> None:
        buffers = [memoryview(bytearray(self._load.page_bytes)) for _ in range(CALL_PAGES)]
        while (request := await self._waiting.get()) is not None:
            if self._load.is_paced:
                self._report.late_s.append(max(0.0, time.perf_counter() - began - request.timestamp_ms / 1000))
            await self._serve(request, buffers)
            self._report.requests += 1

    async def _serve(self, request: Request, buffers: list[memoryview]) -> None:
        report = self._report
        keys = [_key(page) for page in split_blocks(request, self._load.pages_per_block)]
        if not keys:
            return
        begin = time.perf_counter()
        found = await self._cache.lookup(keys)
        report.lookup_s.append(time.perf_counter() - begin)
        report.asked_pages += len(keys)
        report.hit_pages += found.hits
        for key, status in zip(keys, found.statuses, strict=True):
            if status is Status.MISS and key in self._stored:
                self._stored.discard(key)
                report.evicted_pages += 1
        for at in range(0, found.hits, CALL_PAGES):
            await self._get(keys[at : min(at + CALL_PAGES, found.hits)], buffers)
        for at in range(found.hits, len(keys), CALL_PAGES) if not self._load.gets_only else ():
            await self._put(keys[at : at + CALL_PAGES])

    async def _get(self, keys: list[bytes], buffers: list[memoryview]) -> None:
        begin = time.perf_counter()
        statuses = await self._cache.get_into(keys, buffers[: len(keys)])
        self._report.get_s.append(time.perf_counter() - begin)
        for key, buffer, status in zip(keys, buffers, statuses, strict=False):
            if not status.ok:
                self._report.gone_pages += 1
            elif buffer[:_STAMP_BYTES] != key or buffer[-_STAMP_BYTES:] != key:
                raise RuntimeError(f"page {key.hex()} came back with other bytes")
            else:
                self._report.got_bytes += self._load.page_bytes

    async def _put(self, keys: list[bytes]) -> None:
        begin = time.perf_counter()
        statuses = await self._cache.put_from(keys, [[key, self._body, key] for key in keys])
        self._report.put_s.append(time.perf_counter() - begin)
        for key, status in zip(keys, statuses, strict=True):
            if status.ok:
                self._stored.add(key)
            else:
                self._report.refused_pages += 1
            if status is Status.OK:
                self._report.put_pages += 1
                self._report.put_bytes += self._load.page_bytes


def _key(page: int) -> bytes:
    return page.to_bytes(_STAMP_BYTES, "little")


def _share_of_lru(load: Load) -> float:
    pages = load.budget_bytes // (load.page_bytes + _STAMP_BYTES + page_header_bytes)
    policy: Policy = LRU(max(pages, 1)) if load.budget_bytes else Infinite()
    split = [replace(each, blocks=tuple(split_blocks(each, load.pages_per_block))) for each in load.requests]
    return replay(split, policy).hit_rate


def _one(figure: float) -> Spread:
    return Spread.of([figure])


def _percentile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

"""Reads of 4 KiB beside sixteen readers of 4 MiB calls of the same client: how long the slow ones take.

The small ones come one at a time, five milliseconds after each other: they take little from the bulk readers, and find caches as
cold as such reads do. Alone and beside are measured in turn; so are bulk reads with the small ones and without. All is warm, and
verified.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context
    from fs3.api.client import Client, File

MIB = 1 << 20
FILE_BYTES = 128 * MIB
BULK_READERS = 16
BULK_BYTES = 4 * MIB
SMALL_BYTES = 4096
SMALL_SPACE = 4 * MIB
"""The part of the file that small reads are spread over."""
SMALL_READS = 500
SMALL_PAUSE_S = 0.005
BULK_SECONDS = 1.0
"""How long bulk reads are measured by themselves."""
TRANSPORTS = ("tcp", "local")


def measure(context: Context) -> list[Row]:
    """The rows of each transport."""
    return [row for transport in TRANSPORTS for row in run(_measure(context, transport))]


async def _measure(context: Context, transport: str) -> list[Row]:
    async with await connect(context.cluster.url, transport=transport) as client:
        file = await _prepare(client, context.sized(FILE_BYTES, 4 * BULK_BYTES))
        reads = context.sized(SMALL_READS, 50)
        ratios, alone, beside, rates, by_itself = [], [], [], [], []
        for _ in context.turns():
            by_itself.append(await _bulk_rate(client, file, BULK_SECONDS * context.scale) / 1e9)
            alone.append(_percentile(await _small_reads(client, file, reads)))
            async with _BulkReaders(client, file) as bulk:
                times = await _small_reads(client, file, reads)
            beside.append(_percentile(times))
            ratios.append(beside[-1] / alone[-1])
            rates.append(bulk.rate / 1e9)
        await client.close(file)
    by_itself_rate = Spread.of(by_itself)
    note = f"p99 alone {Spread.of(alone).median:.0f} µs, beside {Spread.of(beside).median:.0f} µs"
    what = f"{transport}: p99 of a 4 KiB read beside {BULK_READERS} bulk readers"
    return [
        Row("mixed", what, "times its p99 alone", Spread.of(ratios), must_value=3.0, lower_is_better=True, note=note),
        Row(
            "mixed", f"{transport}: bulk reads beside a reader of 4 KiB", "GB/s", Spread.of(rates), "GB/s without it",
            by_itself_rate,
        ),
    ]  # fmt: skip


async def _prepare(client: Client, file_bytes: int) -> File:
    file = await client.open("/bench-mixed", "w")
    block = os.urandom(BULK_BYTES)
    for offset in range(0, file_bytes, len(block)):
        await client.pwrite(file, block, offset)
    await client.close(file)
    file = await client.open("/bench-mixed", "r")
    await _bulk_rate(client, file, 0.5)
    await _small_reads(client, file, 2 * SMALL_SPACE // SMALL_BYTES, 0)  # every piece is verified at the nodes once
    return file


def _percentile(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100] * 1e6


async def _small_reads(client: Client, file: File, count: int, pause_s: float = SMALL_PAUSE_S) -> list[float]:
    """Seconds that each took."""
    buffer = memoryview(bytearray(SMALL_BYTES))
    times = []
    for _ in range(count):
        offset = random.randrange(min(file.length, SMALL_SPACE) // SMALL_BYTES) * SMALL_BYTES
        await asyncio.sleep(pause_s)
        began = time.perf_counter()
        await client.pread_into(file, buffer, offset)
        times.append(time.perf_counter() - began)
    return times


async def _bulk_rate(client: Client, file: File, seconds: float) -> float:
    async with _BulkReaders(client, file) as bulk:
        await asyncio.sleep(seconds)
    return bulk.rate


class _BulkReaders:
    """Sixteen callers that read all the time."""

    def __init__(self, client: Client, file: File) -> None:
        self._client = client
        self._file = file
        self._tasks: list[asyncio.Task[None]] = []
        self._bytes = 0
        self._began = 0.0
        self.rate = 0.0
        """Bytes/s, of their whole time."""

    async def __aenter__(self) -> _BulkReaders:
        self._tasks = [asyncio.create_task(self._read(slot)) for slot in range(BULK_READERS)]
        await asyncio.sleep(0.05)
        self._bytes, self._began = 0, time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.rate = self._bytes / (time.perf_counter() - self._began)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _read(self, slot: int) -> None:
        buffer = memoryview(mmap.mmap(-1, BULK_BYTES))
        pieces = self._file.length // BULK_BYTES
        place = slot
        while True:
            await self._client.pread_into(self._file, buffer, place % pieces * BULK_BYTES)
            self._bytes += BULK_BYTES
            place += 7

"""Durable writes of 4 MiB and of 4 KiB on three replicas, beside a raw chain of processes that sync files."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context
    from fs3.api.client import Client

MIB = 1 << 20
WRITE_BYTES = 4 * MIB
FIGURES = ((WRITE_BYTES, 1, 24, 0.6), (WRITE_BYTES, 4, 48, 0.9), (4096, 1, 300, 0.5))
"""Bytes of a write, writes under way, writes, share of the raw chain to reach."""


def measure(context: Context) -> list[Row]:
    """The write rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    rows = []
    async with await connect(context.cluster.url, transport="tcp") as client:
        await _write(client, WRITE_BYTES, 4, 4)  # the first writes make files and connections
        for size, ahead, writes, must in FIGURES:
            writes = context.sized(writes, 2 * ahead)
            values, raws = [], []
            for _ in context.turns():
                values.append(await _write(client, size, writes, ahead))
                raws.append(limits.raw_chain(context.directory, size, writes, ahead))
            if size < MIB:
                what, unit = f"{size // 1024} KiB", "writes/s"
                values, raws = [value / size for value in values], [raw / size for raw in raws]
            else:
                what, unit = f"{size // MIB} MiB", "GB/s"
                values, raws = [value / 1e9 for value in values], [raw / 1e9 for raw in raws]
            rows.append(
                Row(
                    "write", f"{what}, 3 replicas, durable, {ahead} under way", unit, Spread.of(values),
                    f"{unit.removeprefix('writes')} raw chain", Spread.of(raws), must_ratio=must,
                    note="the raw chain forwards at once and syncs once a hop",
                )
            )  # fmt: skip
    return rows


async def _write(client: Client, size: int, count: int, ahead: int) -> float:
    """Bytes/s of user data; every write is acknowledged before it counts."""
    file = await client.open("/bench-write", "w")
    data = memoryview(os.urandom(size))
    turns = asyncio.Semaphore(ahead)

    async def one(index: int) -> None:
        async with turns:
            await client.pwrite(file, data, index * size)

    began = time.perf_counter()
    await asyncio.gather(*(one(index) for index in range(count)))
    elapsed = time.perf_counter() - began
    await client.close(file)
    await client.unlink("/bench-write")
    return count * size / elapsed

"""Durable writes of 4 MiB on three replicas, beside a raw chain of three processes with sockets and fdatasync'ed files."""

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
WRITES = 48


def measure(context: Context) -> list[Row]:
    """The write rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    rows = []
    async with await connect(context.cluster.url, transport="tcp") as client:
        await _write(client, 4, 4)  # the first writes make files and connections
        for ahead in (1, 4):
            values, raws = [], []
            for _ in range(context.runs):
                values.append(await _write(client, WRITES, ahead) / 1e9)
                raws.append(limits.raw_chain(context.directory, WRITE_BYTES, WRITES, ahead) / 1e9)
            rows.append(
                Row(
                    "write", f"4 MiB, 3 replicas, durable, {ahead} under way", "GB/s", Spread.of(values),
                    "GB/s raw chain", Spread.of(raws), must_ratio=0.40,
                )
            )  # fmt: skip
    return rows


async def _write(client: Client, count: int, ahead: int) -> float:
    """Bytes/s of user data; every write is acknowledged before it counts."""
    file = await client.open("/bench-write", "w")
    data = memoryview(os.urandom(WRITE_BYTES))
    turns = asyncio.Semaphore(ahead)

    async def one(index: int) -> None:
        async with turns:
            await client.pwrite(file, data, index * WRITE_BYTES)

    began = time.perf_counter()
    await asyncio.gather(*(one(index) for index in range(count)))
    elapsed = time.perf_counter() - began
    await client.close(file)
    await client.unlink("/bench-write")
    return count * WRITE_BYTES / elapsed

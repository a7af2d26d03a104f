"""Reads by one client process over TCP: sequential in large calls, random 4 KiB one at a time and 64 a call. All verified."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import time
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context
    from fs3.api.client import Client, File

MIB = 1 << 20
FILE_BYTES = 256 * MIB
SEQUENTIAL_BYTES = 1024 * MIB
AHEAD = 2
"""Calls under way at once in the sequential reads, in fs3 and in the raw limit: what a read-ahead of one call does."""
RANDOM_BYTES = 64 * MIB
"""The part of the file random reads are spread over."""
RANDOM_READS = 4000
BATCH = 64
BATCHES = 150


def measure(context: Context) -> list[Row]:
    """The read rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    rows = []
    async with await connect(context.cluster.url, transport="tcp") as client:
        file = await _prepare(client)
        for size in (MIB, 4 * MIB):
            values, raws = [], []
            for _ in range(context.runs):
                values.append(await _sequential(client, file, size) / 1e9)
                raws.append(limits.sendfile_to_recv_into(context.directory, size, SEQUENTIAL_BYTES, AHEAD) / 1e9)
            rows.append(
                Row(
                    "read", f"sequential, {size // MIB} MiB a call", "GB/s", Spread.of(values),
                    "GB/s raw sendfile to recv_into", Spread.of(raws), must_ratio=0.70,
                    note=f"warm, checksums verified, {AHEAD} calls under way",
                )
            )  # fmt: skip
        raw_file = context.directory / "random.bin"
        raw_file.write_bytes(os.urandom(RANDOM_BYTES))
        singles, batches, bare, echoes = [], [], [], []
        for _ in range(context.runs):
            await _warm(client, file)
            singles.append(await _random_single(client, file))
            await _warm(client, file)
            batches.append(await _random_batch(client, file))
            bare.append(limits.preadv_random(raw_file, 4096, 50_000))
            echoes.append(limits.echo(4096, 10_000))
        raw_file.unlink()
        rows.append(
            Row(
                "read", "random 4 KiB, one at a time", "reads/s", Spread.of(singles), "/s raw 4 KiB echo", Spread.of(echoes),
                must_value=12_000,
            )
        )  # fmt: skip
        rows.append(
            Row(
                "read", f"random 4 KiB, {BATCH} a call", "reads/s", Spread.of(batches), "/s bare preadv", Spread.of(bare),
                must_ratio=0.3, must_value=120_000,
            )
        )  # fmt: skip
        await client.close(file)
    return rows


async def _prepare(client: Client) -> File:
    file = await client.open("/bench-read", "w")
    block = os.urandom(8 * MIB)
    for offset in range(0, FILE_BYTES, len(block)):
        await client.pwrite(file, block, offset)
    await client.close(file)
    file = await client.open("/bench-read", "r")
    await _sequential(client, file, 4 * MIB)  # warm
    return file


async def _sequential(client: Client, file: File, size: int) -> float:
    """Bytes/s."""
    buffers = [memoryview(mmap.mmap(-1, size)) for _ in range(AHEAD)]
    count = SEQUENTIAL_BYTES // size
    per_file = FILE_BYTES // size
    waiting: list[asyncio.Future[int]] = []
    began = time.perf_counter()
    for index in range(count):
        if len(waiting) == AHEAD:
            await waiting.pop(0)
        read = client.pread_into(file, buffers[index % AHEAD], index % per_file * size)
        waiting.append(asyncio.ensure_future(read))
    for each in waiting:
        await each
    return count * size / (time.perf_counter() - began)


async def _warm(client: Client, file: File) -> None:
    """Every page in the cache of the replica this client prefers, and every block looked at once.

    Before each measurement, because some machines take idle pages out of the cache within minutes; the raw limits read files
    that were just written.
    """
    large = memoryview(bytearray(128 << 10))
    for offset in range(0, RANDOM_BYTES, len(large)):
        await client.pread_into(file, large, offset)
    block = 64 << 10
    buffers = [memoryview(bytearray(4096)) for _ in range(BATCH)]
    for first in range(0, RANDOM_BYTES, BATCH * block):
        await client.preadv_many([(file, first + index * block, buffer) for index, buffer in enumerate(buffers)])


async def _random_single(client: Client, file: File) -> float:
    buffer = memoryview(bytearray(4096))
    offsets = [random.randrange(RANDOM_BYTES // 4096) * 4096 for _ in range(RANDOM_READS)]
    began = time.perf_counter()
    for offset in offsets:
        await client.pread_into(file, buffer, offset)
    return RANDOM_READS / (time.perf_counter() - began)


async def _random_batch(client: Client, file: File) -> float:
    space = memoryview(bytearray(BATCH * 4096))
    buffers = [space[index * 4096 : (index + 1) * 4096] for index in range(BATCH)]
    calls = [[(file, random.randrange(RANDOM_BYTES // 4096) * 4096, buffer) for buffer in buffers] for _ in range(BATCHES)]
    began = time.perf_counter()
    for call in calls:
        await client.preadv_many(call)
    return BATCH * BATCHES / (time.perf_counter() - began)

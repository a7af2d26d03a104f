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
MUST_SEQUENTIAL = {MIB: 0.95, 4 * MIB: 0.95}
"""Bytes of a call -> share of the raw limit."""
MUST_BATCHED = {1: 200_000, 2: 300_000}
"""Calls under way -> reads/s."""


def measure(context: Context) -> list[Row]:
    """The read rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    rows = []
    async with await connect(context.cluster.url, transport="tcp") as client:
        file_bytes, random_bytes = context.sized(FILE_BYTES, 16 * MIB), context.sized(RANDOM_BYTES, 4 * MIB)
        file = await prepare_file(client, file_bytes)
        total = context.sized(SEQUENTIAL_BYTES, 16 * MIB)
        for size in (MIB, 4 * MIB):
            values, raws = [], []
            for _ in context.turns():
                values.append(await _sequential(client, file, file_bytes, size, total) / 1e9)
                raws.append(limits.sendfile_to_recv_into(context.directory, size, total, AHEAD) / 1e9)
            rows.append(
                Row(
                    "read", f"sequential, {size // MIB} MiB a call", "GB/s", Spread.of(values),
                    "GB/s raw sendfile to recv_into", Spread.of(raws), must_ratio=MUST_SEQUENTIAL[size],
                    note=f"warm, checksums verified, {AHEAD} calls under way",
                )
            )  # fmt: skip
        raw_file = context.directory / "random.bin"
        raw_file.write_bytes(os.urandom(random_bytes))
        reads, calls = context.sized(RANDOM_READS, 20), context.sized(BATCHES, 4)
        singles, bare, echoes = [], [], []
        batched: dict[int, list[float]] = {ahead: [] for ahead in MUST_BATCHED}
        for _ in context.turns():
            await warm(client, file, random_bytes)
            singles.append(await read_at_random(client, file, random_bytes, reads))
            for ahead, values in batched.items():
                await warm(client, file, random_bytes)
                values.append(await read_batches(client, file, random_bytes, calls, ahead))
            bare.append(limits.preadv_random(raw_file, 4096, context.sized(50_000, 100)))
            echoes.append(limits.echo(4096, context.sized(10_000, 20)))
        raw_file.unlink()
        rows.append(
            Row(
                "read", "random 4 KiB, one at a time", "reads/s", Spread.of(singles), "/s raw 4 KiB echo", Spread.of(echoes),
                must_ratio=0.55, note="without spinning",
            )
        )  # fmt: skip
        for ahead, values in batched.items():
            what = f"random 4 KiB, {BATCH} a call" + (f", {ahead} calls under way" if ahead > 1 else "")
            limit = Spread.of(bare)
            rows.append(Row("read", what, "reads/s", Spread.of(values), "/s bare preadv", limit, must_value=MUST_BATCHED[ahead]))
        await client.close(file)
    return rows


async def prepare_file(client: Client, file_bytes: int) -> File:
    """The file that is read, open and read once."""
    file = await client.open("/bench-read", "w")
    block = os.urandom(8 * MIB)
    for offset in range(0, file_bytes, len(block)):
        await client.pwrite(file, block, offset)
    await client.close(file)
    file = await client.open("/bench-read", "r")
    await _sequential(client, file, file_bytes, 4 * MIB, file_bytes)  # warm
    return file


async def _sequential(client: Client, file: File, file_bytes: int, size: int, total: int) -> float:
    """Bytes/s of `total` bytes, `size` a call, from the beginning of the file again after its end."""
    buffers = [memoryview(mmap.mmap(-1, size)) for _ in range(AHEAD)]
    count = total // size
    per_file = file_bytes // size
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


async def warm(client: Client, file: File, random_bytes: int) -> None:
    """Every page in the cache of the replica this client prefers, and every block looked at once.

    Before each measurement, because some machines take idle pages out of the cache within minutes; the raw limits read files
    that were just written.
    """
    large = memoryview(bytearray(128 << 10))
    for offset in range(0, random_bytes, len(large)):
        await client.pread_into(file, large, offset)
    block = 64 << 10
    buffers = [memoryview(bytearray(4096)) for _ in range(BATCH)]
    for first in range(0, random_bytes, BATCH * block):
        await client.preadv_many([(file, first + index * block, buffer) for index, buffer in enumerate(buffers)])


async def read_at_random(client: Client, file: File, random_bytes: int, reads: int) -> float:
    """Reads/s of 4 KiB, one at a time."""
    buffer = memoryview(bytearray(4096))
    offsets = [random.randrange(random_bytes // 4096) * 4096 for _ in range(reads)]
    began = time.perf_counter()
    for offset in offsets:
        await client.pread_into(file, buffer, offset)
    return reads / (time.perf_counter() - began)


async def read_batches(client: Client, file: File, random_bytes: int, calls: int, ahead: int) -> float:
    """Reads/s by so many callers, each with one call under way."""

    async def caller(planned: list[list[tuple[File, int, memoryview]]]) -> None:
        for call in planned:
            await client.preadv_many(call)

    callers = []
    for _ in range(ahead):
        space = memoryview(bytearray(BATCH * 4096))
        buffers = [space[index * 4096 : (index + 1) * 4096] for index in range(BATCH)]
        callers.append(
            [[(file, random.randrange(random_bytes // 4096) * 4096, buffer) for buffer in buffers] for _ in range(calls)]
        )
    began = time.perf_counter()
    await asyncio.gather(*(caller(planned) for planned in callers))
    return ahead * calls * BATCH / (time.perf_counter() - began)

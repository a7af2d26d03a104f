"""Metadata through one meta process on the framed wire: 64 callers, one caller, one batch of a thousand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect

if TYPE_CHECKING:
    from benches.run import Context
    from fs3.api.client import Client

CALLERS = 64
OPERATIONS = 6400
SINGLE_OPERATIONS = 3000
BATCH = 1000
FILES = 1000


def measure(context: Context) -> list[Row]:
    """The metadata rows."""
    return run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    stats, creates, single, batch, echoes, commits = [], [], [], [], [], []
    async with await connect(context.cluster.url, transport="tcp") as client:
        await client.makedirs("/bench-meta/files")
        paths = [f"/bench-meta/files/{index:06}" for index in range(FILES)]
        await _spread(CALLERS, FILES, lambda index: _create(client, paths[index]))
        for run in range(context.runs):
            stats.append(await _spread(CALLERS, OPERATIONS, lambda index: client.stat(paths[index % FILES])))
            where = f"/bench-meta/run-{run}"
            await client.mkdir(where)
            creates.append(await _spread(CALLERS, OPERATIONS, lambda index, where=where: _create(client, f"{where}/{index}")))
            single.append(await _spread(1, SINGLE_OPERATIONS, lambda index: client.stat(paths[index % FILES])))
            began = time.perf_counter()
            for _ in range(10):
                await client.batch_stat(paths[:BATCH])
            batch.append(10 * BATCH / (time.perf_counter() - began))
            echoes.append(limits.echo(64, 20_000))
            commits.append(limits.synced_commits(context.directory, 2000))
        await client.rmtree("/bench-meta")
    echo, commit = Spread.of(echoes), Spread.of(commits)
    return [
        Row("meta", f"stat, {CALLERS} callers", "/s", Spread.of(stats), "/s raw 64 B echo", echo, must_value=20_000),
        Row("meta", f"durable create, {CALLERS} callers", "/s", Spread.of(creates), "/s LMDB commit", commit, must_value=8_000),
        Row("meta", "stat, one caller", "/s", Spread.of(single), "/s raw 64 B echo", echo, must_value=6_000),
        Row("meta", f"stat, {BATCH} in one call", "/s", Spread.of(batch), "/s raw 64 B echo", echo, must_value=40_000),
    ]  # fmt: skip


async def _create(client: Client, path: str) -> None:
    """One durable create in one round trip: the directory entry, the inode and the write session are on disk."""
    await client.open(path, "x")


async def _spread(callers: int, count: int, operation: Callable[[int], Awaitable[object]]) -> float:
    """Operations/s of so many callers, each one at a time."""

    async def caller(first: int) -> None:
        for index in range(first, count, callers):
            await operation(index)

    began = time.perf_counter()
    await asyncio.gather(*(caller(first) for first in range(callers)))
    return count / (time.perf_counter() - began)

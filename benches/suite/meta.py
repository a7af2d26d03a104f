"""Metadata through one meta process on the framed wire: 64 callers, one, one through fsspec, a thousand in a call."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import fsspec

from benches import limits
from benches.callers import create_durably, operations_per_second
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect
from fs3.api.url import SCHEME

if TYPE_CHECKING:
    from benches.run import Context

CALLERS = 64
OPERATIONS = 6400
SINGLE_STATS = 3000
SINGLE_CREATES = 600
BATCH = 1000
FILES = 1000
TOP = "/bench-meta"
MUST = {
    f"stat, {CALLERS} callers": 60_000,
    f"durable create, {CALLERS} callers": 30_000,
    "stat, one caller": 14_000,
    "durable create, one caller": 2500,
    "stat, one caller, fsspec": 14_000,
    "durable create, one caller, fsspec": 2500,
    f"stat, {BATCH} in one call": 40_000,
}
"""Figure -> operations/s to reach."""

Figures = dict[str, list[float]]


def measure(context: Context) -> list[Row]:
    """The metadata rows."""
    figures: Figures = {figure: [] for figure in MUST}
    echoes: list[float] = []
    commits: list[float] = []
    run(_make(context))
    fs = fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)
    for turn in context.turns():
        run(_measure(context, turn, figures))
        top = f"{TOP}/fsspec-{turn}"
        fs.makedirs(top)
        stats, creates = context.sized(SINGLE_STATS, 20), context.sized(SINGLE_CREATES, 20)
        paths = [_path(index % FILES) for index in range(stats)]
        figures["stat, one caller, fsspec"].append(_in_turn(fs.info, paths))
        figures["durable create, one caller, fsspec"].append(_in_turn(fs.touch, [f"{top}/{index}" for index in range(creates)]))
        echoes.append(limits.echo(64, context.sized(20_000, 20)))
        commits.append(limits.synced_commits(context.directory, context.sized(2000, 20)))
    fs.rm(TOP, recursive=True)
    fs.close()
    echo, commit = Spread.of(echoes), Spread.of(commits)
    rows = []
    for figure, values in figures.items():
        limit_name, limit = ("/s LMDB commit", commit) if "create" in figure else ("/s raw 64 B echo", echo)
        rows.append(Row("meta", figure, "/s", Spread.of(values), limit_name, limit, must_value=MUST[figure]))
    return rows


def _path(index: int) -> str:
    return f"{TOP}/files/{index:06}"


def _in_turn(operation: Callable[[str], object], paths: list[str]) -> float:
    """Operations/s of one caller."""
    began = time.perf_counter()
    for path in paths:
        operation(path)
    return len(paths) / (time.perf_counter() - began)


async def _make(context: Context) -> None:
    async with await connect(context.cluster.url, transport="tcp") as client:
        await client.makedirs(f"{TOP}/files")
        await operations_per_second(CALLERS, FILES, lambda index: create_durably(client, _path(index)))


async def _measure(context: Context, turn: int, figures: Figures) -> None:
    """One figure of each kind, over the native client."""
    many, stats, creates = (context.sized(count, CALLERS) for count in (OPERATIONS, SINGLE_STATS, SINGLE_CREATES))
    batched = [_path(index) for index in range(BATCH)]
    top = f"{TOP}/run-{turn}"
    async with await connect(context.cluster.url, transport="tcp") as client:
        await client.mkdir(top)
        await operations_per_second(CALLERS, FILES // 2, lambda index: client.stat(_path(index)))  # connects

        def stat(index: int) -> Awaitable[object]:
            return client.stat(_path(index % FILES))

        figures[f"stat, {CALLERS} callers"].append(await operations_per_second(CALLERS, many, stat))
        created = await operations_per_second(CALLERS, many, lambda index: create_durably(client, f"{top}/{index}"))
        figures[f"durable create, {CALLERS} callers"].append(created)
        figures["stat, one caller"].append(await operations_per_second(1, stats, stat))
        created = await operations_per_second(1, creates, lambda index: create_durably(client, f"{top}/single-{index}"))
        figures["durable create, one caller"].append(created)
        began = time.perf_counter()
        for _ in range(10):
            await client.batch_stat(batched)
        figures[f"stat, {BATCH} in one call"].append(10 * BATCH / (time.perf_counter() - began))

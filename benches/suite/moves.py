"""Nodes that leave and come: how fast a node is drained beside a raw copy, what clients notice, how even it is afterwards.

A drain moves every replica of one of four storage processes to the others. The raw limit is two processes that take blocks from a
socket and make them durable, without a protocol. What clients notice is measured in pairs: the rate of reads and of writes alone
and beside the drain of a throttled cluster (one move from and to a node at a time). A sixth node is added to five that are
filled.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from benches import limits
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.units import KIB, MIB
from fs3.cli.local import LocalCluster
from fs3.drill.roles import wait_healthy
from fs3.model.moves import MoveAction, MoveOverview, PlanMoves, SetMoves

if TYPE_CHECKING:
    from benches.run import Context

FILE_BYTES = 8 * MIB
DRAINED_FILES = 96
"""768 MiB, of which a node of four has three quarters."""
ADDED_FILES = 60
BLOCK = 1 * MIB
FOREGROUND_SECONDS = 4.0
READ_BYTES, WRITE_BYTES = 64 * KIB, 64 * KIB
DRAIN_MIN, FOREGROUND_MIN = 0.6, 0.7
SPACE_MAX, MOVED_MAX = 1.05, 1.1
_POLL_SECONDS = 0.1

_numbers = itertools.count(1)


class BenchFailed(RuntimeError):
    """A move that does not end."""


def measure(context: Context) -> list[Row]:
    """The rows of moves."""
    return [*_drained(context), *_added(context)]


def _url(cluster: LocalCluster) -> str:
    return "fs3://" + ",".join(cluster.addresses)


async def _fill(client: Client, first: int, count: int) -> None:
    data = os.urandom(FILE_BYTES)
    for number in range(first, first + count):
        file = await client.open(f"/bench-moves-{number}", "w")
        await client.pwrite(file, data)
        await client.close(file)


async def _plan(client: Client, action: MoveAction, node: str = "", *, is_dry_run: bool = False) -> MoveOverview:
    return await client.manager.plan_moves(PlanMoves(action, node, is_dry_run=is_dry_run))


async def _wait(client: Client) -> MoveOverview:
    """Until nothing moves and nothing is to move."""
    async with asyncio.timeout(300):
        while True:
            overview = await client.manager.list_moves()
            holds = {share.node for share in overview.shares if share.targets}
            if not overview.moves and not any(each.node in holds for each in overview.departing):
                return overview
            await asyncio.sleep(_POLL_SECONDS)


def _held(overview: MoveOverview, client: Client, name: str) -> int:
    nodes = {node.id: node.name for node in client.manager.routing.nodes.values()}
    return sum(share.used for share in overview.shares if nodes.get(share.node) == name)


# --- drain ---------------------------------------------------------------------------------------------------------------


def _drained(context: Context) -> list[Row]:
    rates, raw, reads, writes = [], [], [], []
    for _ in context.turns(3):
        directory = context.directory / f"moves-{next(_numbers)}"
        with LocalCluster(directory, storage=4, targets=4) as cluster:
            raw.append(limits.raw_chain(context.directory, BLOCK, context.sized(256, 16), streams=2, hops=1) / 1e6)
            rates.append(run(_drain_idle(context, _url(cluster))))
            ratios = run(_drain_beside(context, _url(cluster)))
            reads.append(ratios[0])
            writes.append(ratios[1])
    return [
        Row(
            "moves", "drain of a storage process of four, idle", "MB/s", Spread.of(rates), "MB/s raw copy of 2 streams, synced",
            Spread.of(raw), must_ratio=DRAIN_MIN,
        ),
        Row(
            "moves", f"reads of {READ_BYTES // KIB} KiB beside a throttled drain", "of without", Spread.of(reads),
            must_value=FOREGROUND_MIN,
        ),
        Row(
            "moves", f"writes of {WRITE_BYTES // KIB} KiB beside a throttled drain", "of without", Spread.of(writes),
            must_value=FOREGROUND_MIN,
        ),
    ]  # fmt: skip


async def _drain_idle(context: Context, url: str) -> float:
    """Megabytes per second that leave a node."""
    async with await connect(url) as client:
        await _fill(client, 0, context.sized(DRAINED_FILES, 8))
        await asyncio.sleep(1.5)  # until heartbeats have told what is held
        before = _held(await client.manager.list_moves(), client, "storage-4")
        began = time.perf_counter()
        await _plan(client, MoveAction.DRAIN, "storage-4")
        await _wait(client)
        elapsed = time.perf_counter() - began
        await _plan(client, MoveAction.UNDRAIN, "storage-4")
        await _plan(client, MoveAction.REBALANCE)
        await _wait(client)
        return before / elapsed / 1e6


async def _drain_beside(context: Context, url: str) -> tuple[float, float]:
    """Rates of reads and of writes beside a drain, of those without."""
    async with await connect(url) as client:
        await client.manager.set_moves(SetMoves(per_node=1))
        read = await client.open("/bench-moves-0")
        write = await client.open("/bench-moves-written", "w")
        data, buffer = os.urandom(WRITE_BYTES), memoryview(bytearray(READ_BYTES))
        places = itertools.cycle(range(0, FILE_BYTES, READ_BYTES))
        try:

            async def read_one() -> None:
                await client.pread_into(read, buffer, next(places))

            async def write_one() -> None:
                await client.pwrite(write, data, next(places))

            seconds = FOREGROUND_SECONDS * min(1.0, context.scale * 4)
            reads, writes = await _rate(read_one, seconds), await _rate(write_one, seconds)
            await _plan(client, MoveAction.DRAIN, "storage-4")
            beside_reads = await _rate(read_one, seconds, client)
            beside_writes = await _rate(write_one, seconds, client)
            await _wait(client)
        finally:
            await client.close(read)
            await client.close(write)
        return beside_reads / reads, beside_writes / writes


async def _rate(act: Callable[[], Awaitable[object]], seconds: float, moving: Client | None = None) -> float:
    """Operations per second, one after the other. `moving`: ends earlier when nothing moves any more."""
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        await act()
        count += 1
        if moving is not None and count % 64 == 0 and not (await moving.manager.list_moves()).moves:
            break
    return count / elapsed


# --- another node ----------------------------------------------------------------------------------------------------------


def _added(context: Context) -> list[Row]:
    evenness, moved = [], []
    for _ in context.turns(2):
        with LocalCluster(context.directory / f"moves-{next(_numbers)}", storage=6, targets=6) as cluster:
            run(_leave(_url(cluster)))
            cluster.stop("storage-6")
            cluster.wipe("storage-6")
            run(_fill_five(context, _url(cluster)))
            cluster.start(only="storage-6")
            wait_healthy(cluster)
            even, share = run(_rebalance(_url(cluster)))
            evenness.append(even)
            moved.append(share)
    return [
        Row(
            "moves", "space of six nodes after a rebalance, the sixth was new", "max/mean", Spread.of(evenness),
            must_value=SPACE_MAX, lower_is_better=True,
        ),
        Row(
            "moves", "bytes moved by it", "of what has to move", Spread.of(moved), must_value=MOVED_MAX, lower_is_better=True,
        ),
    ]  # fmt: skip


async def _leave(url: str) -> None:
    async with await connect(url) as client:
        await _plan(client, MoveAction.DRAIN, "storage-6")
        await _wait(client)
        await _plan(client, MoveAction.REMOVE, "storage-6")


async def _fill_five(context: Context, url: str) -> None:
    async with await connect(url) as client:
        await _fill(client, 0, context.sized(ADDED_FILES, 12))


async def _rebalance(url: str) -> tuple[float, float]:
    """(space of the fullest node by the mean, bytes that were moved by those that had to be)."""
    async with await connect(url) as client:
        await asyncio.sleep(1.5)
        planned = await _plan(client, MoveAction.REBALANCE, is_dry_run=True)
        before = [share.used for share in planned.shares]
        mean = sum(before) / len(before)
        has_to_move = sum(used - mean for used in before if used > mean)
        await _plan(client, MoveAction.REBALANCE)
        await _wait(client)
        await asyncio.sleep(1.5)
        overview = await client.manager.list_moves()
        used = [share.used for share in overview.shares]
        gained = sum(max(0, share.used - old) for share, old in zip(overview.shares, before, strict=True))
        return max(used) * len(used) / sum(used), gained / has_to_move

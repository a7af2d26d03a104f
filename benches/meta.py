"""The metadata service alone, without a cluster around it: `python -m benches.meta [--runs 3] [--loop uvloop]`.

One service on LMDB and one client, over TCP in processes of their own and in one process over memory. Beside each figure stands
the limit: what a bare 64-byte TCP echo does, or what bare synced LMDB commits do.

A shared disk syncs ten times as fast in one second as in the next, so a figure and its limit are measured in turns, in slices of
a tenth of a second: both see the same disk. One caller's creates are one commit each and cannot beat bare commits; a run in
which they clearly do compared two different disks, and says so instead of reporting a ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from rich.console import Console

from benches import limits
from benches.record import Row, Spread, save
from benches.run import table
from fs3.base.ids import ChainId, ClientId, NodeId, TableId, TargetId
from fs3.client.connector import Connector
from fs3.client.meta.client import MetaClient
from fs3.client.routing import StaticRouting
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.memory.network import MemoryNetwork
from fs3.drivers.memory.transport import MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.inode import User
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Mkdir, Open, Stat
from fs3.model.routing import Node, Role, Routing
from fs3.ports.rpc import Transport
from fs3.services.meta import MetaConfig, MetaService

CALLERS = 64
SLICES = 10
IMPLAUSIBLE = 1.15
"""One caller's creates per bare commit beyond which a run's ratios to commits mean nothing."""
FILES = 1000
BATCH = 1000
_CONTEXT = multiprocessing.get_context("spawn")
_USER = User(1000, 1000)


class _NoChunks:
    """Storage of a namespace whose files are empty."""

    async def update(self, writes: Sequence[Any], *, timeout_ns: int = 0) -> list[Any]:
        raise AssertionError("nothing is removed here")

    async def find(self, keys: Sequence[Any], *, timeout_ns: int = 0) -> list[Any]:
        raise AssertionError("nothing is removed here")

    async def space(self, *, timeout_ns: int = 0) -> list[Any]:
        return []


def _routing(endpoint: str) -> StaticRouting:
    nodes = {
        NodeId(1): Node(NodeId(1), "meta", Role.META, (endpoint,), "", 1, True),
        NodeId(2): Node(NodeId(2), "storage-1", Role.STORAGE, ("tcp://127.0.0.1:1",), "", 1, True),
    }
    slot = (Slot(TargetId(1), NodeId(2), PublicState.SERVING),)
    chains = {ChainId(number): Chain(ChainId(number), 1, slot) for number in range(1, 13)}
    tables = {TableId(1): ChainTable(TableId(1), 1, 1, tuple(chains))}
    return StaticRouting(Routing(b"c" * 16, 1, nodes, chains, tables))


def _run(loop: str, main: Coroutine[Any, Any, Any]) -> Any:
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


async def _start(directory: Path) -> tuple[LmdbKV, MetaService]:
    clock = OsClock()
    kv = LmdbKV.open(directory, clock=clock)
    service = MetaService(kv, clock, _routing(""), _NoChunks(), MetaConfig(), os.urandom, owner=_USER)
    await service.start()
    return kv, service


def _serve(pipe: Any, directory: str, loop: str) -> None:
    async def main() -> None:
        kv, service = await _start(Path(directory))
        listener = await TcpTransport(OsClock()).serve("tcp://127.0.0.1:0", service.bindings())
        pipe.send(listener.endpoint)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await listener.close()
        await service.stop()
        await kv.close()
        counters = kv.stats
        pipe.send((counters.transactions, counters.commits, counters.rows, counters.commit_ns, time.process_time()))

    _run(loop, main())


@contextmanager
def _server(directory: Path, loop: str) -> Any:
    mine, its = _CONTEXT.Pipe()
    child = _CONTEXT.Process(target=_serve, args=(its, str(directory), loop))
    child.start()
    try:
        yield mine.recv(), mine
    finally:
        mine.send("stop")
        mine.recv()
        child.join()


class RawCommits:
    """Bare synced LMDB transactions of one 100-byte row, on an environment that is kept, and so grows as the service's does."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._env = lmdb.open(str(directory), map_size=1 << 32)
        self._next = 0

    def run(self, seconds: float) -> tuple[int, float]:
        """(commits, seconds they took)."""
        first, began = self._next, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            with self._env.begin(write=True) as txn:
                txn.put(self._next.to_bytes(8, "big"), bytes(100))
            self._next += 1
        return self._next - first, elapsed


async def _measure(client: MetaClient, run: int, seconds: float, commits: RawCommits) -> dict[str, float]:
    """Figures of one run, in operations/s, each the mean over slices that take turns with bare commits."""
    where = f"run-{run}"
    await client.ask(Mkdir(PathRef.of(where)))
    paths = [f"{where}/{index:06}" for index in range(FILES)]
    await client.batch([Open(PathRef.of(path), create=True) for path in paths])
    names = itertools.count()

    async def stat(index: int) -> int:
        await client.ask(Stat(PathRef.of(paths[index % FILES])))
        return 1

    async def create(index: int) -> int:
        path = PathRef.of(f"{where}/new-{next(names)}")
        await client.ask(Open(path, write=True, create=True, exclusive=True))
        return 1

    async def batch_stat(index: int) -> int:
        return len(await client.batch_stat(paths[:BATCH]))

    async def batch_create(index: int) -> int:
        answers = await client.batch([Open(PathRef.of(f"{where}/batch-{next(names)}"), create=True) for _ in range(BATCH)])
        assert all(isinstance(answer, OpenResult) for answer in answers), "a create failed"
        return len(answers)

    figures: dict[str, tuple[int, Callable[[int], Awaitable[int]]]] = {
        "single": (1, stat),
        "stat": (CALLERS, stat),
        "batch stat": (1, batch_stat),
        "single create": (1, create),
        "create": (CALLERS, create),
        "batch create": (1, batch_create),
    }
    counts = dict.fromkeys((*figures, "commit"), 0)
    times = dict.fromkeys(counts, 0.0)
    for _ in range(SLICES):
        for name, (callers, operation) in figures.items():
            done, took = await _slice(callers, seconds / SLICES, operation)
            counts[name] += done
            times[name] += took
            if "create" in name:
                done, took = await asyncio.to_thread(commits.run, seconds / SLICES)
                counts["commit"] += done
                times["commit"] += took
    return {name: counts[name] / times[name] for name in counts}


async def _slice(callers: int, seconds: float, operation: Callable[[int], Awaitable[int]]) -> tuple[int, float]:
    """(operations, seconds) of so many callers, each one at a time."""
    count = turn = 0
    until = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count, turn
        while time.perf_counter() < until:
            turn += 1
            done = await operation(turn)  # not `count += await …`: that reads the count before it waits, and loses others' turns
            count += done

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count, time.perf_counter() - began


def _over_tcp(directory: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    async def main(endpoint: str) -> list[dict[str, float]]:
        clock = OsClock()
        transports: list[Transport] = [TcpTransport(clock)]
        connector = Connector(transports, "")
        client = MetaClient(_routing(endpoint), connector, clock, ClientId(os.urandom(16)), _USER)
        commits = RawCommits(directory / "raw-tcp")
        found = []
        for run in range(options.runs):
            before = await asyncio.to_thread(limits.echo, 64, 10_000)
            figures = await _measure(client, run, options.seconds, commits)
            figures["echo"] = (before + await asyncio.to_thread(limits.echo, 64, 10_000)) / 2
            found.append(figures)
        await connector.close()
        return found

    with _server(directory / "tcp", options.loop) as (endpoint, _):
        figures: list[dict[str, float]] = _run(options.loop, main(endpoint))
        return figures


def _in_one_process(directory: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    async def main() -> list[dict[str, float]]:
        clock = OsClock()
        kv, service = await _start(directory / "memory")
        network = MemoryNetwork(clock)
        listener = await MemoryTransport(network).serve("memory://meta", service.bindings())
        connector = Connector([MemoryTransport(network)], "")
        client = MetaClient(_routing("memory://meta"), connector, clock, ClientId(os.urandom(16)), _USER)
        commits = RawCommits(directory / "raw-memory")
        found = []
        for run in range(options.runs):
            before = await asyncio.to_thread(limits.echo, 64, 10_000)
            figures = await _measure(client, run, options.seconds, commits)
            figures["echo"] = (before + await asyncio.to_thread(limits.echo, 64, 10_000)) / 2
            found.append(figures)
        await connector.close()
        await listener.close()
        await service.stop()
        await kv.close()
        return found

    figures: list[dict[str, float]] = _run(options.loop, main())
    return figures


def rows(where: str, found: Sequence[dict[str, float]], musts: bool) -> list[Row]:
    """The report of some runs."""
    echo = Spread.of([figures["echo"] for figures in found])
    commit = Spread.of([figures["commit"] for figures in found])
    sound = all(figures["single create"] <= IMPLAUSIBLE * figures["commit"] for figures in found)
    must = {"single": 10_000, "stat": 20_000, "create": 8_000, "batch stat": 40_000} if musts else {}
    names = {
        "single": ("stat, one caller", "raw 64 B echo"),
        "stat": (f"stat, {CALLERS} callers", "raw 64 B echo"),
        "batch stat": (f"stat, {BATCH} in one call", "raw 64 B echo"),
        "single create": ("durable create, one caller", "LMDB commit"),
        "create": (f"durable create, {CALLERS} callers", "LMDB commit"),
        "batch create": (f"durable create, {BATCH} in one call", "LMDB commit"),
    }
    return [
        Row(
            "meta-service",
            f"{where}: {text}",
            "/s",
            Spread.of([figures[key] for figures in found]),
            f"/s {against}" if sound or limit is echo else "",
            limit if sound or limit is echo else None,
            must_value=must.get(key),
            note="" if sound or limit is echo else "figure and limit saw different disks; no ratio",
            extra={} if limit is echo else {"commits_per_second": [round(figures["commit"]) for figures in found]},
        )
        for key, (text, against) in names.items()
        for limit in [commit if against == "LMDB commit" else echo]
    ]


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="benches.meta", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="measurements of each figure; the median is reported")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--directory", type=Path, default=None, help="where the store is meanwhile; its disk decides the creates")
    parser.add_argument("--save", action="store_true", help="append to benches/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fs3-bench-", dir=options.directory) as directory:
        tcp = _over_tcp(Path(directory), options)
        memory = _in_one_process(Path(directory), options)
    report = rows("TCP", tcp, True) + rows("one process", memory, False)
    console = Console()
    console.print(table(report, f"metadata service ({options.loop})"))
    for row in report:
        if row.note:
            console.print(f"[red]{row.figure}: {row.note}[/red]")
    if options.save:
        console.print(f"saved to {save(report)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

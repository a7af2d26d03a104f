"""GraySort on fs3 beside the same on local files: all of it durable on three replicas, and with one replica of what lies between.

Local files are written as they usually are, which is not durable, beside the first; beside the second they are synced as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.graysort import GraySortPlan
from benches.graysort import run as sort
from benches.loop import run
from benches.record import Row, Spread
from fs3.api.connect import connect
from fs3.api.fsspec import FS3FileSystem
from fs3.model.inode import Layout

if TYPE_CHECKING:
    from benches.run import Context

RECORDS = 10_000_000
RECORDS_MIN = 20_000
RUNS_MAX = 2
"""Each moves ten gigabytes."""
TOP = "bench-graysort"
MUST_DURABLE = 0.45
MUST_ONE_REPLICA = 0.9


def measure(context: Context) -> list[Row]:
    """The rows of GraySort."""
    records = context.sized(RECORDS, RECORDS_MIN)
    there, here = f"{context.cluster.url}{TOP}", f"file://{context.directory}/graysort"
    kept, volatile, one, synced = [], [], [], []
    for _ in context.turns(RUNS_MAX):
        kept.append(_sort(records, there, "shuffle", synced=False))
        volatile.append(_sort(records, here, "shuffle", synced=False))
        run(_make(context))  # a run removes its directories
        one.append(_sort(records, there, "shuffle-1", synced=True))
        synced.append(_sort(records, here, "shuffle", synced=True))
    run(_remove(context))
    FS3FileSystem.clear_instance_cache()  # its client would miss the cluster once that is gone
    named = f"{records // 1_000_000} M records" if records >= 1_000_000 else f"{records} records"
    return [
        Row(
            "graysort", f"{named}, 3 durable replicas", "GB/s", Spread.of(kept), "GB/s on local files, not synced",
            Spread.of(volatile), must_ratio=MUST_DURABLE, note="end to end: generate, shuffle, sort, validate; two workers",
        ),
        Row(
            "graysort", f"{named}, one replica of intermediates", "GB/s", Spread.of(one), "GB/s on local files, synced",
            Spread.of(synced), must_ratio=MUST_ONE_REPLICA, note="input and output have three replicas; two workers",
        ),
    ]  # fmt: skip


def _sort(records: int, top: str, shuffle: str, *, synced: bool) -> float:
    """GB/s of the data set, end to end."""
    plan = GraySortPlan(
        records=records,
        input_url=f"{top}/input",
        shuffle_url=f"{top}/{shuffle}",
        output_url=f"{top}/output",
        synced=synced,
    )
    report = sort(plan)
    if not report.validation.is_valid:
        raise RuntimeError(f"the result is not sorted: {report.validation.faults}")
    return report.total_gb_per_s


async def _make(context: Context) -> None:
    """A directory whose files have one replica."""
    async with await connect(context.cluster.url, transport="tcp") as client:
        table = await client.manager.ensure_table(1)
        await client.makedirs(f"/{TOP}/shuffle-1", layout=Layout(table, 0, 0), exist_ok=True)


async def _remove(context: Context) -> None:
    async with await connect(context.cluster.url, transport="tcp") as client:
        await client.rmtree(f"/{TOP}")

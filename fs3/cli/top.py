"""`fs3 top`: what every process of a cluster does now, and which operations take long."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fs3.base.errors import FS3Error
from fs3.base.units import SECOND, format_size, parse_duration
from fs3.cli import where
from fs3.cli.output import print_json, table_console
from fs3.cli.processes import ClusterProcess, ClusterProcesses
from fs3.cli.status import addresses_of
from fs3.wire.exposition import Reading, parse_text
from fs3.wire.methods import PROCESS
from fs3.wire.process import metrics_request_to_pb

_VERBS_SHOWN = 15

Labels = tuple[tuple[str, str], ...]
Counters = dict[tuple[str, Labels], float]
"""What one process says, by name and labels."""


def top(
    url: Annotated[str | None, typer.Argument(help=where.HELP, metavar="CLUSTER")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine")] = None,
    every: Annotated[str, typer.Option(help="how long rates are measured, and how often it is shown anew")] = "2s",
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable, once")] = False,
) -> None:
    """Show what every process does: processor, memory, calls, bytes, latencies. Once when it is piped, else until Ctrl-C."""
    interval_s = parse_duration(every) / SECOND
    asyncio.run(_run(addresses_of(url, data_dir), interval_s, as_json))


async def _run(addresses: Sequence[str], interval_s: float, as_json: bool) -> None:
    console = table_console()
    async with ClusterProcesses(addresses) as cluster:
        before, since = await _read(cluster), time.monotonic()
        if as_json or not console.is_terminal:
            await asyncio.sleep(interval_s)
            document = top_document(before, await _read(cluster), time.monotonic() - since)
            if as_json:
                print_json(document)
            else:
                console.print(render(document))
            return
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                await asyncio.sleep(interval_s)
                now, at = await _read(cluster), time.monotonic()
                live.update(render(top_document(before, now, at - since)), refresh=True)
                before, since = now, at


Snapshot = list[tuple[ClusterProcess, Counters | None]]
"""Every process, and what it says; None: it does not answer."""


async def _read(cluster: ClusterProcesses) -> Snapshot:
    processes = await cluster.list()
    answers = await cluster.ask(processes, PROCESS.GetMetrics, metrics_request_to_pb())
    return [
        (process, None if isinstance(answer := answers[process.name], FS3Error) else counters_of(parse_text(answer.message.text)))
        for process in processes
    ]


def counters_of(readings: Sequence[Reading]) -> Counters:
    """Readings by name and labels."""
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for each in readings}


def _sum(counters: Mapping[tuple[str, Labels], float], name: str, **wanted: str) -> float:
    return sum(value for (found, labels), value in counters.items() if found == name and wanted.items() <= dict(labels).items())


def top_document(before: Snapshot, now: Snapshot, seconds: float) -> dict[str, Any]:
    """Rates between two snapshots as plain data: one entry per process, and one per operation of all of them together."""
    former = {process.name: counters for process, counters in before if counters is not None}
    processes = []
    deltas: dict[tuple[str, Labels], float] = defaultdict(float)
    for process, counters in now:
        entry: dict[str, Any] = {"name": process.name, "role": process.role, "answers": counters is not None}
        processes.append(entry)
        if counters is None:
            continue
        base = former.get(process.name, {})
        # A process that was started again counts from 0.
        rose = {key: value - base.get(key, 0.0) if value >= base.get(key, 0.0) else value for key, value in counters.items()}
        for key, value in rose.items():
            deltas[key] += value
        entry |= {
            "cpu": _sum(rose, "process_cpu_seconds_total") / seconds,
            "memory_bytes": _sum(counters, "process_resident_memory_bytes"),
            "calls_per_second": _sum(rose, "fs3_rpc_served_seconds_count") / seconds,
            "in_flight": _sum(counters, "fs3_rpc_served_in_flight"),
            "received_bytes_per_second": _sum(rose, "fs3_rpc_served_payload_received_bytes_total") / seconds,
            "sent_bytes_per_second": _sum(rose, "fs3_rpc_served_payload_sent_bytes_total") / seconds,
            "loop_lag_ms": _mean_ms(rose, "fs3_loop_lag_seconds"),
            "loop_stalls": _sum(counters, "fs3_loop_stalls_total"),
            "disk_write_ms": _mean_ms(rose, "fs3_disk_write_seconds"),
        }
    return {"seconds": round(seconds, 2), "processes": processes, "operations": _operations(deltas, seconds)}


def _mean_ms(rose: Mapping[tuple[str, Labels], float], name: str) -> float | None:
    count = _sum(rose, f"{name}_count")
    return 1000 * _sum(rose, f"{name}_sum") / count if count else None


def _operations(rose: Mapping[tuple[str, Labels], float], seconds: float) -> list[dict[str, Any]]:
    verbs: dict[tuple[str, str], dict[str, Any]] = {}
    for (name, labels), value in rose.items():
        if not name.startswith("fs3_rpc_served_seconds_") or not value:
            continue
        found = dict(labels)
        entry = verbs.setdefault((found["service"], found["verb"]), {"calls": 0.0, "failed": 0.0, "sum": 0.0, "buckets": {}})
        if name.endswith("_count"):
            entry["calls"] += value
            entry["failed"] += value if found["code"] != "OK" else 0
        elif name.endswith("_sum"):
            entry["sum"] += value
        else:
            bound = float(found["le"])
            entry["buckets"][bound] = entry["buckets"].get(bound, 0.0) + value
    made = [
        {
            "operation": f"{service}.{verb}",
            "calls_per_second": entry["calls"] / seconds,
            "failed_per_second": entry["failed"] / seconds,
            "mean_ms": 1000 * entry["sum"] / entry["calls"],
            "p99_ms": _quantile_ms(entry["buckets"], 0.99),
        }
        for (service, verb), entry in verbs.items()
        if entry["calls"]
    ]
    return sorted(made, key=lambda each: -float(each["calls_per_second"]))


def _quantile_ms(buckets: Mapping[float, float], part: float) -> float:
    """The bound of the bucket in which so many of the calls have ended; infinite when that is the open one."""
    total = max(buckets.values(), default=0.0)
    return next((1000 * bound for bound, count in sorted(buckets.items()) if count >= part * total), 0.0)


def render(document: dict[str, Any]) -> RenderableType:
    """As tables for people."""
    table = Table(title=f"processes, over {document['seconds']:.1f} s", title_justify="left", box=None)
    for heading in ("process", "cpu", "memory", "calls/s", "under way", "in/s", "out/s", "disk ms", "loop late ms", "stalls"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for entry in document["processes"]:
        if not entry["answers"]:
            table.add_row(Text(f"{entry['name']} does not answer", style="red"))
            continue
        table.add_row(
            entry["name"], f"{100 * entry['cpu']:.0f} %", format_size(int(entry["memory_bytes"])),
            f"{entry['calls_per_second']:.0f}", f"{entry['in_flight']:.0f}", format_size(int(entry["received_bytes_per_second"])),
            format_size(int(entry["sent_bytes_per_second"])), _ms(entry["disk_write_ms"]), _ms(entry["loop_lag_ms"]),
            f"{entry['loop_stalls']:.0f}", style="yellow" if entry["cpu"] > 0.9 else "",
        )  # fmt: skip
    operations = Table(title="operations, of all processes", title_justify="left", box=None)
    for heading in ("operation", "calls/s", "not OK/s", "mean ms", "99 of 100 within ms"):
        operations.add_column(heading, justify="left" if heading == "operation" else "right")
    for each in document["operations"][:_VERBS_SHOWN]:
        operations.add_row(
            each["operation"], f"{each['calls_per_second']:.1f}", f"{each['failed_per_second']:.1f}", f"{each['mean_ms']:.2f}",
            f"{each['p99_ms']:.1f}",
        )  # fmt: skip
    return Group(table, operations) if operations.row_count else Group(table)


def _ms(found: float | None) -> str:
    return "" if found is None else f"{found:.1f}"

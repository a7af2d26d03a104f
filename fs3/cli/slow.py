"""`fs3 slow`: the slowest operations of the last hour on every process of a cluster, and what held their event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fs3.base.errors import FS3Error
from fs3.base.units import MILLISECOND, SECOND
from fs3.cli import where
from fs3.cli.output import print_json, table_console
from fs3.cli.processes import ClusterProcesses
from fs3.model.slow import SlowReport
from fs3.wire.methods import PROCESS
from fs3.wire.process import slow_from_pb, slow_request_to_pb

_FRAMES_SHOWN = 4


def slow(
    url: Annotated[str | None, typer.Argument(help=where.HELP, metavar="CLUSTER")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine, or of embedded services")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="operations to show, of all processes together")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable, everything")] = False,
) -> None:
    """Show the slowest operations of the last hour, with where their time went, and what held event loops."""
    reports, silent = asyncio.run(_ask(where.process_addresses_of(url if data_dir is None else f"{data_dir}/")))
    document = slow_document(reports, silent)
    if as_json:
        print_json(document)
    else:
        table_console().print(render(document, count))


async def _ask(addresses: Sequence[str]) -> tuple[dict[str, SlowReport], dict[str, str]]:
    async with ClusterProcesses(addresses) as processes:
        answers = await processes.ask(await processes.list(), PROCESS.GetSlow, slow_request_to_pb())
    reports = {name: slow_from_pb(answer.message) for name, answer in answers.items() if not isinstance(answer, FS3Error)}
    return reports, {name: str(why) for name, why in answers.items() if isinstance(why, FS3Error)}


def slow_document(reports: Mapping[str, SlowReport], silent: Mapping[str, str]) -> dict[str, Any]:
    """Everything as plain data, the slowest and the newest first. `silent`: who did not answer, and why."""
    operations = [
        {
            "process": name,
            "at": _time(each.wall_ns),
            "ms": round(each.elapsed_ns / MILLISECOND, 1),
            "verb": each.verb,
            "code": each.code.name,
            "peer": each.peer,
            "request_id": each.request_id,
            "spans": [{"name": span.name, "ms": round(span.elapsed_ns / MILLISECOND, 1)} for span in each.spans],
        }
        for name, report in reports.items()
        for each in report.operations
    ]
    stalls = [
        {
            "process": name,
            "at": _time(stall.wall_ns),
            "ms": round(stall.elapsed_ns / MILLISECOND, 1),
            "stack": list(stall.stack),
        }
        for name, report in reports.items()
        for stall in report.stalls
    ]
    return {
        "operations": sorted(operations, key=lambda each: -each["ms"]),
        "stalls": sorted(stalls, key=lambda each: str(each["at"]), reverse=True),
        "silent": dict(silent),
    }


def _time(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / SECOND).astimezone().isoformat(timespec="milliseconds")


def render(document: dict[str, Any], count: int) -> RenderableType:
    """As tables for people."""
    parts: list[RenderableType] = []
    operations = document["operations"][:count]
    if operations:
        table = Table(title="slowest operations of the last hour", title_justify="left", box=None)
        for heading in ("ms", "where the time went", "operation", "outcome", "process", "ended", "client", "request"):
            table.add_column(heading, justify="right" if heading == "ms" else "left")
        for each in operations:
            spans = ", ".join(f"{span['name']} {span['ms']:.1f}" for span in each["spans"])
            at = each["at"][11:23]
            table.add_row(
                f"{each['ms']:.1f}", spans, each["verb"], each["code"], each["process"], at, each["peer"], str(each["request_id"])
            )
        parts.append(table)
    else:
        parts.append(Text("no operation of the last hour took 10 ms or longer"))
    for stall in document["stalls"][:count]:
        text = Text(f"{stall['at'][11:23]} the event loop of {stall['process']} stood still for {stall['ms']:.0f} ms in\n")
        text.append("\n".join(f"    {call}" for call in stall["stack"][-_FRAMES_SHOWN:]))
        parts.append(text)
    parts += [Text(f"{name} does not answer: {why}", style="red") for name, why in document["silent"].items()]
    return Group(*parts)

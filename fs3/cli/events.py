"""`fs3 events`: what happened to a cluster, a line each."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from fs3.base.errors import FS3Error
from fs3.base.units import MILLISECOND, SECOND
from fs3.cli import where
from fs3.cli.output import table_console
from fs3.cli.processes import ClusterProcesses
from fs3.cli.status import addresses_of
from fs3.model.event import ClusterEvent

_FOLLOW_SECONDS = 0.5
_STYLES = {"down": "red", "degraded": "yellow"}


def events(
    url: Annotated[str | None, typer.Argument(help=where.HELP, metavar="CLUSTER")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="the newest so many")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until Ctrl-C")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable, an object per line")] = False,
) -> None:
    """Show what happened to a cluster: nodes that came and went, chains that changed, managers that took over."""
    asyncio.run(_run(addresses_of(url, data_dir), count, follow, as_json))


async def _run(addresses: Sequence[str], count: int, follow: bool, as_json: bool) -> None:
    async with ClusterProcesses(addresses) as cluster:
        last = _show(await cluster.manager.list_events(limit=count), 0, as_json)
        while follow:
            await asyncio.sleep(_FOLLOW_SECONDS)
            try:
                found = await cluster.manager.list_events(after=last)
            except FS3Error:  # another manager takes over, and tells of it
                continue
            last = _show(found, last, as_json)


def _show(found: Sequence[ClusterEvent], last: int, as_json: bool) -> int:
    """Print events; the number of the newest one."""
    console = table_console()
    for event in found:
        if as_json:
            sys.stdout.write(json.dumps(event_document(event)) + "\n")
        else:
            console.print(describe_event(event))
    sys.stdout.flush()
    return found[-1].seq if found else last


def event_document(event: ClusterEvent) -> dict[str, Any]:
    """An event for programs."""
    return {
        "seq": event.seq, "at": _time(event), "code": event.code, "severity": event.severity, "text": event.text,
    }  # fmt: skip


def describe_event(event: ClusterEvent) -> Text:
    """The same for people."""
    line = Text(f"{_time(event)}  ")
    line.append(f"{event.code:<21}", style=_STYLES.get(event.severity, ""))
    line.append(event.text)
    return line


def _time(event: ClusterEvent) -> str:
    at = datetime.fromtimestamp(event.wall_ms * MILLISECOND / SECOND)
    return at.astimezone().isoformat(sep=" ", timespec="milliseconds")

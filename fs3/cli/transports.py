"""`fs3 status --transports`: how payloads travel on each connection of each process, and why so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fs3.base.errors import FS3Error
from fs3.cli.processes import ClusterProcesses
from fs3.model.connection import ConnectionReport
from fs3.wire.methods import PROCESS
from fs3.wire.process import connections_from_pb, connections_request_to_pb


def read_transports(addresses: Sequence[str]) -> dict[str, Any]:
    """The document, of every process that answers. Raises Unreachable naming the addresses."""
    reports, silent = asyncio.run(_ask(addresses))
    return transports_document(reports, silent)


async def _ask(addresses: Sequence[str]) -> tuple[dict[str, ConnectionReport], dict[str, str]]:
    async with ClusterProcesses(addresses) as processes:
        answers = await processes.ask(await processes.list(), PROCESS.GetConnections, connections_request_to_pb())
    reports = {name: connections_from_pb(answer.message) for name, answer in answers.items() if not isinstance(answer, FS3Error)}
    return reports, {name: str(why) for name, why in answers.items() if isinstance(why, FS3Error)}


def transports_document(reports: Mapping[str, ConnectionReport], silent: Mapping[str, str]) -> dict[str, Any]:
    """Everything as plain data. `silent`: who did not answer, and why."""
    connections = [
        {
            "process": name,
            "direction": "to" if one.is_outgoing else "from",
            "peer": one.peer,
            "transport": one.transport,
            "path": one.path,
            "why": one.why,
        }
        for name, report in reports.items()
        for one in report.connections
    ]
    more = {name: report.total - len(report.connections) for name, report in reports.items()}
    return {
        "connections": connections,
        "not_listed": {name: count for name, count in more.items() if count},
        "silent": dict(silent),
    }


def render_transports(document: dict[str, Any]) -> RenderableType:
    """As a table for people."""
    table = Table(title="connections", title_justify="left", box=None)
    for heading in ("process", "", "peer", "payloads by", "why"):
        table.add_column(heading, overflow="fold")
    for one in document["connections"]:
        by = f"{one['transport']}, {one['path']}" if one["path"] else one["transport"]
        table.add_row(one["process"], one["direction"], one["peer"], by, one["why"])
    parts: list[RenderableType] = [table]
    parts += [Text(f"{name} has {count} connections more") for name, count in document["not_listed"].items()]
    parts += [Text(f"{name} does not answer: {why}", style="yellow") for name, why in document["silent"].items()]
    return Group(*parts)

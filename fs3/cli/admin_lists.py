"""`fs3 admin nodes | targets | tables`: the lists of what a cluster is made of, one line each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fs3.base.units import MILLISECOND, format_size
from fs3.cli.manager_client import ask_manager
from fs3.cli.output import print_json, print_table
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.health.document import status_document

Where = Annotated[str | None, typer.Argument(help=where_help, metavar="CLUSTER")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]


def add_lists(app: typer.Typer) -> None:
    """Put the commands into a group."""
    for command in (nodes, targets, tables):
        app.command()(command)


def _fetch(where: str | None) -> dict[str, Any]:
    return status_document(ask_manager(manager_addresses_of(where), lambda client: client.status()))


def _show(found: Sequence[dict[str, Any]], columns: dict[str, str], as_json: bool) -> None:
    """A line for each entry; `columns`: heading -> key."""
    if as_json:
        print_json(list(found))
    else:
        print_table(tuple(columns), [tuple(str(entry[key]) for key in columns.values()) for entry in found])


def nodes(where: Where = None, as_json: AsJson = False) -> None:
    """Show the nodes: who they are, where they listen, when they were heard last, and what was wrong then."""
    document = _fetch(where)
    targets = document["targets"]
    now_ms = time.time_ns() // MILLISECOND
    found = [
        {
            **node,
            "heard_ms": None if node["silent_ms"] < 0 else now_ms - node["silent_ms"],
            "targets": [target["target"] for target in targets if target["node"] == node["name"]],
        }
        for node in document["nodes"]
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(node["id"]),
            node["name"],
            node["role"],
            "yes" if node["alive"] else "no",
            f"{node['silent_ms'] / 1000:.1f} s ago" if node["silent_ms"] >= 0 else "never",
            str(node["pid"]),
            " ".join(map(str, node["targets"])),
            " ".join(node["endpoints"]),
            node["problem"] or node["config_problem"],
        )
        for node in found
    ]
    print_table(("id", "name", "role", "alive", "heard", "pid", "targets", "endpoints", ""), rows)


def targets(where: Where = None, as_json: AsJson = False) -> None:
    """Show the targets by number: on which node, in which chain, in which state, and what they hold."""
    found = sorted(_fetch(where)["targets"], key=lambda target: int(target["target"]))
    if as_json:
        print_json(found)
        return
    shown = [{**target, "used": format_size(target["used_bytes"]), "free": format_size(target["free_bytes"])} for target in found]
    columns = {
        "target": "target", "node": "node", "chain": "chain", "public": "public_state", "local": "local_state", "used": "used",
        "free": "free", "chunks": "chunks", "": "reason",
    }  # fmt: skip
    _show(shown, columns, as_json=False)


def tables(where: Where = None, as_json: AsJson = False) -> None:
    """Show the chain tables: how many replicas, and which chains files are striped over."""
    found = _fetch(where)["tables"]
    if as_json:
        print_json(found)
        return
    shown = [{**table, "count": len(table["chains"]), "all": " ".join(map(str, table["chains"]))} for table in found]
    _show(shown, {"table": "table", "replicas": "replicas", "chains": "count", "": "all"}, as_json=False)

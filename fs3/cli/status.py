"""`fs3 status`: nodes, chains and targets of a cluster, as a table or as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.cli.directory import ClusterDirectory
from fs3.model.chain import LocalState, PublicState
from fs3.model.routing import Role

SERVING_SECONDS = 60.0


def status(
    url: Annotated[str | None, typer.Argument(help="fs3://host:port of a cluster; FS3_CLUSTER when left out")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Show nodes, chains, targets with their public and local states, versions and space."""
    addresses = addresses_of(url, data_dir)
    document = asyncio.run(fetch_status(addresses))
    if data_dir is not None:
        directory = ClusterDirectory(data_dir)
        _, processes = directory.require()
        document["processes"] = [
            {"name": name, "role": process.role, "pid": process.pid, "running": directory.holder(name) is not None}
            for name, process in processes.items()
        ]
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _print(document)


def addresses_of(url: str | None, data_dir: Path | None) -> list[str]:
    """mgmtd addresses ("host:port") from a URL, a data directory, or FS3_CLUSTER. Raises FS3Error when there is none."""
    from fs3.api.url import cluster_addresses

    if data_dir is not None:
        shape, _ = ClusterDirectory(data_dir).require()
        return [f"{shape.host}:{shape.port}"]
    return cluster_addresses(url or "fs3:///")


async def fetch_status(addresses: list[str]) -> dict[str, Any]:
    """The manager's view as plain data. Raises Unreachable naming the addresses."""
    from fs3.client.connect import Connector
    from fs3.client.mgmtd import MgmtdClient
    from fs3.drivers.os_clock import OsClock
    from fs3.drivers.tcp import TcpTransport

    clock = OsClock()
    connector = Connector([TcpTransport(clock)], host="")
    client = MgmtdClient(connector, [f"tcp://{address}" for address in addresses], clock)
    try:
        return describe(await client.status())
    finally:
        await client.close()
        await connector.close()


def describe(reply: Any) -> dict[str, Any]:
    """A GetStatusReply as plain data: the shape `fs3 status --json` prints."""
    routing = reply.routing
    names = {node.id: node.name for node in routing.nodes}
    targets = [
        {
            "target": target.target_id,
            "node": names.get(target.node_id, str(target.node_id)),
            "chain": target.chain_id,
            "public_state": _state(PublicState, target.public_state),
            "local_state": _state(LocalState, target.local_state),
            "chain_version": target.chain_version,
            "used_bytes": target.used_bytes,
            "free_bytes": target.free_bytes,
            "chunks": target.chunks,
            "reason": target.reason,
        }
        for target in reply.targets
    ]
    return {
        "cluster_id": reply.cluster_id.hex(),
        "software": reply.software,
        "routing_version": routing.version,
        "nodes": [
            {
                "id": node.id,
                "name": node.name,
                "role": Role(node.role).name.lower(),
                "alive": node.alive,
                "incarnation": node.incarnation,
                "pid": node.pid,
                "lease_left_ms": left,
                "endpoints": list(node.endpoints),
            }
            for node, left in zip(routing.nodes, reply.lease_left_ms, strict=False)
        ],
        "chains": [
            {
                "chain": chain.id,
                "version": chain.version,
                "targets": [
                    {"target": slot.target_id, "node": names.get(slot.node_id, ""), "state": _state(PublicState, slot.state)}
                    for slot in chain.slots
                ],
            }
            for chain in routing.chains
        ],
        "tables": [
            {"table": table.id, "version": table.version, "replicas": table.replicas, "chains": list(table.chains)}
            for table in routing.tables
        ],
        "targets": targets,
        "namespaces": [
            {"id": space.id, "name": space.name, "page_bytes": space.page_bytes, "replicas": space.replicas}
            for space in reply.namespaces
        ],
    }


def _state(kind: type[PublicState] | type[LocalState], number: int) -> str:
    try:
        return kind(number).name.lower()
    except ValueError:
        return "unknown"


def _print(document: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"cluster {document['cluster_id'][:12]}  routing version {document['routing_version']}")
    nodes = Table(title="nodes", title_justify="left", box=None)
    for heading in ("id", "name", "role", "alive", "incarnation", "pid", "lease left"):
        nodes.add_column(heading)
    for node in document["nodes"]:
        lease = f"{node['lease_left_ms'] / 1000:.1f} s" if node["role"] != "mgmtd" else ""
        alive = "yes" if node["alive"] else "[red]no[/red]"
        nodes.add_row(str(node["id"]), node["name"], node["role"], alive, str(node["incarnation"]), str(node["pid"]), lease)
    console.print(nodes)
    targets = Table(title="targets", title_justify="left", box=None)
    for heading in ("chain", "version", "target", "node", "public", "local", "used", "free", "chunks", ""):
        targets.add_column(heading)
    order = {
        slot["target"]: (chain["chain"], place) for chain in document["chains"] for place, slot in enumerate(chain["targets"])
    }
    for target in sorted(document["targets"], key=lambda target: order.get(target["target"], (0, 0))):
        well = target["public_state"] == "serving" and target["local_state"] == "uptodate"
        style = "" if well else "yellow"
        targets.add_row(
            str(target["chain"]), str(target["chain_version"]), str(target["target"]), target["node"],
            target["public_state"], target["local_state"], format_size(target["used_bytes"]),
            format_size(target["free_bytes"]), str(target["chunks"]), target["reason"], style=style,
        )  # fmt: skip
    console.print(targets)
    for space in document["namespaces"]:
        console.print(f"namespace {space['name']}: pages of {space['page_bytes']} bytes, {space['replicas']} replicas")


def wait_until_serving(host: str, port: int) -> None:
    """Return once a chain table exists, every target of it serves and a metadata node is alive. Raises FS3Error otherwise."""
    deadline = time.monotonic() + SERVING_SECONDS
    missing = "nothing"
    while time.monotonic() < deadline:
        try:
            document = asyncio.run(fetch_status([f"{host}:{port}"]))
        except FS3Error as wrong:
            missing = str(wrong)
        else:
            missing = _missing(document)
            if not missing:
                return
        time.sleep(0.05)
    raise error(Code.UNAVAILABLE, f"the cluster does not serve after {SERVING_SECONDS:.0f} s: {missing}")


def _missing(document: dict[str, Any]) -> str:
    if not document["tables"]:
        return "no chain table yet: storage nodes are missing"
    if not any(node["role"] == "meta" and node["alive"] for node in document["nodes"]):
        return "no metadata node is alive"
    for target in document["targets"]:
        if target["local_state"] != "uptodate":
            return f"target {target['target']} on {target['node']} is {target['local_state']} {target['reason']}".rstrip()
    return ""

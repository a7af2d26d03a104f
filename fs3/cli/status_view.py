"""`fs3 status` as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fs3.base.units import format_seconds, format_size
from fs3.cli.supervision import RestartRecord, describe_restarts
from fs3.core.health.problems import describe_security
from fs3.model.health import ClusterHealth

PROBLEMS_SHOWN_MAX = 20
_BAR_WIDTH = 24
_COLOURS = {ClusterHealth.HEALTHY: "green", ClusterHealth.DEGRADED: "yellow", ClusterHealth.DOWN: "red"}


def render(document: dict[str, Any]) -> RenderableType:
    """Everything, the verdict first."""
    parts: list[RenderableType] = [_verdict(document)]
    if document["problems"]:
        parts.append(_problems(document["problems"]))
    parts += [table for table in (_managers(document), _nodes(document), _disks(document)) if table.row_count]
    parts += [table for table in (_chains(document), _resyncs(document), _scrubs(document)) if table.row_count]
    if document["store"]:
        parts.append(Text(f"store of the managers: {document['store']}"))
    if document["managers"]:
        parts.append(Text(describe_security(document)))
    if document["namespaces"]:
        parts.append(Text(f"namespaces: {document['namespaces']} (fs3 kv ls)"))
    if document.get("processes"):
        parts.append(_processes(document["processes"]))
        if document["supervisor"] is None and any(process["running"] for process in document["processes"]):
            parts.append(Text("nobody starts them again when they end: `fs3 up` starts a supervisor", style="yellow"))
    return Group(*parts)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for heading in headings:
        table.add_column(heading)
    return table


def _verdict(document: dict[str, Any]) -> Text:
    health = ClusterHealth(document["health"])
    line = Text("cluster ")
    line.append(document["cluster_id"][:12] or "(unknown)")
    line.append(" is ")
    line.append(health.value, style=f"bold {_COLOURS[health]}")
    chains = document["chains"]
    if chains:
        whole = sum(all(slot["state"] == "serving" for slot in chain["targets"]) for chain in chains)
        line.append(f"; {whole} of {len(chains)} chains have all their replicas; routing version {document['routing_version']}")
    return line


def _problems(problems: list[dict[str, str]]) -> Text:
    lines = Text()
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        lines.append("  ! ", style=_COLOURS[ClusterHealth(problem["health"])])
        lines.append(problem["text"])
        lines.append(f" [{problem['runbook']}]\n", style="dim")
    if len(problems) > PROBLEMS_SHOWN_MAX:
        lines.append(f"  … and {len(problems) - PROBLEMS_SHOWN_MAX} more; `fs3 status --json` shows all\n")
    return lines


def _managers(document: dict[str, Any]) -> Table:
    table = _table("managers", "name", "", "fs3", "endpoints")
    for manager in document["managers"]:
        if manager["primary"]:
            since = document["primary_for_ms"] / 1000
            part = Text(f"primary for {format_seconds(since)}, epoch {document['epoch']}", style="green")
        elif manager["answers"]:
            part = Text("stands by")
        else:
            part = Text("does not answer", style="red")
        table.add_row(manager["name"], part, manager["software"], " ".join(manager["endpoints"]))
    return table


def _nodes(document: dict[str, Any]) -> Table:
    table = _table("nodes", "id", "name", "role", "alive", "heard", "lease left", "incarnation", "pid", "fs3", "settings")
    for node in document["nodes"]:
        alive = Text("yes") if node["alive"] else Text("no", style="red")
        heard = f"{node['silent_ms'] / 1000:.1f} s ago" if node["silent_ms"] >= 0 else "never"
        lease = f"{node['lease_left_ms'] / 1000:.1f} s" if node["alive"] else ""
        table.add_row(
            str(node["id"]), node["name"], node["role"], alive, heard, lease, str(node["incarnation"]), str(node["pid"]),
            node["software"], _settings(node),
        )  # fmt: skip
    return table


def _disks(document: dict[str, Any]) -> Table:
    table = _table("disks of storage nodes", "node", "disk", "size", "free", "targets", "")
    for node in document["nodes"]:
        for disk in node["disks"] if node["role"] == "storage" else ():
            table.add_row(
                node["name"], disk["path"], format_size(disk["total_bytes"]), format_size(disk["free_bytes"]),
                str(len(disk["targets"])), "is drained" if disk["drained"] else "",
            )  # fmt: skip
    return table


def _settings(node: dict[str, Any]) -> Text:
    """Whether a node has applied the newest settings of its role."""
    if not node["config_newest"]:
        return Text("defaults")
    if node["config_problem"]:
        return Text(f"version {node['config_version']} refused", style="red")
    if node["config_version"] < node["config_newest"]:
        return Text(f"version {node['config_newest']} not applied yet", style="yellow")
    return Text("applied")


def _chains(document: dict[str, Any]) -> Table:
    title = "targets, in chain order"
    table = _table(title, "chain", "version", "target", "node", "public", "local", "used", "free", "chunks", "")
    targets = {target["target"]: target for target in document["targets"]}
    for chain in sorted(document["chains"], key=lambda chain: int(chain["chain"])):
        for slot in chain["targets"]:
            target = targets.get(slot["target"])
            if target is None:
                continue
            well = target["public_state"] == "serving" and target["local_state"] == "uptodate" and not target["bad_blocks"]
            notes = [target["reason"]] if target["reason"] else []
            if target["bad_blocks"]:
                notes.append(f"{target['bad_blocks']} bad blocks")
            table.add_row(
                str(target["chain"]), str(target["chain_version"]), str(target["target"]), target["node"],
                target["public_state"], target["local_state"], format_size(target["used_bytes"]),
                format_size(target["free_bytes"]), str(target["chunks"]), "; ".join(notes), style="" if well else "yellow",
            )  # fmt: skip
    return table


def _resyncs(document: dict[str, Any]) -> Table:
    table = _table("resync", "chain", "from", "to", "", "chunks", "sent", "rate", "left")
    for resync in document["resyncs"]:
        bar = ProgressBar(total=max(1, resync["total_chunks"]), completed=resync["done_chunks"], width=_BAR_WIDTH)
        left = "" if resync["seconds_left"] is None else f"at most {format_seconds(resync['seconds_left'])}"
        table.add_row(
            str(resync["chain"]), resync["source"], resync["target"], bar,
            f"{resync['done_chunks']} of {resync['total_chunks']} ({100 * resync['fraction']:.0f} %)",
            format_size(resync["bytes"]), f"{format_size(resync['bytes_per_second'])}/s", left,
        )  # fmt: skip
    return table


def _scrubs(document: dict[str, Any]) -> Table:
    table = _table("scrub", "target", "node", "", "chunks", "passes", "repaired", "bad")
    for target in document["targets"]:
        total = target["scrub_total_chunks"]
        if not total and not target["scrub_passes"] and not target["repaired_blocks"]:
            continue
        bar = ProgressBar(total=max(1, total), completed=target["scrub_done_chunks"], width=_BAR_WIDTH)
        table.add_row(
            str(target["target"]), target["node"], bar, f"{target['scrub_done_chunks']} of {total}", str(target["scrub_passes"]),
            str(target["repaired_blocks"]), str(target["bad_blocks"]),
        )  # fmt: skip
    return table


def _processes(processes: list[dict[str, Any]]) -> Table:
    table = _table("processes of this machine", "name", "pid", "", "")
    for process in processes:
        state = Text("runs") if process["running"] else Text("does not run", style="red")
        record = RestartRecord(process["restarts"], process["ended_at"], process["reason"], process["given_up"])
        table.add_row(process["name"], str(process["pid"]), state, Text(describe_restarts(record)))
    return table

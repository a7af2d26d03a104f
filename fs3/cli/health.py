"""Is a cluster well, and if not, why: a verdict on what `fs3 status --json` shows."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from fs3.base.units import GIB, format_size
from fs3.cli.runbooks import Runbook
from fs3.runtime.store_scrub import ENGINE_PROBLEM

disk_warn_free_percent = 10
disk_warn_free_bytes = 20 * GIB
"""A disk that has less free than both is nearly full: `fs3 status` names it."""
disk_warn_free_bytes_min = 2 * GIB
"""And so is one that has less free than this, however small it is."""


names_shown_max = 8
"""Names of processes in one problem."""


class ClusterHealth(StrEnum):
    """Of a whole cluster, best first."""

    HEALTHY = "healthy"
    """Every replica of everything serves."""
    DEGRADED = "degraded"
    """Everything can be read and written, with fewer replicas, processes or less room than there should be."""
    DOWN = "down"
    """Something can not be read or written."""


class HealthProblem(NamedTuple):
    """One thing that is not as it should be."""

    health: ClusterHealth
    """Of the cluster because of it."""
    text: str
    runbook: Runbook
    """What to do about it."""
    passes: bool = True
    """It may pass by itself, so that it makes sense to wait for that."""


def problems_of(document: dict[str, Any]) -> list[HealthProblem]:
    """What is wrong with a cluster, the worst first."""
    nodes = {node["name"]: node for node in document["nodes"]}
    replicas = {chain: table["replicas"] for table in document["tables"] for chain in table.get("chains", ())}
    found = [
        *_of_managers(document["managers"]),
        *_of_nodes(document["nodes"]),
        *_of_disks([*document["managers"], *(node for node in document["nodes"] if node["alive"])]),
        *_of_releases([*document["managers"], *(node for node in document["nodes"] if node["alive"])]),
        *_of_chains(document["chains"], {target["target"]: target for target in document["targets"]}, nodes, replicas),
    ]
    if not document["tables"]:
        found.append(
            HealthProblem(ClusterHealth.DOWN, "there is no chain table yet: storage nodes are missing", Runbook.NO_CHAINS)
        )
    return sorted(found, key=lambda problem: problem.health is not ClusterHealth.DOWN)


def health_of(problems: Iterable[HealthProblem]) -> ClusterHealth:
    """The worst of them."""
    order = list(ClusterHealth)
    return max((problem.health for problem in problems), key=order.index, default=ClusterHealth.HEALTHY)


def _of_managers(managers: list[dict[str, Any]]) -> list[HealthProblem]:
    return [
        HealthProblem(ClusterHealth.DEGRADED, f"manager {manager['name']} does not answer", Runbook.MANAGER_SILENT)
        for manager in managers
        if not manager["answers"]
    ]


def _of_nodes(nodes: list[dict[str, Any]]) -> list[HealthProblem]:
    metas = [node for node in nodes if node["role"] == "meta"]
    found = [
        HealthProblem(ClusterHealth.DEGRADED, f"node {node['name']} {why_dead(node)}", Runbook.NODE_DEAD)
        for node in nodes
        if not node["alive"]
    ]
    found += [
        HealthProblem(
            ClusterHealth.DEGRADED,
            f"node {node['name']}: {node['problem']}",
            Runbook.ENGINE if is_of_engine(node) else Runbook.NODE_STORE,
            passes=not is_of_engine(node),
        )
        for node in nodes
        if node["problem"]
    ]
    found += [
        HealthProblem(
            ClusterHealth.DEGRADED,
            f"node {node['name']} goes by older settings: {node['config_problem']}",
            Runbook.SETTINGS_BEHIND,
            passes=False,
        )
        for node in nodes
        if node["config_problem"]
    ]
    if not any(node["alive"] for node in metas):
        found.append(HealthProblem(ClusterHealth.DOWN, "no metadata node is alive: files cannot be opened", Runbook.NO_METADATA))
    return found


def is_of_engine(node: dict[str, Any]) -> bool:
    """What the node says is wrong is the engine that has its rows, and not the node's own."""
    return bool(node["problem"].startswith(ENGINE_PROBLEM))


def _of_disks(processes: list[dict[str, Any]]) -> list[HealthProblem]:
    return [
        HealthProblem(
            ClusterHealth.DEGRADED,
            f"the disk of {process['name']} is nearly full: {_describe(disk)}",
            Runbook.DISK_NEARLY_FULL,
            passes=False,
        )
        for process in processes
        for disk in process["disks"]
        if is_nearly_full(disk["free_bytes"], disk["total_bytes"])
    ]


def _of_releases(processes: list[dict[str, Any]]) -> list[HealthProblem]:
    """Processes of different releases, as in the middle of an upgrade. What is not heard of says nothing."""
    names: dict[tuple[int, str], list[str]] = {}
    for process in processes:
        if process["level"]:
            names.setdefault((process["level"], process["software"]), []).append(process["name"])
    if len(names) < 2:
        return []
    runs = (
        f"{f'fs3 {software} ' if software else ''}level {level}: {_list_names(named)}"
        for (level, software), named in sorted(names.items())
    )
    return [HealthProblem(ClusterHealth.DEGRADED, f"versions are mixed: {'; '.join(runs)}", Runbook.VERSIONS_MIXED, passes=False)]


def _list_names(names: list[str]) -> str:
    more = len(names) - names_shown_max
    return ", ".join(names[:names_shown_max]) + (f" and {more} more" if more > 0 else "")


def _describe(disk: dict[str, Any]) -> str:
    free, total = disk["free_bytes"], disk["total_bytes"]
    return f"{disk['path']} has {format_size(free)} free of {format_size(total)} ({100 * free / max(1, total):.1f} %)"


def is_nearly_full(free_bytes: int, total_bytes: int) -> bool:
    """Whether people should be told: little is left of a disk, by share and by size."""
    is_little = free_bytes * 100 < total_bytes * disk_warn_free_percent and free_bytes < disk_warn_free_bytes
    return is_little or free_bytes < disk_warn_free_bytes_min


def _of_chains(
    chains: list[dict[str, Any]],
    targets: dict[int, dict[str, Any]],
    nodes: dict[str, dict[str, Any]],
    replicas: dict[int, int],
) -> list[HealthProblem]:
    """`replicas`: how many each chain should have."""
    found = []
    for chain in chains:
        slots = chain["targets"]
        serving = [slot for slot in slots if slot["state"] == "serving"]
        is_full = len(serving) >= replicas.get(chain["chain"], len(slots))
        for slot in slots:
            target = targets.get(slot["target"])
            if target is None:
                continue
            named = f"chain {chain['chain']}: target {target['target']} on {target['node']}"
            if target["bad_blocks"]:
                text = f"{named} has {target['bad_blocks']} bad blocks without a good copy"
                found.append(HealthProblem(ClusterHealth.DEGRADED, text, Runbook.BAD_BLOCKS))
            if is_full and slot["state"] != "serving":
                continue  # a target that moves here, beside as many as there should be
            if slot["state"] == "serving" and target["local_state"] == "uptodate":
                if target["reason"]:
                    text = f"{named} serves: {target['reason']}"
                    found.append(HealthProblem(ClusterHealth.DEGRADED, text, Runbook.TARGET_NOTE, passes=False))
                continue
            why = why_not_serving(target, nodes.get(target["node"]))
            if slot["state"] == "lastsrv":
                what = "served last, but" if target["local_state"] == "online" else "has the newest data and"
                found.append(HealthProblem(ClusterHealth.DOWN, f"{named} {what} {why}", Runbook.LAST_SERVING_MISSING))
            elif slot["state"] == "serving":
                found.append(HealthProblem(ClusterHealth.DEGRADED, f"{named} serves, and {why}", Runbook.TARGET_UNCONFIRMED))
            else:
                found.append(HealthProblem(ClusterHealth.DEGRADED, f"{named} is {slot['state']}: {why}", Runbook.TARGET_BEHIND))
        if not serving:
            text = f"chain {chain['chain']}: nobody serves, its chunks can not be read or written{_way_out(slots, targets)}"
            found.append(HealthProblem(ClusterHealth.DOWN, text, Runbook.CHAIN_UNSERVED))
    return found


def _way_out(slots: list[dict[str, Any]], targets: dict[int, dict[str, Any]]) -> str:
    """What a person can do when those that served last are here, and none of them has the newest data."""
    last = [slot["target"] for slot in slots if slot["state"] == "lastsrv"]
    if not last or not all(targets[target]["local_state"] == "online" for target in last):
        return ""
    return (
        f"; bring back the newest directory of one of {', '.join(map(str, last))}, or give up what is missing "
        "with `fs3 admin accept-loss TARGET`"
    )


def why_dead(node: dict[str, Any]) -> str:
    """ "is dead, last heard 12 s ago"."""
    silent = node["silent_ms"]
    return "is dead" if silent < 0 else f"is dead, last heard {silent / 1000:.0f} s ago"


def why_not_serving(target: dict[str, Any], node: dict[str, Any] | None) -> str:
    """What a person should know about a target that is not serving and up to date."""
    if node is None:
        return "its node is not known"
    if not node["alive"]:
        return f"its node {why_dead(node)}"
    if target["local_state"] == "unknown":
        return "its node has not reported on it since the last change"
    if target["reason"]:
        return str(target["reason"])
    match target["public_state"]:
        case "syncing":
            return "it is being brought up to date"
        case "waiting":
            return "it waits for a serving target to be brought up to date by"
        case "offline":
            return "its node is back, and it is about to be brought up to date"
    return f"its node says it is {target['local_state']}"

"""Is a cluster well, and if not, why: a verdict on what `fs3 status --json` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fs3.base.units import GIB, format_seconds, format_size
from fs3.core.health.document import list_resyncs
from fs3.model.health import ENGINE_PROBLEM, ClusterHealth, HealthKind

disk_warn_free_percent = 10
disk_warn_free_bytes = 20 * GIB
"""A disk that has less free than both is nearly full: `fs3 status` names it."""
disk_warn_free_bytes_min = 2 * GIB
"""And so is one that has less free than this, however small it is."""


names_shown_max = 8
"""Names of processes in one problem."""


node_gone_ms = 3_600_000
"""A node that was heard of so long ago will hardly come back by itself."""
clock_skew_ms_max = 1000
"""Clocks that differ by more are worth a word: times of files come from them, and logs are hard to read."""
_DAY_MS = 86_400_000
certificate_warn_ms = 30 * _DAY_MS
"""A certificate that ends sooner is to be renewed now."""
_LOOPBACK = ("127.", "::1", "localhost")


class HealthProblem(NamedTuple):
    """One thing that is not as it should be."""

    kind: HealthKind
    text: str
    """One sentence with the numbers."""
    eta_seconds: float | None = None
    """When it will be over, at the latest, where that can be told."""

    @property
    def health(self) -> ClusterHealth:
        """Of the cluster because of it."""
        return self.kind.row.health

    @property
    def may_pass(self) -> bool:
        """It may pass by itself, so that it makes sense to wait for that."""
        return self.kind.row.passes

    def to_document(self) -> dict[str, Any]:
        """As `fs3 status --json` has it."""
        return {
            "code": self.kind.value, "severity": self.kind.row.severity, "health": self.health.value, "text": self.text,
            "runbook": self.kind.page, "eta_seconds": self.eta_seconds,
        }  # fmt: skip


def problems_of(document: dict[str, Any]) -> list[HealthProblem]:
    """What is wrong with a cluster, the worst first."""
    nodes = {node["name"]: node for node in document["nodes"]}
    replicas = {chain: table["replicas"] for table in document["tables"] for chain in table.get("chains", ())}
    found = [
        *_of_managers(document["managers"]),
        *_of_nodes(document["nodes"]),
        *_of_disks([*document["managers"], *(node for node in document["nodes"] if node["alive"])]),
        *_of_releases([*document["managers"], *(node for node in document["nodes"] if node["alive"])]),
        *_of_chains(
            document["chains"], {target["target"]: target for target in document["targets"]}, nodes, _etas(document), replicas
        ),
        *_of_clocks(document["nodes"]),
        *_of_certificates(document["nodes"]),
        *_of_tables(document["tables"]),
        *([] if document["secured"] else _of_listening([*document["managers"], *document["nodes"]])),
    ]
    if not document["tables"]:
        found.append(HealthProblem(HealthKind.NO_CHAINS, "there is no chain table yet: storage nodes are missing"))
    order = list(ClusterHealth)
    return sorted(found, key=lambda problem: -order.index(problem.health))


def with_verdict(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what follows from it: health, problems, resyncs."""
    problems = problems_of(document)
    return {
        "health": health_of(problems).value,
        "problems": [problem.to_document() for problem in problems],
        **document,
        "resyncs": list(list_resyncs(document)),
    }


def health_of(problems: Iterable[HealthProblem]) -> ClusterHealth:
    """The worst of them."""
    order = list(ClusterHealth)
    return max((problem.health for problem in problems), key=order.index, default=ClusterHealth.HEALTHY)


def _of_managers(managers: list[dict[str, Any]]) -> list[HealthProblem]:
    return [
        HealthProblem(HealthKind.MANAGER_SILENT, f"manager {manager['name']} does not answer")
        for manager in managers
        if not manager["answers"]
    ]


def _of_nodes(nodes: list[dict[str, Any]]) -> list[HealthProblem]:
    metas = [node for node in nodes if node["role"] == "meta"]
    found = [
        HealthProblem(
            HealthKind.NODE_GONE if node["silent_ms"] >= node_gone_ms else HealthKind.NODE_DEAD,
            f"node {node['name']} {why_dead(node)}",
        )
        for node in nodes
        if not node["alive"]
    ]
    found += [
        HealthProblem(
            HealthKind.ENGINE if is_of_engine(node) else HealthKind.NODE_STORE, f"node {node['name']}: {node['problem']}"
        )
        for node in nodes
        if node["problem"]
    ]
    found += [
        HealthProblem(HealthKind.SETTINGS_BEHIND, f"node {node['name']} goes by older settings: {node['config_problem']}")
        for node in nodes
        if node["config_problem"]
    ]
    if not any(node["alive"] for node in metas):
        found.append(HealthProblem(HealthKind.NO_METADATA, "no metadata node is alive: files cannot be opened"))
    return found


def is_of_engine(node: dict[str, Any]) -> bool:
    """What the node says is wrong is the engine that has its rows, and not the node's own."""
    return bool(node["problem"].startswith(ENGINE_PROBLEM))


def _of_disks(processes: list[dict[str, Any]]) -> list[HealthProblem]:
    return [
        HealthProblem(HealthKind.DISK_NEARLY_FULL, f"the disk of {process['name']} is nearly full: {_describe(disk)}")
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
    return [HealthProblem(HealthKind.VERSIONS_MIXED, f"versions are mixed: {'; '.join(runs)}")]


def _of_clocks(nodes: list[dict[str, Any]]) -> list[HealthProblem]:
    """Nodes whose clock differs from the primary manager's. How long their heartbeats travel is in the difference."""
    return [
        HealthProblem(
            HealthKind.CLOCKS_APART,
            f"the clock of node {node['name']} is {abs(skew) / 1000:.1f} s {'ahead of' if skew > 0 else 'behind'} the manager's",
        )
        for node in nodes
        if node["alive"] and (skew := node.get("clock_skew_ms")) is not None and abs(skew) > clock_skew_ms_max
    ]


def _of_certificates(nodes: list[dict[str, Any]]) -> list[HealthProblem]:
    """Nodes whose TLS certificates end soon, or have ended."""
    return [
        HealthProblem(HealthKind.CERTIFICATE_ENDS, f"the certificate of node {node['name']} {_describe_end(left_ms)}")
        for node in nodes
        if node["alive"] and (left_ms := node.get("certificate_left_ms")) is not None and left_ms < certificate_warn_ms
    ]


def _describe_end(left_ms: int) -> str:
    return "has ended" if left_ms < 0 else f"ends in {left_ms // _DAY_MS} days"


def _of_tables(tables: list[dict[str, Any]]) -> list[HealthProblem]:
    return [
        HealthProblem(
            HealthKind.ONE_COPY,
            f"chain table {table['table']} keeps one copy of every chunk: a disk that is lost takes its data along",
        )
        for table in tables
        if table["replicas"] == 1
    ]


def _of_listening(processes: list[dict[str, Any]]) -> list[HealthProblem]:
    """In a cluster without security a process that others reach is open to whatever reaches it."""
    names = [process["name"] for process in processes if any(_is_reachable(endpoint) for endpoint in process["endpoints"])]
    if not names:
        return []
    return [HealthProblem(HealthKind.UNSECURED, f"reached from other machines without authentication: {_list_names(names)}")]


def _is_reachable(endpoint: str) -> bool:
    scheme, _, address = endpoint.partition("://")
    return scheme in ("tcp", "tls", "grpc", "grpcs") and not address.strip("[").startswith(_LOOPBACK)


def describe_security(document: dict[str, Any]) -> str:
    """Who may use the cluster, for people."""
    processes = [*document["managers"], *document["nodes"]]
    schemes = {endpoint.partition("://")[0] for each in processes for endpoint in each["endpoints"]}
    travels = "encrypted (TLS)" if "tls" in schemes and "tcp" not in schemes else "not encrypted"
    if document["secured"]:
        return f"security: on; between machines, {travels}"
    reached = [each["name"] for each in processes if any(_is_reachable(endpoint) for endpoint in each["endpoints"])]
    if reached:
        return f"security: off; open to whatever reaches {_list_names(reached)}; between machines, {travels}"
    return "security: off; open to every program on its machine"


def _etas(document: dict[str, Any]) -> dict[int, float]:
    """How long until a syncing target is up to date, at most, by target."""
    return {
        resync["target_id"]: resync["seconds_left"] for resync in list_resyncs(document) if resync["seconds_left"] is not None
    }


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
    etas: dict[int, float],
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
                found.append(HealthProblem(HealthKind.BAD_BLOCKS, text))
            if is_full and slot["state"] != "serving":
                continue  # a target that moves here, beside as many as there should be
            if slot["state"] == "serving" and target["local_state"] == "uptodate":
                if target["reason"]:
                    text = f"{named} serves: {target['reason']}"
                    found.append(HealthProblem(HealthKind.TARGET_NOTE, text))
                continue
            why = why_not_serving(target, nodes.get(target["node"]))
            if slot["state"] == "lastsrv":
                what = "served last, but" if target["local_state"] == "online" else "has the newest data and"
                found.append(HealthProblem(HealthKind.LAST_SERVING_MISSING, f"{named} {what} {why}"))
            elif slot["state"] == "serving":
                found.append(HealthProblem(HealthKind.TARGET_UNCONFIRMED, f"{named} serves, and {why}"))
            else:
                eta = etas.get(target["target"])
                left = "" if eta is None else f", at most {format_seconds(eta)} left"
                found.append(HealthProblem(HealthKind.TARGET_BEHIND, f"{named} is {slot['state']}: {why}{left}", eta))
        if len(serving) == 1 and len(slots) > 1:
            text = f"chain {chain['chain']}: 1 of {len(slots)} replicas serves; what is written now has one copy"
            found.append(HealthProblem(HealthKind.CHAIN_ONE_COPY, text, max(etas.values(), default=None)))
        if not serving:
            text = f"chain {chain['chain']}: nobody serves, its chunks can not be read or written{_way_out(slots, targets)}"
            found.append(HealthProblem(HealthKind.CHAIN_UNSERVED, text))
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

"""What the page shows of nodes, health and space, section by section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fs3.base.units import MILLISECOND, SECOND
from fs3.core.dashboard.chains import NodeSums
from fs3.core.dashboard.rates import NodeRate
from fs3.core.health.problems import HealthProblem, health_of, is_nearly_full, node_gone_ms
from fs3.model.cluster import DiskSpace, ManagerInfo, NodeStatus
from fs3.model.event import ClusterEvent
from fs3.model.health import HEALTH_TABLE, HealthKind
from fs3.model.routing import Role
from fs3.model.slow import LoopStall, SlowOperation

silent_ns = 5 * SECOND // 4
"""A node that has not been heard for so long, two heartbeats and a half, is shown as silent: its lease may still run."""
texts_shown_max = 20
"""Sentences of one kind of problem that the page has; of further ones the number."""
events_shown_max = 200
slow_shown_max = 40
stalls_shown_max = 10
NO_SUMS = NodeSums()


def health_document(problems: Sequence[HealthProblem], nodes: Iterable[NodeStatus]) -> dict[str, Any]:
    """The verdict, and what is wrong by kind, the most urgent first."""
    by_kind: dict[HealthKind, list[HealthProblem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    groups = [_group(kind, by_kind[kind]) for kind in HEALTH_TABLE if kind in by_kind]
    silent = [
        f"node {status.node.name} has not been heard for {age / SECOND:.1f} s; its lease ends {when_ends(status.lease_left_ns)}"
        for status in nodes
        if (age := silence_of(status)) is not None
    ]
    if silent:
        row = HEALTH_TABLE[HealthKind.NODE_DEAD]
        what = "a node is silent, and may be dying"
        groups.insert(0, {
            "code": "node-silent", "severity": "notice", "what": what, "passes": row.passes, "count": len(silent),
            "texts": silent[:texts_shown_max], "eta_seconds": None, "runbook": HealthKind.NODE_DEAD.value,
        })  # fmt: skip
    return {"health": health_of(problems).value, "groups": groups}


def _group(kind: HealthKind, problems: Sequence[HealthProblem]) -> dict[str, Any]:
    return {
        "code": kind.value,
        "severity": kind.row.severity,
        "what": kind.row.what,
        "passes": kind.row.passes,
        "count": len(problems),
        "texts": [problem.text for problem in problems[:texts_shown_max]],
        "eta_seconds": max((problem.eta_seconds for problem in problems if problem.eta_seconds is not None), default=None),
        "runbook": kind.value,
    }


def silence_of(status: NodeStatus) -> int | None:
    """How long an alive node has been silent, in nanoseconds; None: it is heard as often as it should be."""
    age = status.heartbeat_age_ns
    return age if status.node.alive and age is not None and age >= silent_ns else None


def when_ends(lease_left_ns: int) -> str:
    """ "in 1.2 s" """
    return f"in {lease_left_ns / SECOND:.1f} s" if lease_left_ns > 0 else "now"


def node_document(status: NodeStatus, sums: NodeSums, rate: NodeRate | None, now_ms: int) -> dict[str, Any]:
    """One node. `heard_ms`: when it was heard last, of one that is not heard as it should be."""
    node, age = status.node, status.heartbeat_age_ns
    state = "well"
    if not node.alive:
        state = "gone" if age is not None and age // MILLISECOND >= node_gone_ms else "dead"
    elif silence_of(status) is not None:
        state = "silent"
    elif status.problem or status.settings.problem or any(_is_short(disk) for disk in status.disks):
        state = "troubled"
    heard_ms = now_ms - age // MILLISECOND if age is not None and state in ("dead", "gone", "silent") else None
    return {
        "name": node.name,
        "role": node.role.name.lower(),
        "state": state,
        "says": status.problem or status.settings.problem,
        "heard_ms": heard_ms if heard_ms is None else heard_ms // 1000 * 1000,
        "zone": node.domain.zone,
        "rack": node.domain.rack,
        "software": status.release.software if status.release is not None else "",
        "endpoint": next((each for each in node.endpoints if each.startswith("tcp://")), "").removeprefix("tcp://"),
        "disks": [_disk_document(disk) for disk in status.disks],
        "targets": sums.targets,
        "serving": sums.serving,
        "used_bytes": sums.used_bytes,
        "chunks": sums.chunks,
        "rates": None if rate is None or not node.alive else _rate_numbers(rate),
    }


def _rate_numbers(rate: NodeRate) -> list[float | int]:
    """Processors and memory, then operations and bytes per second of each kind. Without names: it is sent every 2 seconds."""
    numbers: list[float | int] = [round(rate.cpu, 2), rate.memory_bytes >> 20 << 20]
    for kind in rate.kinds:
        numbers += [float(f"{kind.per_second:.3g}"), float(f"{kind.bytes_per_second:.3g}")]
    return numbers


def _is_short(disk: DiskSpace) -> bool:
    return is_nearly_full(disk.free_bytes, disk.total_bytes)


def _disk_document(disk: DiskSpace) -> dict[str, Any]:
    """What is free in steps of a thousandth, so that a disk that is written to is not news all the time."""
    step = max(1, disk.total_bytes // 1000)
    return {
        "path": disk.path,
        "total_bytes": disk.total_bytes,
        "free_bytes": disk.free_bytes // step * step,
        "short": _is_short(disk),
    }


class DiskRoom(NamedTuple):
    """The disks of the storage nodes together."""

    total_bytes: int
    free_bytes: int
    disks: int


def room_of(nodes: Iterable[NodeStatus]) -> DiskRoom:
    """Every file system once, also where several nodes of one host keep their data on it."""
    found: dict[tuple[object, ...], DiskSpace] = {}
    for status in nodes:
        if status.node.role is Role.STORAGE:
            for disk in status.disks:
                key = (status.node.host, disk.device) if disk.device and status.node.host else (status.node.id, disk.path)
                found[key] = disk
    return DiskRoom(sum(disk.total_bytes for disk in found.values()), sum(disk.free_bytes for disk in found.values()), len(found))


def space_document(room: DiskRoom, used_bytes: int, growth_per_second: float | None) -> dict[str, Any]:
    """Space, and when there is none left if things go on like this."""
    full_in = room.free_bytes / growth_per_second if growth_per_second is not None and growth_per_second > 1 else None
    return {
        "used_bytes": used_bytes,
        "total_bytes": room.total_bytes,
        "free_bytes": room.free_bytes,
        "disks": room.disks,
        "growth_per_hour": None if growth_per_second is None else round(3600 * growth_per_second),
        "full_in_seconds": None if full_in is None else round(full_in),
    }


def managers_document(managers: Iterable[ManagerInfo]) -> list[dict[str, Any]]:
    """Every manager, and the address of its page where it serves one."""
    return [{"name": each.name, "primary": each.is_primary, "url": page_of(each.endpoints)} for each in managers]


def page_of(endpoints: Iterable[str]) -> str:
    """Where a manager serves the page: "http://host:port", or "https://…"; "" for nowhere."""
    return next((endpoint for endpoint in endpoints if endpoint.startswith(("http://", "https://"))), "")


def event_documents(events: Iterable[ClusterEvent]) -> list[dict[str, Any]]:
    """The events, oldest first."""
    return [
        {"seq": each.seq, "at_ms": each.wall_ms, "code": each.code, "severity": each.severity, "text": each.text}
        for each in events
    ]


def slow_document(
    operations: Iterable[tuple[str, SlowOperation]], stalls: Iterable[tuple[str, LoopStall]], asked: int, processes: int
) -> dict[str, Any]:
    """The slowest operations of all processes that were asked, and the newest stalls; each with the name of its process."""
    slowest = sorted(operations, key=lambda each: -each[1].elapsed_ns)[:slow_shown_max]
    newest = sorted(stalls, key=lambda each: -each[1].wall_ns)[:stalls_shown_max]
    return {
        "operations": [
            {
                "process": name,
                "at_ms": each.wall_ns // MILLISECOND,
                "ms": round(each.elapsed_ns / MILLISECOND, 1),
                "verb": each.verb,
                "code": each.code.name,
                "peer": each.peer,
                "spans": [[span.name, round(span.elapsed_ns / MILLISECOND, 1)] for span in each.spans],
            }
            for name, each in slowest
        ],
        "stalls": [
            {
                "process": name,
                "at_ms": each.wall_ns // MILLISECOND,
                "ms": round(each.elapsed_ns / MILLISECOND),
                "stack": list(each.stack[-3:]),
            }
            for name, each in newest
        ],
        "asked": asked,
        "processes": processes,
    }

"""What the manager says of its cluster as plain data: what `fs3 status --json` prints, and what verdicts are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND
from fs3.base.version import Release
from fs3.model.cluster import ClusterInfo, ClusterStatus, DiskSpace, NodeStatus, TargetStatus


def release_of(manager: ClusterInfo) -> Release:
    """What a manager runs; one of level 1 tells its version alone."""
    return manager.release if manager.release.software else manager.release._replace(software=manager.software)


def release_document(release: Release | None) -> dict[str, Any]:
    """`level` 0: not known."""
    return {"software": "", "level": 0} if release is None else {"software": release.software, "level": release.level}


def status_document(status: ClusterStatus) -> dict[str, Any]:
    """The status as plain data: the shape `fs3 status --json` prints, before `with_verdict`."""
    routing = status.routing
    names = {node.id: node.name for node in routing.nodes.values()}
    return {
        "cluster_id": routing.cluster.hex(),
        "software": status.software,
        "routing_version": routing.version,
        "epoch": status.epoch,
        "primary_for_ms": status.primary_for_ns // MILLISECOND,
        "store": status.store,
        "secured": status.is_secured,
        "managers": [
            {
                "name": manager.name,
                "primary": manager.is_primary,
                "answers": True,
                "endpoints": list(manager.endpoints),
                "disks": [],
                **release_document(None),
            }
            for manager in status.managers
        ],
        "nodes": [_node_document(node) for node in status.nodes],
        "chains": [
            {
                "chain": chain.id,
                "version": chain.version,
                "targets": [
                    {"target": slot.target, "node": names.get(slot.node, ""), "state": slot.state.name.lower()}
                    for slot in chain.slots
                ],
            }
            for chain in routing.chains.values()
        ],
        "tables": [
            {"table": table.id, "version": table.version, "replicas": table.replicas, "chains": list(table.chains)}
            for table in routing.tables.values()
        ],
        "targets": [_target_document(target, names) for target in status.targets],
        "namespaces": status.namespaces,
    }


def _node_document(status: NodeStatus) -> dict[str, Any]:
    node, age = status.node, status.heartbeat_age_ns
    return {
        "id": node.id,
        "name": node.name,
        "role": node.role.name.lower(),
        "alive": node.alive,
        "incarnation": node.incarnation,
        "pid": node.pid,
        "lease_left_ms": status.lease_left_ns // MILLISECOND,
        "problem": status.problem,
        "silent_ms": -1 if age is None else age // MILLISECOND,
        "endpoints": list(node.endpoints),
        "disks": disk_documents(status.disks),
        **release_document(status.release),
        "clock_skew_ms": status.clock_skew_ms,
        "certificate_left_ms": status.certificate_left_ms,
        "config_version": status.settings.version,
        "config_newest": status.settings.newest_version,
        "config_problem": status.settings.problem,
    }


def disk_documents(disks: Sequence[DiskSpace]) -> list[dict[str, Any]]:
    return [
        {
            "path": disk.path,
            "total_bytes": disk.total_bytes,
            "free_bytes": disk.free_bytes,
            "targets": list(disk.targets),
            "drained": disk.is_drained,
        }
        for disk in disks
    ]


def _target_document(target: TargetStatus, names: Mapping[NodeId, str]) -> dict[str, Any]:
    slot, upkeep = target.slot, target.upkeep
    return {
        "target": slot.target,
        "node": names.get(slot.node, str(slot.node)),
        "chain": target.chain,
        "public_state": slot.state.name.lower(),
        "local_state": target.local.name.lower() if target.local is not None else "unknown",
        "chain_version": target.chain_version,
        "used_bytes": target.used_bytes,
        "free_bytes": target.free_bytes,
        "chunks": target.chunks,
        "reason": target.reason,
        **{name: getattr(upkeep, name) for name in upkeep.__struct_fields__},
        "born": target.born,
    }


def list_resyncs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each resync under way: {chain, source, target, done, total, fraction, bytes, bytes_per_second, seconds_left}."""
    targets = {target["target"]: target for target in document["targets"]}
    for source in document["targets"]:
        target = targets.get(source["resync_target_id"])
        if target is None:
            continue
        done, total = source["resync_done_chunks"], source["resync_total_chunks"]
        rate = source["resync_bytes_per_second"]
        # What is equal is skipped, so this is the most it can be.
        left_bytes = source["used_bytes"] * (total - done) / total if total else 0
        yield {
            "chain": source["chain"],
            "source": f"{source['target']} on {source['node']}",
            "target_id": target["target"],
            "target": f"{target['target']} on {target['node']}",
            "done_chunks": done,
            "total_chunks": total,
            "fraction": done / total if total else 0.0,
            "bytes": source["resync_bytes"],
            "bytes_per_second": rate,
            "seconds_left": left_bytes / rate if rate else None,
        }

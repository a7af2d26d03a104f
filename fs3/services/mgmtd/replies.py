"""The manager's answers to replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fs3 import __version__
from fs3.base.units import MILLISECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import HeartbeatAck, RegistrationAck
from fs3.core.membership.manager import Manager, TargetStatus
from fs3.core.membership.state import CacheNamespace
from fs3.model.method import Method
from fs3.services.mgmtd.candidate import Candidate
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb


def answer(method: Method, answer: Any, config: MgmtdConfig, cluster: bytes, whole: Callable[[], pb.RoutingUpdate]) -> Any:
    """The reply to a request that the machine has answered. `whole` gives the routing info in full."""
    match answer:
        case RegistrationAck():
            return pb.RegisterNodeReply(
                node_id=answer.node,
                cluster_id=cluster,
                lease_ms=config.lease_ns // MILLISECOND,
                heartbeat_ms=config.heartbeat_ns // MILLISECOND,
                routing=whole(),
                incarnation=answer.incarnation,
                born_targets=answer.born,
            )
        case HeartbeatAck():
            return pb.HeartbeatReply(
                seq=answer.seq,
                lease_ms=answer.lease_ns // MILLISECOND,
                routing_version=answer.routing_version,
                config_version=answer.config_version,
                leave=[pb.Leave(target_id=target, chain_version=version) for target, version in answer.leave],
            )
        case CacheNamespace():
            return pb.OpenNamespaceReply(namespace=namespace(answer), routing=whole())
    if method is MGMTD.EnsureTable:
        return pb.EnsureTableReply(table_id=answer, routing=whole())
    assert method is MGMTD.SetConfig, method
    return pb.SetConfigReply(version=answer)


def status(manager: Manager, now: int, whole: pb.RoutingUpdate) -> pb.GetStatusReply:
    """What the primary knows of nodes and targets."""
    routing = manager.published
    return pb.GetStatusReply(
        cluster_id=manager.cluster,
        software=__version__,
        routing=whole,
        targets=[target_status(target) for target in manager.target_statuses(now)],
        namespaces=[namespace(found) for found in manager.namespaces()],
        lease_left_ms=[manager.lease_left_ns(now, node) // MILLISECOND for node in routing.nodes],
        silent_ms=[-1 if (ns := manager.heartbeat_age_ns(now, node)) is None else ns // MILLISECOND for node in routing.nodes],
    )


def managers(candidate: Candidate) -> list[pb.Manager]:
    """Every manager, and which of them leads as far as this one knows."""
    holder = candidate.record.holder if candidate.record is not None else None
    return [
        pb.Manager(name=known.name, endpoints=known.endpoints, is_primary=holder is not None and known.name == holder.name)
        for known in candidate.managers
    ]


def namespace(found: CacheNamespace) -> pb.Namespace:
    """One namespace."""
    return pb.Namespace(id=found.id, name=found.name, page_bytes=found.page_bytes, replicas=found.replicas, table_id=found.table)


def target_status(target: TargetStatus) -> pb.TargetStatus:
    """One target, as published and as reported."""
    report = target.report
    shown: dict[str, Any] = {}
    if report is not None:
        shown = asdict(report.upkeep) | {
            "used_bytes": report.used_bytes,
            "free_bytes": report.free_bytes,
            "chunks": report.chunks,
            "reason": report.reason,
        }
    return pb.TargetStatus(
        target_id=target.slot.target,
        node_id=target.slot.node,
        chain_id=target.chain,
        public_state=int(target.slot.state),  # type: ignore[arg-type]
        local_state=int(target.local or 0),  # type: ignore[arg-type]
        chain_version=target.chain_version,
        born=target.born,
        **shown,
    )

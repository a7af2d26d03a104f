"""What a manager is only asked (cluster, routing, configuration, status) and answers at once, to and from protobuf.

What arrives is not trusted: unless they say otherwise, `*_from_pb` raise InvalidArgument naming the malformed field.
"""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import namespace_name_bytes_max
from fs3.base.units import MILLISECOND
from fs3.base.version import Release
from fs3.model.chain import LocalState, PublicState, Slot
from fs3.model.cluster import (
    ClusterInfo,
    ClusterStatus,
    GetConfig,
    GetRouting,
    ListNamespaces,
    NamespaceChanges,
    NamespacePage,
    NodeSettings,
    NodeStatus,
    RoleConfig,
    TargetStatus,
)
from fs3.model.routing import Role, Routing
from fs3.model.target_report import UpkeepProgress
from fs3.wire.directories import disks_from_pb, disks_to_pb
from fs3.wire.malformed import malformed
from fs3.wire.mgmtd import (
    EncodedRouting,
    enum_from_pb,
    manager_to_pb,
    managers_from_pb,
    namespace_from_pb,
    namespace_to_pb,
    routing_from_pb,
)
from fs3.wire.mgmtd_machines import node_settings_from_pb, node_settings_to_pb
from fs3.wire.pb import mgmtd_pb2 as pb
from fs3.wire.releases import release_from_pb, release_to_pb

_UPKEEP = UpkeepProgress.__struct_fields__
"""Spelled alike in the record and in the message."""

# --- cluster, routing, configuration ---------------------------------------------------------------------------------

_NO_NUMBER = -(1 << 63)
"""Stands for a difference of clocks that is not known."""


def get_cluster_to_pb(release: Release) -> pb.GetClusterRequest:
    """The question which cluster a manager belongs to; `release`: what the process that asks runs."""
    return pb.GetClusterRequest(release=release_to_pb(release))


def get_cluster_from_pb(message: pb.GetClusterRequest) -> Release:
    """The question which cluster a manager belongs to: what the process that asks runs."""
    return release_from_pb(message.release, "GetClusterRequest.release")


def cluster_info_to_pb(info: ClusterInfo) -> pb.GetClusterReply:
    """The answer to GetCluster."""
    return pb.GetClusterReply(
        cluster_id=info.cluster,
        software=info.software,
        protocol=info.protocol,
        primary=info.primary,
        is_primary=info.is_primary,
        managers=[manager_to_pb(manager) for manager in info.managers],
        epoch=info.epoch,
        disks=disks_to_pb(info.disks),
        release=release_to_pb(info.release),
        wall_ms=info.wall_ms,
        secured=info.is_secured,
        logins=info.has_logins,
        takes_proofs=info.takes_proofs,
    )


def cluster_info_from_pb(message: pb.GetClusterReply) -> ClusterInfo:
    """The answer to GetCluster. Only the release is checked: another one may answer, and its name is what matters then."""
    return ClusterInfo(
        cluster=message.cluster_id,
        software=message.software,
        protocol=message.protocol,
        is_primary=message.is_primary,
        primary=tuple(message.primary),
        managers=managers_from_pb(message.managers),
        epoch=message.epoch,
        disks=disks_from_pb(message.disks),
        release=release_from_pb(message.release, "GetClusterReply.release"),
        wall_ms=message.wall_ms,
        is_secured=message.secured,
        has_logins=message.logins,
        takes_proofs=message.takes_proofs,
    )


def get_routing_to_pb(request: GetRouting) -> pb.GetRoutingRequest:
    """The request of GetRouting, ReadRouting and WatchRouting."""
    return pb.GetRoutingRequest(known_version=request.known_version, cluster_id=request.cluster, in_parts=request.in_parts)


def get_routing_from_pb(message: pb.GetRoutingRequest) -> GetRouting:
    """The request of GetRouting, ReadRouting and WatchRouting."""
    return GetRouting(message.known_version, message.cluster_id, message.in_parts)


def get_config_to_pb(request: GetConfig) -> pb.GetConfigRequest:
    """The request of GetConfig."""
    return pb.GetConfigRequest(role=int(request.role))  # type: ignore[arg-type]


def get_config_from_pb(message: pb.GetConfigRequest) -> GetConfig:
    """The request of GetConfig."""
    return GetConfig(enum_from_pb(Role, message.role, "GetConfigRequest.role"))


def role_config_to_pb(config: RoleConfig) -> pb.GetConfigReply:
    """The answer to GetConfig."""
    return pb.GetConfigReply(version=config.version, toml=config.toml)


def role_config_from_pb(message: pb.GetConfigReply, role: Role) -> RoleConfig:
    """The answer to GetConfig for a role."""
    return RoleConfig(role, message.version, message.toml)


# --- namespaces ------------------------------------------------------------------------------------------------------


def list_namespaces_to_pb(wanted: ListNamespaces) -> pb.ListNamespacesRequest:
    """The request of ListNamespaces."""
    return pb.ListNamespacesRequest(prefix=wanted.prefix, after=wanted.after, limit=wanted.limit)


def list_namespaces_from_pb(message: pb.ListNamespacesRequest) -> ListNamespaces:
    """The request of ListNamespaces."""
    for field in ("prefix", "after"):
        if len(getattr(message, field).encode()) > namespace_name_bytes_max:
            raise malformed(f"ListNamespacesRequest.{field}", f"longer than {namespace_name_bytes_max} bytes")
    return ListNamespaces(message.prefix, message.after, message.limit)


def namespace_page_to_pb(page: NamespacePage) -> pb.ListNamespacesReply:
    """The answer to ListNamespaces."""
    return pb.ListNamespacesReply(
        namespaces=[namespace_to_pb(namespace) for namespace in page.namespaces],
        more=page.more,
        version=page.version,
        next_id=page.next_id,
    )


def namespace_page_from_pb(message: pb.ListNamespacesReply) -> NamespacePage:
    """The answer to ListNamespaces."""
    namespaces = tuple(namespace_from_pb(namespace) for namespace in message.namespaces)
    return NamespacePage(namespaces, message.more, message.version, message.next_id)


def list_namespace_changes_to_pb(since: int) -> pb.ListNamespaceChangesRequest:
    """The request of ListNamespaceChanges: since which version."""
    return pb.ListNamespaceChangesRequest(since=since)


def list_namespace_changes_from_pb(message: pb.ListNamespaceChangesRequest) -> int:
    """The request of ListNamespaceChanges: since which version."""
    return message.since


def namespace_changes_to_pb(changes: NamespaceChanges) -> pb.ListNamespaceChangesReply:
    """The answer to ListNamespaceChanges."""
    return pb.ListNamespaceChangesReply(
        complete=changes.is_complete,
        version=changes.version,
        next_id=changes.next_id,
        namespaces=[namespace_to_pb(namespace) for namespace in changes.namespaces],
        gone=changes.gone,
    )


def namespace_changes_from_pb(message: pb.ListNamespaceChangesReply) -> NamespaceChanges:
    """The answer to ListNamespaceChanges."""
    namespaces = tuple(namespace_from_pb(namespace) for namespace in message.namespaces)
    return NamespaceChanges(message.complete, message.version, message.next_id, namespaces, tuple(message.gone))


# --- status ----------------------------------------------------------------------------------------------------------


def get_status_to_pb() -> pb.GetStatusRequest:
    """The question how the cluster is."""
    return pb.GetStatusRequest()


def status_to_pb(status: ClusterStatus, routing: EncodedRouting) -> pb.GetStatusReply:
    """The answer to GetStatus. `routing`: all of `status.routing`, encoded already."""
    return pb.GetStatusReply(
        cluster_id=status.routing.cluster,
        software=status.software,
        routing=routing,
        targets=[_target_status_to_pb(target) for target in status.targets],
        namespaces=status.namespaces,
        lease_left_ms=[node.lease_left_ns // MILLISECOND for node in status.nodes],
        silent_ms=[-1 if node.heartbeat_age_ns is None else node.heartbeat_age_ns // MILLISECOND for node in status.nodes],
        managers=[manager_to_pb(manager) for manager in status.managers],
        epoch=status.epoch,
        primary_for_ms=status.primary_for_ns // MILLISECOND,
        node_problems=[node.problem for node in status.nodes],
        node_disks=[pb.NodeDisks(disks=disks_to_pb(node.disks)) for node in status.nodes],
        node_releases=[pb.Release() if node.release is None else release_to_pb(node.release) for node in status.nodes],
        clock_skew_ms=[_number_or_none(node.clock_skew_ms) for node in status.nodes],
        certificate_left_ms=[_number_or_none(node.certificate_left_ms) for node in status.nodes],
        store=status.store,
        node_settings=[node_settings_to_pb(node.settings) for node in status.nodes],
        is_secured=status.is_secured,
    )


def _number_or_none(number: int | None) -> int:
    return _NO_NUMBER if number is None else number


def _numbers_or_none(numbers: Sequence[int], count: int, field: str) -> Sequence[int | None]:
    """One for each node; a manager of an older release tells none."""
    found = [None if number == _NO_NUMBER else number for number in numbers] or [None] * count
    if len(found) != count:
        raise malformed(field, f"{len(found)} of {count} nodes")
    return found


def status_from_pb(message: pb.GetStatusReply) -> ClusterStatus:
    """The answer to GetStatus."""
    update = routing_from_pb(message.routing, "GetStatusReply.routing")
    counts = (message.lease_left_ms, message.silent_ms, message.node_problems, message.node_disks)
    if any(len(each) != len(update.delta.nodes) for each in counts):
        raise malformed(
            "GetStatusReply.lease_left_ms",
            f"{len(message.lease_left_ms)} leases, {len(message.silent_ms)} ages, {len(message.node_problems)} problems and "
            f"{len(message.node_disks)} lists of disks of {len(update.delta.nodes)} nodes",
        )
    # A manager of level 1 tells none.
    releases = [
        release_from_pb(each, f"GetStatusReply.node_releases[{at}]") if each.level else None
        for at, each in enumerate(message.node_releases)
    ] or [None] * len(update.delta.nodes)
    if len(releases) != len(update.delta.nodes):
        raise malformed("GetStatusReply.node_releases", f"{len(releases)} of {len(update.delta.nodes)} nodes")
    # An older manager says nothing of them.
    settings = [node_settings_from_pb(each) for each in message.node_settings] or [NodeSettings()] * len(update.delta.nodes)
    if len(settings) != len(update.delta.nodes):
        raise malformed("GetStatusReply.node_settings", f"{len(settings)} of {len(update.delta.nodes)} nodes")
    # A manager of an older version tells none.
    skews = _numbers_or_none(message.clock_skew_ms, len(update.delta.nodes), "GetStatusReply.clock_skew_ms")
    ends = _numbers_or_none(message.certificate_left_ms, len(update.delta.nodes), "GetStatusReply.certificate_left_ms")
    return ClusterStatus(
        software=message.software,
        routing=Routing(message.cluster_id).apply(update.delta, message.cluster_id),
        nodes=tuple(
            NodeStatus(
                node,
                left * MILLISECOND,
                None if age < 0 else age * MILLISECOND,
                problem,
                disks_from_pb(each.disks),
                release,
                applied,
                skew,
                end,
            )
            for node, left, age, problem, each, release, applied, skew, end in zip(
                update.delta.nodes,
                message.lease_left_ms,
                message.silent_ms,
                message.node_problems,
                message.node_disks,
                releases,
                settings,
                skews,
                ends,
                strict=True,
            )
        ),
        targets=tuple(
            _target_status_from_pb(target, f"GetStatusReply.targets[{index}]") for index, target in enumerate(message.targets)
        ),
        namespaces=message.namespaces,
        managers=managers_from_pb(message.managers),
        epoch=message.epoch,
        primary_for_ns=message.primary_for_ms * MILLISECOND,
        store=message.store,
        is_secured=message.is_secured,
    )


def _target_status_to_pb(target: TargetStatus) -> pb.TargetStatus:
    return pb.TargetStatus(
        target_id=target.slot.target,
        node_id=target.slot.node,
        chain_id=target.chain,
        public_state=int(target.slot.state),  # type: ignore[arg-type]
        local_state=int(target.local or 0),  # type: ignore[arg-type]
        chain_version=target.chain_version,
        used_bytes=target.used_bytes,
        free_bytes=target.free_bytes,
        chunks=target.chunks,
        reason=target.reason,
        born=target.born,
        **{name: getattr(target.upkeep, name) for name in _UPKEEP},
    )


def _target_status_from_pb(message: pb.TargetStatus, field: str) -> TargetStatus:
    state = enum_from_pb(PublicState, message.public_state, f"{field}.public_state")
    return TargetStatus(
        chain=ChainId(message.chain_id),
        chain_version=message.chain_version,
        slot=Slot(TargetId(message.target_id), NodeId(message.node_id), state),
        local=enum_from_pb(LocalState, message.local_state, f"{field}.local_state") if message.local_state else None,
        born=message.born,
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        chunks=message.chunks,
        reason=message.reason,
        upkeep=UpkeepProgress(*(getattr(message, name) for name in _UPKEEP)),
    )

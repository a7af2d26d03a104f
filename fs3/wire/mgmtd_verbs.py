"""What the manager's machine is asked and answers, to and from protobuf, and the one table of verbs both sides read.

What arrives is not trusted: every `*_from_pb` raises InvalidArgument naming the malformed field.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from fs3.base.ids import NodeId, TableId, TargetId
from fs3.base.limits import name_bytes_max, namespace_name_bytes_max, tables_max, target_reason_bytes_max, targets_per_node_max
from fs3.base.units import MILLISECOND
from fs3.model.chain import LocalState
from fs3.model.cluster import (
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    EnsureTable,
    GetRouting,
    Heartbeat,
    HeartbeatAck,
    LeaveRequest,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    SetConfig,
    SetNamespace,
)
from fs3.model.generation import Generation
from fs3.model.machine import JoinCluster, MakeToken, RemoveMachine, RevokeToken
from fs3.model.routing import Role
from fs3.model.security import Login
from fs3.model.settings import SetSettings
from fs3.model.target_report import TargetReport, UpkeepProgress
from fs3.wire.directories import (
    claim_from_pb,
    claim_to_pb,
    disks_from_pb,
    disks_to_pb,
    generation_from_pb,
    generation_to_pb,
    target_generation_from_pb,
    target_generation_to_pb,
)
from fs3.wire.malformed import malformed
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import (
    EncodedRouting,
    domain_from_pb,
    endpoints_from_pb,
    enum_from_pb,
    name_from_pb,
    namespace_from_pb,
    namespace_to_pb,
    settings_from_pb,
    settings_to_pb,
)
from fs3.wire.mgmtd_activity import activity_from_pb, activity_to_pb
from fs3.wire.mgmtd_groups import GROUP_VERBS
from fs3.wire.mgmtd_machines import (
    join_ack_from_pb,
    join_ack_to_pb,
    join_from_pb,
    join_to_pb,
    made_token_to_pb,
    make_token_from_pb,
    make_token_to_pb,
    proof_from_pb,
    remove_machine_from_pb,
    remove_machine_to_pb,
    removed_machine_from_pb,
    removed_machine_to_pb,
    revoke_token_from_pb,
    revoke_token_to_pb,
    revoked_token_to_pb,
    set_settings_from_pb,
    set_settings_to_pb,
    settings_version_from_pb,
    settings_version_to_pb,
    token_answer_from_pb,
)
from fs3.wire.mgmtd_moves import MOVE_VERBS
from fs3.wire.mgmtd_queries import get_routing_from_pb, get_routing_to_pb
from fs3.wire.mgmtd_security import SECURITY_VERBS, login_from_pb, login_to_pb
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.pb import mgmtd_pb2 as pb
from fs3.wire.releases import release_from_pb, release_to_pb

_CLUSTER_ID_BYTES = 16
_KEY_DIGEST_BYTES = 32
_TARGETS_MAX = targets_per_node_max * tables_max
_UPKEEP = UpkeepProgress.__struct_fields__
"""Spelled alike in the record and in both messages."""
_upkeep_of = attrgetter(*_UPKEEP)
_LOCAL_STATES = {int(state): state for state in LocalState}

# --- registration ----------------------------------------------------------------------------------------------------


def _register_node_to_pb(request: RegisterNode) -> pb.RegisterNodeRequest:
    return pb.RegisterNodeRequest(
        name=request.name,
        role=int(request.role),  # type: ignore[arg-type]
        cluster_id=request.cluster,
        incarnation=request.incarnation,
        endpoints=request.endpoints,
        host=request.host,
        pid=request.pid,
        targets=request.targets,
        software=request.release.software,
        release=release_to_pb(request.release),
        claims=[claim_to_pb(claim) for claim in request.claims],
        directory=request.directory,
        zone=request.domain.zone,
        rack=request.domain.rack,
        machine=request.proof.machine if request.proof is not None else "",
        machine_key=request.proof.key if request.proof is not None else b"",
        machine_proof=login_to_pb(request.login) if request.login is not None else None,
        by_directory=request.by_directory,
        node_key_digest=request.key_digest,
        disks=disks_to_pb(request.disks),
    )


def _register_node_from_pb(message: pb.RegisterNodeRequest) -> RegisterNode:
    role = enum_from_pb(Role, message.role, "RegisterNodeRequest.role")
    if role is Role.CLIENT:
        raise malformed("RegisterNodeRequest.role", "clients do not register")
    if len(message.cluster_id) not in (0, _CLUSTER_ID_BYTES):
        raise malformed("RegisterNodeRequest.cluster_id", f"{len(message.cluster_id)} bytes, must be 0 or {_CLUSTER_ID_BYTES}")
    if len(message.node_key_digest) not in (0, _KEY_DIGEST_BYTES):
        told = f"{len(message.node_key_digest)} bytes, must be 0 or {_KEY_DIGEST_BYTES}"
        raise malformed("RegisterNodeRequest.node_key_digest", told)
    if len(message.host.encode()) > name_bytes_max:
        raise malformed("RegisterNodeRequest.host", f"longer than {name_bytes_max} bytes")
    if len(message.targets) > _TARGETS_MAX:
        raise malformed("RegisterNodeRequest.targets", f"{len(message.targets)} targets, at most {_TARGETS_MAX} are allowed")
    if len(message.claims) > _TARGETS_MAX:
        raise malformed("RegisterNodeRequest.claims", f"{len(message.claims)} claims, at most {_TARGETS_MAX} are allowed")
    if len(message.directory.encode()) > name_bytes_max:
        raise malformed("RegisterNodeRequest.directory", f"longer than {name_bytes_max} bytes")
    return RegisterNode(
        name=name_from_pb(message.name, "RegisterNodeRequest.name"),
        role=role,
        cluster=message.cluster_id,
        incarnation=message.incarnation,
        endpoints=endpoints_from_pb(message.endpoints, "RegisterNodeRequest.endpoints"),
        host=message.host,
        pid=message.pid,
        targets=tuple(TargetId(target) for target in message.targets),
        claims=tuple(claim_from_pb(claim, f"RegisterNodeRequest.claims[{index}]") for index, claim in enumerate(message.claims)),
        directory=message.directory,
        domain=domain_from_pb(message, "RegisterNodeRequest"),
        release=release_from_pb(message.release, "RegisterNodeRequest.release"),
        proof=proof_from_pb(pb.MachineProof(machine=message.machine, key=message.machine_key), "RegisterNodeRequest")
        if message.machine
        else None,
        by_directory=message.by_directory,
        key_digest=message.node_key_digest,
        disks=disks_from_pb(message.disks),
        login=login_from_pb(message.machine_proof) if message.HasField("machine_proof") else None,
    )


def _registration_to_pb(ack: RegistrationAck, routing: EncodedRouting | None) -> pb.RegisterNodeReply:
    return pb.RegisterNodeReply(
        node_id=ack.node,
        cluster_id=ack.cluster,
        lease_ms=ack.lease_ns // MILLISECOND,
        heartbeat_ms=ack.heartbeat_ns // MILLISECOND,
        routing=routing,
        incarnation=ack.incarnation,
        born_targets=ack.born,
        generations=[target_generation_to_pb(each) for each in ack.generations],
        drained_disks=ack.drained_disks,
    )


def _registration_from_pb(message: pb.RegisterNodeReply) -> RegistrationAck:
    return RegistrationAck(
        node=NodeId(message.node_id),
        cluster=message.cluster_id,
        lease_ns=message.lease_ms * MILLISECOND,
        heartbeat_ns=message.heartbeat_ms * MILLISECOND,
        incarnation=message.incarnation,
        born=tuple(TargetId(target) for target in message.born_targets),
        generations=tuple(
            target_generation_from_pb(each, f"RegisterNodeReply.generations[{index}]")
            for index, each in enumerate(message.generations)
        ),
        drained_disks=tuple(message.drained_disks),
    )


# --- heartbeats ------------------------------------------------------------------------------------------------------


def _report_to_pb(report: TargetReport) -> pb.TargetReport:
    return pb.TargetReport(
        target_id=report.target,
        state=int(report.state),  # type: ignore[arg-type]
        chain_version=report.chain_version,
        used_bytes=report.used_bytes,
        free_bytes=report.free_bytes,
        chunks=report.chunks,
        reason=report.reason,
        unreachable_target_id=report.unreachable or 0,
        generation=None if report.generation is None else generation_to_pb(report.generation),
        **{name: getattr(report.upkeep, name) for name in _UPKEEP},
    )


def _report_from_pb(message: pb.TargetReport, index: int) -> TargetReport:
    # A manager reads tens of thousands a second: where something is wrong is put into words only when something is.
    state = _LOCAL_STATES.get(message.state)
    if state is None:
        state = enum_from_pb(LocalState, message.state, f"HeartbeatRequest.targets[{index}].state")
    has_generation = message.HasField("generation")
    return TargetReport(
        target=TargetId(message.target_id),
        state=state,
        chain_version=message.chain_version,
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        chunks=message.chunks,
        reason=_shortened(message.reason),
        upkeep=UpkeepProgress(*_upkeep_of(message)),
        unreachable=TargetId(message.unreachable_target_id) if message.unreachable_target_id else None,
        generation=_generation_from_pb(message.generation, index) if has_generation else None,
    )


def _generation_from_pb(message: pb.Generation, index: int) -> Generation:
    return generation_from_pb(message, f"HeartbeatRequest.targets[{index}].generation")


def _shortened(text: str) -> str:
    if not text:
        return text
    return text.encode()[:target_reason_bytes_max].decode(errors="ignore")


def _heartbeat_to_pb(request: Heartbeat) -> pb.HeartbeatRequest:
    return pb.HeartbeatRequest(
        node_id=request.node,
        incarnation=request.incarnation,
        seq=request.seq,
        targets=[_report_to_pb(report) for report in request.targets],
        routing_version=request.routing_version,
        config_version=request.config_version,
        leaving=request.leaving,
        problem=request.problem,
        disks=disks_to_pb(request.disks),
        release=release_to_pb(request.release),
        config_problem=request.config_problem,
        wall_ms=request.wall_ms,
        security_version=request.security_version,
        activity=activity_to_pb(request.activity) if request.activity is not None else None,
        certificate_ends_ms=request.certificate_ends_ms,
    )


def _heartbeat_from_pb(message: pb.HeartbeatRequest) -> Heartbeat:
    if not message.seq:
        raise malformed("HeartbeatRequest.seq", "starts at 1")
    if len(message.targets) > _TARGETS_MAX:
        raise malformed("HeartbeatRequest.targets", f"{len(message.targets)} targets, at most {_TARGETS_MAX} are allowed")
    return Heartbeat(
        node=NodeId(message.node_id),
        incarnation=message.incarnation,
        seq=message.seq,
        targets=tuple([_report_from_pb(report, index) for index, report in enumerate(message.targets)]),
        routing_version=message.routing_version,
        leaving=message.leaving,
        config_version=message.config_version,
        problem=_shortened(message.problem),
        disks=disks_from_pb(message.disks),
        release=release_from_pb(message.release, "HeartbeatRequest.release"),
        config_problem=_shortened(message.config_problem),
        wall_ms=message.wall_ms,
        security_version=message.security_version,
        activity=activity_from_pb(message.activity) if message.HasField("activity") else None,
        certificate_ends_ms=message.certificate_ends_ms,
    )


def _heartbeat_ack_to_pb(ack: HeartbeatAck, routing: EncodedRouting | None) -> pb.HeartbeatReply:
    return pb.HeartbeatReply(
        seq=ack.seq,
        lease_ms=ack.lease_ns // MILLISECOND,
        routing_version=ack.routing_version,
        config_version=ack.config_version,
        leave=[
            pb.Leave(target_id=leave.target, chain_version=leave.chain_version, replaced=leave.is_replaced) for leave in ack.leave
        ],
        retired_targets=ack.retired,
        security_version=ack.security_version,
        cluster_ms=ack.cluster_ms,
        drained_disks=ack.drained_disks,
    )


def _heartbeat_ack_from_pb(message: pb.HeartbeatReply) -> HeartbeatAck:
    return HeartbeatAck(
        seq=message.seq,
        lease_ns=message.lease_ms * MILLISECOND,
        routing_version=message.routing_version,
        config_version=message.config_version,
        leave=tuple(LeaveRequest(TargetId(leave.target_id), leave.chain_version, leave.replaced) for leave in message.leave),
        retired=tuple(TargetId(target) for target in message.retired_targets),
        security_version=message.security_version,
        cluster_ms=message.cluster_ms,
        drained_disks=tuple(message.drained_disks),
    )


# --- tables, namespaces, configuration -------------------------------------------------------------------------------


def _ensure_table_to_pb(request: EnsureTable) -> pb.EnsureTableRequest:
    return pb.EnsureTableRequest(replicas=request.replicas)


def _ensure_table_from_pb(message: pb.EnsureTableRequest) -> EnsureTable:
    return EnsureTable(message.replicas)


def _table_id_to_pb(table: TableId, routing: EncodedRouting | None) -> pb.EnsureTableReply:
    return pb.EnsureTableReply(table_id=table, routing=routing)


def _table_id_from_pb(message: pb.EnsureTableReply) -> TableId:
    return TableId(message.table_id)


def _open_namespace_to_pb(request: OpenNamespace) -> pb.OpenNamespaceRequest:
    return pb.OpenNamespaceRequest(
        name=request.name,
        page_bytes=request.page_bytes,
        replicas=request.replicas,
        settings=settings_to_pb(request.settings),
    )


def _open_namespace_from_pb(message: pb.OpenNamespaceRequest) -> OpenNamespace:
    return OpenNamespace(
        _namespace_name_from_pb(message.name, "OpenNamespaceRequest.name"),
        message.page_bytes,
        message.replicas,
        settings_from_pb(message.settings, "OpenNamespaceRequest.settings"),
    )


def _namespace_name_from_pb(text: str, field: str) -> str:
    name = name_from_pb(text, field)
    if len(name.encode()) > namespace_name_bytes_max:
        raise malformed(field, f"longer than {namespace_name_bytes_max} bytes")
    return name


def _opened_namespace_to_pb(namespace: CacheNamespace, routing: EncodedRouting | None) -> pb.OpenNamespaceReply:
    return pb.OpenNamespaceReply(namespace=namespace_to_pb(namespace), routing=routing)


def _opened_namespace_from_pb(message: pb.OpenNamespaceReply) -> CacheNamespace:
    return namespace_from_pb(message.namespace)


def _delete_namespace_to_pb(request: DeleteNamespace) -> pb.DeleteNamespaceRequest:
    return pb.DeleteNamespaceRequest(name=request.name, made_as=request.made_as)


def _delete_namespace_from_pb(message: pb.DeleteNamespaceRequest) -> DeleteNamespace:
    return DeleteNamespace(_namespace_name_from_pb(message.name, "DeleteNamespaceRequest.name"), message.made_as)


def _deleted_namespace_to_pb(_: int, routing: EncodedRouting | None) -> pb.DeleteNamespaceReply:
    return pb.DeleteNamespaceReply()


def _deleted_namespace_from_pb(_: pb.DeleteNamespaceReply) -> None:
    return None


def _set_namespace_to_pb(request: SetNamespace) -> pb.SetNamespaceRequest:
    return pb.SetNamespaceRequest(name=request.name, settings=settings_to_pb(request.settings))


def _set_namespace_from_pb(message: pb.SetNamespaceRequest) -> SetNamespace:
    return SetNamespace(
        _namespace_name_from_pb(message.name, "SetNamespaceRequest.name"),
        settings_from_pb(message.settings, "SetNamespaceRequest.settings"),
    )


def _set_answer_to_pb(namespace: CacheNamespace, routing: EncodedRouting | None) -> pb.SetNamespaceReply:
    return pb.SetNamespaceReply(namespace=namespace_to_pb(namespace))


def _clear_namespace_to_pb(request: ClearNamespace) -> pb.ClearNamespaceRequest:
    return pb.ClearNamespaceRequest(name=request.name, id=request.id)


def _clear_namespace_from_pb(message: pb.ClearNamespaceRequest) -> ClearNamespace:
    return ClearNamespace(_namespace_name_from_pb(message.name, "ClearNamespaceRequest.name"), message.id)


def _clear_answer_to_pb(namespace: CacheNamespace, routing: EncodedRouting | None) -> pb.ClearNamespaceReply:
    return pb.ClearNamespaceReply(namespace=namespace_to_pb(namespace))


def _namespace_answer_from_pb(message: pb.SetNamespaceReply | pb.ClearNamespaceReply) -> CacheNamespace:
    return namespace_from_pb(message.namespace)


def _set_config_to_pb(request: SetConfig) -> pb.SetConfigRequest:
    role: Any = int(request.role)
    return pb.SetConfigRequest(role=role, toml=request.toml, expected_version=request.expected_version)


def _set_config_from_pb(message: pb.SetConfigRequest) -> SetConfig:
    return SetConfig(enum_from_pb(Role, message.role, "SetConfigRequest.role"), message.toml, message.expected_version)


def _config_version_to_pb(version: int, routing: EncodedRouting | None) -> pb.SetConfigReply:
    return pb.SetConfigReply(version=version)


def _config_version_from_pb(message: pb.SetConfigReply) -> int:
    return message.version


# --- the table -------------------------------------------------------------------------------------------------------


def set_known_routing(message: Any, known: GetRouting) -> None:
    """Say in the request of a verb with `has_routing` which routing info the client has."""
    message.known.CopyFrom(get_routing_to_pb(known))


def set_machine_proof(message: Any, login: Login) -> Any:
    """Say how a registration is proved. Returns the message."""
    message.machine_proof.CopyFrom(login_to_pb(login))
    return message


def known_routing_of(message: Any) -> GetRouting:
    """Which routing info the client has, from the request of a verb with `has_routing`; none, when it does not say."""
    return get_routing_from_pb(message.known)


VERBS: dict[type[Any], MgmtdVerb] = {
    **MOVE_VERBS,
    **SECURITY_VERBS,
    **GROUP_VERBS,
    RegisterNode: MgmtdVerb(
        MGMTD.RegisterNode,
        _register_node_to_pb,
        _register_node_from_pb,
        _registration_to_pb,
        _registration_from_pb,
        has_routing=True,
    ),
    Heartbeat: MgmtdVerb(MGMTD.Heartbeat, _heartbeat_to_pb, _heartbeat_from_pb, _heartbeat_ack_to_pb, _heartbeat_ack_from_pb),
    EnsureTable: MgmtdVerb(
        MGMTD.EnsureTable,
        _ensure_table_to_pb,
        _ensure_table_from_pb,
        _table_id_to_pb,
        _table_id_from_pb,
        has_routing=True,
    ),
    OpenNamespace: MgmtdVerb(
        MGMTD.OpenNamespace,
        _open_namespace_to_pb,
        _open_namespace_from_pb,
        _opened_namespace_to_pb,
        _opened_namespace_from_pb,
        has_routing=True,
    ),
    DeleteNamespace: MgmtdVerb(
        MGMTD.DeleteNamespace,
        _delete_namespace_to_pb,
        _delete_namespace_from_pb,
        _deleted_namespace_to_pb,
        _deleted_namespace_from_pb,
    ),
    SetNamespace: MgmtdVerb(
        MGMTD.SetNamespace,
        _set_namespace_to_pb,
        _set_namespace_from_pb,
        _set_answer_to_pb,
        _namespace_answer_from_pb,
    ),
    ClearNamespace: MgmtdVerb(
        MGMTD.ClearNamespace,
        _clear_namespace_to_pb,
        _clear_namespace_from_pb,
        _clear_answer_to_pb,
        _namespace_answer_from_pb,
    ),
    SetConfig: MgmtdVerb(MGMTD.SetConfig, _set_config_to_pb, _set_config_from_pb, _config_version_to_pb, _config_version_from_pb),
    JoinCluster: MgmtdVerb(MGMTD.JoinCluster, join_to_pb, join_from_pb, join_ack_to_pb, join_ack_from_pb),
    MakeToken: MgmtdVerb(MGMTD.MakeToken, make_token_to_pb, make_token_from_pb, made_token_to_pb, token_answer_from_pb),
    RevokeToken: MgmtdVerb(
        MGMTD.RevokeToken, revoke_token_to_pb, revoke_token_from_pb, revoked_token_to_pb, token_answer_from_pb
    ),
    RemoveMachine: MgmtdVerb(
        MGMTD.RemoveMachine, remove_machine_to_pb, remove_machine_from_pb, removed_machine_to_pb, removed_machine_from_pb
    ),
    SetSettings: MgmtdVerb(
        MGMTD.SetSettings, set_settings_to_pb, set_settings_from_pb, settings_version_to_pb, settings_version_from_pb
    ),
}
"""Type of the request -> how it is written."""

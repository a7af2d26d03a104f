"""Requests to the manager's events. What arrives is checked here; InvalidArgument names the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

import msgspec

from fs3.base.errors import error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import (
    config_bytes_max,
    name_bytes_max,
    namespace_name_bytes_max,
    tables_max,
    target_reason_bytes_max,
    targets_per_node_max,
)
from fs3.base.status import Code
from fs3.core.membership.events import (
    EnsureTable,
    Heartbeat,
    OpenNamespace,
    RegisterNode,
    SetConfig,
    TargetReport,
    UpkeepProgress,
)
from fs3.model.chain import LocalState
from fs3.model.routing import Role
from fs3.runtime.config import parse_config
from fs3.wire.mgmtd import endpoints_from_pb, enum_from_pb, malformed, name_from_pb
from fs3.wire.pb import mgmtd_pb2 as pb

Schemas = Mapping[Role, type[msgspec.Struct]]
"""What the distributed configuration of each role may say. A record with a method `check` is asked whether it makes sense."""

_CLUSTER_ID_BYTES = 16
_REPAIR = tuple(field.name for field in fields(UpkeepProgress))
_TARGETS_MAX = targets_per_node_max * tables_max


def register_node(token: int, request: pb.RegisterNodeRequest) -> RegisterNode:
    """A registration."""
    role = enum_from_pb(Role, request.role, "RegisterNodeRequest.role")
    if role is Role.CLIENT:
        raise malformed("RegisterNodeRequest.role", "clients do not register")
    if len(request.cluster_id) not in (0, _CLUSTER_ID_BYTES):
        raise malformed("RegisterNodeRequest.cluster_id", f"{len(request.cluster_id)} bytes, must be 0 or {_CLUSTER_ID_BYTES}")
    if len(request.host.encode()) > name_bytes_max:
        raise malformed("RegisterNodeRequest.host", f"longer than {name_bytes_max} bytes")
    if len(request.targets) > _TARGETS_MAX:
        raise malformed("RegisterNodeRequest.targets", f"{len(request.targets)} targets, at most {_TARGETS_MAX} are allowed")
    return RegisterNode(
        token,
        name=name_from_pb(request.name, "RegisterNodeRequest.name"),
        role=role,
        cluster=request.cluster_id,
        incarnation=request.incarnation,
        endpoints=endpoints_from_pb(request.endpoints, "RegisterNodeRequest.endpoints"),
        host=request.host,
        pid=request.pid,
        targets=tuple(TargetId(target) for target in request.targets),
    )


def heartbeat(token: int, request: pb.HeartbeatRequest) -> Heartbeat:
    """A heartbeat."""
    if not request.seq:
        raise malformed("HeartbeatRequest.seq", "starts at 1")
    if len(request.targets) > _TARGETS_MAX:
        raise malformed("HeartbeatRequest.targets", f"{len(request.targets)} targets, at most {_TARGETS_MAX} are allowed")
    reports = tuple(
        TargetReport(
            TargetId(report.target_id),
            enum_from_pb(LocalState, report.state, f"HeartbeatRequest.targets[{index}].state"),
            report.chain_version,
            report.used_bytes,
            report.free_bytes,
            report.chunks,
            report.reason.encode()[:target_reason_bytes_max].decode(errors="ignore"),
            UpkeepProgress(*(getattr(report, name) for name in _REPAIR)),
            TargetId(report.unreachable_target_id) if report.unreachable_target_id else None,
        )
        for index, report in enumerate(request.targets)
    )
    return Heartbeat(
        token, NodeId(request.node_id), request.incarnation, request.seq, reports, request.routing_version, request.leaving
    )


def ensure_table(token: int, request: pb.EnsureTableRequest) -> EnsureTable:
    """A wish for a table."""
    return EnsureTable(token, request.replicas)


def open_namespace(token: int, request: pb.OpenNamespaceRequest) -> OpenNamespace:
    """A wish for a namespace."""
    name = name_from_pb(request.name, "OpenNamespaceRequest.name")
    if len(name.encode()) > namespace_name_bytes_max:
        raise malformed("OpenNamespaceRequest.name", f"longer than {namespace_name_bytes_max} bytes")
    return OpenNamespace(token, name, request.page_bytes, request.replicas)


def set_config(schemas: Schemas) -> Callable[[int, pb.SetConfigRequest], SetConfig]:
    """A new configuration; FS3Error CONFIG naming the key that the role's schema refuses."""

    def convert(token: int, request: pb.SetConfigRequest) -> SetConfig:
        role = enum_from_pb(Role, request.role, "SetConfigRequest.role")
        schema = schemas.get(role)
        if schema is None:
            raise error(Code.CONFIG, f"role {role.name.lower()} has no distributed configuration")
        if len(request.toml.encode()) > config_bytes_max:
            raise error(Code.TOO_LARGE, f"a configuration has at most {config_bytes_max} bytes")
        source = f"configuration of role {role.name.lower()}"
        parsed = parse_config(schema, request.toml, source)
        check = getattr(parsed, "check", None)
        if check is not None:
            try:
                check()
            except ValueError as wrong:
                raise error(Code.CONFIG, f"{source}: {wrong}") from wrong
        return SetConfig(token, role, request.toml, request.expected_version)

    return convert

"""Cluster records to and from protobuf.

What arrives is not trusted: every `*_from_pb` raises InvalidArgument that names the malformed field.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from fs3.base.errors import InvalidArgument
from fs3.base.ids import PAGE_SALT_BYTES, ChainId, NodeId, TableId
from fs3.base.limits import name_bytes_max, owner_bytes_max, replicas_max, tenant_bytes_max
from fs3.model.chain import Chain, ChainTable, PublicState, Slot
from fs3.model.cluster import CacheNamespace, ManagerInfo, NamespaceSettings, RoutingUpdate
from fs3.model.domain import Domain
from fs3.model.routing import Delta, Node, Role
from fs3.wire.malformed import malformed
from fs3.wire.pb import mgmtd_pb2 as pb

endpoint_bytes_max = 512

endpoints_per_node_max = 8

EncodedRouting = pb.RoutingUpdate
"""A routing update as it goes out. Whoever makes it once for many readers hands it on and does not look inside."""

E = TypeVar("E", bound=IntEnum)


def enum_from_pb(kind: type[E], number: int, field: str) -> E:
    """A member of an enum whose numbers are the wire's; 0 and numbers of a newer peer are refused."""
    try:
        return kind(number)
    except ValueError:
        raise malformed(field, f"{number} is not a {kind.__name__}") from None


def _id(number: int, field: str) -> int:
    if not number:
        raise malformed(field, "is 0, must be at least 1")
    return number


def endpoints_from_pb(endpoints: Iterable[str], field: str) -> tuple[str, ...]:
    """Endpoint strings: "scheme://rest", a bounded number of them."""
    found = tuple(endpoints)
    if len(found) > endpoints_per_node_max:
        raise malformed(field, f"{len(found)} endpoints, at most {endpoints_per_node_max} are allowed")
    for index, endpoint in enumerate(found):
        scheme, separator, rest = endpoint.partition("://")
        if not (scheme and separator and rest):
            raise malformed(f"{field}[{index}]", f"{endpoint!r} is not an endpoint such as tcp://host:port")
        if len(endpoint.encode()) > endpoint_bytes_max:
            raise malformed(f"{field}[{index}]", f"longer than {endpoint_bytes_max} bytes")
    return found


def name_from_pb(name: str, field: str) -> str:
    """A name people chose: not empty, bounded, printable."""
    if not name:
        raise malformed(field, "is empty")
    if len(name.encode()) > name_bytes_max:
        raise malformed(field, f"longer than {name_bytes_max} bytes")
    if not name.isprintable():
        raise malformed(field, f"{name!r} has characters that cannot be printed")
    return name


def domain_from_pb(message: pb.Node | pb.RegisterNodeRequest, field: str) -> Domain:
    """The failure domains of a node: names, or nothing."""
    for name, label in (("zone", message.zone), ("rack", message.rack)):
        if label:
            name_from_pb(label, f"{field}.{name}")
    return Domain(message.zone, message.rack)


def node_to_pb(node: Node) -> pb.Node:
    """One node."""
    return pb.Node(
        id=node.id,
        name=node.name,
        role=int(node.role),  # type: ignore[arg-type]
        endpoints=node.endpoints,
        host=node.host,
        incarnation=node.incarnation,
        alive=node.alive,
        pid=node.pid,
        zone=node.domain.zone,
        rack=node.domain.rack,
        by_directory=node.by_directory,
    )


def node_from_pb(message: pb.Node, field: str = "Node") -> Node:
    """One node."""
    return Node(
        id=NodeId(_id(message.id, f"{field}.id")),
        name=name_from_pb(message.name, f"{field}.name"),
        role=enum_from_pb(Role, message.role, f"{field}.role"),
        endpoints=endpoints_from_pb(message.endpoints, f"{field}.endpoints"),
        host=message.host,
        incarnation=message.incarnation,
        alive=message.alive,
        pid=message.pid,
        domain=domain_from_pb(message, field),
        by_directory=message.by_directory,
    )


def chain_to_pb(chain: Chain) -> pb.Chain:
    """One chain."""
    slots = [pb.Slot(target_id=slot.target, node_id=slot.node, state=int(slot.state)) for slot in chain.slots]  # type: ignore[arg-type]
    return pb.Chain(id=chain.id, version=chain.version, slots=slots)


def chain_from_pb(message: pb.Chain, field: str = "Chain") -> Chain:
    """One chain. No two of its slots may name one target."""
    # A client reads tens of thousands at its start: what is wrong, and where, is put into words only when something is.
    states = _PUBLIC_STATES
    slots = tuple([Slot(slot.target_id, slot.node_id, states.get(slot.state)) for slot in message.slots])  # type: ignore[arg-type]
    if not (message.id and message.version and 1 <= len(slots) <= replicas_max and all(map(all, map(_slot_ids, slots)))):
        raise _malformed_chain(message, field)
    if len({slot.target for slot in slots}) != len(slots):
        raise malformed(f"{field}.slots", "two slots name one target")
    return Chain(ChainId(message.id), message.version, slots)


_PUBLIC_STATES = {int(state): state for state in PublicState}


def _slot_ids(slot: Slot) -> tuple[int, int, PublicState]:
    return slot.target, slot.node, slot.state


def _malformed_chain(message: pb.Chain, field: str) -> InvalidArgument:
    """The first thing that is wrong with a chain."""
    if not 1 <= len(message.slots) <= replicas_max:
        return malformed(f"{field}.slots", f"{len(message.slots)} slots, must be 1 to {replicas_max}")
    try:
        for index, slot in enumerate(message.slots):
            _id(slot.target_id, f"{field}.slots[{index}].target_id")
            _id(slot.node_id, f"{field}.slots[{index}].node_id")
            enum_from_pb(PublicState, slot.state, f"{field}.slots[{index}].state")
        _id(message.id, f"{field}.id")
        _id(message.version, f"{field}.version")
    except InvalidArgument as wrong:
        return wrong
    raise AssertionError("nothing is wrong with it")


def table_to_pb(table: ChainTable) -> pb.ChainTable:
    """One chain table."""
    return pb.ChainTable(id=table.id, version=table.version, replicas=table.replicas, chains=table.chains)


def table_from_pb(message: pb.ChainTable, field: str = "ChainTable") -> ChainTable:
    """One chain table."""
    if not 1 <= message.replicas <= replicas_max:
        raise malformed(f"{field}.replicas", f"{message.replicas}, must be 1 to {replicas_max}")
    if not message.chains:
        raise malformed(f"{field}.chains", "is empty")
    chains = tuple(ChainId(_id(chain, f"{field}.chains[{index}]")) for index, chain in enumerate(message.chains))
    return ChainTable(TableId(_id(message.id, f"{field}.id")), message.version, message.replicas, chains)


def manager_to_pb(manager: ManagerInfo) -> pb.Manager:
    """One manager."""
    return pb.Manager(name=manager.name, endpoints=manager.endpoints, is_primary=manager.is_primary)


def managers_from_pb(messages: Iterable[pb.Manager]) -> tuple[ManagerInfo, ...]:
    """Managers. Their endpoints are not checked here: one that cannot be used must not hide the others."""
    return tuple(ManagerInfo(manager.name, tuple(manager.endpoints), manager.is_primary) for manager in messages)


def namespace_to_pb(namespace: CacheNamespace) -> pb.Namespace:
    """One KVCache namespace."""
    return pb.Namespace(
        id=namespace.id,
        name=namespace.name,
        page_bytes=namespace.page_bytes,
        replicas=namespace.replicas,
        table_id=namespace.table,
        budget_bytes=namespace.budget_bytes,
        ttl_ms=namespace.ttl_ms,
        pin_bytes=namespace.pin_bytes,
        owner=namespace.owner,
        first_id=namespace.first_id,
        salt=namespace.salt,
        tenant=namespace.tenant,
    )


def namespace_from_pb(message: pb.Namespace) -> CacheNamespace:
    """One KVCache namespace. Raises INVALID for a salt that is too long."""
    if len(message.salt) > PAGE_SALT_BYTES:
        raise malformed("namespace.salt", f"{len(message.salt)} bytes; at most {PAGE_SALT_BYTES} are allowed")
    return CacheNamespace(
        message.id,
        message.name,
        message.page_bytes,
        message.replicas,
        TableId(message.table_id),
        budget_bytes=message.budget_bytes,
        ttl_ms=message.ttl_ms,
        pin_bytes=message.pin_bytes,
        owner=message.owner,
        first_id=message.first_id,
        salt=message.salt,
        tenant=message.tenant,
    )


def settings_to_pb(settings: NamespaceSettings) -> pb.NamespaceSettings:
    """Settings of a KVCache namespace, those that are named."""
    return pb.NamespaceSettings(
        budget_bytes=settings.budget_bytes,
        ttl_ms=settings.ttl_ms,
        pin_bytes=settings.pin_bytes,
        owner=settings.owner,
        tenant=settings.tenant,
    )


def settings_from_pb(message: pb.NamespaceSettings, field: str) -> NamespaceSettings:
    """Settings of a KVCache namespace. What they may be is for the manager to say."""
    for name, most in (("owner", owner_bytes_max), ("tenant", tenant_bytes_max)):
        text = getattr(message, name)
        if len(text.encode()) > most:
            raise malformed(f"{field}.{name}", f"longer than {most} bytes")
        if not text.isprintable():
            raise malformed(f"{field}.{name}", f"{text!r} has characters that cannot be printed")
    named = {name: getattr(message, name) for name in NamespaceSettings.__struct_fields__ if message.HasField(name)}
    return NamespaceSettings(**named)


def routing_to_pb(update: RoutingUpdate) -> EncodedRouting:
    """An update: a delta, or a whole snapshot (`Routing.to_full_delta`)."""
    delta = update.delta
    return pb.RoutingUpdate(
        cluster_id=update.cluster,
        version=delta.version,
        from_version=delta.from_version,
        nodes=[node_to_pb(node) for node in delta.nodes],
        chains=[chain_to_pb(chain) for chain in delta.chains],
        tables=[table_to_pb(table) for table in delta.tables],
        removed_nodes=delta.removed_nodes,
        managers=[manager_to_pb(manager) for manager in update.managers],
        namespace_deletions=delta.namespace_deletions,
        namespaces_version=delta.namespaces_version,
    )


def routing_from_pb(message: EncodedRouting, field: str = "RoutingUpdate") -> RoutingUpdate:
    """An update."""
    if message.from_version > message.version:
        raise malformed(f"{field}.from_version", f"{message.from_version} is after version {message.version}")
    delta = Delta(
        from_version=message.from_version,
        version=message.version,
        nodes=tuple(node_from_pb(node, f"{field}.nodes[{index}]") for index, node in enumerate(message.nodes)),
        chains=tuple(chain_from_pb(chain, f"{field}.chains[{index}]") for index, chain in enumerate(message.chains)),
        tables=tuple(table_from_pb(table, f"{field}.tables[{index}]") for index, table in enumerate(message.tables)),
        removed_nodes=tuple(NodeId(node) for node in message.removed_nodes),
        namespace_deletions=message.namespace_deletions,
        namespaces_version=message.namespaces_version,
    )
    return RoutingUpdate(delta, message.cluster_id, managers_from_pb(message.managers))

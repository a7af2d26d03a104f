"""Which node of the cluster is at the other end of a connection."""

from __future__ import annotations

from fs3.base.ids import NodeId, TargetId
from fs3.model.chain import Chain
from fs3.model.principal import AuthContext, Principal, PrincipalKind, Right
from fs3.model.routing import Routing

_STORAGE = int(Right.STORAGE)
"""A plain number: every forwarded update is looked at with it."""


def is_node(principal: Principal, node: NodeId, routing: Routing) -> bool:
    """The principal is this node: by its id, or, with a ticket from before its first registration, by its name."""
    if principal.kind is not PrincipalKind.SERVICE:
        return False
    if principal.node:
        return principal.node == node
    known = routing.nodes.get(node)
    return known is not None and known.name == principal.name


def speaks_for(auth: AuthContext, chain: Chain | None, target: TargetId, routing: Routing) -> bool:
    """What the connection says in the name of a target of a chain is said by the node that has it.

    True also where the chain has no such target: what a target may say is decided by the chain version and its place, and is
    refused then. In a cluster without security every connection speaks for every target.
    """
    if auth.principal is None:
        return bool(auth.rights & _STORAGE)
    slot = chain.slot(target) if chain is not None else None
    return slot is None or is_node(auth.principal, slot.node, routing)

"""Which process may be which node: what speaks against a registration or a heartbeat, and what to tell the process then."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.version import Release, explain_conflict
from fs3.core.membership.events import Rejection
from fs3.core.membership.state import ClusterRow
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.model.moves import RemovedNode, RetiredTarget
from fs3.model.routing import Node


class RequestRejected(Exception):
    """A request cannot be granted."""

    def __init__(self, code: Code, message: str) -> None:
        self.rejection = Rejection(code, message)


def check_cluster(cluster: ClusterRow, event: RegisterNode) -> None:
    """RequestRejected unless the data of the process belongs to this cluster, or to none yet."""
    if event.cluster and event.cluster != cluster.id:
        raise RequestRejected(
            Code.WRONG_CLUSTER,
            f"node {event.name!r} belongs to cluster {event.cluster.hex()}, this is {cluster.id.hex()} ({cluster.name})",
        )


def check_release(release: Release, event: RegisterNode) -> None:
    """RequestRejected unless what the process runs and what this manager runs work side by side."""
    if conflict := explain_conflict(event.release, release):
        raise RequestRejected(Code.PROTOCOL, f"node {event.name!r} runs {conflict}")


def admit_incarnation(known: Node | None, event: RegisterNode, *, alive: bool, unheard: bool) -> int:
    """The incarnation under which a process may have its name; RequestRejected when it may not.

    `known`: the node that has the name. `alive`: its lease may be running. `unheard`: this manager has given it its incarnation,
    and no heartbeat under it has come.
    """
    if known is None:
        return event.incarnation or 1
    if event.role is not known.role:
        raise RequestRejected(Code.INVALID, f"node {known.name!r} is a {known.role.name}, not a {event.role.name}")
    if event.incarnation and event.incarnation < known.incarnation:
        raise RequestRejected(Code.OLD_INCARNATION, superseded_message(known, event.incarnation))
    is_same_directory = (event.host, event.directory) == (known.host, known.directory)
    # It asks again, because the answer was lost. One that has no incarnation, of a node that was heard under its own, is another
    # process with the same pid, as in a container: it has an empty directory, and what the former one has sent may still arrive.
    if is_same_directory and (event.pid, event.endpoints) == (known.pid, known.endpoints) and (event.incarnation or unheard):
        return event.incarnation or known.incarnation
    # The lock of its directory proves that the former process of that directory has ended. Of another one, only time does.
    has_lock = is_same_directory and (event.directory or event.incarnation > known.incarnation)
    if alive and not (event.incarnation and has_lock):
        raise RequestRejected(
            Code.BUSY,
            f"node {known.name!r} may still run: {_describe(known)}; {_describe(event)} with another directory takes its place "
            "once its lease has run out",
        )
    # What a copy of a directory counts, the former process may have counted too.
    return event.incarnation if event.incarnation > known.incarnation else known.incarnation + 1


def _describe(process: Node | RegisterNode) -> str:
    return f"process {process.pid} at {', '.join(process.endpoints) or 'no endpoint'}"


def check_targets(
    number: NodeId,
    event: RegisterNode,
    targets_by_node: Mapping[NodeId, Mapping[TargetId, ChainId]],
    nodes: Mapping[NodeId, Node],
    retired: Mapping[TargetId, RetiredTarget],
) -> None:
    """RequestRejected when the process has data of a target that is not this node's. `retired`: in no chain any more; the node
    will be told to delete them."""
    own = targets_by_node.get(number, {})
    for target in event.targets:
        if target in own or ((gone := retired.get(target)) is not None and gone.node == number):
            continue
        owner = next((node for node, targets in targets_by_node.items() if target in targets), None)
        where = f"it belongs to node {nodes[owner].name!r}" if owner else "it belongs to no chain"
        raise RequestRejected(Code.INVALID, f"node {event.name!r} has data of target {target}, but {where}")


def check_removed(removed: RemovedNode, event: RegisterNode) -> None:
    """RequestRejected when a process comes back with the directory of a node that is not one of the cluster any more."""
    if event.cluster or event.targets:
        how = "forgotten, because it was not heard" if removed.was_forgotten else "removed"
        raise RequestRejected(
            Code.NODE_REMOVED,
            f"node {event.name!r} was {how}: what it had is on other nodes. Its directory is of no use any more; with an "
            "empty one it joins as a new node",
        )


def check_heartbeat(node: Node | None, event: Heartbeat, newest_version: int) -> Node:
    """The node a heartbeat is of; RequestRejected when it is of none. `newest_version`: newest routing this manager knows of."""
    if node is None:
        raise RequestRejected(Code.UNKNOWN_NODE, f"node {event.node} is not registered here")
    if event.incarnation < node.incarnation:
        raise RequestRejected(Code.OLD_INCARNATION, superseded_message(node, event.incarnation))
    if event.incarnation > node.incarnation:
        raise RequestRejected(Code.UNKNOWN_NODE, f"incarnation {event.incarnation} of node {node.name!r} has not registered")
    if event.routing_version > newest_version:
        # Nothing is published before it is stored. Chains may be further than this store knows, so it must decide nothing.
        raise RequestRejected(
            Code.STALE,
            f"node {node.name!r} has routing version {event.routing_version}, the newest of this manager is {newest_version}: "
            "the manager's store is older than the cluster, perhaps an old copy",
        )
    return node


def superseded_message(node: Node, incarnation: int) -> str:
    """What to tell a process that was replaced."""
    return f"incarnation {incarnation} of node {node.name!r} is over, {node.incarnation} has registered"

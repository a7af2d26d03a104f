"""What clients, nodes and managers say to each other: each request of the management service and its answer, as a record.

Times are nanoseconds; on the wire they are whole milliseconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.version import UNTOLD_RELEASE, Release
from fs3.model.activity import NodeActivity
from fs3.model.chain import LocalState, Slot
from fs3.model.domain import Domain
from fs3.model.generation import TargetClaim, TargetGeneration
from fs3.model.machine import MachineProof
from fs3.model.routing import Delta, Node, Role, Routing
from fs3.model.security import Login
from fs3.model.target_report import TargetReport, UpkeepProgress

# --- nodes -----------------------------------------------------------------------------------------------------------


class DiskSpace(msgspec.Struct, frozen=True):
    """How much room there is where a process keeps its data."""

    path: str
    total_bytes: int
    free_bytes: int
    device: int = 0
    """The host's number of the file system: directories with one number share their room. 0: it does not say."""
    targets: tuple[TargetId, ...] = ()
    """Of a storage node: those it has there."""
    is_drained: bool = False
    """The node knows that the disk is to hold nothing: it puts no new target there."""


class RegisterNode(msgspec.Struct, frozen=True):
    """A process announces itself. Answered with `RegistrationAck`."""

    name: str
    role: Role
    cluster: bytes
    """Id of the cluster it belongs to; b"" when it has never joined one."""
    incarnation: int
    """0: it knows none, because its directory is new; the manager gives one out."""
    endpoints: tuple[str, ...]
    host: str
    pid: int = 0
    targets: tuple[TargetId, ...] = ()
    """Targets it has data of."""
    claims: tuple[TargetClaim, ...] = ()
    """How far the directory of each of these is."""
    directory: str = ""
    """Which locked directory the process has, as its host numbers them; "" when it has none. A process that has the lock of a
    former one proves that that one has ended."""
    release: Release = UNTOLD_RELEASE
    """What the process runs."""
    proof: MachineProof | None = None
    """Of the machine that the process is on, where machines join the cluster."""
    by_directory: bool = False
    """See `Node`."""
    domain: Domain = Domain()
    """Where the node stands."""
    key_digest: bytes = b""
    """Of the key that the node will prove itself with; b"": it has none, or the one of its machine."""
    disks: tuple[DiskSpace, ...] = ()
    """Of the process: the first chains go by their sizes."""
    is_proved: bool = False
    """The connection has proved that it is this node: filled in by the manager that is asked."""
    login: Login | None = None
    """In place of `proof` on the wire: answers a challenge for the machine and the node."""


class RegistrationAck(msgspec.Struct, frozen=True):
    """Answer to `RegisterNode`."""

    node: NodeId
    cluster: bytes
    lease_ns: int
    """How long a lease lasts, counted from the sending of the heartbeat that earns it."""
    heartbeat_ns: int
    """How often the node shall send heartbeats."""
    incarnation: int = 1
    """The one that was registered: the request's, or the one given out."""
    born: tuple[TargetId, ...] = ()
    """Targets of the node that have been complete at least once: one of them without data has lost it."""
    generations: tuple[TargetGeneration, ...] = ()
    """What the manager remembers of the node's targets, the registration included."""
    drained_disks: tuple[str, ...] = ()
    """Paths of its disks that are to hold nothing."""


class Heartbeat(msgspec.Struct, frozen=True):
    """A node reports. Answered with `HeartbeatAck`."""

    node: NodeId
    incarnation: int
    seq: int
    """Rises with every heartbeat of this incarnation, from 1."""
    targets: tuple[TargetReport, ...] = ()
    routing_version: int = 0
    """Newest routing the node has applied."""
    leaving: bool = False
    """The node hands over and serves no more."""
    config_version: int = 0
    """Newest configuration of its role the node has applied."""
    problem: str = ""
    """What is wrong with what the node keeps besides targets; empty when nothing is."""
    disks: tuple[DiskSpace, ...] = ()
    """Of the process."""
    release: Release = UNTOLD_RELEASE
    """What the process runs."""
    config_problem: str = ""
    """Why `config_version` could not be applied, so that the one before is in force; "": it is applied."""
    wall_ms: int = 0
    """Time of day when it was sent, in milliseconds since the epoch; 0: not said. For people; decides nothing."""
    security_version: int = 0
    """Of the `KeyBundle` that the node has; 0: it has none."""
    activity: NodeActivity | None = None
    """What the process has done since it began; None: it does not say."""
    certificate_ends_ms: int = 0
    """When the TLS certificate that it shows ends, by time of day; 0: it shows none, or does not say. For people."""


class LeaveRequest(NamedTuple):
    """A target is asked to leave its chain. Under any other version of the chain it is not meant."""

    target: TargetId
    chain_version: int
    is_replaced: bool = False
    """Another target takes its place; else a link between two targets of the chain carries nothing."""


class HeartbeatAck(msgspec.Struct, frozen=True):
    """Answer to `Heartbeat`."""

    seq: int
    """Of the heartbeat that is answered: the lease counts from the sending of that one."""
    lease_ns: int
    """0: no lease before newer routing is applied."""
    routing_version: int
    """What the node should apply. In the answer to one that leaves: the version in which it has been replaced."""
    config_version: int
    leave: tuple[LeaveRequest, ...] = ()
    """Targets of the node that are asked to leave their chains."""
    retired: tuple[TargetId, ...] = ()
    """Targets it has mentioned that are in no chain any more: it deletes what it has of them."""
    security_version: int = 0
    """Of the newest `KeyBundle`; 0: there is none."""
    cluster_ms: int = 0
    """The time of the cluster."""
    drained_disks: tuple[str, ...] = ()
    """Paths of its disks that are to hold nothing."""


# --- tables, namespaces, configuration -------------------------------------------------------------------------------


class EnsureTable(msgspec.Struct, frozen=True):
    """A client needs chains of so many replicas (0: the default). Answered with the `TableId`."""

    replicas: int


class CacheNamespace(msgspec.Struct, frozen=True, array_like=True):
    """A KVCache namespace. Also a row of the manager's store: new fields go at the end with a default."""

    id: int
    name: str
    page_bytes: int
    replicas: int
    table: TableId
    budget_bytes: int = 0
    """What its pages may take, each counted once, whatever the number of replicas; 0: as much as there is."""
    ttl_ms: int = 0
    """A page is removed so long after it was stored; 0: it stays."""
    pin_bytes: int = 0
    """What hard pins may hold, counted as the budget is; 0: there are none."""
    owner: str = ""
    """Whoever it belongs to, for people and for sums by owner."""
    first_id: int = 0
    """The id it was made with; 0: its own. To clear a namespace is to give it another id, under which there are no pages."""
    salt: bytes = b""
    """Random bytes that came with the id. Pages are hashed with both: should a manager's store that was put back from an old copy
    give the id out again, the pages of the one are none of the other. A client of another tenant is not told them, and so cannot
    name the page of a key."""
    tenant: str = ""
    """Whose it is: users of another tenant are refused whatever they want of it. "": of users that belong to none."""

    @property
    def made_as(self) -> int:
        """The id it was made with: it tells a namespace that was cleared from another one of the same name."""
        return self.first_id or self.id


class NamespaceSettings(msgspec.Struct, frozen=True):
    """What of a namespace may be set while it is in use; fields of `CacheNamespace`. None: not named."""

    budget_bytes: int | None = None
    ttl_ms: int | None = None
    pin_bytes: int | None = None
    owner: str | None = None
    tenant: str | None = None
    """For administrators."""

    def get_named(self) -> dict[str, int | str]:
        """Those that are named."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


NO_SETTINGS: Final = NamespaceSettings()
"""None is named."""
ANY_TENANT: Final = None
"""Who asks may use the namespaces of every tenant: a service, an administrator, or anyone in a cluster without security. The
manager's service says whose request it is; nothing on the wire does."""


class ListNamespaces(msgspec.Struct, frozen=True):
    """A client asks which namespaces there are. Answered with a `NamespacePage`."""

    prefix: str = ""
    """Only names that begin with this."""
    after: str = ""
    """Start after this name."""
    limit: int = 0
    """0: as many as the manager likes."""
    tenant: str | None = ANY_TENANT
    """Only those of this one."""


class NamespacePage(msgspec.Struct, frozen=True):
    """Namespaces in the order of their names."""

    namespaces: tuple[CacheNamespace, ...]
    more: bool
    """There are more behind the last of them."""
    version: int = 0
    """How often the list had been changed when this was read; see `Routing.namespaces_version`."""
    next_id: int = 0
    """The id that the next namespace would have got then. Those below it that nobody has any more were deleted."""


class NamespaceChanges(msgspec.Struct, frozen=True):
    """What of the list of namespaces has changed since it had a version."""

    is_complete: bool
    """This is all of it. Else it is not known any more, or too much: the list has to be read."""
    version: int
    next_id: int
    """As of a `NamespacePage`."""
    namespaces: tuple[CacheNamespace, ...] = ()
    """Those that were made, set or cleared, as they are now."""
    gone: tuple[int, ...] = ()
    """Ids that no namespace has any more."""


class DeleteNamespace(msgspec.Struct, frozen=True):
    """A client deletes a namespace: it is forgotten, and its name is free. Answered with the id."""

    name: str
    made_as: int
    """The id it was made with, whichever it has since it was cleared. When another namespace has the name, nothing happens."""
    tenant: str | None = ANY_TENANT


class ClearNamespace(msgspec.Struct, frozen=True):
    """A client clears a namespace: it gets another id, and so has no pages. Answered with the `CacheNamespace`."""

    name: str
    id: int
    """The one it has now. When it has another one already, nothing happens."""
    tenant: str | None = ANY_TENANT


class SetNamespace(msgspec.Struct, frozen=True):
    """A client changes settings of a namespace. Answered with the `CacheNamespace`."""

    name: str
    settings: NamespaceSettings
    tenant: str | None = ANY_TENANT


class OpenNamespace(msgspec.Struct, frozen=True):
    """A client needs a KVCache namespace. Answered with the `CacheNamespace`."""

    name: str
    page_bytes: int
    replicas: int
    """0: whatever it has, or the cluster's default when it is made."""
    settings: NamespaceSettings = NO_SETTINGS
    """Of one that is made. One that is there keeps its own."""
    tenant: str | None = ANY_TENANT


class RoleConfig(msgspec.Struct, frozen=True, array_like=True):
    """The distributed configuration of one role; version 0 and empty when there is none. Versions rise over all roles, so a
    role's version never repeats. Also a row of the manager's store: new fields go at the end with a default."""

    role: Role
    version: int
    toml: str


class SetConfig(msgspec.Struct, frozen=True):
    """Distribute a configuration. Answered with its version."""

    role: Role
    toml: str
    expected_version: int
    """Store only when the present version is this one; 0 stores always."""


class GetConfig(msgspec.Struct, frozen=True):
    """Answered with the `RoleConfig`."""

    role: Role


# --- managers and routing --------------------------------------------------------------------------------------------


class ManagerInfo(msgspec.Struct, frozen=True):
    """One management process."""

    name: str
    endpoints: tuple[str, ...] = ()
    is_primary: bool = False
    """It holds the lease record, as far as the manager that answers knows."""


class ClusterInfo(msgspec.Struct, frozen=True):
    """What any manager says of its cluster, primary or not."""

    cluster: bytes
    software: str
    """fs3 version of the manager that answers."""
    protocol: int
    """Highest protocol version it speaks."""
    is_primary: bool = False
    """The manager that answers is the primary."""
    primary: tuple[str, ...] = ()
    """Endpoints of the primary, as far as the manager that answers knows; the primary may have died meanwhile."""
    managers: tuple[ManagerInfo, ...] = ()
    epoch: int = 0
    """Of the primary's lease record; rises with every takeover."""
    disks: tuple[DiskSpace, ...] = ()
    """Of the manager that answers."""
    release: Release = UNTOLD_RELEASE
    """What it runs."""
    wall_ms: int = 0
    """Its time of day, since 1970, for people; 0: it does not say."""
    is_secured: bool = False
    """Connections have the rights that they have proved; who proves nothing may hardly do anything."""
    has_logins: bool = False
    """There are users or keys of nodes: who can prove who it is, does."""
    takes_proofs: bool = False
    """It takes proofs in place of tokens and keys of machines (`ProvedRequest`, `RegisterNode.login`)."""


class GetRouting(msgspec.Struct, frozen=True):
    """A client asks for routing info, once or as a stream. Answered with `RoutingUpdate`."""

    known_version: int = 0
    cluster: bytes = b""
    """Cluster whose routing the client has: a delta is never sent across clusters."""
    in_parts: bool = False
    """The client takes updates in parts."""


class RoutingUpdate(msgspec.Struct, frozen=True):
    """What leads a client's snapshot to the manager's, and where the managers are."""

    delta: Delta
    cluster: bytes
    managers: tuple[ManagerInfo, ...] = ()
    """Every manager; sent with every update, also with empty ones."""


# --- status ----------------------------------------------------------------------------------------------------------


class NodeSettings(msgspec.Struct, frozen=True):
    """How far the distributed configuration is on a node."""

    version: int = 0
    """The newest it has tried to apply; 0: none."""
    newest_version: int = 0
    """The newest there is of its role."""
    problem: str = ""
    """Why it could not be applied; "": it is."""


class NodeStatus(msgspec.Struct, frozen=True):
    """One node, for people."""

    node: Node
    lease_left_ns: int
    """Negative when its lease has run out."""
    heartbeat_age_ns: int | None
    """Since its newest heartbeat; None when it sent none since this manager became the primary."""
    problem: str = ""
    """What it said last is wrong with what it keeps; empty: nothing."""
    disks: tuple[DiskSpace, ...] = ()
    release: Release | None = None
    """What it runs, as its newest heartbeat says; None: not known."""
    settings: NodeSettings = NodeSettings()
    clock_skew_ms: int | None = None
    """How far its time of day was ahead of the manager's when its newest heartbeat arrived; None: not known."""
    certificate_left_ms: int | None = None
    """Until its TLS certificate ends; None: it shows none, or that is not known."""


class TargetStatus(msgspec.Struct, frozen=True, gc=False):
    """One target, for people: its place in its chain, and what its node reported of it last."""

    chain: ChainId
    chain_version: int
    slot: Slot
    local: LocalState | None
    """None: nothing is known under this version of the chain."""
    born: bool
    """It has been complete at least once."""
    used_bytes: int = 0
    free_bytes: int = 0
    chunks: int = 0
    reason: str = ""
    upkeep: UpkeepProgress = UpkeepProgress()


class ClusterStatus(msgspec.Struct, frozen=True):
    """What the primary knows of its cluster."""

    software: str
    routing: Routing
    nodes: tuple[NodeStatus, ...]
    """In the order of `routing.nodes`."""
    targets: tuple[TargetStatus, ...]
    namespaces: int
    """How many KVCache namespaces there are."""
    managers: tuple[ManagerInfo, ...]
    epoch: int
    primary_for_ns: int
    """Since this manager became the primary."""
    store: str = ""
    """Where its rows are, and how the engine there is, for people; empty when it does not say."""
    is_secured: bool = False
    """Connections have the rights that they have proved; False: it believes every caller."""

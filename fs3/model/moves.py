"""Targets that move from one node to another: what people ask for, what the manager keeps of it, and what it tells."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId

moves_per_node_default = 2
"""Targets that move from and to one node at a time, unless the operator says otherwise."""

# --- rows of the manager's store: new fields go at the end with a default --------------------------------------------


class MoveReason(IntEnum):
    """Why a target moves. Numbers as stored and on the wire."""

    REBALANCE = 1
    """Its node holds more than others."""
    DRAIN = 2
    """Its node is to hold nothing."""
    FORGET = 3
    """Its node does not come back."""
    REPLACE = 4
    """Its node is to hold nothing, and another one all of it."""


class Move(msgspec.Struct, frozen=True, array_like=True):
    """One replica of a chain is to be on another node. At most one move of each chain at a time."""

    chain: ChainId
    leaver: TargetId
    """Leaves the chain once another one serves in its place."""
    destination: NodeId
    reason: MoveReason
    joiner: TargetId = TargetId(0)
    """The target that takes the leaver's place; 0: the move has not begun."""
    serving: int = 0
    """Targets of the chain that served when it began: without the leaver, there are no fewer afterwards."""


class Departing(msgspec.Struct, frozen=True, array_like=True):
    """A node that is to hold nothing any more."""

    node: NodeId
    reason: MoveReason
    """DRAIN, FORGET or REPLACE."""
    onto: NodeId = NodeId(0)
    """REPLACE: the node that gets what this one has; 0: all nodes."""


class RetiredTarget(msgspec.Struct, frozen=True, array_like=True):
    """A target that is in no chain any more. Its node deletes what it has of it."""

    target: TargetId
    node: NodeId
    chain: ChainId


class RemovedNode(msgspec.Struct, frozen=True, array_like=True):
    """A node that is not one of the cluster any more. A process with its directory is told so."""

    name: str
    node: NodeId
    was_forgotten: bool


class DrainedDisks(msgspec.Struct, frozen=True, array_like=True):
    """Disks of a node that are to hold nothing any more. The node itself may hold targets on others."""

    node: NodeId
    paths: tuple[str, ...]
    """As the node tells them, at least one."""


class MoveSettings(msgspec.Struct, frozen=True, array_like=True):
    """How targets move."""

    is_paused: bool = False
    """No move is begun. Those under way go on."""
    per_node: int = moves_per_node_default
    """Moves under way from and to one node at a time."""
    forget_after_ns: int = 0
    """A storage node that was not heard for so long is forgotten, when nothing is lost by that; 0: people do it."""


# --- what people ask for ---------------------------------------------------------------------------------------------


class MoveAction(IntEnum):
    """What is to be done. Numbers as on the wire."""

    REBALANCE = 1
    DRAIN = 2
    UNDRAIN = 3
    REMOVE = 4
    FORGET = 5
    REPLACE = 6
    DRAIN_TARGETS = 7
    UNDRAIN_TARGETS = 8
    DRAIN_DISK = 9
    UNDRAIN_DISK = 10


class PlanMoves(msgspec.Struct, frozen=True):
    """Do something about where targets are. Answered with a `MoveOverview`."""

    action: MoveAction
    node: str = ""
    """Name of the node it is about."""
    other: str = ""
    """REPLACE: the node that gets what `node` has."""
    is_dry_run: bool = False
    """Only tell what would move."""
    accept_loss: bool = False
    """FORGET: go on although the newest data of some chains is on that node only."""
    targets: tuple[TargetId, ...] = ()
    """DRAIN_TARGETS, UNDRAIN_TARGETS: which of the node's targets, at least one."""
    disk: str = ""
    """DRAIN_DISK, UNDRAIN_DISK: path of a disk of the node."""


class SetMoves(msgspec.Struct, frozen=True):
    """Change how targets move; what is None stays as it is. Answered with a `MoveOverview`."""

    is_paused: bool | None = None
    per_node: int | None = None
    forget_after_ns: int | None = None


class ListMoves(msgspec.Struct, frozen=True):
    """Tell what moves. Answered with a `MoveOverview`."""


# --- what the manager tells ------------------------------------------------------------------------------------------


class MoveProgress(msgspec.Struct, frozen=True):
    """One move, and how far it is."""

    move: Move
    source: NodeId
    """Where the leaver is."""
    size: int = 0
    """Bytes that the joiner will hold, as far as is known."""
    done: int = 0
    """Bytes that it holds."""
    rate: int = 0
    """Bytes per second of the last moments."""


class NodeShare(msgspec.Struct, frozen=True):
    """What a storage node holds."""

    node: NodeId
    used: int
    """Bytes of its targets."""
    capacity: int
    """Bytes that its targets could have; 0: not known."""
    targets: int
    heads: int
    """Chains that it is the head of."""


class DiskDrain(msgspec.Struct, frozen=True):
    """How far a disk is that is to hold nothing."""

    node: NodeId
    path: str
    targets: int = 0
    """Those that are there still."""
    used: int = 0
    """Their bytes."""
    is_known: bool = False
    """The node has told of the disk. False: it was taken out, or the node was not heard since this manager became the primary."""
    is_empty: bool = False
    """Nothing is there, and the node puts nothing there: it may be taken out."""


class MoveOverview(msgspec.Struct, frozen=True):
    """Everything about moves."""

    settings: MoveSettings
    moves: tuple[MoveProgress, ...] = ()
    """Under way and planned; of a dry run: those that would be planned."""
    departing: tuple[Departing, ...] = ()
    shares: tuple[NodeShare, ...] = ()
    notes: tuple[str, ...] = ()
    """What people should know: what cannot move and why, what is lost."""
    drained_disks: tuple[DiskDrain, ...] = ()

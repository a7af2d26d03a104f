"""Disks that are to hold nothing: which they are, what is on them, and when one may be taken out.

Intuition: the manager does not choose on which of its disks a node puts a target, the node does. So a disk is drained by two. The
manager keeps which disks are to hold nothing, moves away what their nodes say is there, again and again, and counts their room no
more. The node puts no new target there from when it has heard of it, and says so in its heartbeats.

A disk is empty when its node has said both in one heartbeat: that it puts nothing there, and that nothing is there. Either alone
says little: a target that was given to the node before may be made there in the next moment.

Limits: a disk is a file system, by the path of the first directory that the node has on it; what was told before a drain was
taken back counts no more (`only_told`, `take_back`). Targets move to other nodes, also where the node has another disk with room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.ledger import Ledger
from fs3.model.cluster import DiskSpace
from fs3.model.moves import DiskDrain, DrainedDisks


class DiskDrains:
    """Part of the manager's machine; what it changes is in the ledger."""

    def __init__(self, ledger: Ledger, health: LeaseHealth) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._health = health

    def paths_of(self, node: NodeId) -> tuple[str, ...]:
        """The disks of a node that are to hold nothing."""
        drained = self._state.drained_disks.get(node)
        return drained.paths if drained is not None else ()

    def add(self, node: NodeId, path: str) -> None:
        """A disk is to hold nothing any more."""
        self._put(node, (*self.paths_of(node), path))

    def take_back(self, node: NodeId, path: str) -> None:
        """It may hold targets. That its node puts nothing there is no longer known, should it be drained again."""
        self._put(node, tuple(each for each in self.paths_of(node) if each != path))
        self._health.set_disks(node, self.only_told(node, self._health.disks(node)))

    def forget(self, node: NodeId) -> None:
        """The node is not one of the cluster any more."""
        if node in self._state.drained_disks:
            self._ledger.set_drained_disks(node, None)

    def _put(self, node: NodeId, paths: tuple[str, ...]) -> None:
        self._ledger.set_drained_disks(node, DrainedDisks(node, paths) if paths else None)

    def only_told(self, node: NodeId, disks: tuple[DiskSpace, ...]) -> tuple[DiskSpace, ...]:
        """What a node tells of its disks; that one is drained counts only while it is to be."""
        paths = self.paths_of(node)
        return tuple(
            msgspec.structs.replace(disk, is_drained=False) if disk.is_drained and disk.path not in paths else disk
            for disk in disks
        )

    def disks_of(self, node: NodeId) -> tuple[DiskSpace, ...]:
        """Those of a node that are to hold nothing, as far as it has told of them."""
        paths = self.paths_of(node)
        return tuple(disk for disk in self._health.disks(node) if disk.path in paths) if paths else ()

    def targets_of(self, node: NodeId) -> frozenset[TargetId]:
        """What is on them."""
        return frozenset(target for disk in self.disks_of(node) for target in disk.targets)

    def free_bytes(self, node: NodeId) -> int:
        """Room on the other disks of a node."""
        paths = self.paths_of(node)
        return sum(disk.free_bytes for disk in self._health.disks(node) if disk.path not in paths)

    def total_bytes(self, node: NodeId) -> int:
        """The size of the other disks of a node; 0: not known."""
        paths = self.paths_of(node)
        return sum(disk.total_bytes for disk in self._health.disks(node) if disk.path not in paths)

    def has_no_disk(self, node: NodeId) -> bool:
        """All disks of a node are to hold nothing."""
        paths, disks = self.paths_of(node), self._health.disks(node)
        return bool(paths and disks) and all(disk.path in paths for disk in disks)

    def describe(self, own: Mapping[NodeId, Mapping[TargetId, ChainId]]) -> tuple[DiskDrain, ...]:
        """How far all of them are. `own`: the targets of their nodes that are in chains."""
        return tuple(
            self._describe(drained.node, path, own[drained.node])
            for drained in self._state.drained_disks.values()
            for path in drained.paths
        )

    def _describe(self, node: NodeId, path: str, own: Mapping[TargetId, ChainId]) -> DiskDrain:
        disk = next((disk for disk in self._health.disks(node) if disk.path == path), None)
        if disk is None:
            return DiskDrain(node, path)
        reports = (self._health.report(node, target) for target in disk.targets)
        used = sum(report.used_bytes for report in reports if report is not None)
        return DiskDrain(node, path, len(disk.targets), used, is_known=True, is_empty=self._is_empty(node, disk, own))

    def _is_empty(self, node: NodeId, disk: DiskSpace, own: Collection[TargetId]) -> bool:
        """Nothing is there, and nothing will be."""
        if own and self.has_no_disk(node):
            return False  # what it was given before has no other place
        if not self._state.nodes[node].alive:
            # What is in no chain is of no use; and a node that comes back is told what is drained before it makes anything.
            return not set(disk.targets) & set(own)
        return disk.is_drained and not disk.targets

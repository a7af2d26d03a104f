"""Who is here: heartbeats in, leases and local states out.

A node counts its lease from when it *sent* a heartbeat, the manager from when it received one, and the manager adds what
clocks may drift. So when the manager says that a lease has run out, the node has stopped serving, whatever the network did.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fs3.base.ids import NodeId, TargetId
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import Heartbeat, TargetReport
from fs3.model.chain import LocalState


@dataclass(slots=True)
class NodeHealth:
    """What is known of one node since the manager started."""

    lease_until: int
    """The node may believe until then that it holds a lease."""
    seq: int = 0
    """Of its newest heartbeat."""
    left: bool = False
    """It has handed over."""
    fence_version: int = 0
    """Routing version the node must have applied before its lease is extended: in it, the node lost something it served."""
    reports: dict[TargetId, TargetReport] = field(default_factory=dict)
    """Newest accepted report of each of its targets."""


class Health:
    """Leases of all nodes, by the manager's monotonic clock."""

    def __init__(self, config: MgmtdConfig) -> None:
        self._config = config
        self._nodes: dict[NodeId, NodeHealth] = {}

    def presume(self, now: int, node: NodeId, fence_version: int = 0) -> None:
        """A node the manager knew before it was restarted: another lease may be running that it knows nothing of."""
        self._nodes[node] = NodeHealth(self._until(now), fence_version=fence_version)

    def registered(self, now: int, node: NodeId) -> None:
        """A new incarnation: what the old one said of its targets stays until this one says something else."""
        health = self._nodes.setdefault(node, NodeHealth(0))
        health.lease_until = self._until(now)
        health.seq = 0
        health.left = False

    def heard(self, now: int, beat: Heartbeat, chain_versions: dict[TargetId, int]) -> tuple[bool, set[TargetId]]:
        """A heartbeat of a registered node in its present incarnation.

        `chain_versions`: version of the chain of each target of this node. Returns whether it may extend its lease, and the
        targets whose local state is news. One that is older than the last changes nothing, so it grants nothing either: what is
        granted must have been counted. The last one again, because its answer was lost, is granted again.
        """
        health = self._nodes[beat.node]
        if beat.seq < health.seq:
            return False, set()
        if beat.seq == health.seq:
            granted = not health.left and beat.routing_version >= health.fence_version
            if granted:
                health.lease_until = self._until(now)
            return granted, set()
        health.seq = beat.seq
        changed = set()
        for report in beat.targets:
            # Made under another chain version, it says nothing about this one; "uptodate" least of all.
            if chain_versions.get(report.target) != report.chain_version:
                continue
            before = health.reports.get(report.target)
            health.reports[report.target] = report
            if before is None or (before.state, before.chain_version) != (report.state, report.chain_version):
                changed.add(report.target)
        if beat.leaving:
            health.left = True
            health.lease_until = now
            return False, changed | set(chain_versions)
        if beat.routing_version < health.fence_version:
            return False, changed
        health.lease_until = self._until(now)
        return True, changed

    def fence(self, node: NodeId, routing_version: int) -> None:
        """The node lost something it served, in this routing version."""
        health = self._nodes[node]
        health.fence_version = max(health.fence_version, routing_version)

    def alive(self, now: int, node: NodeId) -> bool:
        """Its lease is running, as far as the node can know."""
        health = self._nodes[node]
        return not health.left and now < health.lease_until

    def local_state(self, now: int, node: NodeId, target: TargetId, chain_version: int) -> LocalState | None:
        """What to believe of a target of a chain of this version; None when nothing is known yet.

        A change of the chain makes earlier reports void: above all, to have finished syncing counts under one version only.
        """
        if not self.alive(now, node):
            return LocalState.OFFLINE
        report = self._nodes[node].reports.get(target)
        return report.state if report is not None and report.chain_version == chain_version else None

    def report(self, node: NodeId, target: TargetId) -> TargetReport | None:
        """The newest accepted report of a target."""
        return self._nodes[node].reports.get(target)

    def lease_left_ns(self, now: int, node: NodeId) -> int:
        """Negative when it has run out. Without the drift: what the node itself may count on."""
        return self._nodes[node].lease_until - self._config.drift_ns - now

    def _until(self, now: int) -> int:
        return now + self._config.lease_ns + self._config.drift_ns

"""Which nodes are alive, and what to believe of their targets: heartbeats in, leases and local states out.

Intuition: a node that does not answer may be dead, or only unheard and still serving. The two cannot be told apart, so the
manager does not try to: it waits until a node it does not hear can no longer believe that it may serve.

Algorithm: a node counts its lease from when it *sent* a heartbeat, the manager from when it received that heartbeat, and the
manager adds what two clocks may drift apart in one lease. So when the manager says that a lease has run out, the node has stopped
serving, whatever the network did. Beside that:

- A node that lost something it served gets no new lease before it has applied the routing version that says so (`fence`).
- A node serves only the targets that its last acknowledged heartbeat mentioned. So a target that it has not mentioned for a whole
  lease counts as OFFLINE, although the node is alive.
- What a node reports of a target counts under the chain version it names, and under no other.

Limits: clocks are assumed to drift by at most `drift_ns` in one lease. Nothing here is stored, so a manager that takes over
assumes a running lease of every node it knows (`assume_lease`). A manager that was itself stopped for a while says so
(`on_process_paused`), because it may have heard no node for that reason alone. All times are the manager's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fs3.base.ids import NodeId, TargetId
from fs3.base.version import Release
from fs3.core.membership.config import MgmtdConfig
from fs3.model.chain import LocalState, Slot
from fs3.model.cluster import DiskSpace, Heartbeat
from fs3.model.target_report import TargetReport


@dataclass(slots=True)
class NodeHealth:
    """What is known of one node since the manager started."""

    lease_until: int
    """The node may believe until then that it holds a lease; 0 before it has had one."""
    here_since: int
    """When it registered, came back, or the manager began to know it."""
    seq: int = 0
    """Of its newest heartbeat."""
    last_heartbeat_at: int | None = None
    """When that arrived; None before the first."""
    has_left: bool = False
    """It has handed over."""
    is_unheard: bool = False
    """It has got another incarnation since then, and has sent no heartbeat under it."""
    fence_version: int = 0
    """Routing version the node must have applied before its lease is extended: in it, the node lost something it served."""
    problem: str = ""
    """What it said last is wrong with what it keeps."""
    reports: dict[TargetId, TargetReport] = field(default_factory=dict)
    """Newest accepted report of each of its targets."""
    mentioned_at: dict[TargetId, int] = field(default_factory=dict)
    """When it last said anything of a target, or got it."""
    disks: tuple[DiskSpace, ...] = ()
    """As it has told last, in a heartbeat or when it registered."""
    has_told: bool = False
    """This manager has heard it since."""
    release: Release | None = None
    """As its newest heartbeat says."""
    config_version: int = 0
    config_problem: str = ""
    """The newest configuration it has tried to apply, and why it could not."""


class LeaseHealth:
    """Leases of all nodes, by the manager's monotonic clock."""

    def __init__(self, config: MgmtdConfig) -> None:
        self._config = config
        self._nodes: dict[NodeId, NodeHealth] = {}

    def assume_lease(self, now: int, node: NodeId, fence_version: int = 0) -> None:
        """A node that a former manager has stored: a lease granted by that one may be running.

        `fence_version`: the routing version it must have applied before it gets another.
        """
        self._nodes[node] = NodeHealth(self._until(now), now, fence_version=fence_version)

    def renew_assumed_leases(self, now: int) -> None:
        """Every node that has not been heard yet is given a whole lease from now on to be heard."""
        for health in self._nodes.values():
            if health.last_heartbeat_at is None and health.lease_until:
                health.lease_until = max(health.lease_until, self._until(now))

    def on_registered(self, now: int, node: NodeId, disks: tuple[DiskSpace, ...] = (), *, same_incarnation: bool) -> None:
        """A process has registered, and has told of its disks. `same_incarnation`: it had before, and registers again.

        What another incarnation said of its targets counts no longer: their files may have been replaced meanwhile.
        """
        health = self._nodes.setdefault(node, NodeHealth(0, now))
        health.lease_until = self._until(now)
        health.here_since = now
        health.has_left = False
        if not same_incarnation:
            health.seq = 0
            health.reports.clear()
            health.is_unheard = True
        if disks or not same_incarnation:
            health.disks = disks
        health.has_told = True

    def on_assigned(self, now: int, node: NodeId, target: TargetId) -> None:
        """The node has a new target: it cannot have mentioned it before it learns of it."""
        self._nodes[node].mentioned_at[target] = now

    def on_process_paused(self, since: int, now: int) -> None:
        """The manager did nothing from `since` to `now` (it was stopped, or starved): that it heard no node then says nothing."""
        for health in self._nodes.values():
            if health.lease_until > since:
                health.lease_until += now - since
            health.here_since = max(health.here_since, now)

    def on_heartbeat(self, now: int, heartbeat: Heartbeat, chain_versions: dict[TargetId, int]) -> tuple[bool, set[TargetId]]:
        """A heartbeat of a registered node in its present incarnation.

        `chain_versions`: version of the chain of each target of this node. Returns whether it may extend its lease, and the
        targets whose local state is news. One that is older than the last changes nothing, so it grants nothing either: what is
        granted must have been counted. The last one again, because its answer was lost, is granted again.
        """
        health = self._nodes[heartbeat.node]
        health.is_unheard = False
        if heartbeat.seq < health.seq or health.has_left:
            return False, set()
        if heartbeat.seq == health.seq:
            granted = heartbeat.routing_version >= health.fence_version
            if granted:
                health.lease_until = self._until(now)
            return granted, set()
        if now >= health.lease_until:
            health.here_since = now
        health.seq = heartbeat.seq
        health.last_heartbeat_at = now
        health.problem = heartbeat.problem
        health.disks = heartbeat.disks
        health.has_told = True
        health.release = heartbeat.release
        health.config_version, health.config_problem = heartbeat.config_version, heartbeat.config_problem
        changed = self._take_reports(now, health, heartbeat, chain_versions)
        if heartbeat.leaving:
            health.has_left = True
            health.lease_until = now
            return False, changed | set(chain_versions)
        if heartbeat.routing_version < health.fence_version:
            return False, changed
        health.lease_until = self._until(now)
        return True, changed

    def _take_reports(
        self, now: int, health: NodeHealth, heartbeat: Heartbeat, chain_versions: dict[TargetId, int]
    ) -> set[TargetId]:
        changed = set()
        mentioned = set()
        for report in heartbeat.targets:
            version = chain_versions.get(report.target)
            if version is None:
                continue
            mentioned.add(report.target)
            health.mentioned_at[report.target] = now
            # Made under another chain version, it says nothing about this one; "uptodate" least of all.
            if version != report.chain_version:
                continue
            if _accept(health, report):
                changed.add(report.target)
        patience = self._config.lease_ns + self._config.drift_ns
        for target, version in chain_versions.items():
            if target in mentioned:
                continue
            if now - max(health.mentioned_at.get(target, 0), health.here_since) >= patience:
                missing = TargetReport(target, LocalState.OFFLINE, version, reason="the node does not mention it")
                if _accept(health, missing):
                    changed.add(target)
        return changed

    def fence(self, node: NodeId, routing_version: int) -> None:
        """The node lost something it served, in this routing version."""
        health = self._nodes[node]
        health.fence_version = max(health.fence_version, routing_version)

    def is_alive(self, now: int, node: NodeId) -> bool:
        """Its lease is running, as far as the node can know. KeyError for a node that is not known."""
        health = self._nodes[node]
        return not health.has_left and now < health.lease_until

    def is_unheard(self, node: NodeId) -> bool:
        """This manager has given it its incarnation, and no heartbeat under it has come."""
        return self._nodes[node].is_unheard

    def local_state(self, now: int, node: NodeId, target: TargetId, chain_version: int) -> LocalState | None:
        """What to believe of a target of a chain of this version; None when nothing is known yet.

        A change of the chain makes earlier reports void: above all, to have finished syncing counts under one version only.
        """
        if not self.is_alive(now, node):
            return LocalState.OFFLINE
        report = self._nodes[node].reports.get(target)
        return report.state if report is not None and report.chain_version == chain_version else None

    def has_link_fault(self, now: int, slot: Slot, successor: Slot, chain_version: int) -> bool:
        """A target reports that it cannot reach its successor, and both nodes were heard just now: neither is about to be given
        up."""
        recently = 2 * self._config.heartbeat_ns
        for node in (slot.node, successor.node):
            silent = self.heartbeat_age_ns(now, node)
            if silent is None or silent > recently or not self.is_alive(now, node):
                return False
        report = self.report(slot.node, slot.target)
        return report is not None and (report.chain_version, report.unreachable) == (chain_version, successor.target)

    def report(self, node: NodeId, target: TargetId) -> TargetReport | None:
        """The newest accepted report of a target."""
        return self._nodes[node].reports.get(target)

    def reports(self, node: NodeId) -> Iterable[TargetReport]:
        """The newest accepted report of each target of a node."""
        return self._nodes[node].reports.values()

    def forget_report(self, node: NodeId, target: TargetId) -> None:
        """The node has the target no more."""
        self._nodes[node].reports.pop(target, None)
        self._nodes[node].mentioned_at.pop(target, None)

    def lease_left_ns(self, now: int, node: NodeId) -> int:
        """What is left of a node's lease; negative when it has run out. Without the drift: what the node itself may count on."""
        return self._nodes[node].lease_until - self._config.drift_ns - now

    def heartbeat_age_ns(self, now: int, node: NodeId) -> int | None:
        """Since its newest heartbeat; None when this manager has heard none."""
        heard_at = self._nodes[node].last_heartbeat_at
        return None if heard_at is None else now - heard_at

    def problem(self, node: NodeId) -> str:
        """What the node said last is wrong with what it keeps."""
        return self._nodes[node].problem

    def disks(self, node: NodeId) -> tuple[DiskSpace, ...]:
        """As it has told last; none when this manager has not heard it."""
        return self._nodes[node].disks

    def has_told(self, node: NodeId) -> bool:
        """Whether this manager has heard of the node which disks it has, if it says so at all."""
        return self._nodes[node].has_told

    def set_disks(self, node: NodeId, disks: tuple[DiskSpace, ...]) -> None:
        """What it has told of its disks counts otherwise by now."""
        self._nodes[node].disks = disks

    def release(self, node: NodeId) -> Release | None:
        """What it runs, as its newest heartbeat says; None when this manager has heard none."""
        return self._nodes[node].release

    def config(self, node: NodeId) -> tuple[int, str]:
        """The newest configuration that a node has tried to apply, and why it could not; 0 when this manager has heard none."""
        health = self._nodes[node]
        return health.config_version, health.config_problem

    def _until(self, now: int) -> int:
        return now + self._config.lease_ns + self._config.drift_ns


def _accept(health: NodeHealth, report: TargetReport) -> bool:
    """Whether the state it reports is news."""
    before = health.reports.get(report.target)
    health.reports[report.target] = report
    return before is None or (before.state, before.chain_version) != (report.state, report.chain_version)

"""What a cluster is made of and how fast it notices things."""

from __future__ import annotations

import msgspec

from fs3.base.limits import (
    clock_drift_ns,
    heartbeat_ns,
    lease_ns,
    manager_lease_ns,
    name_bytes_max,
    nodes_max,
    replicas_max,
    targets_per_node_max,
)
from fs3.base.units import MILLISECOND, SECOND

routing_deltas_max = 256
"""Deltas the manager keeps; a client that is further behind gets the whole routing info."""


class MgmtdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the manager. `check` before use."""

    cluster: str = "fs3"
    """Name of the cluster, for people; stored once, a data directory of another name is refused."""
    storage_nodes: int = 3
    """The default chain table is made when so many storage nodes have registered."""
    replicas: int = 3
    """Replicas of the default chain table."""
    targets_per_node: int = 4
    """Targets each table gets on each node."""
    lease_ns: int = lease_ns
    heartbeat_ns: int = heartbeat_ns
    drift_ns: int = clock_drift_ns
    """What clocks may disagree by in one lease; the manager waits so much longer than a node does."""
    manager_lease_ns: int = manager_lease_ns
    """Of the primary among the managers; the same for all of them. It is renewed five times in that time."""
    deltas_kept: int = routing_deltas_max
    """Routing deltas kept for clients that are a little behind."""
    reconfigure: bool = True
    """Change chains when targets come and go (`next_chain`). Without it, leases are granted, enforced and shown, and chains stay
    as they were made: for looking at a cluster that must not change."""

    def check(self) -> MgmtdConfig:
        """Itself. ValueError naming the first setting that makes no sense."""
        if not self.cluster or len(self.cluster.encode()) > name_bytes_max or not self.cluster.isprintable():
            raise ValueError(f"cluster: {self.cluster!r} is not a name")
        _within("storage_nodes", self.storage_nodes, 1, nodes_max)
        _within("replicas", self.replicas, 1, replicas_max)
        _within("targets_per_node", self.targets_per_node, 1, targets_per_node_max)
        _within("heartbeat_ns", self.heartbeat_ns, 10 * MILLISECOND, self.lease_ns)
        _within("manager_lease_ns", self.manager_lease_ns, 10 * MILLISECOND, 3600 * SECOND)
        _within("deltas_kept", self.deltas_kept, 0, routing_deltas_max)
        if self.replicas > self.storage_nodes:
            raise ValueError(
                f"replicas: {self.replicas} replicas need {self.replicas} storage nodes, storage_nodes is {self.storage_nodes}"
            )
        if 3 * self.heartbeat_ns > self.lease_ns:
            raise ValueError(
                f"heartbeat_ns: {self.heartbeat_ns} is too slow for a lease of {self.lease_ns}; "
                "two heartbeats may be lost, so three must fit"
            )
        if not 0 <= self.drift_ns < self.lease_ns:
            raise ValueError(f"drift_ns: {self.drift_ns} must be less than the lease, {self.lease_ns}")
        return self


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not between {low} and {high}")

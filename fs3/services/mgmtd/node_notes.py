"""What nodes say of themselves with their heartbeats that the machine does not need: remembered by this process alone."""

from __future__ import annotations

from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND
from fs3.model.activity import ToldActivity
from fs3.model.cluster import Heartbeat
from fs3.model.routing import Routing
from fs3.ports.clock import Clock


class NodeNotes:
    """Of the nodes of one cluster."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skews: dict[NodeId, int] = {}
        self._certificates: dict[NodeId, int] = {}
        """When their certificates end; 0: never."""
        self._activities: dict[NodeId, ToldActivity] = {}
        """What the newest heartbeats of the nodes say of what they do."""

    def note(self, heartbeat: Heartbeat, routing: Routing) -> None:
        """A node has sent a heartbeat. `routing`: says which nodes there are."""
        if heartbeat.node not in routing.nodes:
            return
        if heartbeat.wall_ms:
            self._skews[heartbeat.node] = heartbeat.wall_ms - self._clock.wall() // MILLISECOND
        self._certificates[heartbeat.node] = heartbeat.certificate_ends_ms
        if heartbeat.activity is not None:
            self._activities[heartbeat.node] = ToldActivity(self._clock.now(), heartbeat.activity)
            if len(self._activities) > len(routing.nodes):
                self._activities = {node: told for node, told in self._activities.items() if node in routing.nodes}

    def find_skew_ms(self, node: NodeId) -> int | None:
        """How far the clock of a node is ahead of this one, in milliseconds; None when it has not said."""
        return self._skews.get(node)

    def find_certificate_left_ms(self, node: NodeId) -> int | None:
        """Until the certificate of a node ends, by this clock; None when it shows none, or has not said."""
        ends_ms = self._certificates.get(node, 0)
        return ends_ms - self._clock.wall() // MILLISECOND if ends_ms else None

    def list_activities(self) -> dict[NodeId, ToldActivity]:
        """What nodes have said of what they do, since this process began. May be called from any thread."""
        return dict(self._activities)

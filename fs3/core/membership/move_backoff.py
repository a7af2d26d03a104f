"""Nodes on which a joiner could not be brought up: others are sent elsewhere for a while, twice as long each time.

Limits: kept in memory, so another manager tries each node once more.
"""

from __future__ import annotations

from fs3.base.ids import NodeId
from fs3.base.units import HOUR, MINUTE

rest_ns_min = 2 * MINUTE
rest_ns_max = HOUR


class MoveBackoff:
    """Which nodes get no joiners for now."""

    def __init__(self) -> None:
        self._rests: dict[NodeId, tuple[int, int]] = {}
        """(until when, for how long it was)."""

    def on_given_up(self, now: int, node: NodeId) -> None:
        """A joiner of a node has been given up. Several at a time count once."""
        until, length = self._rests.get(node, (0, 0))
        if now >= until:
            length = min(max(rest_ns_min, 2 * length), rest_ns_max)
            self._rests[node] = (now + length, length)

    def on_joined(self, node: NodeId) -> None:
        """A joiner of a node serves."""
        self._rests.pop(node, None)

    def rests(self, now: int, node: NodeId) -> bool:
        """Whether a node gets no joiners now."""
        return now < self._rests.get(node, (0, 0))[0]

    def forget(self, node: NodeId) -> None:
        """A node is not one of the cluster any more."""
        self._rests.pop(node, None)

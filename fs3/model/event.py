"""What happened to a cluster."""

from __future__ import annotations

import msgspec

JOINED, WELL, PRIMARY = "joined", "well", "primary"
"""Codes of events that are nothing wrong: a process is new, something is as it should be again, a manager leads."""


class ClusterEvent(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened. Also a row of the manager's store: new fields go at the end with a default."""

    seq: int
    """Rises by one with every event of the cluster."""
    wall_ms: int
    """When, in milliseconds since the epoch, by the manager's clock."""
    code: str
    """A `HealthKind`, or one of the codes above."""
    severity: str
    """As of `HealthRow.severity`."""
    text: str
    """One sentence."""

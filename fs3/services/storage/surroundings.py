"""What the targets of a node share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fs3.base.ids import NodeId, TargetId
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.services.storage.resync_source import ResyncBoard
from fs3.services.storage.updates import Payloads


@dataclass(frozen=True)
class Surroundings:
    """What the targets of a node share."""

    clock: Clock
    payloads: Payloads
    channel: Callable[[NodeId], Channel]
    """The channel to a node; raises FS3Error."""
    lease_until: Callable[[TargetId], int]
    """Until when a target may serve, in monotonic nanoseconds."""
    board: ResyncBoard
    changed: Callable[[], None]
    """What is reported to the manager about a target has changed."""

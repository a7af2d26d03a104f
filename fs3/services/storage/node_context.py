"""What the targets of a node share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fs3.base.ids import NodeId, TargetId
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.services.storage.forwarding.payloads import Payloads
from fs3.services.storage.resync.source import ResyncScheduler


@dataclass(frozen=True)
class NodeContext:
    """What the targets of a node share."""

    clock: Clock
    payloads: Payloads
    channel: Callable[[NodeId], Channel]
    """The channel to a node; raises FS3Error."""
    lease_until: Callable[[TargetId], int]
    """Until when a target may serve, in monotonic nanoseconds."""
    scheduler: ResyncScheduler
    on_target_changed: Callable[[], None]
    """What is reported to the manager about a target has changed."""

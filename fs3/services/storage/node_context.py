"""What the parts of a storage node may ask of the node they belong to."""

from __future__ import annotations

from typing import Protocol

from fs3.base.ids import NodeId, TargetId
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.namespaces import NamespaceTable


class NodeContext(Protocol):
    """The node, as its targets, handlers and duties see it. `StorageService` is the one of production."""

    @property
    def clock(self) -> Clock:
        """The clock of the process."""
        ...

    @property
    def config(self) -> StorageConfig:
        """The configuration in force; another one after a change, so it is asked for each time."""
        ...

    @property
    def routing_version(self) -> int:
        """Of the newest routing info the node has; replies to clients name it."""
        ...

    @property
    def namespaces(self) -> NamespaceTable:
        """The KVCache namespaces there are, as far as the node knows."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Bytes in memory for updates and cold reads under way."""
        ...

    def channel_to(self, node: NodeId) -> Channel:
        """The channel to another storage node. Raises FS3Error UNAVAILABLE for one the routing info does not name."""
        ...

    def lease_until(self, target: TargetId) -> int:
        """Until when a target may serve, in monotonic nanoseconds; 0 when it may not."""
        ...

    def on_target_changed(self) -> None:
        """What is reported to the manager about a target has changed: the manager hears of it now, and waiting reads are checked
        again."""
        ...

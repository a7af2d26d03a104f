"""What a process has done and used since it began: sums, of which the manager takes differences. For people; decides nothing."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class OperationTotals(msgspec.Struct, frozen=True):
    """One kind of operations."""

    calls: int = 0
    bytes: int = 0
    """Of payload."""
    counts: tuple[int, ...] = ()
    """How often it took how long, by bucket: see `fs3.base.counting`. What follows the last one is 0."""


NO_OPERATIONS = OperationTotals()
"""None of the kind."""


class NodeActivity(msgspec.Struct, frozen=True):
    """Of one node. Kinds that its role does not know are empty."""

    cpu_ms: int = 0
    """Processor time, of users and system."""
    memory_bytes: int = 0
    """Resident now."""
    reads: OperationTotals = NO_OPERATIONS
    """Requests of clients that read chunks, pages of KVCaches too."""
    writes: OperationTotals = NO_OPERATIONS
    """Requests of clients that change chunks, at the head of their chain: what replicas pass on is not counted again."""
    names: OperationTotals = NO_OPERATIONS
    """Requests about names and inodes."""


class ToldActivity(NamedTuple):
    """What a node has said, and when the manager heard it on its monotonic clock."""

    at: int
    activity: NodeActivity

"""What the page cache of a target asks of others: the order in which pages go, what protects them, what namespaces are allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fs3.base.ids import ChunkId

Protected = Callable[[ChunkId], bool]
"""Whether a page may not be evicted now."""


class RecencyOrder(Protocol):
    """In which order the pages of one namespace go. Every page is inserted once before it is touched or removed."""

    def insert(self, chunk: ChunkId) -> None:
        """The page is stored."""
        ...

    def touch(self, chunk: ChunkId) -> None:
        """It was read."""
        ...

    def remove(self, chunk: ChunkId) -> None:
        """It is there no more."""
        ...

    def victim(self, protected: Protected) -> ChunkId | None:
        """The next page to go, which stays in the order until it is removed. None: none that was looked at may go. The work of a
        call is bounded."""
        ...


class Holds(Protocol):
    """Something that protects pages from eviction and expiry: leases, pins."""

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """The page may not be evicted at `now` (monotonic nanoseconds)."""
        ...


@dataclass(frozen=True, slots=True)
class NamespaceLimits:
    """What a namespace is allowed on one target."""

    share_bytes: int | None = None
    """Of its budget, the part of this target's chain. None: it has no budget."""
    ttl_ns: int = 0
    """Pages go so long after they were stored; 0: they do not."""
    is_deleted: bool = False
    """It is certainly deleted: all its pages go, whatever holds them."""


class LimitsSource(Protocol):
    """Knows the namespaces."""

    def limits(self, namespace_id: int) -> NamespaceLimits | None:
        """What a namespace is allowed here. None: not known here yet."""
        ...

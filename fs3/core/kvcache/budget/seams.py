"""What the page cache of a target asks of others: what protects pages, and what namespaces are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from fs3.base.ids import ChunkId


class EvictionCause(IntEnum):
    """Why the head of the chain had a page removed."""

    BUDGET = 0
    """Its namespace has a budget."""
    ROOM = 1
    """The target needed room: pages have a share of it, and files go first."""
    EXPIRED = 2
    """The time of its namespace was over."""
    DELETED = 3
    """Its namespace was deleted or cleared."""
    LOST = 4
    """Every copy of it is damaged or gone."""


class Holds(Protocol):
    """Something that protects pages from eviction and expiry: leases, pins."""

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """The page may not be evicted at `now` (monotonic nanoseconds)."""
        ...


class PageListener(Protocol):
    """Wants to know what becomes of pages."""

    def on_page_stored(self, chunk: ChunkId, length: int) -> None:
        """A page is committed here, for the first time or again. `length`: bytes of its chunk."""
        ...

    def on_page_removed(self, chunk: ChunkId, length: int, cause: EvictionCause | None) -> None:
        """It is there no more. `cause`: why it was evicted, None when a client removed it."""
        ...


class Preference(Protocol):
    """Something that would rather have some pages stay than others: soft pins."""

    def is_preferred(self, chunk: ChunkId, now: int) -> bool:
        """The page is evicted only when nothing else may be."""
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

    def accept_unknown(self, namespace_id: int) -> bool:
        """A put has waited as long as it may for a namespace to become known. True: the manager has none of this id, as far as
        anybody can tell, and so no budget; `limits` says so from now on, until more is known. False: ask again later."""
        ...

    def share_of(self, namespace_id: int, budget_bytes: int) -> int | None:
        """The part of any budget of a namespace that belongs to this target's chain. None: not known here yet."""
        ...

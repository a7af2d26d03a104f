"""What a storage node says of the namespaces whose pages it has, as records."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ChainId


class PinKind(IntEnum):
    """What keeps a page from eviction. The numbers travel on the wire."""

    NONE = 0
    SOFT = 1
    """It is evicted when nothing else may be."""
    HARD = 2
    """It is not evicted."""


class CacheCounters(msgspec.Struct):
    """Of one namespace on one storage node, since it started; or of several nodes together."""

    lookups: int = 0
    """Requests for the presence of pages: a lookup is one per node that is asked."""
    keys_asked: int = 0
    keys_found: int = 0
    gets: int = 0
    """Pages, or parts of pages, that were read."""
    get_bytes: int = 0
    puts: int = 0
    """Pages that were stored; at the head of their chain."""
    put_bytes: int = 0
    evicted: int = 0
    """Pages removed to make room; this and what follows at the head of their chain."""
    expired: int = 0
    """Pages removed because their time was over."""
    removed: int = 0
    """Pages that somebody removed."""
    leases: int = 0
    """Leases that were granted."""
    leased_pages: int = 0
    """Pages in them."""
    leases_refused: int = 0
    """Lookups that were answered without the lease they asked for, because there was no room for it."""
    pins_refused: int = 0
    """Pages that were not pinned, because the pin budget was used up."""
    lost: int = 0
    """Pages removed by the head because no replica of the chain had their bytes any more."""


class NamespaceUsage(msgspec.Struct):
    """What one namespace has: on the targets of one node that are heads, or altogether."""

    namespace_id: int
    pages: int = 0
    bytes: int = 0
    """As stored, one copy."""
    leases: int = 0
    leased_pages: int = 0
    """Each as often as it is leased."""
    soft_pins: int = 0
    hard_pins: int = 0
    hard_pin_bytes: int = 0
    counters: CacheCounters = msgspec.field(default_factory=CacheCounters)

    def add(self, other: NamespaceUsage) -> None:
        """What another node says of the same namespace."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in CacheCounters.__struct_fields__:
            setattr(self.counters, name, getattr(self.counters, name) + getattr(other.counters, name))


_SUMS = ("pages", "bytes", "leases", "leased_pages", "soft_pins", "hard_pins", "hard_pin_bytes")


class UsagePage(msgspec.Struct, frozen=True):
    """What one node answers."""

    namespaces: list[NamespaceUsage]
    more: bool
    heads: list[ChainId]
    """The chains that were counted."""

"""What is counted of each namespace: on a storage node what was asked of it, in a client what its lookups found.

Counters begin at 0 with the process. They tell rates and ratios when they are read twice; none is used to decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fs3.base.ids import ChunkId, is_page, page_namespace
from fs3.model.page_usage import CacheCounters

cache_counters_max = 65_536
"""Namespaces that one storage node counts for."""


class CacheStatistics:
    """The counters of one storage node, by namespace."""

    def __init__(self, namespaces_max: int = cache_counters_max) -> None:
        self._namespaces_max = namespaces_max
        self._counters: dict[int, CacheCounters] = {}

    def of(self, namespace_id: int) -> CacheCounters:
        """The counters of a namespace, to be added to. When there are too many, those that were made first are forgotten."""
        counters = self._counters.get(namespace_id)
        if counters is None:
            while len(self._counters) >= self._namespaces_max:
                del self._counters[next(iter(self._counters))]
            counters = self._counters[namespace_id] = CacheCounters()
        return counters

    def count_lookup(self, chunks: Sequence[bytes], lengths: Sequence[int]) -> None:
        """Chunks were asked for, which are of one namespace if they are pages; those that are not there have length 0."""
        if chunks and is_page(ChunkId(chunks[0])):
            counters = self.of(page_namespace(ChunkId(chunks[0])))
            counters.lookups += 1
            counters.keys_asked += len(lengths)
            counters.keys_found += len(lengths) - lengths.count(0)

    def count_reads(self, page: bytes, lengths: Sequence[int]) -> None:
        """Pages of the namespace of this one were read: how much of each, 0 of those that were not."""
        counters = self.of(page_namespace(ChunkId(page)))
        counters.gets += len(lengths) - lengths.count(0)
        counters.get_bytes += sum(lengths)

    def find(self, namespace_id: int) -> CacheCounters | None:
        """The counters of a namespace that something was counted of."""
        return self._counters.get(namespace_id)

    @property
    def namespaces(self) -> list[int]:
        """Those that something was counted of."""
        return list(self._counters)

    def forget(self, namespace_id: int) -> None:
        """The namespace is gone."""
        self._counters.pop(namespace_id, None)


class LookupCounters(msgspec.Struct):
    """What the lookups of one client found."""

    lookups: int = 0
    keys_asked: int = 0
    keys_found: int = 0
    """Also behind a miss."""
    prefix_keys: int = 0
    """The lengths of the prefixes that were there, together: what an engine can use."""
    unknown: int = 0
    """Keys of which it could not be learned whether they are there."""

    @property
    def hit_rate(self) -> float:
        """The part of the keys asked for that an engine can use; 0.0 when none was asked for."""
        return self.prefix_keys / self.keys_asked if self.keys_asked else 0.0

"""What a storage node counts of each namespace: what was asked of it, and what clients say that their lookups found.

Counters begin at 0 with the process. They tell rates and ratios when they are read twice; none is used to decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import ChunkId, is_page, page_namespace
from fs3.model.page_usage import CacheCounters, LookupCounters

cache_counters_max = 65_536
"""Namespaces that one storage node counts for."""
counter_max = (1 << 63) - 1
"""What clients report is added up to this, and no further: it travels in 64 bits, whatever they say."""


class CacheStatistics:
    """The counters of one storage node, by namespace."""

    def __init__(self, namespaces_max: int = cache_counters_max) -> None:
        self._namespaces_max = namespaces_max
        self._counters: dict[int, CacheCounters] = {}
        self._lookups: dict[int, LookupCounters] = {}
        """Of some of them: what clients reported."""

    def of(self, namespace_id: int) -> CacheCounters:
        """The counters of a namespace, to be added to. When there are too many, those that were made first are forgotten."""
        counters = self._counters.get(namespace_id)
        if counters is None:
            while len(self._counters) >= self._namespaces_max:
                self.forget(next(iter(self._counters)))
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

    def count_reported(self, namespace_id: int, found: LookupCounters) -> None:
        """A client says what its lookups in a namespace found."""
        self.of(namespace_id)
        lookups = self._lookups.setdefault(namespace_id, LookupCounters())
        lookups.add(found)
        for name in LookupCounters.__struct_fields__:
            setattr(lookups, name, min(getattr(lookups, name), counter_max))

    def find(self, namespace_id: int) -> CacheCounters | None:
        """The counters of a namespace that something was counted of."""
        return self._counters.get(namespace_id)

    def find_reported(self, namespace_id: int) -> LookupCounters | None:
        """What clients reported of a namespace, if one did."""
        return self._lookups.get(namespace_id)

    @property
    def namespaces(self) -> list[int]:
        """Those that something was counted of."""
        return list(self._counters)

    def forget(self, namespace_id: int) -> None:
        """The namespace is gone."""
        self._counters.pop(namespace_id, None)
        self._lookups.pop(namespace_id, None)

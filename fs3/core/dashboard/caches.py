"""KVCache namespaces for the page: what storage nodes say of them, added up, with their rates and hit rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from fs3.base.units import SECOND
from fs3.model.cluster import CacheNamespace
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage

namespaces_shown_max = 50
"""Those that take most; of the others the number."""
_RATES = ("gets", "get_bytes", "puts", "evicted")


class NamespaceSearch(Protocol):
    """Knows the namespaces of the cluster."""

    def __call__(self, ids: set[int]) -> Mapping[int, CacheNamespace]:
        """Those that have these ids."""
        ...


class NodeCaches(NamedTuple):
    """What one storage node has said."""

    at: int
    """When, on a monotonic clock."""
    namespaces: Mapping[int, NamespaceUsage]
    since: Mapping[int, NamespaceUsage]
    """As it was the time before; empty when it was not asked."""
    seconds: float
    """Between the two."""

    @classmethod
    def of(cls, rows: Sequence[NamespaceUsage], at: int, former: NodeCaches | None) -> NodeCaches:
        """The newest answer, and the one before."""
        found = {row.namespace_id: row for row in rows}
        if former is None:
            return cls(at, found, {}, 0.0)
        return cls(at, found, former.namespaces, max(1, at - former.at) / SECOND)


def caches_document(nodes: Sequence[NodeCaches], find: NamespaceSearch, count: int, asked: int) -> dict[str, Any]:
    """The namespaces that take most. `count`: how many there are; `asked`: storage nodes that are asked."""
    sums: dict[int, NamespaceUsage] = {}
    rates: dict[int, dict[str, float]] = {}
    recent: dict[int, LookupCounters] = {}
    for node in nodes:
        for number, row in node.namespaces.items():
            sums.setdefault(number, NamespaceUsage(number)).add(row)
            before = node.since.get(number)
            if before is not None and node.seconds:
                _add_rates(rates.setdefault(number, dict.fromkeys(_RATES, 0.0)), before.counters, row.counters, node.seconds)
                recent.setdefault(number, LookupCounters()).add(_since(before.lookups, row.lookups))
    names = find(set(sums))
    largest = sorted((number for number in sums if number in names), key=lambda number: -sums[number].bytes)
    rows = [
        _document(names[number], sums[number], rates.get(number, {}), recent.get(number, LookupCounters()))
        for number in largest[:namespaces_shown_max]
    ]
    return {"rows": rows, "count": count, "answered": len(nodes), "asked": asked}


def _document(
    namespace: CacheNamespace, usage: NamespaceUsage, rates: Mapping[str, float], recent: LookupCounters
) -> dict[str, Any]:
    return {
        "name": namespace.name,
        "owner": namespace.owner,
        "pages": usage.pages,
        "bytes": usage.bytes,
        "budget_bytes": namespace.budget_bytes,
        "hit_rate": _part(_hits(usage.lookups, usage.counters)),
        "recent_hit_rate": round(recent.hit_rate, 3) if recent.keys_asked else None,
        "evicted": usage.counters.evicted,
        **{f"{name}_per_second": float(f"{rates.get(name, 0.0):.3g}") for name in _RATES},
    }


def _hits(lookups: LookupCounters, counters: CacheCounters) -> tuple[int, int]:
    """What engines could use of the keys they asked for, as clients tell; else what nodes found."""
    if lookups.keys_asked:
        return lookups.prefix_keys, lookups.keys_asked
    return counters.keys_found, counters.keys_asked


def _part(found_of: tuple[int, int]) -> float | None:
    found, asked = found_of
    return round(found / asked, 3) if asked else None


def _add_rates(rates: dict[str, float], before: CacheCounters, now: CacheCounters, seconds: float) -> None:
    for name in _RATES:
        # A node that has begun anew counts from 0.
        rates[name] += max(0, getattr(now, name) - getattr(before, name)) / seconds


def _since(before: LookupCounters, now: LookupCounters) -> LookupCounters:
    values: Iterable[int] = (max(0, new - old) for old, new in zip(_numbers(before), _numbers(now), strict=True))
    return LookupCounters(*values)


def _numbers(counters: LookupCounters) -> list[int]:
    return list(msgspec.structs.astuple(counters))

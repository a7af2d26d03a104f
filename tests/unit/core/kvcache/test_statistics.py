"""Counters are bounded in number."""

from __future__ import annotations

from fs3.core.kvcache.statistics import CacheStatistics, LookupCounters


def test_counters_of_many_namespaces_are_bounded() -> None:
    statistics = CacheStatistics(namespaces_max=2)
    for namespace in (1, 2, 3):
        statistics.of(namespace).puts += namespace
    assert statistics.find(1) is None
    assert statistics.of(2).puts == 2
    assert statistics.of(3).puts == 3
    statistics.forget(3)
    assert statistics.find(3) is None


def test_the_hit_rate_is_of_what_an_engine_can_use() -> None:
    assert LookupCounters().hit_rate == 0.0
    assert LookupCounters(lookups=1, keys_asked=8, keys_found=6, prefix_keys=4).hit_rate == 0.5

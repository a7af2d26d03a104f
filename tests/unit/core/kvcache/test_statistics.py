"""Counters are bounded in number."""

from __future__ import annotations

from fs3.core.kvcache.statistics import CacheStatistics, counter_max
from fs3.model.page_usage import LookupCounters


def test_counters_of_many_namespaces_are_bounded() -> None:
    statistics = CacheStatistics(namespaces_max=2)
    for namespace in (1, 2, 3):
        statistics.of(namespace).puts += namespace
    assert statistics.find(1) is None
    assert statistics.of(2).puts == 2
    assert statistics.of(3).puts == 3
    statistics.forget(3)
    assert statistics.find(3) is None


def test_what_clients_report_is_added_up_and_bounded() -> None:
    statistics = CacheStatistics(namespaces_max=2)
    assert statistics.find_reported(1) is None
    for _ in range(2):
        statistics.count_reported(1, LookupCounters(1, 8, 6, 4, 1))
    assert statistics.find_reported(1) == LookupCounters(2, 16, 12, 8, 2)
    for _ in range(3):
        statistics.count_reported(2, LookupCounters(1, counter_max // 2, 0, 0, 0))
    assert statistics.find_reported(2) == LookupCounters(3, counter_max, 0, 0, 0)
    statistics.count_reported(3, LookupCounters())
    assert statistics.namespaces == [2, 3]
    assert statistics.find_reported(1) is None


def test_the_hit_rate_is_of_what_an_engine_can_use() -> None:
    assert (LookupCounters().hit_rate, LookupCounters().mean_prefix) == (0.0, 0.0)
    assert LookupCounters(lookups=1, keys_asked=8, keys_found=6, prefix_keys=4).hit_rate == 0.5
    assert LookupCounters(lookups=2, keys_asked=8, keys_found=6, prefix_keys=5).mean_prefix == 2.5

"""What is shown of the use of namespaces: totals, and what has come between two looks."""

from __future__ import annotations

import pytest
from rich.console import Console

from fs3.api.kvcache import CacheUsage
from fs3.base.ids import TableId
from fs3.cli.kv_usage import make_table, print_usage, usage_document
from fs3.model.cluster import CacheNamespace
from fs3.model.page_usage import CacheCounters, LookupCounters


def usage_of(lookups: LookupCounters, counters: CacheCounters | None = None) -> CacheUsage:
    namespace = CacheNamespace(3, "model", 1000, 3, TableId(1), owner="team")
    return CacheUsage(namespace, 5, 5000, 0, 0, 0, 2, 4, counters or CacheCounters(keys_asked=10, keys_found=9), 0, lookups)


BEFORE = usage_of(LookupCounters(lookups=2, keys_asked=16, keys_found=12, prefix_keys=8))
AFTER = usage_of(
    LookupCounters(lookups=6, keys_asked=96, keys_found=70, prefix_keys=68), CacheCounters(keys_asked=30, keys_found=14)
)


def shown(usage: CacheUsage, before: dict[int, CacheUsage]) -> dict[str, str]:
    """The cells of the only row, by heading."""
    table = make_table([usage], before, 2.0)
    return {str(column.header): str(next(iter(column.cells))) for column in table.columns}


def test_ratios_are_of_what_came_since_the_last_look() -> None:
    totals = shown(BEFORE, {})
    assert (totals["hits"], totals["prefix"]) == ("90.0%", "50.0%")
    since = shown(AFTER, {3: BEFORE})
    assert (since["hits"], since["prefix"]) == ("25.0%", "75.0%")
    begun_anew = shown(BEFORE, {3: AFTER})
    assert (begun_anew["hits"], begun_anew["prefix"]) == ("", "")


def test_nothing_asked_is_no_rate() -> None:
    assert shown(usage_of(LookupCounters(), CacheCounters()), {})["prefix"] == ""
    Console(quiet=True).print(make_table([], {}, 1.0))


def test_all_that_is_counted_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_usage(BEFORE)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["prefix", "hit", "rate", "50.0%"] for line in lines)
    assert any("4.0 of 8.0 keys of a lookup" in line for line in lines)
    assert any(line.split() == ["nodes:", "keys", "found", "9"] for line in lines)
    print_usage(usage_of(LookupCounters()))
    assert "no lookup yet" in capsys.readouterr().out
    assert usage_document(BEFORE)["lookups"]["hit_rate"] == 0.5

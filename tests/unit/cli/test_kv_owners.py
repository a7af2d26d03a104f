"""Sums of what the namespaces of an owner take and do."""

from __future__ import annotations

import pytest

from fs3.api.kvcache import CacheUsage
from fs3.base.ids import TableId
from fs3.cli.kv_owners import owner_document, print_owners, sum_by_owner
from fs3.model.cluster import CacheNamespace
from fs3.model.page_usage import CacheCounters


def usage_of(number: int, owner: str, budget_bytes: int, pages: int, missing_chains: int = 0) -> CacheUsage:
    namespace = CacheNamespace(number, f"model-{number}", 1000, 3, TableId(1), budget_bytes=budget_bytes, owner=owner)
    counters = CacheCounters(keys_asked=10 * pages, keys_found=pages, gets=pages, get_bytes=1000 * pages, lost=number)
    return CacheUsage(namespace, pages, 1000 * pages, 100, 1, 0, 2, 4, counters, missing_chains)


USAGES = [
    usage_of(1, "search", 10_000, 5),
    usage_of(2, "search", 20_000, 4, 1),
    usage_of(3, "", 0, 1),
    usage_of(4, "chat", 5000, 3),
]


def test_what_an_owner_has_is_added_up() -> None:
    sums = sum_by_owner(USAGES)
    assert [(each.owner, each.namespaces, each.pages, each.bytes, each.budget_bytes) for each in sums] == [
        ("search", 2, 9, 9000, 30_000),
        ("chat", 1, 3, 3000, 5000),
        ("", 1, 1, 1000, 0),
    ]
    first = sums[0]
    assert (first.hard_pin_bytes, first.leases, first.missing_chains) == (200, 4, 1)
    assert first.counters == CacheCounters(keys_asked=90, keys_found=9, gets=9, get_bytes=9000, lost=3)


def test_a_namespace_without_a_budget_leaves_its_owner_without_one() -> None:
    (both,) = sum_by_owner([usage_of(1, "team", 10_000, 1), usage_of(2, "team", 0, 1)])
    assert both.budget_bytes == 0


def test_nobody_has_nothing() -> None:
    assert sum_by_owner([]) == []


def test_owners_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_owners(sum_by_owner(USAGES))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:4] == ["owner", "namespaces", "pages", "bytes"]
    assert rows[1][:3] == ["search", "2", "9+"]
    assert rows[1].count("10.0%") == 1, "the share of the keys that were asked for"
    assert rows[3][:3] == ["none", "1", "1"]
    document = owner_document(sum_by_owner(USAGES)[0])
    assert (document["owner"], document["counters"]["gets"]) == ("search", 9)

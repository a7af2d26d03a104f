"""`fs3 kv top --owners`: what the namespaces of each owner take and do together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.table import Table

from fs3.api.kvcache import CacheUsage
from fs3.base.units import format_size
from fs3.cli.output import table_console
from fs3.model.page_usage import CacheCounters

_HEADINGS = (
    "owner", "namespaces", "pages", "bytes", "budget", "used", "leases", "hits", "gets", "read", "puts", "evicted", "expired",
)  # fmt: skip


class OwnerUsage(msgspec.Struct, frozen=True):
    """What all namespaces of one owner have together; see `CacheUsage`."""

    owner: str
    """"": those that have none."""
    namespaces: int
    pages: int
    bytes: int
    budget_bytes: int
    """Of all budgets; 0: a namespace has none, so neither has their sum."""
    hard_pin_bytes: int
    leases: int
    counters: CacheCounters
    missing_chains: int
    """Answers that are missing: what these chains have is not counted."""


def sum_by_owner(usages: Iterable[CacheUsage]) -> list[OwnerUsage]:
    """The sums of each owner, those that take most first."""
    by_owner: dict[str, list[CacheUsage]] = {}
    for usage in usages:
        by_owner.setdefault(usage.namespace.owner, []).append(usage)
    return sorted((_sum(owner, found) for owner, found in by_owner.items()), key=lambda each: (-each.bytes, each.owner))


def _sum(owner: str, usages: Sequence[CacheUsage]) -> OwnerUsage:
    budgets = [usage.namespace.budget_bytes for usage in usages]
    counters = CacheCounters(
        **{name: sum(getattr(usage.counters, name) for usage in usages) for name in CacheCounters.__struct_fields__}
    )
    return OwnerUsage(
        owner,
        len(usages),
        sum(usage.pages for usage in usages),
        sum(usage.bytes for usage in usages),
        sum(budgets) if all(budgets) else 0,
        sum(usage.hard_pin_bytes for usage in usages),
        sum(usage.leases for usage in usages),
        counters,
        sum(usage.missing_chains for usage in usages),
    )


def owner_document(usage: OwnerUsage) -> dict[str, Any]:
    """The same for `--json`."""
    document: dict[str, Any] = msgspec.to_builtins(usage)
    return document


def print_owners(usages: Sequence[OwnerUsage]) -> None:
    """A line per owner; counters are totals since the storage nodes began."""
    table = Table(box=None)
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading == "owner" else "right")
    for usage in usages:
        counters, budget = usage.counters, usage.budget_bytes
        table.add_row(
            usage.owner or "none",
            str(usage.namespaces),
            f"{usage.pages}{'+' * bool(usage.missing_chains)}",
            format_size(usage.bytes),
            format_size(budget) if budget else "none",
            f"{usage.bytes / budget:.1%}" if budget else "",
            str(usage.leases),
            f"{counters.keys_found / counters.keys_asked:.1%}" if counters.keys_asked else "",
            str(counters.gets),
            format_size(counters.get_bytes),
            str(counters.puts),
            str(counters.evicted),
            str(counters.expired),
        )
    table_console().print(table)

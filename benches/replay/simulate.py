"""A trace against a policy in memory: what share of its pages would have been found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benches.replay.policies import LRU, S3FIFO, Clock, Infinite, LastFirst, Policy, Product, Sieve
from benches.replay.trace import Request
from fs3.base.units import MILLISECOND

POLICIES: dict[str, Callable[[int], Policy]] = {
    "fs3": lambda budget: LastFirst(Product(budget)),
    "LRU": LRU,
    "LRU, last first": lambda budget: LastFirst(LRU(budget)),
    "CLOCK": Clock,
    "SIEVE": Sieve,
    "S3-FIFO": S3FIFO,
}
"""By name: made with a budget of bytes."""


@dataclass(frozen=True)
class Outcome:
    """Of one replay."""

    asked_bytes: int
    """Of all pages of all requests."""
    prefix_bytes: int
    """Of pages found whose predecessors in their request were found as well: what an engine can use."""
    found_bytes: int
    """Of all pages found."""

    @property
    def hit_rate(self) -> float:
        """Share of the bytes asked for that an engine could use."""
        return self.prefix_bytes / max(self.asked_bytes, 1)


def page_length(page: int, mixed: bool) -> int:
    """One for all; or, `mixed`, 1 to 16 by the page's number, small ones more often."""
    return 1 << (page * 2654435761 >> 8) % 5 if mixed else 1


def replay(requests: Sequence[Request], policy: Policy, mixed: bool = False) -> Outcome:
    """Look up each request's pages, use those found from the first on, and put the others."""
    asked = prefix = found = 0
    for request in requests:
        now = request.timestamp_ms * MILLISECOND
        lengths = [page_length(page, mixed) for page in request.blocks]
        present = [page in policy for page in request.blocks]
        hits = present.index(False) if False in present else len(present)
        asked += sum(lengths)
        prefix += sum(lengths[:hits])
        found += sum(length for length, there in zip(lengths, present, strict=True) if there)
        policy.use(request.blocks, lengths, hits, now)
    return Outcome(asked, prefix, found)


def ideal(requests: Sequence[Request], mixed: bool = False) -> float:
    """The hit rate of a cache that never runs full."""
    return replay(requests, Infinite(), mixed).hit_rate


def distinct_bytes(requests: Sequence[Request], mixed: bool = False) -> int:
    """Of all pages of a trace, each once: what the cache that never runs full needs."""
    return sum(page_length(page, mixed) for page in {block for request in requests for block in request.blocks})


@dataclass(frozen=True)
class Curves:
    """Hit rates of every policy over budgets."""

    budgets: tuple[float, ...]
    """Shares of what the cache that never runs full needs."""
    ideal: float
    """Hit rate of that cache."""
    rates: dict[str, list[float]]
    """By policy, one for each budget."""


def measure_curves(requests: Sequence[Request], budgets: Sequence[float], mixed: bool = False) -> Curves:
    """Replay a trace once for each policy and budget."""
    total = distinct_bytes(requests, mixed)
    rates = {
        name: [replay(requests, make(max(1, int(total * budget))), mixed).hit_rate for budget in budgets]
        for name, make in POLICIES.items()
    }
    return Curves(tuple(budgets), ideal(requests, mixed), rates)

"""What nodes do per second, and how long operations take: differences of the sums that they tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fs3.base.counting import BUCKETS, bucket_bounds_ns
from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.activity import NO_OPERATIONS, NodeActivity, OperationTotals, ToldActivity

KINDS = ("reads", "writes", "names")
"""Kinds of operations, as fields of `NodeActivity`."""
_BOUNDS = bucket_bounds_ns()


class KindRate(NamedTuple):
    """One kind of operations."""

    per_second: float
    bytes_per_second: float
    counts: tuple[int, ...]
    """How many took how long, as of `OperationTotals`."""


class NodeRate(NamedTuple):
    """One node, since it told before."""

    cpu: float
    """Processors in use: 1.0 is one of them."""
    memory_bytes: int
    kinds: tuple[KindRate, ...]
    """In the order of `KINDS`."""


class RateMeter:
    """Remembers what each node told last."""

    def __init__(self) -> None:
        self._former: dict[NodeId, ToldActivity] = {}

    def measure(self, told: Mapping[NodeId, ToldActivity]) -> dict[NodeId, NodeRate]:
        """The rates of the nodes that have told anything since the last time; a node's first words have none."""
        rates = {}
        for node, now in told.items():
            former = self._former.get(node)
            if former is not None and now.at > former.at:
                rates[node] = _rate(former.activity, now.activity, (now.at - former.at) / SECOND)
        self._former = dict(told)
        return rates


def _rate(former: NodeActivity, now: NodeActivity, seconds: float) -> NodeRate:
    if now.cpu_ms < former.cpu_ms:
        former = NodeActivity()  # the process is another one, which counts from 0
    kinds = tuple(_kind_rate(getattr(former, kind), getattr(now, kind), seconds) for kind in KINDS)
    return NodeRate((now.cpu_ms - former.cpu_ms) / 1000 / seconds, now.memory_bytes, kinds)


def _kind_rate(former: OperationTotals, now: OperationTotals, seconds: float) -> KindRate:
    if now.calls < former.calls:
        former = NO_OPERATIONS
    counts = [*now.counts, *([0] * (len(former.counts) - len(now.counts)))]
    for index, count in enumerate(former.counts):
        counts[index] = max(0, counts[index] - count)
    moved = max(0, now.bytes - former.bytes)
    return KindRate((now.calls - former.calls) / seconds, moved / seconds, tuple(counts))


def sum_counts(all_counts: Iterable[Sequence[int]]) -> list[int]:
    """Bucket by bucket."""
    total = [0] * BUCKETS
    for counts in all_counts:
        for index, count in enumerate(counts):
            total[index] += count
    return total


def quantile_ms(counts: Sequence[int], part: float) -> float | None:
    """Within how many milliseconds so large a part of the operations was answered, as nearly as buckets tell; None: there were
    none. Of the open bucket, its lower bound."""
    total = sum(counts)
    if not total:
        return None
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= part * total:
            inside = (part * total - below) / count
            low = _BOUNDS[index - 1] if index else 0
            if index >= len(_BOUNDS):
                return low / MILLISECOND
            return (low + inside * (_BOUNDS[index] - low)) / MILLISECOND
        below += count
    return _BOUNDS[-1] / MILLISECOND

"""Differences of what nodes tell: rates, and how long operations take."""

from __future__ import annotations

import pytest

from fs3.base.counting import BUCKETS, Histogram
from fs3.base.ids import NodeId
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.dashboard.rates import RateMeter, quantile_ms
from fs3.model.activity import NodeActivity, OperationTotals, ToldActivity

NODE = NodeId(1)


def told(at: float, cpu_ms: int, calls: int, moved: int = 0, counts: tuple[int, ...] = ()) -> dict[NodeId, ToldActivity]:
    return {NODE: ToldActivity(int(at * SECOND), NodeActivity(cpu_ms, 5, OperationTotals(calls, moved, counts)))}


def test_rates_go_by_when_the_node_told_and_not_by_when_it_was_asked() -> None:
    meter = RateMeter()
    assert meter.measure(told(10, 100, 50, 1000, (50,))) == {}
    rate = meter.measure(told(12.5, 1350, 300, 6000, (250, 50)))[NODE]
    assert (rate.cpu, rate.memory_bytes) == (0.5, 5)
    assert rate.kinds[0] == (100, 2000, (200, 50))
    assert rate.kinds[1] == (0, 0, ())


def test_a_node_that_has_told_nothing_new_has_no_rate() -> None:
    meter = RateMeter()
    meter.measure(told(10, 0, 0))
    assert meter.measure(told(10, 0, 0)) == {}
    assert meter.measure({}) == {}


def test_a_process_that_was_started_again_counts_from_0() -> None:
    meter = RateMeter()
    meter.measure(told(10, 9000, 900, 900, (0, 900)))
    rate = meter.measure(told(12, 100, 20, 40, (20,)))[NODE]
    assert rate.cpu == 0.05
    assert rate.kinds[0] == (10, 20, (20,))


@pytest.mark.parametrize(
    ("elapsed_ms", "low", "high"), [(0.001, 0, 0.017), (1.0, 0.5, 1.05), (100.0, 67, 135), (60_000.0, 8000, 9000)]
)
def test_quantiles_are_within_the_bucket(elapsed_ms: float, low: float, high: float) -> None:
    histogram = Histogram()
    for _ in range(100):
        histogram.add(int(elapsed_ms * MILLISECOND))
    found = quantile_ms(histogram.read(), 0.99)
    assert found is not None
    assert low <= found <= high


def test_quantiles_of_two_kinds() -> None:
    counts = [0] * BUCKETS
    counts[3], counts[12] = 98, 2
    median, slow = quantile_ms(counts, 0.5), quantile_ms(counts, 0.99)
    assert median is not None
    assert slow is not None
    assert median < 0.2
    assert slow > 30
    assert quantile_ms([0, 0], 0.5) is None

"""When a second replica is asked."""

from __future__ import annotations

import pytest

from fs3.base.prng import Prng
from fs3.base.units import KIB, MICROSECOND, MILLISECOND
from fs3.core.files.hedging import (
    HedgePolicy,
    hedge_after_ns_max,
    hedge_after_ns_min,
    hedge_burst_max,
    hedge_samples_min,
    hedge_share,
)


def warm(policy: HedgePolicy, elapsed_ns: int, count: int = 4 * KIB, answers: int = 20 * hedge_samples_min) -> HedgePolicy:
    for _ in range(answers):
        policy.on_answered(count, elapsed_ns)
    return policy


def test_nothing_is_hedged_before_enough_is_known() -> None:
    policy = warm(HedgePolicy(), 5 * MILLISECOND, answers=hedge_samples_min - 1)
    assert policy.after_ns(4 * KIB) is None
    policy.on_answered(4 * KIB, 5 * MILLISECOND)
    assert policy.after_ns(4 * KIB) is not None
    assert policy.after_ns(256 * KIB) is None  # of that size nothing is known


@pytest.mark.parametrize(
    ("usual_ns", "after_ns"),
    [(100 * MICROSECOND, hedge_after_ns_min), (3_000 * MILLISECOND, hedge_after_ns_max)],
)
def test_the_wait_has_bounds(usual_ns: int, after_ns: int) -> None:
    assert warm(HedgePolicy(), usual_ns).after_ns(4 * KIB) == after_ns


def test_the_wait_is_about_the_99th_percentile() -> None:
    policy, prng = HedgePolicy(), Prng(7)
    late = 0
    for turn in range(40_000):
        elapsed = prng.between(10 * MILLISECOND, 20 * MILLISECOND) if prng.between(1, 50) > 1 else 60 * MILLISECOND
        after_ns = policy.after_ns(4 * KIB)
        late += turn >= 20_000 and after_ns is not None and elapsed > after_ns
        policy.on_answered(4 * KIB, elapsed)
    assert 0.004 < late / 20_000 < 0.025  # the estimate itself wanders


def test_the_wait_follows_a_change_of_load() -> None:
    policy = warm(HedgePolicy(), 4 * MILLISECOND)
    assert policy.after_ns(4 * KIB) < 5 * MILLISECOND  # type: ignore[operator]
    warm(policy, 40 * MILLISECOND, answers=hedge_samples_min)
    assert policy.after_ns(4 * KIB) > 38 * MILLISECOND  # type: ignore[operator]


def test_hedges_are_few() -> None:
    policy = HedgePolicy()
    taken = 0
    for _ in range(10_000):
        policy.after_ns(4 * KIB)
        taken += policy.may_hedge()
    assert taken == pytest.approx(hedge_burst_max + 10_000 * hedge_share, abs=1)


def test_a_quiet_time_saves_up_no_more_than_a_burst() -> None:
    policy = HedgePolicy()
    for _ in range(100_000):
        policy.after_ns(4 * KIB)
    assert sum(policy.may_hedge() for _ in range(1000)) == hedge_burst_max

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import cluster_time_ahead_ms, cluster_time_late_ms, security_silence_ns
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.security.cluster_time import ClusterTime, TimeKeeper


def test_time_that_was_never_told_is_not_known() -> None:
    time = ClusterTime()
    assert not time.is_known(5 * SECOND)
    assert time.now_ms(5 * SECOND) == 0


def test_time_goes_on_from_what_was_told_until_nothing_is_heard() -> None:
    time = ClusterTime()
    time.learn(70_000, 5 * SECOND)
    assert time.now_ms(7 * SECOND) == 72_000
    assert time.is_known(5 * SECOND + security_silence_ns - 1)
    assert not time.is_known(5 * SECOND + security_silence_ns)


def test_a_slow_answer_does_not_set_the_clock_back() -> None:
    time = ClusterTime()
    time.learn(70_000, 0, 0)
    time.learn(70_100, 900 * MILLISECOND, 50 * MILLISECOND)
    assert time.now_ms(900 * MILLISECOND) == 70_900


def test_a_clock_that_runs_fast_is_set_back_to_what_can_be_true() -> None:
    time = ClusterTime()
    time.learn(70_000, 0, 0)
    time.learn(70_500, 1_000 * MILLISECOND, 990 * MILLISECOND)
    assert time.now_ms(1_000 * MILLISECOND) == 70_510


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 1_000), st.integers(0, 1_000)), max_size=30))
def test_an_estimate_is_late_by_the_message_at_most_and_never_ahead(asks: list[tuple[int, int, int]]) -> None:
    time, now, offset = ClusterTime(), 0, 123_456
    for pause, there, back in asks:
        asked = now + pause
        told = asked + there + offset
        now = asked + there + back
        time.learn(told, now * MILLISECOND, asked * MILLISECOND)
        assert told <= time.now_ms(now * MILLISECOND) <= now + offset


def test_the_keeper_says_nothing_beyond_what_is_stored() -> None:
    keeper = TimeKeeper(1_000, 0)
    assert keeper.now_ms(9 * SECOND) == 1_000
    bound = keeper.next_bound(9 * SECOND)
    assert bound is not None
    keeper.on_stored(bound, 9 * SECOND)
    assert keeper.now_ms(9 * SECOND) == 1_000
    assert keeper.now_ms(10 * SECOND) == 2_000


def test_the_next_primary_goes_on_ahead_of_all_that_was_said() -> None:
    keeper = TimeKeeper(0, 0)
    stored, said = 0, 0
    for now in range(0, 60 * SECOND, SECOND // 4):
        if (bound := keeper.next_bound(now)) is not None:
            keeper.on_stored(bound, now)
            stored = bound
        assert keeper.now_ms(now) >= said
        said = keeper.now_ms(now)
        assert said <= stored <= said + cluster_time_ahead_ms
    assert TimeKeeper(stored, 5).now_ms(5) >= said
    assert cluster_time_late_ms < cluster_time_ahead_ms

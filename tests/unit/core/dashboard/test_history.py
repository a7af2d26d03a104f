"""The rings of samples: bounded, at two resolutions, and what follows from them."""

from __future__ import annotations

from fs3.core.dashboard.history import COARSE_SAMPLES, COLUMNS, FINE_SAMPLES, FINE_SECONDS, History, HistorySample

USED, READS, P99 = COLUMNS.index("used_bytes"), COLUMNS.index("reads_per_second"), COLUMNS.index("reads_p99_ms")


def sample(second: float, used: int | None = None, reads: float = 0.0, p99: float | None = None) -> HistorySample:
    values: list[float | int | None] = [0.0] * len(COLUMNS)
    values[USED], values[READS], values[P99] = used, reads, p99
    return HistorySample(int(second * 1000), tuple(values))


def test_both_rings_are_bounded() -> None:
    history = History()
    for index in range(FINE_SAMPLES * 100):
        history.add(sample(index * FINE_SECONDS))
    assert len(history.fine) == FINE_SAMPLES
    assert len(history.coarse) == COARSE_SAMPLES
    assert history.fine[-1].at_ms == history.coarse[-1].at_ms


def test_a_coarse_sample_has_means_and_the_worst_of_the_slowest() -> None:
    history = History()
    for index in range(15):
        history.add(sample(index * 2, used=100 + index, reads=float(index), p99=None if index % 2 else float(index)))
    (coarse,) = history.coarse
    assert (coarse.values[READS], coarse.values[P99], coarse.values[USED]) == (7.0, 14.0, 114)


def test_what_is_known_of_no_sample_stays_unknown() -> None:
    history = History()
    for index in range(15):
        history.add(sample(index * 2))
    assert history.coarse[0].values[P99] is None
    assert history.growth_per_second() is None


def test_growth_is_of_the_last_hour_and_needs_time() -> None:
    history = History()
    for index in range(3 * 1800):
        at = index * 2
        history.add(sample(at, used=10**9 if at < 3600 * 2 else 10**9 + (at - 7200) * 500))
        if at == 60:
            assert history.growth_per_second() is None
    growth = history.growth_per_second()
    assert growth is not None
    assert 495 < growth <= 500


def test_after_another_manager_has_led_nothing_is_known() -> None:
    history = History()
    for index in range(20):
        history.add(sample(index * 2, used=5))
    history.clear()
    assert history.document()["fine"] == history.document()["coarse"] == []
    history.add(sample(0, used=5))
    assert not history.coarse

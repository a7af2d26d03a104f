"""Histograms and the counts of calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.counting import BUCKETS, CALL_CODES_MAX, OTHER_CODE, SHIFT, CallCounts, Histogram, bucket_bounds_ns


@given(st.integers(0, (1 << 63) - 1))
def test_a_time_falls_into_the_bucket_whose_bounds_it_is_between(elapsed_ns: int) -> None:
    histogram = Histogram()
    histogram.add(elapsed_ns)
    bounds = [0, *bucket_bounds_ns(), 1 << 64]
    (bucket,) = [index for index, count in enumerate(histogram.read()) if count]
    assert bounds[bucket] <= elapsed_ns < bounds[bucket + 1]
    assert (histogram.count, histogram.total_ns, len(histogram.read())) == (1, elapsed_ns, BUCKETS)


def test_calls_are_counted_by_how_they_ended() -> None:
    now = 0
    counts = CallCounts(lambda: now)
    counts.begun = 3
    now = 100_000
    counts.end(0, 0)
    counts.end(201, 50_000)
    assert (counts.ended, counts.in_flight) == (2, 1)
    assert (counts.answered.count, counts.answered.total_ns) == (1, 100_000)
    assert {code: found.total_ns for code, found in counts.failed.items()} == {201: 50_000}


def test_what_the_wires_add_counts_as_what_ends() -> None:
    counts = CallCounts(lambda: 0)
    counts.begun = 2
    for elapsed_ns in (20_000, 1 << 40):
        counts.places[(elapsed_ns >> SHIFT).bit_length()] += 1
        counts.total_ns += elapsed_ns
    told = CallCounts(lambda: 0)
    for elapsed_ns in (20_000, 1 << 40):
        told.end(0, -elapsed_ns)
    assert counts.answered.read() == told.answered.read()
    assert (counts.ended, counts.in_flight, counts.answered.total_ns) == (2, 0, told.answered.total_ns)


@pytest.mark.parametrize("codes", [CALL_CODES_MAX, CALL_CODES_MAX + 5])
def test_codes_that_one_method_is_counted_by_are_bounded(codes: int) -> None:
    counts = CallCounts(lambda: 0)
    for code in range(1, codes + 1):
        counts.end(code, 0)
    assert len(counts.failed) == min(codes, CALL_CODES_MAX + 1)
    assert sum(found.count for found in counts.failed.values()) == codes
    assert (OTHER_CODE in counts.failed) == (codes > CALL_CODES_MAX)

"""Shares of places in proportion to sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.core.membership.weighted_placement import complete_sizes, share_out


@given(st.lists(st.integers(1, 10**14), min_size=1, max_size=40), st.integers(1, 300), st.data())
def test_shares_are_in_proportion_and_none_is_too_large(sizes: list[int], most: int, data: st.DataObject) -> None:
    places = data.draw(st.integers(0, most * len(sizes)))
    shares = share_out(sizes, places, most)
    assert sum(shares) == places
    assert max(shares) <= most
    free = [(size, share) for size, share in zip(sizes, shares, strict=True) if share < most]
    room, left = sum(size for size, _ in free), sum(share for _, share in free)
    assert all(abs(share - size * left / room) < 2 for size, share in free)
    ordered = [share for _, share in sorted(zip(sizes, shares, strict=True))]
    assert all(a <= b + 1 for a, b in pairwise(ordered)), "a larger one has not less, but for the last place"


def test_what_is_left_over_goes_to_those_that_are_furthest_behind() -> None:
    assert share_out([1, 1, 1], 4, 9) == [2, 1, 1]
    assert share_out([10, 1, 1], 6, 3) == [3, 2, 1]
    assert share_out([5, 3, 2], 7, 7) == [4, 2, 1]
    with pytest.raises(ValueError, match="7 places are more than 2 for each of 3"):
        share_out([1, 1, 1], 7, 2)


def test_sizes_that_are_not_known_are_typical() -> None:
    assert complete_sizes([0, 4, 8]) == [6, 4, 8]
    assert complete_sizes([0, 0]) == [1, 1]

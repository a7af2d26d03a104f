"""Which page goes next."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChunkId, page_chunk
from fs3.base.units import SECOND
from fs3.core.kvcache.recency.page_table import LENGTH_MAX
from fs3.core.kvcache.recency.recency import LOOKS_PER_SEARCH_MAX, Recency


def page(index: int) -> ChunkId:
    return page_chunk(3, (index * 0x9E3779B97F4A7C15_F39CC0605CEDC835 % (1 << 128)).to_bytes(16, "little"))


def is_free(chunk: ChunkId) -> bool:
    return False


def filled(count: int, step: int = SECOND) -> Recency:
    """Pages 0 … count - 1, stored one after the other."""
    recency = Recency(3, 0)
    for index in range(count):
        recency.insert(page(index), 100 + index, index * step)
    return recency


def evict(recency: Recency, now: int) -> int:
    """The number of the page that goes."""
    victim = recency.victim(now, is_free)
    assert victim is not None
    recency.remove(victim)
    return next(index for index in range(1000) if page(index) == victim)


def test_a_page_has_a_length_and_a_time() -> None:
    recency = filled(3)
    assert page(1) in recency
    assert recency.length(page(1)) == 101
    assert recency.bytes == 303
    assert 0 <= SECOND - (recency.born(page(1)) or 0) < SECOND // 20
    recency.insert(page(1), 5, 9 * SECOND)
    assert (recency.length(page(1)), recency.bytes, len(recency)) == (5, 207, 3)
    assert (recency.born(page(1)) or 0) <= SECOND
    assert recency.remove(page(1)) == 5
    assert page(1) not in recency
    assert (recency.remove(page(1)), recency.length(page(1)), recency.born(page(1))) == (None, None, None)
    assert not recency.touch(page(1), 0)
    assert (recency.bytes, len(recency)) == (202, 2)


@pytest.mark.parametrize("length", [-1, LENGTH_MAX + 1])
def test_a_length_no_page_has_is_refused(length: int) -> None:
    recency = Recency(3, 0)
    with pytest.raises(ValueError, match=str(length)):
        recency.insert(page(0), length, 0)
    assert not recency


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    recency = filled(5, step=1)
    for index in (0, 2):
        assert recency.touch(page(index), 10)
    assert [evict(recency, 20) for _ in range(5)] == [1, 3, 4, 0, 2]
    assert recency.victim(20, is_free) is None


def test_of_one_request_told_last_first_the_end_goes_first() -> None:
    recency = Recency(3, 0)
    for index in reversed(range(4)):
        recency.insert(page(index), 1, 0)
    assert [evict(recency, 0) for _ in range(4)] == [3, 2, 1, 0]


def scan(recency: Recency, first: int, end: int) -> list[int]:
    """Pages that come and are never used, each for one that goes. Returns those that went."""
    gone = []
    for index in range(first, end):
        gone.append(evict(recency, index * SECOND))
        recency.insert(page(index), 1, index * SECOND)
    return gone


def test_what_was_used_three_times_outlives_a_scan_once() -> None:
    recency = filled(10)
    for turn in range(2):
        recency.touch(page(1), (10 + 4 * turn) * SECOND)
    for turn in range(3):
        recency.touch(page(0), (20 + 4 * turn) * SECOND)
    gone = scan(recency, 30, 70)
    # Page 1 was used too seldom, and goes when the pages that came before its uses have gone. Page 0 is in the line once more.
    assert gone[:9] == [2, 3, 4, 5, 6, 7, 8, 9, 1]
    assert gone.index(0) >= 18


def test_uses_that_follow_each_other_at_once_are_one() -> None:
    recency = filled(10)
    for _ in range(8):  # the ranks of one model
        recency.touch(page(9), 9 * SECOND + SECOND // 10)
    assert scan(recency, 10, 20) == list(range(10))


def test_second_chances_are_rare_where_pages_are_used_late_and_spared_ones_never() -> None:
    recency = filled(100)
    for index in range(300):
        recency.touch(page(index % 100), (100 + index) * SECOND)  # each is the oldest when it is used
    gone = [evict(recency, 400 * SECOND) for _ in range(48)]
    assert gone == sorted(gone)
    assert max(gone) <= 48 + 4


def test_second_chances_are_the_rule_where_no_page_is_used_late() -> None:
    recency = filled(200)
    for turn in range(3):
        for index in range(50):
            recency.touch(page(199 - index), (202 + 52 * turn + index) * SECOND)
    gone = [evict(recency, 400 * SECOND) for _ in range(153)]
    assert gone[:150] == list(range(150))
    # 199 to 150 had theirs, sixteen by each search that then takes the next.
    assert gone[150:] == [199 - 16, 199 - 33, 199]


def test_protected_pages_are_passed_over_and_looked_at_again_last() -> None:
    recency = filled(5, step=1)
    protected = {page(0), page(2)}
    first = recency.victim(9, protected.__contains__)
    second = recency.victim(9, protected.__contains__)
    assert (first, second) == (page(1), page(3))
    for chunk in (page(1), page(3), page(4)):
        recency.remove(chunk)
    assert recency.victim(9, protected.__contains__) is None
    protected.clear()
    assert recency.victim(9, is_free) == page(0)


def test_a_search_looks_at_a_bounded_number_of_pages() -> None:
    recency = filled(3 * LOOKS_PER_SEARCH_MAX, step=1)
    looked: list[ChunkId] = []

    def refuse(chunk: ChunkId) -> bool:
        looked.append(chunk)
        return True

    assert recency.victim(9, refuse) is None
    assert len(looked) == LOOKS_PER_SEARCH_MAX
    assert recency.victim(9, is_free) == page(LOOKS_PER_SEARCH_MAX)


def test_when_all_were_used_one_goes_all_the_same() -> None:
    recency = filled(300)
    for index in range(900):
        recency.touch(page(index % 300), (400 + index) * SECOND)
    assert recency.victim(1000 * SECOND, is_free) is not None


def test_a_victim_that_stays_is_not_named_again_before_the_others() -> None:
    recency = filled(4, step=1)
    named = [recency.victim(9, is_free) for _ in range(4)]
    assert named == [page(index) for index in range(4)]


def test_expired_pages_are_found_by_one_round_of_calls() -> None:
    recency = filled(1000)
    recency.touch(page(0), 1000 * SECOND)
    found = [chunk for _ in range(recency.buckets) for chunk in recency.expired(1000 * SECOND, 900 * SECOND)]
    assert set(found) == {page(index) for index in range(100)}
    for chunk in found:
        recency.remove(chunk)
    assert not [chunk for _ in range(recency.buckets) for chunk in recency.expired(1000 * SECOND, 900 * SECOND)]


def test_time_before_and_long_after_the_start_is_kept_in_bounds() -> None:
    recency = Recency(3, 10**18)
    recency.insert(page(0), 1, 0)
    recency.insert(page(1), 1, 10**19)
    assert [evict(recency, 10**19) for _ in range(2)] == [0, 1]

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.units import KIB, MIB
from fs3.core.files.readahead import Readahead

END = 1 << 30


def test_one_read_fetches_nothing_ahead():
    assert Readahead(MIB, 8 * MIB).on_read(0, 64 * KIB, END) is None


def test_a_second_read_in_order_opens_the_window():
    ahead = Readahead(MIB, 8 * MIB)
    ahead.on_read(0, 64 * KIB, END)
    assert ahead.on_read(64 * KIB, 64 * KIB, END) == (128 * KIB, MIB)
    # Nothing is asked for again until half of it is used.
    assert ahead.on_read(128 * KIB, 64 * KIB, END) is None


def test_the_window_doubles_up_to_its_maximum_and_ranges_join():
    ahead = Readahead(MIB, 4 * MIB)
    fetched = []
    for index in range(400):
        found = ahead.on_read(index * 64 * KIB, 64 * KIB, END)
        if found:
            fetched.append(found)
    assert ahead.window == 4 * MIB
    assert all(at + count == after for (at, count), (after, _) in pairwise(fetched))
    assert max(count for _, count in fetched) <= 4 * MIB


def test_a_jump_closes_the_window():
    ahead = Readahead(MIB, 4 * MIB)
    for index in range(10):
        ahead.on_read(index * 64 * KIB, 64 * KIB, END)
    assert ahead.on_read(500 * MIB, 64 * KIB, END) is None
    assert ahead.window == 0
    assert ahead.on_read(500 * MIB + 64 * KIB, 64 * KIB, END) is None
    assert ahead.on_read(500 * MIB + 128 * KIB, 64 * KIB, END) is not None


def test_nothing_is_fetched_past_the_end():
    ahead = Readahead(MIB, 4 * MIB)
    ahead.on_read(0, 100, 300)
    assert ahead.on_read(100, 100, 300) == (200, 100)
    assert ahead.on_read(200, 100, 300) is None


@given(st.lists(st.tuples(st.integers(0, 4 * MIB), st.integers(1, 300 * KIB)), max_size=50), st.integers(1, 5 * MIB))
def test_what_is_fetched_lies_ahead_and_inside_the_file(reads, length):
    ahead = Readahead(64 * KIB, MIB)
    for offset, count in reads:
        found = ahead.on_read(offset, count, length)
        if found is not None:
            at, size = found
            assert size > 0
            assert at >= min(offset + count, length)
            assert at + size <= length
            assert at + size <= offset + count + MIB

from hypothesis import given
from hypothesis import strategies as st

from fs3.core.files.channel_pool import ChannelPool


def test_numbers_of_a_channel_rise_and_the_last_freed_is_taken_first():
    pool = ChannelPool()
    assert pool.acquire() == (1, 1)
    assert pool.acquire() == (2, 1)
    pool.release(1)
    pool.release(2)
    assert pool.acquire() == (2, 2)
    assert pool.acquire() == (1, 2)
    assert pool.acquire() == (3, 1)


def test_there_are_only_so_many():
    pool = ChannelPool(2)
    assert pool.acquire() is not None
    channel, _ = pool.acquire()
    assert pool.acquire() is None
    pool.release(channel)
    assert pool.acquire() == (channel, 2)


def test_a_retired_channel_is_replaced_by_a_new_one():
    pool = ChannelPool(1)
    assert pool.acquire() == (1, 1)
    pool.retire(1)
    assert pool.acquire() == (2, 1)


@given(st.lists(st.sampled_from(("take", "give", "retire")), max_size=200))
def test_no_tag_is_ever_given_twice(steps):
    pool = ChannelPool(5)
    seen = set()
    out = []
    retired = set()
    for step in steps:
        if step == "take":
            tag = pool.acquire()
            assert (tag is None) == (len(out) == 5)
            if tag is not None:
                assert tag not in seen
                assert tag[0] not in out
                assert tag[0] not in retired
                seen.add(tag)
                out.append(tag[0])
        elif out:
            channel = out.pop(0)
            if step == "give":
                pool.release(channel)
            else:
                retired.add(channel)
                pool.retire(channel)
        assert pool.in_use == len(out)

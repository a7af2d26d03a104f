"""What the pages of a target take, against counting them one by one."""

import hashlib
import random

import pytest

from fs3.base.ids import page_chunk, page_namespace
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.seams import EvictionCause

NOW = 1000 * SECOND


def page(number, namespace=1):
    return page_chunk(namespace, hashlib.sha256(b"%d" % number).digest())


@pytest.fixture
def cache():
    cache = PageCache()
    cache.is_counted = True
    return cache


def test_a_page_counts_from_its_commit_to_the_commit_of_its_removal(cache):
    cache.on_commit(page(1), 100, NOW)
    cache.on_commit(page(2, 7), 50, NOW)
    assert (cache.bytes, cache.pages) == (150, 2)
    assert (cache.use(1).bytes, cache.use(7).bytes, cache.use(9).bytes) == (100, 50, 0)
    assert cache.contains(page(1))
    assert cache.length(page(1)) == 100
    assert cache.on_remove(page(1)) == (100, None)
    assert cache.on_remove(page(1)) is None
    assert not cache.contains(page(1))
    assert cache.bytes == 50
    cache.check()


def test_a_page_that_is_committed_again_counts_once(cache):
    cache.on_commit(page(1), 100, NOW)
    cache.on_commit(page(1), 70, NOW)
    assert (cache.bytes, cache.pages) == (70, 1)


def test_pages_that_are_counted_at_opening_while_others_are_committed():
    cache = PageCache()
    cache.on_commit(page(2), 60, NOW)
    cache.count([(page(1), 40), (page(2), 60)], NOW)
    cache.on_remove(page(1))
    cache.count([(page(3), 5)], NOW)
    assert cache.bytes == 65
    cache.check()


def test_what_is_under_way_takes_room_once_however_many_put_it(cache):
    cache.reserve(page(1), 100, NOW)
    cache.reserve(page(1), 100, NOW)
    assert cache.under_way_bytes == 100
    assert cache.is_promised(page(1), 100)
    assert not cache.is_promised(page(1), 101)
    cache.on_commit(page(1), 100, NOW)
    assert (cache.under_way_bytes, cache.bytes) == (0, 100)
    for _ in range(2):
        cache.release(page(1), is_under_way=False)
    assert cache.use(1).under_way_bytes == 0
    cache.check()


def test_a_removal_between_two_puts_of_a_page_gives_the_second_its_room_back(cache):
    cache.reserve(page(1), 100, NOW)
    cache.reserve(page(1), 100, NOW)
    cache.on_commit(page(1), 100, NOW)
    cache.release(page(1), is_under_way=True)
    cache.on_remove(page(1))
    assert (cache.under_way_bytes, cache.bytes) == (100, 0)
    cache.on_commit(page(1), 100, NOW)
    cache.release(page(1), is_under_way=False)
    assert (cache.under_way_bytes, cache.bytes) == (0, 100)
    cache.check()


def test_an_update_that_outlives_its_waiters_keeps_its_room(cache):
    cache.reserve(page(1), 100, NOW)
    cache.release(page(1), is_under_way=True)
    cache.settle({page(1)})
    assert cache.under_way_bytes == 100
    assert not cache.is_settled
    cache.settle(())
    assert cache.under_way_bytes == 0
    assert cache.is_settled


def test_a_page_that_is_leaving_takes_room_and_is_not_there(cache):
    cache.on_commit(page(1), 100, NOW)
    assert cache.begin_eviction(page(1), EvictionCause.BUDGET) == 100
    assert cache.is_leaving(page(1))
    assert not cache.contains(page(1))
    assert (cache.bytes, cache.staying_bytes, cache.leaving_count) == (100, 0, 1)
    assert not cache.is_promised(page(1), 100)
    assert cache.on_remove(page(1)) == (100, EvictionCause.BUDGET)
    use = cache.use(1)
    assert (use.bytes, use.evicted_pages, use.evicted_bytes) == (0, (1, 0, 0, 0, 0), (100, 0, 0, 0, 0))
    cache.check()


def test_an_eviction_that_comes_to_nothing_leaves_the_page(cache):
    cache.on_commit(page(1), 100, NOW)
    cache.begin_eviction(page(1), EvictionCause.ROOM)
    cache.settle(())
    assert cache.contains(page(1))
    assert cache.staying_bytes == 100
    cache.check()


def test_anything_in_any_order_adds_up(cache):
    draw = random.Random(7)
    there = {}
    waiting = []
    for _ in range(4000):
        chunk = page(draw.randrange(30), draw.randrange(1, 4))
        what = draw.randrange(7)
        if what == 0:
            there[chunk] = draw.randrange(1, 1000)
            cache.on_commit(chunk, there[chunk], NOW)
        elif what == 1:
            there.pop(chunk, None)
            cache.on_remove(chunk)
        elif what == 2:
            cache.reserve(chunk, draw.randrange(1, 1000), NOW)
            waiting.append(chunk)
        elif what == 3 and waiting:
            cache.release(waiting.pop(draw.randrange(len(waiting))), is_under_way=draw.random() < 0.5)
        elif what == 4 and chunk in there:
            cache.begin_eviction(chunk, draw.choice(list(EvictionCause)))
        elif what == 5:
            cache.cancel_eviction(chunk)
        else:
            cache.settle(draw.sample([page(number, 1) for number in range(30)], 15))
        cache.check()
        assert cache.bytes == sum(there.values())
    for chunk in waiting:
        cache.release(chunk, is_under_way=False)
    cache.settle(())
    assert cache.under_way_bytes == cache.leaving_bytes == 0
    assert {page_namespace(chunk) for chunk in there} <= set(cache.namespaces)

"""Who has room for a put, and which page goes for it."""

import hashlib

import pytest

from fs3.base.ids import ChainId, page_chunk
from fs3.base.units import MINUTE, SECOND
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.room import FILES, NO_LIMIT, MeasuredSpace, TargetRoom
from fs3.core.kvcache.budget.seams import EvictionCause, NamespaceLimits
from fs3.core.kvcache.budget.shares import share_of, watermarks
from fs3.core.kvcache.placement import SLOTS, Placement, slots_of

NOW = 1000 * SECOND


def page(number, namespace=1):
    return page_chunk(namespace, hashlib.sha256(b"%d" % number).digest())


class Limits:
    """Knows what it is told."""

    def __init__(self):
        self.known = {1: NamespaceLimits(share_bytes=1000), 2: NamespaceLimits(), 3: NamespaceLimits(ttl_ns=10 * SECOND)}

    def limits(self, namespace_id):
        return self.known.get(namespace_id)


class Held:
    """Protects some pages."""

    def __init__(self, chunks):
        self.chunks = chunks

    def is_held(self, chunk, now):
        return chunk in self.chunks

    def is_preferred(self, chunk, now):
        return chunk in self.chunks


@pytest.fixture
def room():
    cache = PageCache()
    cache.is_counted = True
    return TargetRoom(cache, Limits())


def fill(room, count, namespace=1, length=100, now=NOW):
    for number in range(count):
        room.cache.on_commit(page(number, namespace), length, now + number * SECOND)


def evict_all(room, now=NOW):
    gone = []
    while (victim := room.next_victim(now)) is not None:
        room.cache.begin_eviction(*victim)
        gone.append(victim)
    return gone


class TestPuts:
    def test_up_to_the_share_and_no_further(self, room):
        fill(room, 9)
        assert room.has_room(page(50), 100)
        assert not room.has_room(page(50), 101)
        room.cache.reserve(page(50), 100, NOW)
        assert not room.has_room(page(51), 1)

    def test_what_is_there_or_promised_needs_none(self, room):
        fill(room, 10)
        assert room.has_room(page(3), 100)
        room.cache.begin_eviction(page(3), EvictionCause.BUDGET)
        assert not room.has_room(page(3), 100)

    def test_a_page_larger_than_the_share_may_be_alone(self, room):
        assert room.has_room(page(1), 5000)
        fill(room, 1)
        assert not room.has_room(page(2), 5000)

    def test_without_a_budget_the_target_is_the_limit(self, room):
        fill(room, 20, namespace=2)
        assert room.has_room(page(50, 2), 1 << 40)
        room.set_space(MeasuredSpace(2000, 1000, 1000, 0), 0.8, 0)
        assert room.has_room(page(50, 2), 400)
        assert not room.has_room(page(50, 2), 401)

    def test_a_namespace_that_is_not_known_waits(self, room):
        assert not room.has_room(page(1, 9), 1)

    def test_a_target_that_has_not_counted_takes_all_it_has_for_pages(self, room):
        room.cache.is_counted = False
        room.set_space(MeasuredSpace(950, 1 << 40, 1 << 40, 0), 0.8, 0)
        assert room.has_room(page(1), 50)
        assert not room.has_room(page(1), 51)
        assert room.has_room(page(1, 2), 1 << 30)


class TestVictims:
    def test_a_page_larger_than_the_share_stays_until_another_one_wants_its_room(self, room):
        fill(room, 1, length=1001)
        assert evict_all(room) == []
        room.add_waiting(1, 1001)
        assert [chunk for chunk, _ in evict_all(room)] == [page(0)]

    def test_of_pages_larger_than_the_share_the_last_one_stays(self, room):
        fill(room, 3, length=1001)
        assert [chunk for chunk, _ in evict_all(room)] == [page(0), page(1)]

    def test_none_below_the_high_watermark(self, room):
        room.source.known[1] = NamespaceLimits(share_bytes=100_000)
        fill(room, 990)
        assert evict_all(room) == []

    def test_down_to_the_low_watermark(self, room):
        room.source.known[1] = NamespaceLimits(share_bytes=100_000)
        fill(room, 995)
        gone = evict_all(room)
        assert len(gone) == 995 - 980
        assert {victim.cause for victim in gone} == {EvictionCause.BUDGET}
        assert [victim.chunk for victim in gone] == [page(number) for number in range(15)]

    def test_a_cache_of_few_pages_gives_none_up_for_nothing(self, room):
        fill(room, 10)
        assert evict_all(room) == []
        room.add_waiting(1, 100)
        assert [victim.chunk for victim in evict_all(room)] == [page(0)]
        room.drop_waiting(1, 100)

    def test_many_that_wait_do_not_empty_the_cache(self, room):
        room.source.known[1] = NamespaceLimits(share_bytes=100_000)
        fill(room, 1000)
        for _ in range(2000):
            room.add_waiting(1, 100)
        assert len(evict_all(room)) < 200

    def test_what_is_held_stays_and_what_is_preferred_goes_last(self, room):
        fill(room, 10)
        room.cache.holds.append(Held({page(0)}))
        room.cache.preferences.append(Held({page(1), page(2)}))
        room.source.known[1] = NamespaceLimits(share_bytes=0)
        gone = [victim.chunk for victim in evict_all(room)]
        assert set(gone[:7]) == {page(number) for number in range(3, 10)}
        assert set(gone[7:]) == {page(1), page(2)}
        assert not room.is_stuck(1)

    def test_a_smaller_budget_is_kept_to(self, room):
        fill(room, 10)
        room.source.known[1] = NamespaceLimits(share_bytes=500)
        room.look_again()
        assert len(evict_all(room)) == 5

    def test_all_of_a_deleted_namespace_goes_whatever_holds_it(self, room):
        fill(room, 10)
        room.cache.holds.append(Held({page(number) for number in range(10)}))
        room.source.known[1] = NamespaceLimits(is_deleted=True)
        room.look_again()
        gone = evict_all(room)
        assert len(gone) == 10
        assert {victim.cause for victim in gone} == {EvictionCause.DELETED}

    def test_nothing_may_go(self, room):
        fill(room, 10)
        room.cache.holds.append(Held({page(number) for number in range(10)}))
        room.add_waiting(1, 100)
        assert evict_all(room) == []
        assert room.is_stuck(1)
        assert not room.is_stuck(9)

    def test_pages_expire_by_when_they_were_stored(self, room):
        fill(room, 5, namespace=3)
        assert room.next_expired(3, NOW + 11 * SECOND) == [page(0, 3)]
        assert room.next_expired(1, NOW + 11 * SECOND) == []


class TestRoomForFiles:
    def test_pages_go_until_so_much_is_free(self, room):
        fill(room, 20, namespace=2)
        room.set_space(MeasuredSpace(2000, 100, 100, 400), 1, 0)
        gone = evict_all(room)
        assert len(gone) == 3
        assert {victim.cause for victim in gone} == {EvictionCause.ROOM}

    def test_but_not_what_they_are_guaranteed(self, room):
        fill(room, 20, namespace=2)
        room.set_space(MeasuredSpace(2000, 0, 0, 2000), 1, 0.9)
        assert len(evict_all(room)) == 2
        assert room.file_room(500) == 500

    def test_what_is_missing_to_the_guaranteed_part_is_not_for_files(self, room):
        fill(room, 5, namespace=2)
        room.set_space(MeasuredSpace(2000, 2000, 2000, 0), 1, 0.5)
        assert room.file_room(2000) == 500

    def test_files_that_wait_have_pages_go(self, room):
        fill(room, 20, namespace=2)
        room.add_waiting(FILES, 250)
        room.set_space(MeasuredSpace(2000, 0, 0, 0), 1, 0)
        assert len(evict_all(room)) == 3

    def test_the_namespace_that_was_not_used_for_longest_gives_first(self, room):
        fill(room, 10, namespace=2)
        fill(room, 5, namespace=4, now=NOW + 10 * MINUTE)
        room.source.known[4] = NamespaceLimits()
        room.set_space(MeasuredSpace(1500, 0, 0, 1200), 1, 0)
        gone = [victim.chunk for victim in evict_all(room, NOW + 11 * MINUTE)]
        assert gone[:10] == [page(number, 2) for number in range(10)]
        assert len(gone) == 12


class TestShares:
    @pytest.mark.parametrize("chains", [1, 2, 3, 7, 100])
    def test_they_are_those_of_the_slots(self, chains):
        placement = Placement([ChainId(number) for number in range(chains)])
        slots = [0] * chains
        for slot in range(SLOTS):
            slots[placement.chain(bytes(14) + slot.to_bytes(2, "little"))] += 1
        assert slots == [slots_of(place, chains) for place in range(chains)]

    def test_together_they_are_no_more_than_the_budget(self):
        for budget in (1, 1000, 10**12 + 7):
            shares = [share_of(budget, place, 7) for place in range(7)]
            assert budget - 7 <= sum(shares) <= budget

    def test_watermarks(self):
        assert watermarks(100_000, 100) == (99_000, 98_000)
        assert watermarks(1000, 100) == (1000, 1000)
        assert watermarks(NO_LIMIT, 1 << 27).low < NO_LIMIT

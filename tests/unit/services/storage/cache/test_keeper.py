"""The keeper of a head: who gets room at once, who waits and how that ends, and how much is evicted for it."""

from __future__ import annotations

import pytest

from fs3.base.limits import cache_wait_ns_max, evictions_at_once_max
from fs3.base.status import Code
from fs3.core.craq.position import ChainRole
from fs3.core.kvcache.budget.seams import NamespaceLimits
from fs3.core.kvcache.recency.recency import LOOKS_PER_SEARCH_MAX
from fs3.model.chunk import UpdateResult
from fs3.services.storage.cache import keeper as keeper_module
from fs3.services.storage.cache.keeper import cache_evictions_per_tick

PAGE = 100
"""Bytes of each page; the share of namespace 1 is ten of them."""
DONE = UpdateResult(Code.OK, 1)


@pytest.fixture
async def full(shell, open_keeper):
    """A keeper whose namespace has all the pages it may have."""
    for number in range(10):
        shell.hold(number)
    return await open_keeper()


class TestAdmission:
    async def test_a_put_that_has_room_goes_on_at_once(self, shell, open_keeper):
        keeper = await open_keeper()
        token = shell.put(1)
        assert shell.admitted[token][1] == ""
        assert keeper.cache.under_way_bytes == PAGE
        shell.commit(token)
        assert (keeper.cache.bytes, keeper.cache.under_way_bytes) == (PAGE, 0)
        assert shell.answers[token].code is Code.OK

    async def test_a_put_without_room_waits_for_an_eviction_and_is_stored_then(self, shell, full, help):
        token = shell.put(50)
        assert token not in shell.admitted
        await help.turn()
        assert len(shell.removals) == 1
        assert token not in shell.admitted, "the page that goes still takes its room"
        shell.finish_removals()
        await help.turn()
        shell.commit(token)
        assert shell.answers[token].code is Code.OK
        assert (full.cache.bytes, full.cache.pages) == (10 * PAGE, 10)

    async def test_pages_used_last_stay(self, shell, full, help):
        shell.clock.time += 10**9
        read = [help.page(number) for number in range(9)]
        full.note_reads(read)
        shell.put(50)
        await help.turn()
        assert list(shell.removals) == [help.page(9)]

    async def test_a_page_that_is_there_needs_no_room(self, shell, full, help):
        assert shell.put(3) in shell.admitted
        await help.turn()
        assert not shell.removals

    async def test_a_page_many_put_at_once_takes_its_room_once(self, shell, full, help):
        tokens = [shell.put(50) for _ in range(4)]
        await help.turn()
        assert len(shell.removals) == 1
        shell.finish_removals()
        await help.turn()
        assert set(tokens) <= set(shell.admitted)
        assert full.cache.under_way_bytes == PAGE
        for token in tokens:
            shell.commit(token)
        assert full.cache.bytes == 10 * PAGE

    async def test_later_puts_of_a_namespace_wait_behind_the_first(self, shell, full, limits, help):
        limits.known[2] = NamespaceLimits()
        first = shell.put(50, 3 * PAGE)
        second = shell.put(51)
        other = shell.put(52, namespace=2)
        assert other in shell.admitted
        while first not in shell.admitted:
            await help.turn()
            assert second not in shell.admitted
            assert shell.finish_removals()
            await help.turn()

    async def test_nothing_passes_the_share_while_many_wait(self, shell, full, help):
        tokens = [shell.put(50 + number) for number in range(25)]
        while len(shell.answers) < len(tokens):
            await help.turn()
            shell.finish_removals()
            await help.turn()
            assert full.cache.bytes + full.cache.under_way_bytes <= 10 * PAGE
            for token in tokens:
                if token in shell.admitted and token not in shell.answers:
                    shell.commit(token)
        assert {result.code for result in shell.answers.values()} == {Code.OK}


class TestTheEndOfWaiting:
    async def test_nothing_may_go(self, shell, full, help):
        full.cache.holds.append(Everything())
        token = shell.put(50)
        await help.turn()
        assert shell.answers[token].code is Code.NO_SPACE
        assert "namespace 1 has no room for 100 bytes" in shell.answers[token].message
        assert shell.admitted[token][1], "the machine remembers the refusal"

    @pytest.mark.parametrize("count", [LOOKS_PER_SEARCH_MAX, 5 * LOOKS_PER_SEARCH_MAX])
    async def test_many_pages_may_not_go_and_one_behind_them_may(self, shell, open_keeper, limits, help, count):
        limits.known[1] = NamespaceLimits(share_bytes=(count + 1) * PAGE)
        for number in range(count + 1):
            shell.hold(number)
        keeper = await open_keeper()
        recency = keeper.cache.namespaces[1].recency
        order = [recency.victim(shell.clock.now(), lambda chunk: False) for _ in range(count + 1)]
        keeper.cache.holds.append(Some(order[:-1]))
        token = shell.put(count + 1)
        while not shell.removals and token not in shell.answers:
            await help.turn()
        assert list(shell.removals) == order[-1:]
        shell.finish_removals()
        await help.turn()
        shell.commit(token)
        assert shell.answers[token].code is Code.OK
        last = shell.put(count + 2)
        keeper.cache.holds.append(Everything())
        while last not in shell.answers:
            await help.turn()
        assert shell.answers[last].code is Code.NO_SPACE

    async def test_the_time_is_over_and_pages_are_on_their_way_out(self, shell, full, help):
        token = shell.put(50)
        await help.turn()
        shell.clock.time += cache_wait_ns_max - 1
        full.tick(shell.clock.now())
        assert token not in shell.answers
        shell.clock.time += 1
        full.tick(shell.clock.now())
        assert shell.answers[token].code is Code.BUSY
        assert "namespace 1 has pages on their way out" in shell.answers[token].message
        shell.finish_removals()
        assert full.room._waiting == {}
        again = shell.put(50)
        await help.turn()
        shell.commit(again)
        assert shell.answers[again].code is Code.OK

    async def test_a_namespace_that_is_not_known_is_busy_after_its_time(self, shell, open_keeper, help):
        keeper = await open_keeper()
        token = shell.put(1, namespace=9)
        await help.turn()
        assert token not in shell.answers
        shell.clock.time += cache_wait_ns_max
        keeper.tick(shell.clock.now())
        assert shell.answers[token].code is Code.BUSY
        assert "namespace 9 is not known here yet" in shell.answers[token].message

    async def test_a_namespace_that_becomes_known_lets_its_puts_in(self, shell, open_keeper, limits, help):
        keeper = await open_keeper()
        token = shell.put(1, namespace=9)
        limits.known[9] = NamespaceLimits()
        keeper.on_limits_changed()
        await help.turn()
        assert token in shell.admitted
        assert not shell.answers

    async def test_a_namespace_nobody_has_is_taken_in_after_its_time(self, shell, open_keeper, limits):
        keeper = await open_keeper()
        token = shell.put(1, namespace=9)
        limits.accepts = True
        shell.clock.time += cache_wait_ns_max
        keeper.tick(shell.clock.now())
        assert shell.admitted[token][1] == ""

    async def test_only_so_many_wait(self, shell, full, monkeypatch):
        monkeypatch.setattr(keeper_module, "cache_waiting_puts_max", 3)
        tokens = [shell.put(50 + number) for number in range(5)]
        assert [shell.answers[token].code for token in tokens if token in shell.answers] == [Code.BUSY] * 2
        assert tokens[3] in shell.answers
        assert "makes room for chunk" in shell.answers[tokens[3]].message

    async def test_bytes_that_may_not_wait_come_again_and_find_room(self, shell, full, help):
        token = shell.put(50, payload=help.Bytes(may_park=False))
        assert shell.answers[token].code is Code.BUSY
        await help.turn()
        assert shell.finish_removals() == 1
        again = shell.put(50, payload=help.Bytes(may_park=False))
        assert again in shell.admitted

    async def test_a_put_that_came_again_is_not_waited_for_any_more(self, shell, full, help):
        shell.put(50, payload=help.Bytes(may_park=False))
        await help.turn()
        shell.finish_removals()
        shell.commit(shell.put(50))
        full.tick(shell.clock.now())
        await help.turn()
        assert not shell.removals, "a page goes for a put that is stored already"
        assert full.cache.pages == 10

    async def test_what_comes_again_in_vain_is_forgotten(self, shell, full, help):
        shell.put(50, payload=help.Bytes(may_park=False))
        shell.clock.time += cache_wait_ns_max
        full.tick(shell.clock.now())
        assert full.room._waiting == {}

    async def test_bytes_that_waited_are_let_go(self, shell, full, help):
        payload = help.Bytes()
        shell.put(50, payload=payload)
        assert payload.is_parked
        await help.turn()
        shell.finish_removals()
        await help.turn()
        assert not payload.is_parked

    async def test_updates_of_no_bytes_wait_as_others_do(self, shell, full, limits, help):
        limits.known[1] = NamespaceLimits(share_bytes=5 * PAGE)
        full.cache.holds.append(Everything())
        tokens = [shell.put(50 + number, 0) for number in range(3)]
        await help.turn()
        assert [shell.answers[token].code for token in tokens] == [Code.NO_SPACE] * 3


class TestWhoDecides:
    @pytest.mark.parametrize("role", [ChainRole.BODY, ChainRole.SYNCING, ChainRole.OUT])
    async def test_a_follower_decides_nothing(self, shell, open_keeper, help, role):
        for number in range(20):
            shell.hold(number)
        keeper = await open_keeper(role=role)
        token = shell.put(50)
        keeper.tick(shell.clock.now())
        await help.turn()
        assert shell.admitted[token][1] == ""
        assert keeper.cache.pages == 20
        assert not shell.removals

    async def test_puts_that_wait_at_a_head_that_is_none_any_more_are_handed_on(self, shell, full, help):
        payload = help.Bytes()
        tokens = [shell.put(50 + number, payload=payload) for number in range(3)]
        shell.move(ChainRole.BODY)
        assert [shell.admitted[token][1] for token in tokens] == [""] * 3
        assert not payload.is_parked
        assert len(full._waiting) == 0

    async def test_puts_of_an_older_chain_version_are_handed_on(self, shell, full):
        token = shell.put(50)
        shell.move(ChainRole.HEAD)
        assert shell.admitted[token][1] == ""

    async def test_a_head_that_takes_over_counts_what_is_under_way(self, shell, open_keeper, help):
        for number in range(9):
            shell.hold(number)
        keeper = await open_keeper(role=ChainRole.BODY)
        sent = shell.put(50)
        update, _ = shell.admitted[sent]
        lane = type("Lane", (), {"flight": type("Flight", (), {"update": update, "length": PAGE})})
        shell.replica.flights.lanes[update.chunk] = lane
        shell.move(ChainRole.HEAD)
        assert keeper.cache.under_way_bytes == PAGE
        assert shell.put(51) not in shell.admitted
        del shell.replica.flights.lanes[update.chunk]
        shell.commit(sent)
        keeper.tick(shell.clock.now())
        assert (keeper.cache.bytes, keeper.cache.under_way_bytes) == (10 * PAGE, 0)

    async def test_a_head_that_takes_over_evicts_what_is_too_much(self, shell, open_keeper, help):
        for number in range(14):
            shell.hold(number)
        keeper = await open_keeper(role=ChainRole.BODY)
        shell.move(ChainRole.HEAD)
        keeper.tick(shell.clock.now())
        assert shell.finish_removals() == 4
        assert keeper.cache.bytes == 10 * PAGE

    async def test_nothing_is_let_in_that_may_be_too_much_before_all_is_counted(self, shell, open_keeper, help):
        for number in range(10):
            shell.hold(number)
        keeper = await open_keeper(counted=False)
        token = shell.put(50)
        assert token not in shell.admitted
        assert not keeper.cache.is_counted
        await keeper.wait_counted()
        await help.turn()
        assert len(shell.removals) == 1
        shell.finish_removals()
        await help.turn()
        assert token in shell.admitted

    async def test_a_target_that_is_being_counted_is_busy_after_the_time(self, shell, open_keeper):
        for number in range(10):
            shell.hold(number)
        keeper = await open_keeper(counted=False)
        token = shell.put(50)
        shell.clock.time += cache_wait_ns_max
        keeper.tick(shell.clock.now())
        assert shell.answers[token].code is Code.BUSY
        assert "is being counted" in shell.answers[token].message

    async def test_a_put_that_surely_fits_need_not_wait_for_the_counting(self, shell, open_keeper):
        shell.hold(1)
        keeper = await open_keeper(counted=False)
        assert shell.put(50) in shell.admitted
        assert not keeper.cache.is_counted

    async def test_a_head_without_a_lease_evicts_nothing(self, shell, full, help):
        shell.lease = 0
        token = shell.put(50)
        await help.turn()
        assert not shell.removals
        shell.lease = 1 << 62
        full.tick(shell.clock.now())
        assert len(shell.removals) == 1
        assert token not in shell.answers

    async def test_puts_that_wait_at_a_target_that_fails_are_answered(self, shell, full, help):
        token = shell.put(50)
        shell.failure = "the disk failed"
        full.tick(shell.clock.now())
        assert shell.answers[token].code is Code.DISK
        assert "the disk failed" in shell.answers[token].message

    async def test_a_put_that_is_answered_elsewhere_waits_no_more(self, shell, full, help):
        token = shell.put(50)
        shell.answer_update(token, DONE)
        shell.finish_removals()
        await help.turn()
        assert token not in shell.admitted
        assert full.room._waiting == {}


class TestEvictions:
    async def test_a_budget_that_is_lowered_is_kept_to(self, shell, open_keeper, limits, help):
        limits.known[1] = NamespaceLimits(share_bytes=1000 * PAGE)
        for number in range(900):
            shell.hold(number)
        keeper = await open_keeper()
        keeper.tick(shell.clock.now())
        assert not shell.removals
        limits.known[1] = NamespaceLimits(share_bytes=500 * PAGE)
        keeper.on_limits_changed()
        for _ in range(100):
            keeper.tick(shell.clock.now())
            shell.finish_removals()
        assert keeper.cache.pages == 490, "down to the low watermark and no further"

    async def test_the_background_evicts_little_at_a_time(self, shell, open_keeper, limits, help):
        limits.known[1] = NamespaceLimits(share_bytes=1000 * PAGE)
        for number in range(2000):
            shell.hold(number)
        keeper = await open_keeper()
        keeper.tick(shell.clock.now())
        shell.finish_removals()
        keeper.tick(shell.clock.now())
        assert len(shell.removals) == cache_evictions_per_tick
        shell.finish_removals()
        await help.turn()
        assert not shell.removals, "the next ones are for the next tick"

    async def test_while_puts_wait_so_many_are_under_way_and_no_more(self, shell, open_keeper, limits, help):
        limits.known[1] = NamespaceLimits(share_bytes=1000 * PAGE)
        for number in range(2000):
            shell.hold(number)
        await open_keeper()
        shell.put(5000)
        await help.turn()
        assert len(shell.removals) == evictions_at_once_max
        shell.finish_removals()
        await help.turn()
        assert len(shell.removals) == evictions_at_once_max

    async def test_an_eviction_that_is_refused_leaves_the_page(self, shell, full, help):
        shell.put(50)
        await help.turn()
        (chunk,) = shell.removals
        shell.finish_removals(Code.BUSY)
        assert full.cache.contains(chunk)
        await help.turn()
        assert shell.finish_removals() == 1, "another one is begun instead"

    async def test_a_deleted_namespace_goes_whole(self, shell, open_keeper, limits):
        for number in range(40):
            shell.hold(number)
        limits.known[1] = NamespaceLimits()
        keeper = await open_keeper()
        limits.known[1] = NamespaceLimits(is_deleted=True)
        keeper.on_limits_changed()
        for _ in range(10):
            keeper.tick(shell.clock.now())
            shell.finish_removals()
        assert keeper.cache.pages == 0

    async def test_pages_whose_time_is_over_go(self, shell, open_keeper, limits):
        limits.known[1] = NamespaceLimits(ttl_ns=10**9)
        for number in range(5):
            shell.hold(number)
        keeper = await open_keeper()
        keeper.tick(shell.clock.now())
        assert not shell.removals
        shell.clock.time += 10 * 10**9
        for _ in range(5):
            shell.clock.time += 10**9
            keeper.tick(shell.clock.now())
            shell.finish_removals()
        assert keeper.cache.pages == 0

    async def test_another_replica_without_room_makes_pages_go_for_files(self, shell, open_keeper, limits):
        limits.known[1] = NamespaceLimits()
        for number in range(100):
            shell.hold(number)
        shell.store.capacity_bytes = 1000 * PAGE
        keeper = await open_keeper()
        keeper.tick(shell.clock.now())
        assert not shell.removals
        keeper.on_peer(102, [], 0)
        shell.clock.time += 10**9
        keeper.tick(shell.clock.now())
        assert shell.removals

    async def test_what_another_replica_has_read_stays(self, shell, full, help):
        shell.clock.time += 10**9
        full.on_peer(102, [help.page(number) for number in range(10) if number != 6], 1 << 40)
        shell.put(50)
        await help.turn()
        assert list(shell.removals) == [help.page(6)]


class Some:
    """Holds some pages."""

    def __init__(self, chunks):
        self.chunks = set(chunks)

    def is_held(self, chunk, now):
        return chunk in self.chunks


class Everything:
    """Holds all pages."""

    def is_held(self, chunk, now):
        return True

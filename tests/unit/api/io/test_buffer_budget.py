"""One budget for the memory of all open files and transfers of a process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest

from fs3.api.io.buffer_budget import BufferBudget, buffer_bytes_first, file_buffer_bytes_min
from fs3.base.units import MIB


async def turn() -> None:
    """Let everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_file_gets_half_and_the_next_ones_half_of_what_is_left() -> None:
    budget = BufferBudget(1100, 100)
    shares = [budget.open_share() for _ in range(3)]
    for share in shares:
        while share.try_take(1):
            pass
    assert [share.held for share in shares] == [500, 250, 125]
    assert budget.held == 875


def test_files_that_take_by_turns_get_equal_parts() -> None:
    budget = BufferBudget(1100, 100)
    shares = [budget.open_share() for _ in range(9)]
    for _ in range(1000):
        for share in shares:
            share.try_take(1)
    assert {share.held for share in shares} <= {99, 100}


def test_what_every_file_has_is_granted_beyond_the_limit() -> None:
    budget = BufferBudget(100, 50)
    share = budget.open_share()
    share.take_anyway(500)
    assert budget.held == 500
    assert not budget.open_share().try_take(1)
    share.give(500)
    assert budget.held == 0


def test_a_file_that_goes_away_gives_back_what_it_held() -> None:
    budget = BufferBudget(100, 50)
    share = budget.open_share()
    assert share.try_take(20)
    del share
    gc.collect()
    assert budget.held == 0


def test_a_share_that_is_found_in_a_cycle_before_its_file_gives_back_once() -> None:
    budget = BufferBudget(100, 50)
    share = budget.open_share()
    share.take_anyway(20)
    share.__del__()  # as the collector calls it, which keeps what others it calls still refer to
    assert budget.held == 0
    share.give_all()
    assert budget.held == 0


async def test_open_files_never_keep_transfers_from_going_on() -> None:
    budget = BufferBudget(100, 40)
    budget.open_share().take_anyway(1000)
    share = budget.open_share()
    share.take_anyway(1000)
    async with asyncio.timeout(5), budget.reserve(30), budget.reserve(10):
        assert budget.held >= 1040


async def test_transfers_wait_in_order_of_arrival() -> None:
    budget = BufferBudget(100, 100)
    order: list[str] = []
    go_on = asyncio.Event()

    async def move(name: str, count: int) -> None:
        async with budget.reserve(count):
            order.append(name)
            await go_on.wait()

    moves = [asyncio.ensure_future(move(name, count)) for name, count in (("a", 60), ("big", 90), ("small", 10))]
    await turn()
    assert order == ["a"]  # the small one would fit, and would starve the big one
    go_on.set()
    await asyncio.gather(*moves)
    assert order == ["a", "big", "small"]
    assert budget.held == 0


async def test_a_transfer_larger_than_all_goes_alone() -> None:
    budget = BufferBudget(100, 100)
    async with asyncio.timeout(5), budget.reserve(5000):
        assert budget.held == 5000
    assert budget.held == 0


async def test_transfers_that_are_cancelled_leave_no_hole() -> None:
    budget = BufferBudget(100, 100)

    async def move(count: int) -> None:
        async with budget.reserve(count):
            pass

    async with budget.reserve(100):
        first, second, third = (asyncio.ensure_future(move(100)) for _ in range(3))
        await turn()
        first.cancel()
        await turn()
    second.cancel()  # it has its room, and does not know yet
    await third
    with pytest.raises(asyncio.CancelledError):
        await first
    assert budget.held == 0


def test_transfers_of_other_loops_are_woken() -> None:
    budget = BufferBudget(100, 100)
    waits = threading.Event()
    ended = threading.Event()

    async def other() -> None:
        asyncio.get_running_loop().call_soon(waits.set)
        async with budget.reserve(100):
            ended.set()

    thread = threading.Thread(target=lambda: asyncio.run(other()))

    async def mine() -> None:
        async with budget.reserve(100):
            thread.start()
            await asyncio.to_thread(waits.wait)
            assert not ended.is_set()

    asyncio.run(mine())
    thread.join(20)
    assert ended.is_set()
    assert budget.held == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_with_nothing_held() -> None:
    from fs3.api.io.buffer_budget import buffer_budget

    share = buffer_budget.open_share()
    share.take_anyway(12_345)
    child = os.fork()
    if not child:
        share.give(12_345)  # what the parent holds
        os._exit(0 if buffer_budget.held == 0 and share.held == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    share.give(12_345)


def test_memory_of_a_file_doubles_as_long_as_there_is_enough() -> None:
    budget = BufferBudget(1000 * file_buffer_bytes_min, 1)
    share = budget.open_share()
    assert share.try_grow(1, MIB)
    assert share.held == buffer_bytes_first
    assert share.try_grow(buffer_bytes_first + 1, MIB)
    assert share.held == 2 * buffer_bytes_first
    assert share.try_grow(MIB - 1, MIB)
    assert share.held == MIB - 1
    assert share.try_grow(MIB, MIB)
    assert share.try_grow(1, MIB)
    assert budget.held == MIB
    share.give_all()
    assert budget.held == 0


def test_where_nothing_is_left_a_file_has_the_least() -> None:
    budget = BufferBudget(2, 1)
    share = budget.open_share()
    assert share.try_grow(file_buffer_bytes_min, MIB)
    assert not share.try_grow(file_buffer_bytes_min + 1, MIB)
    share.give_all()
    with share.lend(MIB) as room:
        assert room == file_buffer_bytes_min == budget.held
    with share.lend(7) as room:
        assert room == 7
    assert budget.held == 0


def test_a_stream_has_what_there_is_by_halves() -> None:
    budget = BufferBudget(3 * MIB, 1)
    share, other = budget.open_share(), budget.open_share()
    with share.lend(MIB) as room, other.lend(MIB) as less:
        assert (room, less) == (MIB, MIB)
        with budget.open_share().lend(4 * MIB) as least:
            assert least == MIB // 2

"""Bounding what is under way."""

from __future__ import annotations

import asyncio

import pytest

from fs3.api.io.budget import ByteBudget, gather_bounded


async def turn() -> None:
    """Let everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_waiters_get_room_in_order_of_arrival() -> None:
    budget = ByteBudget(10)
    assert await budget.take(6) == 6
    order: list[str] = []

    async def want(name: str, count: int) -> int:
        taken = await budget.take(count)
        order.append(name)
        return taken

    big, small = asyncio.ensure_future(want("big", 8)), asyncio.ensure_future(want("small", 1))
    await turn()
    assert order == []  # the small one would fit, and would starve the big one
    budget.give(6)
    await turn()
    assert order == ["big", "small"]
    assert (await big, await small) == (8, 1)


async def test_something_larger_than_the_budget_takes_all_of_it() -> None:
    budget = ByteBudget(10)
    assert await budget.take(1000) == 10
    waiting = asyncio.ensure_future(budget.take(1))
    await turn()
    assert not waiting.done()
    budget.give(10)
    assert await waiting == 1


async def test_cancelled_waiters_leave_no_hole() -> None:
    budget = ByteBudget(10)
    await budget.take(10)
    first, second = asyncio.ensure_future(budget.take(10)), asyncio.ensure_future(budget.take(3))
    await turn()
    first.cancel()
    await turn()
    budget.give(10)
    assert await second == 3
    third = asyncio.ensure_future(budget.take(7))
    assert await third == 7
    fourth = asyncio.ensure_future(budget.take(5))
    await turn()
    budget.give(7)
    fourth.cancel()  # its turn has just come
    await turn()
    assert await asyncio.wait_for(budget.take(7), 1) == 7


async def test_so_many_at_once_and_results_in_order() -> None:
    running = most = 0

    async def work(index: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(index % 4):
            await asyncio.sleep(0)
        running -= 1
        return index

    assert await gather_bounded((work(index) for index in range(50)), 4) == list(range(50))
    assert most == 4
    assert await gather_bounded((), 4) == []


async def test_a_failure_ends_the_others_before_it_is_raised() -> None:
    ended: list[int] = []
    started: list[int] = []

    async def work(index: int) -> None:
        started.append(index)
        if index == 1:
            raise ValueError("one")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(index)

    with pytest.raises(ValueError, match="one"):
        await gather_bounded((work(index) for index in range(10)), 3)
    assert started == [0, 1, 2]
    assert sorted(ended) == [0, 2]


async def test_cancelling_ends_all_of_them() -> None:
    ended: list[int] = []

    async def work(index: int) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(index)

    task = asyncio.ensure_future(gather_bounded((work(index) for index in range(3)), 3))
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1, 2]

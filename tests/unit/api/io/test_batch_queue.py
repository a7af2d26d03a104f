"""Single requests made together."""

from __future__ import annotations

import asyncio

import pytest

from fs3.api.io.batch_queue import BatchQueue, batches_at_once_max, small_batch_bytes_max, small_files_per_batch_max


class Doubler:
    """Doubles numbers, when it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most = 0
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.may.wait()
            if 13 in numbers:
                raise ValueError("unlucky")
            return [2 * number for number in numbers]
        finally:
            self.under_way -= 1


async def test_what_is_asked_in_one_turn_goes_together() -> None:
    run = Doubler()
    queue = BatchQueue(run)
    assert await asyncio.gather(*(queue.ask(number) for number in range(10))) == [2 * number for number in range(10)]
    assert run.batches == [list(range(10))]


async def test_batches_are_bounded_and_few_at_once() -> None:
    run = Doubler()
    queue = BatchQueue(run)
    count = 5 * small_files_per_batch_max + 1
    assert len(await asyncio.gather(*(queue.ask(100 + number) for number in range(count)))) == count
    assert [len(batch) for batch in run.batches] == [small_files_per_batch_max] * 5 + [1]
    assert run.most == batches_at_once_max
    run.batches.clear()
    await asyncio.gather(*(queue.ask(number, small_batch_bytes_max // 2) for number in range(5)))
    assert run.batches == [[0, 1], [2, 3], [4]]


async def test_what_arrives_meanwhile_is_the_next_batch() -> None:
    run = Doubler()
    run.may.clear()
    queue = BatchQueue(run)
    asked = []
    for number in range(batches_at_once_max + 5):
        asked.append(asyncio.ensure_future(queue.ask(number)))
        for _ in range(5):
            await asyncio.sleep(0)
    assert run.batches == [[0], [1]]
    run.may.set()
    await asyncio.gather(*asked)
    assert run.batches == [[0], [1], [2, 3, 4, 5, 6]]


async def test_a_failure_is_told_to_the_whole_batch_and_to_no_other() -> None:
    queue = BatchQueue(Doubler())
    outcomes = await asyncio.gather(*(queue.ask(number) for number in (12, 13)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
    assert await queue.ask(1) == 2


async def test_an_item_whose_caller_is_cancelled_is_not_begun() -> None:
    run = Doubler()
    queue = BatchQueue(run)
    first, second = asyncio.ensure_future(queue.ask(1)), asyncio.ensure_future(queue.ask(2))
    asyncio.get_running_loop().call_soon(first.cancel)
    assert await second == 4
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(run.batches) == 1

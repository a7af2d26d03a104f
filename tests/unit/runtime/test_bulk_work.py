"""Work on bulk bytes makes way for short reads, in order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from fs3.base.limits import wake_bytes_max
from fs3.runtime.bulk_work import BulkWork, bulk_work_of, receive_slice_bytes


class Turns:
    """What was done in each turn of the loop."""

    def __init__(self) -> None:
        self.work = BulkWork()
        self.done: list[list[str]] = [[]]

    def ask(self, name: str, *, has_work: bool = True) -> None:
        def begin() -> bool:
            if has_work:
                self.done[-1].append(name)
            return has_work

        self.work.when_free(begin)

    async def pass_turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            self.done.append([])


async def test_one_piece_begins_in_a_turn_in_the_order_of_asking() -> None:
    turns = Turns()
    turns.work.short_reads = 1
    for name in "abc":
        turns.ask(name)
    assert turns.done == [[]]
    await turns.pass_turns(4)
    assert [done for done in turns.done if done] == [["a"], ["b"], ["c"]]
    turns.ask("d")
    await turns.pass_turns(2)
    assert [done for done in turns.done if done][3:] == [["d"]]


async def test_work_that_waits_is_not_overtaken_when_the_last_short_read_ends() -> None:
    turns = Turns()
    turns.work.short_reads = 1
    turns.ask("a")
    turns.ask("b")
    turns.work.short_reads = 0
    assert turns.work.is_sliced
    await turns.pass_turns(3)
    assert not turns.work.is_sliced
    assert [done for done in turns.done if done] == [["a"], ["b"]]


async def test_work_without_anything_left_to_do_costs_no_turn() -> None:
    turns = Turns()
    for name in "abcd":
        turns.ask(name, has_work=name in "ad")
    await turns.pass_turns(2)
    assert turns.done[:2] == [["a"], ["d"]]


async def test_a_task_that_was_cancelled_while_it_waited_costs_no_turn() -> None:
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.work.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [waiter.cancelled() for waiter in waiting] == [False, True, False]
    await asyncio.sleep(0)
    assert not turns.work.is_sliced


async def test_less_is_received_in_a_turn_while_short_reads_are_under_way() -> None:
    work = bulk_work_of(asyncio.get_running_loop())
    assert work is bulk_work_of(asyncio.get_running_loop())
    assert (work.is_sliced, work.receive_bytes) == (False, wake_bytes_max)
    work.short_reads += 1
    assert (work.is_sliced, work.receive_bytes) == (True, receive_slice_bytes)
    work.short_reads -= 1
    assert not work.is_sliced


def test_work_behind_a_slice_that_an_interrupt_has_met_goes_on() -> None:
    done: list[str] = []

    def interrupt() -> bool:
        raise KeyboardInterrupt

    def finish() -> bool:
        done.append("b")
        return True

    async def ask(*works: Callable[[], bool]) -> BulkWork:
        work = bulk_work_of(asyncio.get_running_loop())
        for each in works:
            work.when_free(each)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return work

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(ask(interrupt, finish))
        work = loop.run_until_complete(ask(finish))
        assert done == ["b", "b"]
        assert not work.is_sliced
    finally:
        loop.close()


def test_a_loop_goes_when_its_program_is_done_with_it() -> None:
    async def work() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        await bulk_work_of(loop).turn()
        return weakref.ref(loop)

    loop = asyncio.run(work())
    gc.collect()
    assert loop() is None

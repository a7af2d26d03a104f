"""The simulated event loop: asyncio's own tools on it, processes that pause and die, and a report instead of a hang."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from fs3.sim.ring2.loop import Deadlock, SimLoop, SimProcess, current_process, open_loop


def play(work: Coroutine[Any, Any, Any], seed: int = 1) -> Any:
    with open_loop(seed) as loop:
        return loop.run_until_complete(work)


async def after(seconds: float, value: object = None) -> object:
    await asyncio.sleep(seconds)
    return value


def test_time_jumps_and_is_exact() -> None:
    async def work() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        began = loop.now
        await asyncio.sleep(86_400)
        return loop.time(), loop.now - began

    _, passed = play(work())
    assert 86_400_000_000_000 <= passed < 86_400_000_010_000


def test_timers_run_in_order_of_time_then_of_their_making() -> None:
    async def work() -> list[int]:
        loop = asyncio.get_running_loop()
        done: list[int] = []
        for number, delay in enumerate((0.2, 0.1, 0.2, 0.1)):
            loop.call_later(delay, done.append, number)
        await asyncio.sleep(1)
        return done

    assert play(work()) == [1, 3, 0, 2]


def test_ready_callbacks_keep_their_order() -> None:
    async def work() -> list[int]:
        loop = asyncio.get_running_loop()
        done: list[int] = []
        for number in range(100):
            loop.call_soon(done.append, number)
        await asyncio.sleep(0)
        return done

    assert all(play(work(), seed) == list(range(100)) for seed in range(5))


def test_a_cancelled_timer_does_not_move_time() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1000, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert play(work()) < 1.1


def test_asyncio_works_on_it() -> None:
    async def work() -> object:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()
        found: list[object] = []

        async def produce() -> None:
            for number in range(5):
                async with lock:
                    await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            found += [await queue.get() for _ in range(5)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
        done, _ = await asyncio.wait([asyncio.ensure_future(after(n, n)) for n in (3, 1, 2)], return_when="FIRST_COMPLETED")
        found.append([task.result() for task in done])
        found.append(await asyncio.gather(after(1, "a"), after(0, "b")))
        found.append(await asyncio.to_thread(lambda: "thread"))
        return found

    assert play(work()) == [0, 1, 2, 3, 4, [1], ["a", "b"], "thread"]


def test_an_executor_takes_its_time_and_passes_errors_on() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        cancelled = loop.run_in_executor(None, pytest.fail, "ran although it was cancelled")
        cancelled.cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert play(work()) > 1


def test_sets_of_tasks_and_futures_have_one_order() -> None:
    async def work() -> list[int]:
        loop = asyncio.get_running_loop()
        tasks = {asyncio.ensure_future(after(1)) for _ in range(50)}
        futures = {loop.create_future() for _ in range(50)}
        order = [task.number for task in tasks] + [future.number for future in futures]
        await asyncio.wait(tasks)
        return order

    assert play(work()) == play(work())


def test_the_world_outside_is_out_of_reach() -> None:
    async def work() -> None:
        with pytest.raises(RuntimeError, match="create_connection reaches for the world outside"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(RuntimeError, match="subprocess_exec reaches"):
            await asyncio.create_subprocess_exec("true")

    play(work())


def test_a_deadlock_says_who_waits_where() -> None:
    async def innermost() -> None:
        await asyncio.get_running_loop().create_future()

    async def outer() -> None:
        await innermost()

    with pytest.raises(Deadlock, match=r"nothing is ready.*(?s:.)*outer(?s:.)*innermost"):
        play(outer())


def test_what_nobody_handles_is_within_lease() -> None:
    async def work() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with open_loop(1) as loop:
        loop.run_until_complete(work())
        assert len(loop.unhandled_errors) == 1
        assert "ZeroDivisionError" in loop.unhandled_errors[0]


def test_a_seed_is_one_run_and_another_seed_another() -> None:
    async def work() -> None:
        for _ in range(10):
            await asyncio.to_thread(int)

    def fingerprint(seed: int) -> int:
        with open_loop(seed) as loop:
            loop.run_until_complete(work())
            return loop.fingerprint

    assert fingerprint(1) == fingerprint(1)
    assert len({fingerprint(seed) for seed in range(10)}) == 10


def test_a_paused_process_catches_up_in_order() -> None:
    async def tick(done: list[tuple[float, int]]) -> None:
        for number in range(4):
            await asyncio.sleep(1)
            done.append((round(asyncio.get_running_loop().time(), 3), number))

    async def work() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        done: list[tuple[float, int]] = []
        process = SimProcess("a")
        loop.spawn(process, tick(done))
        await asyncio.sleep(1.5)
        loop.pause(process)
        await asyncio.sleep(10)
        loop.resume(process)
        await asyncio.sleep(10)
        return done

    assert play(work()) == [(1.0, 0), (11.5, 1), (12.5, 2), (13.5, 3)]


def test_a_killed_process_does_nothing_more_at_all() -> None:
    done = []

    async def victim() -> None:
        assert current_process() is not None
        asyncio.get_running_loop().call_later(2, done.append, "timer")
        try:
            await asyncio.sleep(3)
        finally:
            done.append("finally")

    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        process = SimProcess("a")
        loop.spawn(process, victim())
        await asyncio.sleep(1)
        loop.kill(process)
        loop.resume(process)
        await asyncio.sleep(10)
        assert done == []

    play(work())


def test_children_belong_to_the_process_of_their_parent() -> None:
    async def child() -> str:
        process = current_process()
        return process.name if process is not None else "nobody"

    async def parent() -> list[str]:
        return list(await asyncio.gather(child(), asyncio.ensure_future(child())))

    async def work() -> object:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        return await loop.spawn(SimProcess("a"), parent()), await child()

    assert play(work()) == (["a", "a"], "nobody")


def test_nothing_of_a_run_is_left_when_its_coroutines_begin_more_while_they_are_thrown_away() -> None:
    async def wait_on(loop: asyncio.AbstractEventLoop) -> None:
        await loop.create_future()

    async def gather_at_the_end() -> None:
        loop = asyncio.get_running_loop()
        try:
            await wait_on(loop)
        finally:
            await asyncio.gather(wait_on(loop), wait_on(loop))

    async def main() -> None:
        task = asyncio.create_task(gather_at_the_end())
        await asyncio.wait([task], timeout=1)

    with open_loop(1) as loop:
        left = weakref.ref(loop)
        loop.run_until_complete(main())
        del loop
    gc.collect()
    assert left() is None

"""Threads for blocking calls."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from fs3.runtime.worker_threads import WorkerThreads


def test_one_thread_keeps_the_order() -> None:
    done: list[int] = []
    threads = WorkerThreads(1, "test")
    for number in range(100):
        threads.submit(done.append, number)
    threads.shutdown()
    assert done == list(range(100))


def test_several_work_at_once() -> None:
    threads = WorkerThreads(3, "test")
    together = threading.Barrier(3)
    calls = [threads.submit(together.wait, 30) for _ in range(3)]
    assert sorted(call.result(30) for call in calls) == [0, 1, 2]
    threads.shutdown()


async def test_results_and_exceptions_come_back_to_a_loop() -> None:
    threads = WorkerThreads(2, "test")
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(threads, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(threads, divmod, 7, 0)
    threads.shutdown()


async def test_a_loop_is_told_what_was_run() -> None:
    threads = WorkerThreads(1, "test")
    loop = asyncio.get_running_loop()
    for work, expected in ((int, type(None)), (lambda: 1 // 0, ZeroDivisionError)):
        told: asyncio.Future[BaseException | None] = loop.create_future()
        threads.run(work, told.set_result)
        assert type(await told) is expected
    threads.shutdown()
    with pytest.raises(RuntimeError, match="'test' were shut down"):
        threads.run(int, told.set_result)


def test_shutdown_finishes_what_was_submitted_or_drops_it() -> None:
    threads = WorkerThreads(1, "test")
    begun, go_on = threading.Event(), threading.Event()
    first = threads.submit(lambda: (begun.set(), go_on.wait(30)))
    begun.wait(30)
    second = threads.submit(int)
    threads.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    threads.shutdown()
    assert first.done()
    with pytest.raises(CancelledError):
        second.result(0)
    with pytest.raises(RuntimeError, match="'test' were shut down"):
        threads.submit(int)


def test_threads_end_with_the_last_reference() -> None:
    threads = WorkerThreads(2, "test")
    (thread,) = threads._threads
    del threads
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_they_work_after_the_executors_of_the_standard_library_have_ended() -> None:
    program = """
import atexit
from fs3.runtime.worker_threads import WorkerThreads
threads = WorkerThreads(2, "test")
atexit.register(lambda: print([threads.submit(divmod, 7, 2).result(30) for _ in range(3)]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[(3, 1), (3, 1), (3, 1)]\n", "")

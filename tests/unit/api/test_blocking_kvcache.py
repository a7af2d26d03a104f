"""The thread of a blocking KVCache, and its jobs: closed while it is used, and asked for what cannot be."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from fs3.api.kvcache.blocking import CacheThread
from fs3.api.kvcache.jobs import JobBoard, JobKind, JobResult
from fs3.api.kvcache.results import Status
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.status import Code


class SlowCache:
    """Answers nothing until it is closed."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def get_into(self) -> list[Status]:
        self.begun.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody answers")

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def cache() -> SlowCache:
    return SlowCache()


@pytest.fixture
def thread(cache: SlowCache) -> Any:
    async def opening() -> Any:
        return cache

    opened = CacheThread(opening)
    yield opened
    opened.close()


@pytest.mark.timeout(30)
def test_closing_ends_calls_of_other_threads(thread: CacheThread, cache: SlowCache) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            thread.run(cache.get_into())
        except FS3Error as failure:
            raised.append(failure)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert cache.begun.wait(10)
    thread.close()
    for worker in workers:
        worker.join(10)
    assert len(raised) == 4
    assert {failure.code for failure in raised} <= {Code.CANCELLED, Code.INVALID}  # type: ignore[attr-defined]


@pytest.mark.timeout(30)
@pytest.mark.filterwarnings("error")
def test_closing_while_jobs_are_submitted(thread: CacheThread, cache: SlowCache) -> None:
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                thread.submit(JobKind.GET, 1, cache.get_into())
        except FS3Error as failure:
            ended.append(failure)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert cache.begun.wait(10)
    thread.close()
    for worker in workers:
        worker.join(10)
    assert len(ended) == 4
    for call in (lambda: thread.run(cache.get_into()), lambda: thread.submit(JobKind.GET, 1, cache.get_into())):
        with pytest.raises(InvalidArgument, match="closed"):
            call()


@pytest.mark.timeout(30)
def test_closing_ends_a_wait(thread: CacheThread, cache: SlowCache) -> None:
    job = thread.submit(JobKind.GET, 1, cache.get_into())
    raised: list[BaseException] = []

    def work() -> None:
        try:
            thread.jobs.wait([job], None)
        except KeyError as failure:
            raised.append(failure)

    waiter = threading.Thread(target=work, daemon=True)
    waiter.start()
    assert cache.begun.wait(10)
    thread.close()
    waiter.join(10)
    assert not waiter.is_alive()


@pytest.mark.parametrize("jobs", [5, None, "12", b"12", [None], [[1]], ["1"]])
def test_jobs_that_are_no_numbers(jobs: Any) -> None:
    with pytest.raises(TypeError, match="job"):
        JobBoard().wait(jobs, 0)


def test_timeouts() -> None:
    board = JobBoard()
    job = board.begin()
    for timeout in ("1", [], True):
        with pytest.raises(TypeError, match="timeout is not a number of seconds"):
            board.wait([job], timeout)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="timeout"):
        board.wait([job], math.nan)
    with pytest.raises(TimeoutError):
        board.wait([job], -math.inf)
    ending = threading.Timer(0.01, board.end, [JobResult(job, JobKind.PUT, [Status.OK])])
    ending.start()
    assert [result.job for result in board.wait([job], math.inf)] == [job]
    board.close()


def test_no_two_boards_have_a_job_of_one_number() -> None:
    """As those of a process and of its forked child."""
    first, second = JobBoard(), JobBoard()
    job = first.begin()
    assert second.begin() != job
    with pytest.raises(KeyError):
        second.wait([job], 0)

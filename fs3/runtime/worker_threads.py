"""Threads for blocking calls that work until they are told to stop, at the end of the program as well."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from fs3.runtime.serving import mark_serving_thread

__all__ = ["WorkerThreads"]

P = ParamSpec("P")
T = TypeVar("T")

Call = Callable[P, T]
"""A blocking call."""
BoundCall = Callable[[], Any]
"""The same, arguments included."""
OnWorked = Callable[[BaseException | None], None]
"""Told what a call has raised; None: nothing."""
Job = tuple[Future[Any] | None, BoundCall]
"""None: the call does what follows by itself, and raises nothing."""
Jobs = SimpleQueue[Job | None]
"""None ends one thread."""


class WorkerThreads(Executor):
    """So many threads that take jobs in the order they were submitted.

    A ThreadPoolExecutor takes no work any more once the main thread has ended, although the program's other threads go on and
    may call a cluster of this process, which afterwards has to close its stores. These threads end with `shutdown`, or with
    the last reference to this object.
    """

    def __init__(self, count: int, name: str) -> None:
        """One thread is started here, the others as jobs come."""
        self._count = count
        self._name = name
        self._jobs: Jobs = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._start_thread()
        weakref.finalize(self, _end_threads, self._jobs, self._threads).atexit = False

    def submit(self, fn: Call[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call it. RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        self._put((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self, work: BoundCall, on_worked: OnWorked) -> None:
        """Have a thread call `work`, and then the running loop `on_worked`: `submit` for who does this often, without the two
        futures and the turn of the loop that they take. RuntimeError after `shutdown`."""
        loop = asyncio.get_running_loop()

        def work_and_tell() -> None:
            failure = None
            try:
                work()
            except BaseException as why:
                failure = why
            with contextlib.suppress(RuntimeError):  # the loop is closed: what waited for it has gone
                loop.call_soon_threadsafe(on_worked, failure)

        self._put((None, work_and_tell))

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._stopped:
                raise RuntimeError(f"the threads {self._name!r} were shut down")
            self._jobs.put(job)
            if len(self._threads) < self._count:
                try:
                    self._start_thread()
                except RuntimeError:  # the interpreter starts no threads any more; those that are there will do
                    self._count = len(self._threads)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when every submitted job is done; `cancel_futures` drops those not begun."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                if cancel_futures:
                    _cancel_jobs(self._jobs)
                _end_threads(self._jobs, self._threads)
        if wait:
            for thread in self._threads:
                thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=_work, args=(self._jobs,), name=f"{self._name}-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)


def _work(jobs: Jobs) -> None:
    mark_serving_thread()
    while (job := jobs.get()) is not None:
        future, call = job
        if future is None:
            call()
        elif future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as failure:  # of the job: it is its result
                future.set_exception(failure)
            else:
                future.set_result(result)
                del result
        del job, future, call  # nothing is kept alive while the next one is waited for


def _end_threads(jobs: Jobs, threads: list[threading.Thread]) -> None:
    for _ in threads:
        jobs.put(None)


def _cancel_jobs(jobs: Jobs) -> None:
    while not jobs.empty():
        if (job := jobs.get()) is not None and job[0] is not None:
            job[0].cancel()

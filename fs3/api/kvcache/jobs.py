"""Jobs: calls of a KVCache that were handed over and whose results are picked up later."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from enum import Enum
from numbers import Real

import msgspec

from fs3.api.kvcache.results import LookupResult, Status
from fs3.base.errors import error
from fs3.base.status import Code

jobs_max = 8192
"""Of one cache: under way, or done and not picked up."""


_numbers = itertools.count(1)
"""Of all caches of a process. A forked child goes on from where its parent was, so a job of the parent is none of the child's."""


class JobKind(Enum):
    """What a job does. Each kind has an event file descriptor of its own."""

    PUT = "put"
    GET = "get"
    LOOKUP = "lookup"


class JobResult(msgspec.Struct, frozen=True):
    """A job that has ended."""

    job: int
    kind: JobKind
    statuses: list[Status]
    """Per key; of a lookup OK, MISS, or why it is not known."""
    found: LookupResult | None = None
    """Of a lookup."""
    failure: BaseException | None = None
    """What the call raised: the namespace was deleted, or the cache closed. All statuses are ERROR then."""


class EventFd:
    """A file descriptor that is readable while results wait: for `select`, `epoll`, or the event loop of an engine."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self.fd = self._writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._writer = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._writer, False)

    def signal(self) -> None:
        """Make it readable."""
        with contextlib.suppress(BlockingIOError):  # full of signals: readable anyway
            os.write(self._writer, (1).to_bytes(8, sys.byteorder))

    def clear(self) -> None:
        """Until the next signal it is not readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65536)

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in {self.fd, self._writer}:
            os.close(fd)


class JobBoard:
    """The jobs of one cache. Any thread may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way: set[int] = set()
        self._done: dict[JobKind, deque[JobResult]] = {kind: deque() for kind in JobKind}
        self._events = {kind: EventFd() for kind in JobKind}
        self._closed = False

    def begin(self) -> int:
        """The number of a new job. Raises FS3Error BUSY when there are too many, INVALID after `close`."""
        with self._changed:
            if self._closed:
                raise error(Code.INVALID, "the KVCache is closed")
            if len(self._under_way) + sum(map(len, self._done.values())) >= jobs_max:
                raise error(Code.BUSY, f"{jobs_max} jobs are under way or were not picked up; call poll()")
            job = next(_numbers)
            self._under_way.add(job)
            return job

    def end(self, result: JobResult) -> None:
        """A job has ended."""
        with self._changed:
            if result.job not in self._under_way:
                return
            self._under_way.remove(result.job)
            self._done[result.kind].append(result)
            self._events[result.kind].signal()
            self._changed.notify_all()

    def poll(self, kind: JobKind | None = None) -> list[JobResult]:
        """What has ended since the last time, of one kind or of all, in the order in which it ended within a kind."""
        results: list[JobResult] = []
        with self._changed:
            for each in JobKind if kind is None else (kind,):
                if self._done[each]:
                    results += self._done[each]
                    self._done[each].clear()
                    self._events[each].clear()
        return results

    def wait(self, jobs: Iterable[int], timeout: float | None) -> list[JobResult]:
        """The results of these jobs, in their order, which `poll` does not tell then. TimeoutError when one has not ended in so
        many seconds: none is taken then. KeyError for a job there is not, or whose result was picked up."""
        wanted = _job_numbers(jobs)
        timeout = _patience(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                ended = {result.job: result for results in self._done.values() for result in results}
                for job in wanted:
                    if job not in ended and job not in self._under_way:
                        raise KeyError(f"there is no job {job}, or its result was picked up")
                if all(job in ended for job in wanted):
                    break
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"jobs have not ended in {timeout} s: {[job for job in wanted if job not in ended][:10]}")
                self._changed.wait(left)
            taken = set(wanted)
            for kind, results in self._done.items():
                kept = deque(result for result in results if result.job not in taken)
                if len(kept) < len(results):
                    self._done[kind] = kept
                    if not kept:
                        self._events[kind].clear()
        return [ended[job] for job in wanted]

    def event_fd(self, kind: JobKind) -> int:
        """Readable while results of this kind wait."""
        return self._events[kind].fd

    def close(self) -> None:
        """Forget everything. Who waits is told that its jobs are not there."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._under_way.clear()
            for results in self._done.values():
                results.clear()
            for event in self._events.values():
                event.close()
            self._changed.notify_all()


def _job_numbers(jobs: object) -> list[int]:
    if isinstance(jobs, str | bytes) or not isinstance(jobs, Iterable):
        raise TypeError(f"jobs: one {type(jobs).__name__}; a sequence of numbers of jobs is wanted")
    numbers = list(jobs)
    for index, job in enumerate(numbers):
        if not isinstance(job, int):
            raise TypeError(f"job {index} is not an integer but {type(job).__name__}")
    return numbers


def _patience(timeout: object) -> float | None:
    """Seconds that can be waited for; None: for ever."""
    if timeout is None:
        return None
    if not isinstance(timeout, Real) or isinstance(timeout, bool):
        raise TypeError(f"timeout is not a number of seconds but {type(timeout).__name__}")
    seconds = float(timeout)
    if math.isnan(seconds):
        raise error(Code.INVALID, "timeout is not a number (NaN)")
    return seconds if seconds < threading.TIMEOUT_MAX else None

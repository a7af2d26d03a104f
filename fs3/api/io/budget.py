"""Bounding what is under way: bytes in flight, and how many coroutines of a long list."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class ByteBudget:
    """So many bytes may be under way at once; further ones wait in order of arrival. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> int:
        """Waits for room; what was taken, to be given back. Something larger than the whole budget takes all of it."""
        count = min(count, self._limit)
        if self._free >= count and not self._waiting:
            self._free -= count
            return count
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)
            else:
                self._waiting.remove((count, turn))
                self._wake()
            raise
        return count

    def give(self, count: int) -> None:
        """Room again."""
        self._free += count
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= count
                turn.set_result(None)


async def gather_bounded(coroutines: Iterable[Coroutine[Any, Any, T]], at_once: int) -> list[T]:
    """The results of coroutines in their order, at most `at_once` under way.

    The iterable is asked for the next one only when it may start. When one fails, or the caller is cancelled, those under way
    are cancelled and waited for, so that nothing of them touches a buffer afterwards; then the first failure is raised.
    """
    results: list[asyncio.Task[T]] = []
    running: set[asyncio.Task[T]] = set()
    pending = iter(coroutines)
    try:
        for coroutine in pending:
            task = asyncio.ensure_future(coroutine)
            results.append(task)
            running.add(task)
            if len(running) >= at_once:
                await _wait_any(running)
        while running:
            await _wait_any(running)
    except BaseException:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
            for task in running:
                if not task.cancelled():
                    task.exception()
        raise
    return [task.result() for task in results]


async def _wait_any(running: set[asyncio.Task[T]]) -> None:
    """Waits until at least one has ended; raises what one raised."""
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    running -= done
    failures = [failure for task in done if not task.cancelled() and (failure := task.exception())]
    if failures:
        raise failures[0]
    for task in done:
        task.result()  # CancelledError, when it was cancelled from elsewhere

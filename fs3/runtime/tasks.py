"""Tasks of one owner: kept until they are done, so that none is collected half-way, and waited for when the owner closes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that its owner keeps, and that may be dropped at any point: nothing is lost with it.

    A program may end, or close its event loop, without a word to what it has open. asyncio logs every task that is left then as
    if it were a mistake; not these.
    """
    task = asyncio.get_running_loop().create_task(work)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # as `asyncio.gather` does; there is no public name
    return task


class TaskSet:
    """The tasks one owner has under way, in the order they were started (so that what waits for them does so in that order)."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a task. What it raises is the coroutine's own business: nothing here looks at it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    async def join(self) -> None:
        """Until every task that is under way now has ended, however it ends."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await self.join()

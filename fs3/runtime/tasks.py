"""Tasks of one owner: kept until they are done, so that none is collected half-way, and waited for when the owner closes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


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

"""Single requests of many coroutines, made as a few requests of many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from fs3.base.units import MIB
from fs3.runtime.tasks import TaskSet

Item = TypeVar("Item")
Answer = TypeVar("Answer")

RunBatch = Callable[[list[Item]], Awaitable[Sequence[Answer]]]
"""Does all items of a batch; one answer for each."""

small_files_per_batch_max = 512
small_batch_bytes_max = 8 * MIB
"""Of the items of one batch."""

batches_at_once_max = 2
"""So that one is made ready while the other waits for disks; what arrives meanwhile is one larger batch."""


class BatchQueue(Generic[Item, Answer]):
    """Asks for one item at a time, and gets the answers of a batch. Belongs to one event loop.

    Nothing waits for a batch to become full: what has been asked for in one turn of the loop, or while others were under way,
    goes together.
    """

    def __init__(self, run: RunBatch[Item, Answer]) -> None:
        """`run`: what it raises is raised to everybody in the batch."""
        self._run = run
        self._waiting: deque[tuple[Item, int, asyncio.Future[Answer]]] = deque()
        self._tasks = TaskSet()
        self._running = 0
        self._is_scheduled = False

    async def ask(self, item: Item, size: int = 0) -> Answer:
        """The answer for one item. `size`: bytes of it. When its caller is cancelled, an item that waits still is forgotten."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, size, answer))
        if not self._is_scheduled and self._running < batches_at_once_max:
            self._is_scheduled = True
            loop.call_soon(self._start)
        return await answer

    def _start(self) -> None:
        self._is_scheduled = False
        while self._waiting and self._running < batches_at_once_max:
            batch: list[tuple[Item, asyncio.Future[Answer]]] = []
            room = small_batch_bytes_max
            while self._waiting and len(batch) < small_files_per_batch_max:
                item, size, answer = self._waiting[0]
                if batch and size > room:
                    break
                self._waiting.popleft()
                if not answer.done():
                    batch.append((item, answer))
                    room -= size
            if batch:
                self._running += 1
                self._tasks.start(self._serve(batch))

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([item for item, _ in batch])
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)
        except BaseException as failure:
            for _, waiting in batch:
                if waiting.done():
                    continue
                if isinstance(failure, asyncio.CancelledError):
                    waiting.cancel()
                else:
                    waiting.set_exception(failure)
            if not isinstance(failure, Exception):
                raise
        finally:
            self._running -= 1
            self._start()

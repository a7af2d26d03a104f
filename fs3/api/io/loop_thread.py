"""An event loop in a thread of its own, for callers that have none and must not wait."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from fs3.api.io.blocking import run_on
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.tasks import TaskSet

T = TypeVar("T")

close_patience_s = 10.0
"""How long `close` waits for the thread."""


class LoopThread:
    """Runs coroutines for other threads, in the process that made it."""

    def __init__(self, name: str) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._tasks = TaskSet()
        self._changing = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """It takes coroutines."""
        return not self._closing and self._thread.is_alive() and self.process == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine on the loop returns. InvalidArgument after `close`, CANCELLED when it is closed meanwhile."""
        try:
            self._check_open()
            return run_on(self._loop, work)
        finally:
            work.close()  # of no effect once it has begun

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a coroutine that tells by itself what became of it. Raises InvalidArgument after `close`."""
        try:
            with self._changing:
                self._check_open()
                self._loop.call_soon_threadsafe(self._tasks.start, work)
        except BaseException:
            work.close()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what was started, run a last coroutine and end the thread. What `last` raises is raised afterwards."""
        with self._changing:
            if self._closing or self.process != os.getpid():
                last.close()
                return
            self._closing = True
        try:
            run_on(self._loop, self._finish(last))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(close_patience_s)

    async def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        await self._tasks.cancel()
        await last

    def _check_open(self) -> None:
        if self._closing:
            raise error(Code.INVALID, "it was closed")
        if self.process != os.getpid():
            raise error(Code.INVALID, f"it belongs to process {self.process}, of which this is a fork")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

"""The one thread that commits."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable

from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.overlay import Rows

log = logging.getLogger("fs3.lmdb")

Finished = Callable[[BaseException | None], None]


class Writer:
    """Commits row sets one after another, away from the loop: LMDB holds its write transaction to one thread, and a commit
    waits for the disk (py-lmdb lets other threads run meanwhile)."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._jobs: queue.SimpleQueue[tuple[Rows, asyncio.AbstractEventLoop, Finished] | None] = queue.SimpleQueue()
        # A daemon: an owner that dies without closing must not keep the process alive. A commit it cuts short is rolled back.
        self._thread = threading.Thread(target=self._run, name="fs3-lmdb-writer", daemon=True)
        self._thread.start()

    def commit(self, rows: Rows, loop: asyncio.AbstractEventLoop, finished: Finished) -> None:
        """Write `rows`, then call `finished` with None or the error on `loop`. `rows` must not change until then."""
        self._jobs.put((rows, loop, finished))

    def stop(self) -> None:
        """End the thread after what was given to it."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            rows, loop, finished = job
            problem: BaseException | None = None
            try:
                self._environment.write(rows)
            except BaseException as why:
                problem = why
            try:
                loop.call_soon_threadsafe(finished, problem)
            except RuntimeError:
                log.warning("the loop was closed before a commit of %d rows could be reported", len(rows))
            del job, rows, finished, problem

"""The one thread of a process that writes: it takes the lock all processes on a store compete for, and commits."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lmdb

from fs3.drivers.kv.write_set import Rows
from fs3.drivers.lmdb.env import Environment
from fs3.runtime.serving import mark_serving_thread

log = logging.getLogger("fs3.lmdb")

lmdb_reader_check_commits = 256
"""How often a process looks for snapshots that processes killed meanwhile have left: until then their pages are not reused."""


@dataclass(frozen=True, slots=True)
class CommitReceipt:
    """The rows are durable; `state` is the id of the state that has them."""

    state: int


@dataclass(frozen=True, slots=True)
class LockGrant:
    """Nothing was written: the store is in another state than the rows were made for. The write lock is held, so this state
    stays the newest until the next `commit`, which is made for it."""

    state: int


CommitOutcome = CommitReceipt | LockGrant | BaseException
OnOutcome = Callable[[CommitOutcome], None]

_Job = tuple[Rows, int, bool, asyncio.AbstractEventLoop, OnOutcome]


class CommitThread:
    """Commits row sets one after another, away from the loop: LMDB holds its write transaction to one thread, and a commit
    waits for the disk and for other processes (py-lmdb lets other threads run meanwhile)."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._held: Any = None
        """The write transaction between a `LockGrant` and the commit that follows it."""
        self._commits = 0
        # A daemon: an owner that dies without closing must not keep the process alive. A commit it cuts short is rolled back.
        self._thread = threading.Thread(target=self._run, name="fs3-lmdb-writer", daemon=True)
        self._thread.start()

    def commit(
        self, rows: Rows, state: int, loop: asyncio.AbstractEventLoop, finished: OnOutcome, *, use_reserve: bool = False
    ) -> None:
        """Write `rows`, which were made for a state, and call `finished` on `loop`: `Committed`, an error (then nothing is
        written), or `LockGrant` when another process has committed since. After that the next commit is for the locked state
        whatever it says, and must come soon: no other process can write until then.

        `rows` must not change before `finished`. `use_reserve`: see `Environment.write`.
        """
        self._jobs.put((rows, state, use_reserve, loop, finished))

    def stop(self) -> None:
        """End the thread after what was given to it."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        mark_serving_thread()
        while (job := self._jobs.get()) is not None:
            rows, state, use_reserve, loop, finished = job
            outcome: CommitOutcome
            try:
                outcome = self._commit(rows, state, use_reserve)
            except BaseException as why:  # it is the answer, and the thread goes on for the others
                outcome = why
            try:
                loop.call_soon_threadsafe(finished, outcome)
            except RuntimeError:
                log.warning("the loop was closed before a commit of %d rows could be reported", len(rows))
                self._give_up()
            del job, rows, finished, outcome
        self._give_up()

    def _commit(self, rows: Rows, state: int, use_reserve: bool) -> CommitOutcome:
        environment = self._environment
        txn, self._held = self._held, None
        if txn is None:
            # Here other processes are waited for.
            txn = environment.begin_write()
            found: int = txn.id() - 1
            if found != state:
                self._held = txn
                return LockGrant(found)
        found = txn.id() - 1
        changed = environment.write(txn, rows, use_reserve=use_reserve)
        self._commits += 1
        if self._commits % lmdb_reader_check_commits == 0:
            try:
                environment.clear_stale_readers()
            except lmdb.Error as why:
                log.warning("%s: stale readers cannot be looked for: %s", environment.directory, why)
        return CommitReceipt(found + changed)

    def _give_up(self) -> None:
        if self._held is not None:
            self._environment.abort_write(self._held)
            self._held = None

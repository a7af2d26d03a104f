"""The KV port on LMDB, for any number of processes on one host: group commit, and a lane that never waits for the disk.

    submit ─► inbox ─► drain (one per turn of the loop): every operation runs to its end on an Overlay over
                         its batch's writes · the batch being committed · a snapshot of the newest state
    batch  ─► writer thread: lock, one synced commit      while it runs, the next batch gathers and *runs*
    commit ─► new snapshot ─► next batch to the writer ─► everybody of this batch is answered

An operation may thus have read writes that are not durable yet. Its own batch is committed after theirs, so its answer is
given after theirs are durable; should their commit fail, nothing of it is kept and it runs again without them. An operation
that raised, or wrote nothing, waits in the same way: its answer too may rest on those writes.

**Several processes.** A batch was run on one state, and is committed only onto that state. When the writer has the lock and
finds another one, it keeps the lock: the operations run again on what is there now, and commit without anybody in between, so
none runs in vain twice. From then on, until other processes have been silent for some commits, the lock is taken first and
the operations run once, under it. Reads begin on the newest state, so whoever hears of a commit finds it, in any process.

A process that is stopped while it has the lock keeps everybody else from writing until it goes on or ends; reads go on. One
that is killed leaves a lock that the next writer repairs, and a snapshot that somebody sweeps up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from fs3.base.coroutines import run
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    lmdb_crowded_commits,
    lmdb_map_bytes_default,
    lmdb_map_bytes_max,
    lmdb_slow_commit_ns,
    transactions_per_commit_max,
    transactions_per_turn_max,
    transactions_waiting_max,
)
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.lmdb.batch import Batch, Counters, new_future, refused
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.overlay import NO_STATE, Overlay
from fs3.drivers.lmdb.snapshots import Snapshots
from fs3.drivers.lmdb.writer import Committed, Locked, Outcome, Writer
from fs3.ports.clock import Clock
from fs3.ports.kv import Done, ReadOp, WriteOp

log = logging.getLogger("fs3.lmdb")

T = TypeVar("T")
_KIND = "kv"
_VERSION = 1


class LmdbKV:
    """`KV` on one directory. All methods are called on one loop. A forked child cannot use it."""

    def __init__(self, environment: Environment, clock: Clock | None) -> None:
        """Use `open`."""
        self._environment = environment
        self._clock = clock
        self._snapshots = Snapshots(environment)
        self._writer = Writer(environment)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[tuple[WriteOp[Any], Done[Any]]] = deque()
        self._gathering = Batch()
        self._flying: Batch | None = None
        self._flying_state = NO_STATE
        """What the flying batch was run on."""
        self._flying_since = 0
        self._drain_is_scheduled = False
        self._room = transactions_per_commit_max
        """Operations of one commit; fewer while the store is full, so that what fits is kept."""
        self._crowded = 0
        """Commits for which the lock is taken first."""
        self._own_state = NO_STATE
        """The state after our last commit."""
        self._stranded: list[tuple[ReadOp[Any], Done[Any]]] = []
        """Reads that need a larger map while the writer is at work in the old one."""
        self._broken: FS3Error | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self.counters = Counters()
        self._slow: asyncio.TimerHandle | None = None
        """Looks whether the flying batch is the same as last time."""
        _opened.add(self)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        map_bytes: int = lmdb_map_bytes_default,
        map_bytes_max: int = lmdb_map_bytes_max,
        clock: Clock | None = None,
    ) -> Self:
        """Open the store in a directory, creating it when absent. Other processes may have it open.

        `map_bytes` is address space; a map that is full is doubled up to `map_bytes_max`, then operations fail with NO_SPACE.
        Raises FS3Error: BUSY when this process has the directory open already (or another one has it for itself), UNSUPPORTED
        for a directory of another version or program, DISK when it cannot be read.
        """
        return cls(Environment(Path(path), _KIND, _VERSION, map_bytes=map_bytes, map_bytes_max=map_bytes_max), clock)

    # --- reading ------------------------------------------------------------------------------------------------------

    def submit_read(self, op: ReadOp[T], done: Done[T]) -> None:
        """See the port. `done` is called before this returns, but in the one moment when another process has outgrown the map
        and this one is committing."""
        if self._closing:
            done(None, self._refusal())
            return
        try:
            self._snapshots.renew()
            result: T = run(op(self._snapshots.newest))  # type: ignore[arg-type]
        except lmdb.MapResizedError:
            self._stranded.append((op, done))
            return
        except Exception as why:
            done(None, why)
            return
        done(result, None)

    async def read(self, op: ReadOp[T]) -> T:
        """See the port."""
        if self._closing:
            raise self._refusal()
        try:
            self._snapshots.renew()
        except lmdb.MapResizedError:
            future, done = new_future()
            self._stranded.append((op, done))
            result: T = await future
            return result
        return run(op(self._snapshots.newest))  # type: ignore[arg-type]

    # --- writing ------------------------------------------------------------------------------------------------------

    def submit(self, op: WriteOp[T], done: Done[T]) -> None:
        """See the port. Operations take effect in the order in which they were submitted."""
        if self._closing or self._broken is not None or len(self._inbox) >= transactions_waiting_max:
            done(None, self._refusal())
            return
        self._inbox.append((op, done))
        if not self._drain_is_scheduled:
            self._schedule_drain()

    async def transact(self, op: WriteOp[T]) -> T:
        """See the port."""
        future, done = new_future()
        self.submit(op, done)
        result: T = await future
        return result

    def _refusal(self) -> FS3Error:
        directory = str(self._environment.directory)
        if self._broken is not None:
            return error(self._broken.code, f"the key-value store has failed: {self._broken.strerror}", directory)
        if self._closing:
            return error(Code.SHUTTING_DOWN, "the key-value store is closed", directory)
        return error(Code.BUSY, f"{transactions_waiting_max} operations are waiting already", directory)

    def _schedule_drain(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._drain_is_scheduled = True
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Run what waits, into the gathering batch; hand the batch over when the writer is free."""
        self._drain_is_scheduled = False
        batch = self._gathering
        if self._flying is None:
            if not self._inbox:
                self._settle()
                return
            if self._crowded:
                # What ran now would have to run again. An empty batch gets the lock.
                self._fly(Batch(), NO_STATE)
                return
            try:
                self._snapshots.rebase()
            except FS3Error as why:
                self._break(why)
                return
        elif self._crowded:
            return
        self._run_waiting(batch, self._flying)
        if self._flying is None:
            self._launch(self._snapshots.base.state)
        # A full batch behind a commit under way: its end continues here.
        if self._inbox and not self._drain_is_scheduled and len(self._gathering.outcomes) < self._room:
            self._schedule_drain()

    def _run_waiting(self, batch: Batch, flying: Batch | None) -> None:
        """Run a turn's worth of operations, as far as there is room in the batch."""
        inbox = self._inbox
        layers = (batch.writes,) if flying is None else (batch.writes, flying.writes)
        for _ in range(min(len(inbox), self._room - len(batch.outcomes), transactions_per_turn_max)):
            op, done = inbox.popleft()
            txn = Overlay(self._snapshots.base, layers)
            result: Any = None
            failure: Exception | None = None
            try:
                result = run(op(txn))  # type: ignore[arg-type]
            except Exception as why:
                failure = why
            else:
                batch.writes.rows.update(txn.own.rows)
            batch.outcomes.append((op, done, result, failure))

    def _launch(self, state: int) -> None:
        """The gathering batch, which was run on `state`, goes to the writer; a new one gathers. A batch that writes nothing
        needs no commit."""
        batch = self._gathering
        if batch.outcomes:
            self._gathering = Batch()
            if batch.writes.rows:
                self._fly(batch, state)
                return
            self._answer(batch)
        self._settle()

    def _fly(self, batch: Batch, state: int) -> None:
        self._flying = batch
        self._flying_state = state
        self._snapshots.busy = True
        self._flying_since = self._clock.now() if self._clock else 0
        assert self._loop is not None
        if self._slow is None:
            self._slow = self._loop.call_later(lmdb_slow_commit_ns / SECOND, self._look_at, batch)
        self._writer.commit(batch.writes.rows, state, self._loop, self._landed)

    def _look_at(self, batch: Batch) -> None:
        """What was under way a while ago."""
        self._slow = None
        if self._flying is None:
            return
        if self._flying is batch:
            what = "another process holds the lock (is one stopped?), or the disk does not finish"
            log.warning(
                "%s: a commit has been waiting for %d s: %s", self._environment.directory, lmdb_slow_commit_ns // SECOND, what
            )
        assert self._loop is not None
        self._slow = self._loop.call_later(lmdb_slow_commit_ns / SECOND, self._look_at, self._flying)

    def _settle(self) -> None:
        """Nothing is under way: go on with what waits, or tell whoever closes that nothing does."""
        if self._inbox:
            if not self._drain_is_scheduled:
                self._schedule_drain()
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # --- what the writer says -----------------------------------------------------------------------------------------

    def _landed(self, outcome: Outcome) -> None:
        """On the loop, after the writer has done with the flying batch."""
        batch, self._flying = self._flying, None
        assert batch is not None
        self._snapshots.busy = False
        try:
            if isinstance(outcome, Committed):
                self._committed(batch, outcome.state)
            elif isinstance(outcome, Locked):
                self._run_locked(batch, outcome.state)
            elif isinstance(outcome, lmdb.MapResizedError):
                self._conflict(batch)
                self._snapshots.reopen()
                self._settle()
            elif isinstance(outcome, lmdb.MapFullError) and self._grow_map():
                self._fly(batch, self._flying_state)
            else:
                self._failed(batch, outcome)
        except FS3Error as why:
            self._break(why)
            self._answer(refused(batch, why))
            if isinstance(outcome, Locked):
                self._fly(Batch(), outcome.state)
            self._settle()
        if self._stranded:
            stranded, self._stranded = self._stranded, []
            for op, done in stranded:
                self.submit_read(op, done)

    def _committed(self, batch: Batch, state: int) -> None:
        counters = self.counters
        if batch.writes.rows:
            counters.commits += 1
            counters.rows += len(batch.writes.rows)
            if self._clock:
                counters.commit_ns += self._clock.now() - self._flying_since
        self._own_state = state
        self._room = min(2 * self._room, transactions_per_commit_max)
        try:
            # The newest state is visible before anybody hears of it, and the disk has its next work before we talk.
            self._snapshots.rebase()
            if self._snapshots.base.state == state or not self._gathering.outcomes:
                self._launch(state)
            else:
                self._conflict()
                self._settle()
        except FS3Error as why:
            self._break(why)
        self._answer(batch)

    def _run_locked(self, batch: Batch, state: int) -> None:
        """The lock is ours, and the newest state with it: run what waits, on that state."""
        if batch.outcomes:
            self._conflict(batch)
        elif state != self._own_state:
            self._crowded = lmdb_crowded_commits
        else:
            self._crowded -= 1
        self._snapshots.rebase()
        assert self._snapshots.base.state == state, "somebody has committed without the lock"
        batch = Batch()
        self._run_waiting(batch, None)
        # Even when it has written nothing: the lock is given back.
        self._fly(batch, state)

    def _conflict(self, batch: Batch | None = None) -> None:
        """Another process has committed what these operations have not seen."""
        self.counters.conflicts += 1
        self._crowded = lmdb_crowded_commits
        self._run_again(batch)

    def _run_again(self, batch: Batch | None = None) -> None:
        """Put back what was run, in order: that of `batch`, then what gathered behind it."""
        again = [] if batch is None else batch.outcomes
        again += self._gathering.outcomes
        self._gathering = Batch()
        self.counters.rerun += len(again)
        self._inbox.extendleft((op, done) for op, done, _, _ in reversed(again))

    def _failed(self, batch: Batch, problem: BaseException) -> None:
        """The batch is as if it had never been. Whoever ran after it may have read its writes, and runs again."""
        why = self._environment.explain(problem)
        if why.code is not Code.NO_SPACE:
            # After a failed sync nobody knows what the disk has.
            raise why
        if len(batch.outcomes) > 1:
            # Some of it may fit. Halves end at the operations that do not.
            self._room = len(batch.outcomes) // 2
            self._run_again(batch)
        else:
            log.warning("%s: an operation fails: %s", self._environment.directory, why.strerror)
            self._run_again()
            self._answer(refused(batch, why))
        self._settle()

    def _break(self, why: FS3Error) -> None:
        """Accept no further write: everything that is not committed fails. A person or a supervisor opens the store anew."""
        log.error("%s: %s; no further write is accepted", self._environment.directory, why.strerror)
        self._broken = why
        waiting, self._gathering = self._gathering, Batch()
        waiting.outcomes += [(op, done, None, None) for op, done in self._inbox]
        self._inbox.clear()
        self._answer(refused(waiting, why))

    def _answer(self, batch: Batch) -> None:
        self.counters.transactions += len(batch.outcomes)
        for _, done, result, failure in batch.outcomes:
            try:
                done(result, failure)
            except Exception:
                log.exception("the callback of a transaction raised")

    def _grow_map(self) -> bool:
        """A full map is larger now; False when it cannot be. Raises FS3Error."""
        self._snapshots.close()
        grown = self._environment.grow()
        self._snapshots.reopen()
        return grown

    # --- the rest -----------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Bytes the store takes on its disk."""
        return self._environment.used_bytes()

    async def close(self) -> None:
        """See the port. Closing twice is fine."""
        if self._closing:
            return
        self._closing = True
        if self._inbox or self._gathering.outcomes or self._flying is not None:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._writer.stop()
        if self._slow is not None:
            self._slow.cancel()
        self._snapshots.stop()
        self._environment.close()

    def forked(self) -> None:
        """In a forked child: nothing of this object can be used, or even closed. Its thread, its lock and its place among the
        readers are the parent's."""
        self._closing = True
        self._broken = error(Code.SHUTTING_DOWN, "this process was forked by the one that opened it; a spawned one can open it")


_opened: weakref.WeakSet[LmdbKV] = weakref.WeakSet()


def _after_fork() -> None:
    for kv in list(_opened):
        kv.forked()


os.register_at_fork(after_in_child=_after_fork)

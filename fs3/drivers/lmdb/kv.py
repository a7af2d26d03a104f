"""The KV port on LMDB, for any number of processes on one host: group commit, and a lane that never waits for the disk.

    submit ─► inbox ─► drain (one per turn of the loop): every operation runs to its end on an Overlay over
                         its batch's writes · the batch being committed · a snapshot of the newest state
    batch  ─► writer thread: lock, one synced commit      while it runs, the next batch gathers and *runs*
    commit ─► new snapshot ─► next batch to the writer ─► all callers of this batch are answered

An operation may thus have read writes that are not durable yet. Its own batch is committed after theirs, so its answer is
given after theirs are durable; should their commit fail, nothing of it is kept and it runs again without them. An operation
that raised, or wrote nothing, waits in the same way: its answer too may rest on those writes.

**Several processes.** A batch was run on one state, and is committed only onto that state. When the writer has the lock and
finds another one, it keeps the lock: the operations run again on what is there now, and commit with no other in between, so
none runs in vain twice. From then on, until other processes have been silent for some commits, the lock is taken first and
the operations run once, under it. Reads begin on the newest state, so any process that has heard of a commit finds it.

A process that stands still while it has the lock keeps all others from writing until its lease is over, and is then killed by
one that waits (`WriteLock`); reads go on. One that is killed leaves a lock that the next writer repairs, and a snapshot that
another process sweeps up (`clear_stale_readers`).

**A disk that fails.** Without room, the operations that do not fit fail with NO_SPACE, and all is as before once there is room.
Those that make room (`RoomMaker`) get it from a reserve (`SpaceReserve`), which has the first of what room there is afterwards.
After any other failure the files are opened anew and the batch is tried once more. That is sound: all that a state rests on was
synced before the page that names the state was written, and what a failed commit has left of its pages is named by no page,
and written as a whole before one names it. While that fails too, operations fail with DISK, each attempt opens the files anew,
and after `lmdb_trouble_ns_max` the store is given up: its owner is told (`on_given_up`), and ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from fs3.base.coroutines import run
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    lmdb_lock_lease_ns,
    lmdb_map_bytes_default,
    lmdb_map_bytes_max,
    transactions_per_commit_max,
    transactions_per_turn_max,
    transactions_waiting_max,
)
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.lmdb.batch import CommitBatch, KVStats, fail_batch
from fs3.drivers.lmdb.commit_thread import CommitOutcome, CommitReceipt, CommitThread, LockGrant
from fs3.drivers.lmdb.damage import KnownDamage
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.overlay import NO_STATE, Overlay
from fs3.drivers.lmdb.page_file import FileDamaged
from fs3.drivers.lmdb.scrub import scrub_pages
from fs3.drivers.lmdb.snapshots import Snapshots, read_pages
from fs3.drivers.lmdb.trouble import OnGivenUp, StoreTrouble
from fs3.drivers.lmdb.write_lock import WriteLockTimer
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.ports.clock import Clock
from fs3.ports.kv import KVRow, KVScrubStep, OnDone, ReadOp, RoomMaker, WriteOp, future_callback
from fs3.runtime.worker_threads import WorkerThreads

log = logging.getLogger("fs3.lmdb")

lmdb_crowded_commits = 16
"""So many commits after one that met another process' a store takes the lock before it runs operations, not after."""

lmdb_slow_commit_ns = 2 * SECOND
"""A commit that waits so long for the lock or the disk is worth a line in the log."""

T = TypeVar("T")
_KIND = "kv"
_VERSION = 2


class LmdbKV:
    """`KV` on one directory. All methods are called on one loop. A forked child cannot use it."""

    def __init__(self, environment: Environment, clock: Clock | None, on_given_up: OnGivenUp | None = None) -> None:
        """Use `open`."""
        self._environment = environment
        self._clock = clock
        self._trouble = StoreTrouble(environment.directory, on_given_up)
        self._damage = KnownDamage(environment.damaged)
        self._snapshots = Snapshots(environment, self._damage)
        self._writer = CommitThread(environment)
        self._scrubber = WorkerThreads(1, "fs3-lmdb-scrub")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[tuple[WriteOp[Any], OnDone[Any]]] = deque()
        self._gathering_batch = CommitBatch()
        self._committing: CommitBatch | None = None
        self._committing_state = NO_STATE
        """What the batch being committed was run on."""
        self._committing_since = 0
        self._drain_is_scheduled = False
        self._room = transactions_per_commit_max
        """Operations of one commit; fewer while the store is full, so that what fits is kept."""
        self._contended_commits = 0
        """Commits for which the lock is taken first."""
        self._own_state = NO_STATE
        """The state after our last commit."""
        self._stranded_reads: list[tuple[ReadOp[Any], OnDone[Any]]] = []
        """Reads that need a larger map while the writer is at work in the old one."""
        self._is_unreadable = False
        """A page is damaged: LMDB must follow nothing in the file any more."""
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self.stats = KVStats()
        self._slow: asyncio.TimerHandle | None = None
        """Looks whether the batch being committed is the same as last time."""
        self._lock_timer = WriteLockTimer(environment.write_lock)
        _open_stores.add(self)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        map_bytes: int = lmdb_map_bytes_default,
        map_bytes_max: int = lmdb_map_bytes_max,
        clock: Clock | None = None,
        lock_lease_ns: int = lmdb_lock_lease_ns,
        on_given_up: OnGivenUp | None = None,
    ) -> Self:
        """Open the store in a directory, creating it when absent. Other processes may have it open.

        `map_bytes` is address space; a map that is full is doubled up to `map_bytes_max`, then operations fail with NO_SPACE.
        `lock_lease_ns`: see `WriteLock`; the same for all processes of the store. `on_given_up` is called once, when the store
        has not worked for so long that it never will. Raises FS3Error: BUSY when this process has the directory open already (or
        another one has it for itself), or the write lock cannot be had; UNSUPPORTED for a directory of another version or
        program; NO_SPACE; DISK when it cannot be read; DATA_LOSS when its pages are damaged. Single rows that are damaged do not
        keep it from being opened: they, and what may be missing beside them, are answered DATA_LOSS.
        """
        environment = Environment(
            Path(path), _KIND, _VERSION, map_bytes=map_bytes, map_bytes_max=map_bytes_max, lock_lease_ns=lock_lease_ns
        )
        return cls(environment, clock, on_given_up)

    # --- reading ------------------------------------------------------------------------------------------------------

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """See the port. `done` is called before this returns, but in the one moment when another process has outgrown the map
        and this one is committing."""
        if self._closing or self._is_unreadable:
            done(None, self._refusal())
            return
        try:
            self._snapshots.renew()
            result: T = run(op(self._snapshots.newest))  # type: ignore[arg-type]
        except lmdb.MapResizedError:
            self._stranded_reads.append((op, done))
            return
        except Exception as why:  # of `op`: it is the answer to its caller
            done(None, why)
            return
        done(result, None)

    async def read(self, op: ReadOp[T]) -> T:
        """See the port."""
        if self._closing or self._is_unreadable:
            raise self._refusal()
        try:
            self._snapshots.renew()
        except lmdb.MapResizedError:
            future, done = future_callback()
            self._stranded_reads.append((op, done))
            result: T = await future
            return result
        return run(op(self._snapshots.newest))  # type: ignore[arg-type]

    # --- writing ------------------------------------------------------------------------------------------------------

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """See the port. Operations take effect in the order in which they were submitted."""
        if self._closing or self._trouble.failure is not None or len(self._inbox) >= transactions_waiting_max:
            done(None, self._refusal())
            return
        self._inbox.append((op, done))
        if not self._drain_is_scheduled:
            self._schedule_drain()

    async def transact(self, op: WriteOp[T]) -> T:
        """See the port."""
        future, done = future_callback()
        self.submit(op, done)
        result: T = await future
        return result

    def _refusal(self) -> FS3Error:
        directory = str(self._environment.directory)
        if self._trouble.failure is not None:
            failure = self._trouble.failure
            return error(failure.code, f"the key-value store was given up: {failure.strerror}", directory)
        if self._closing:
            return error(Code.SHUTTING_DOWN, "the key-value store is closed", directory)
        return error(Code.BUSY, f"{transactions_waiting_max} operations are waiting already", directory)

    def _schedule_drain(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._lock_timer.start(self._loop)
        self._drain_is_scheduled = True
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Run what waits, into the gathering batch; hand the batch over when the writer is free."""
        self._drain_is_scheduled = False
        batch = self._gathering_batch
        if self._committing is None:
            if not self._inbox:
                self._continue_or_idle()
                return
            try:
                if self._trouble.needs_reopening:
                    self._reopen()
                if self._contended_commits:
                    # What ran now would have to run again. An empty batch gets the lock.
                    self._commit(CommitBatch(), NO_STATE)
                    return
                self._snapshots.rebase()
            except FS3Error as why:
                self._fail_waiting(why)
                self._continue_or_idle()
                return
        elif self._contended_commits:
            return
        self._run_waiting(batch, self._committing)
        if self._committing is None:
            self._submit_batch(self._snapshots.base.state)
        # A full batch behind a commit under way: its end continues here.
        if self._inbox and not self._drain_is_scheduled and len(self._gathering_batch.outcomes) < self._room:
            self._schedule_drain()

    def _run_waiting(self, batch: CommitBatch, committing: CommitBatch | None) -> None:
        """Run a turn's worth of operations, as far as there is room in the batch."""
        inbox = self._inbox
        layers = (batch.writes,) if committing is None else (batch.writes, committing.writes)
        for _ in range(min(len(inbox), self._room - len(batch.outcomes), transactions_per_turn_max)):
            op, done = inbox.popleft()
            txn = Overlay(self._snapshots.base, layers)
            result: Any = None
            failure: Exception | None = None
            try:
                result = run(op(txn))  # type: ignore[arg-type]
            except Exception as why:  # of `op`: it fails alone, not the batch it is in
                failure = why
            else:
                batch.writes.rows.update(txn.own.rows)
            batch.outcomes.append((op, done, result, failure))

    def _submit_batch(self, state: int) -> None:
        """The gathering batch, which was run on `state`, goes to the writer; a new one gathers. A batch that writes nothing
        needs no commit."""
        batch = self._gathering_batch
        if batch.outcomes:
            self._gathering_batch = CommitBatch()
            if batch.writes.rows:
                self._commit(batch, state)
                return
            self._answer(batch)
        self._continue_or_idle()

    def _commit(self, batch: CommitBatch, state: int) -> None:
        self._committing = batch
        self._committing_state = state
        self._snapshots.busy = True
        self._committing_since = self._clock.now() if self._clock else 0
        assert self._loop is not None
        if self._slow is None:
            self._slow = self._loop.call_later(lmdb_slow_commit_ns / SECOND, self._warn_if_slow, batch)
        self._writer.commit(batch.writes.rows, state, self._loop, self._commit_done, use_reserve=batch.uses_reserve)

    def _warn_if_slow(self, batch: CommitBatch) -> None:
        """What was under way a while ago."""
        self._slow = None
        if self._committing is None:
            return
        if self._committing is batch:
            what = "another process holds the lock (is one stopped?), or the disk does not finish"
            log.warning(
                "%s: a commit has been waiting for %d s: %s", self._environment.directory, lmdb_slow_commit_ns // SECOND, what
            )
        assert self._loop is not None
        self._slow = self._loop.call_later(lmdb_slow_commit_ns / SECOND, self._warn_if_slow, self._committing)

    def _continue_or_idle(self) -> None:
        """Nothing is under way: go on with what waits, or tell `close` that nothing does."""
        if self._inbox:
            if not self._drain_is_scheduled:
                self._schedule_drain()
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # --- what the writer says -----------------------------------------------------------------------------------------

    def _commit_done(self, outcome: CommitOutcome) -> None:
        """On the loop, after the writer has done with the batch being committed."""
        batch, self._committing = self._committing, None
        assert batch is not None
        self._snapshots.busy = False
        try:
            if isinstance(outcome, CommitReceipt):
                self._on_committed(batch, outcome.state)
            elif isinstance(outcome, LockGrant):
                self._on_locked(batch, outcome.state)
            elif isinstance(outcome, lmdb.MapResizedError):
                self._on_conflict(batch)
                self._snapshots.reopen()
                self._continue_or_idle()
            elif isinstance(outcome, lmdb.MapFullError) and self._grow_map():
                self._commit(batch, self._committing_state)
            else:
                self._on_failure(batch, outcome)
        except FS3Error as why:
            self._fail_waiting(why)
            self._answer(fail_batch(batch, why))
            if isinstance(outcome, LockGrant):
                self._commit(CommitBatch(), outcome.state)
            self._continue_or_idle()
        if self._stranded_reads:
            stranded, self._stranded_reads = self._stranded_reads, []
            for op, done in stranded:
                self.submit_read(op, done)

    def _on_committed(self, batch: CommitBatch, state: int) -> None:
        counters = self.stats
        if self._damage:
            self._damage.forget(batch.writes.rows)
        if batch.writes.rows:
            counters.commits += 1
            counters.rows += len(batch.writes.rows)
            if self._clock:
                counters.commit_ns += self._clock.now() - self._committing_since
            self._trouble.end()
        self._own_state = state
        self._room = min(2 * self._room, transactions_per_commit_max)
        try:
            # The newest state is visible before any caller hears of it, and the disk has its next work before we talk.
            self._snapshots.rebase()
            if self._snapshots.base.state == state or not self._gathering_batch.outcomes:
                self._submit_batch(state)
            else:
                self._on_conflict()
                self._continue_or_idle()
        except FS3Error as why:
            self._fail_waiting(why)
        self._answer(batch)

    def _on_locked(self, batch: CommitBatch, state: int) -> None:
        """The lock is ours, and the newest state with it: run what waits, on that state."""
        if batch.outcomes:
            self._on_conflict(batch)
        elif state != self._own_state:
            self._contended_commits = lmdb_crowded_commits
        else:
            self._contended_commits -= 1
        self._snapshots.rebase()
        assert self._snapshots.base.state == state, "another process has committed without the lock"
        batch = CommitBatch()
        self._run_waiting(batch, None)
        # Even when it has written nothing: the lock is given back.
        self._commit(batch, state)

    def _on_conflict(self, batch: CommitBatch | None = None) -> None:
        """Another process has committed what these operations have not seen."""
        self.stats.conflicts += 1
        self._contended_commits = lmdb_crowded_commits
        self._requeue(batch)

    def _requeue(self, batch: CommitBatch | None = None) -> None:
        """Put back what was run, in order: that of `batch`, then what gathered behind it."""
        again = [] if batch is None else batch.outcomes
        again += self._gathering_batch.outcomes
        self._gathering_batch = CommitBatch()
        self.stats.reruns += len(again)
        self._inbox.extendleft((op, done) for op, done, _, _ in reversed(again))

    def _on_failure(self, batch: CommitBatch, problem: BaseException) -> None:
        """The batch is as if it had never been. Operations that ran after it may have read its writes, and run again."""
        why = self._environment.explain(problem)
        if why.code is not Code.NO_SPACE:
            self._on_trouble(batch, why)
        elif len(batch.outcomes) > 1:
            # Some of it may fit. Halves end at the operations that do not.
            self._room = len(batch.outcomes) // 2
            self._requeue(batch)
        elif isinstance(batch.outcomes[0][0], RoomMaker) and not batch.uses_reserve:
            batch.uses_reserve = True
            self._commit(batch, self._committing_state)
            return
        else:
            self._trouble.note_full(why)
            self._requeue()
            self._answer(fail_batch(batch, why))
        self._continue_or_idle()

    def _on_trouble(self, batch: CommitBatch, why: FS3Error) -> None:
        """The first time, all of the batch is tried again, unless it may have been stored after all. Raises `why` else."""
        is_first = not self._trouble.is_failing
        self._note_failure(why)
        if not is_first or self._is_unreadable:
            raise why
        self._reopen()
        if self._snapshots.base.state != self._committing_state:
            raise why
        self._requeue(batch)

    def _note_failure(self, why: FS3Error) -> None:
        if why.code is Code.DATA_LOSS:
            self._is_unreadable = True
            self._trouble.note_damage(why)
            return
        assert self._loop is not None
        self._trouble.note_failure(int(self._loop.time() * SECOND), why)

    def _reopen(self) -> None:
        """The writer is idle. Raises FS3Error; then nothing can be read until the next attempt."""
        self._snapshots.close()
        self._environment.reopen()
        self._snapshots.reopen()
        self._trouble.needs_reopening = False

    def _fail_waiting(self, why: FS3Error) -> None:
        """Everything fails that is not being committed."""
        self._note_failure(why)
        waiting, self._gathering_batch = self._gathering_batch, CommitBatch()
        waiting.outcomes += [(op, done, None, None) for op, done in self._inbox]
        self._inbox.clear()
        self._answer(fail_batch(waiting, why))

    def _answer(self, batch: CommitBatch) -> None:
        self.stats.transactions += len(batch.outcomes)
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

    # --- damage -------------------------------------------------------------------------------------------------------

    async def scrub(self, begin: bytes) -> KVScrubStep:
        """See `ScrubbedKV`."""
        if self._closing or self._is_unreadable:
            raise self._refusal()
        environment = self._environment
        held = environment.hold_state()
        try:
            looking = partial(scrub_pages, environment.file, environment.rows_name, held.state, begin)
            found = await asyncio.get_running_loop().run_in_executor(self._scrubber, looking)
        except FileDamaged as why:
            self._fail_waiting(environment.explain(why))
            raise self._refusal() from why
        except OSError as why:
            raise error(Code.DISK, f"reading the key-value store: {why.strerror}", str(environment.file)) from why
        finally:
            held.release()
        if found is None:
            return KVScrubStep(begin, 0, 0)
        known = {*self._damage.rows}
        self._damage.replace(found.begin, found.end, found.damaged)
        for row in found.damaged:
            if row.key not in known:
                log.error("%s: row %r is damaged", environment.directory, row.key)
        return KVScrubStep(found.end, found.bytes, found.rows)

    @property
    def damaged_rows(self) -> tuple[bytes, ...]:
        """See `ScrubbedKV`."""
        return tuple(self._damage.rows)

    @property
    def failure(self) -> FS3Error | None:
        """See `ScrubbedKV`."""
        return self._trouble.failure

    @property
    def problem(self) -> str:
        """See `ScrubbedKV`: none, there is no engine beside the files."""
        return ""

    def samples(self) -> Iterator[Sample]:
        """See `ScrubbedKV`."""
        stats = self.stats
        yield Sample(catalogue.STORE_TRANSACTIONS, (), stats.transactions)
        yield Sample(catalogue.STORE_COMMITS, (), stats.commits)
        yield Sample(catalogue.STORE_ROWS, (), stats.rows)
        yield Sample(catalogue.STORE_SECONDS, (), stats.commit_ns / SECOND)
        yield Sample(catalogue.STORE_CONFLICTS, (), stats.conflicts)
        yield Sample(catalogue.STORE_RERUNS, (), stats.reruns)
        yield Sample(catalogue.LMDB_BYTES, (), self._environment.measure_used_bytes())
        with suppress(lmdb.Error):  # it is opened anew, or closed, just now
            facts = self._environment.read_facts()
            yield Sample(catalogue.LMDB_MAP, (), facts.map_bytes)
            yield Sample(catalogue.LMDB_USED, (), facts.used_bytes)
            yield Sample(catalogue.LMDB_READERS, (), facts.readers)
            yield Sample(catalogue.LMDB_READERS_MAX, (), facts.readers_max)

    @property
    def description(self) -> str:
        """See `ScrubbedKV`."""
        return ""

    def snapshot(self) -> AsyncIterator[Sequence[KVRow]]:
        """See `ScrubbedKV`."""
        if self._closing or self._is_unreadable:
            raise self._refusal()
        return read_pages(self._environment, self._damage)

    async def copy_to(self, directory: Path) -> None:
        """Write everything committed, as one state, into an existing empty directory. Raises FS3Error.

        The map must not grow meanwhile, so it is for a process that writes nothing.
        """
        await asyncio.to_thread(self._environment.copy_to, directory)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def measure_used_bytes(self) -> int:
        """Bytes the store takes on its disk."""
        return self._environment.measure_used_bytes()

    async def close(self) -> None:
        """See the port. Closing twice is fine."""
        if self._closing:
            return
        self._closing = True
        if self._inbox or self._gathering_batch.outcomes or self._committing is not None:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._writer.stop()
        self._scrubber.shutdown()
        if self._slow is not None:
            self._slow.cancel()
        self._lock_timer.stop()
        self._snapshots.stop()
        self._environment.close()

    def on_fork(self) -> None:
        """In a forked child: nothing of this object can be used, or even closed. Its thread, its lock and its place among the
        readers are the parent's."""
        self._closing = True
        self._trouble.failure = error(
            Code.SHUTTING_DOWN, "this process was forked by the one that opened it; a spawned one can open it"
        )


_open_stores: weakref.WeakSet[LmdbKV] = weakref.WeakSet()


def _after_fork() -> None:
    for kv in list(_open_stores):
        kv.on_fork()


os.register_at_fork(after_in_child=_after_fork)

"""The KV port on LMDB: one writer, group commit, and a lane that never waits for the disk.

    submit ─► inbox ─► drain (one per turn of the loop): every operation runs to its end on an Overlay over
                         its batch's writes · the batch being committed · a snapshot of what is committed
    batch  ─► writer thread: one synced commit            while it runs, the next batch gathers and *runs*
    commit ─► new snapshot ─► next batch to the writer ─► everybody of this batch is answered

An operation may thus have read writes that are not durable yet. Its own batch is committed after theirs, so its answer is
given after theirs are durable; should their commit fail, nothing of it is kept and it runs again without them. An operation
that raised, or wrote nothing, waits in the same way: its answer too may rest on those writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from fs3.base.coroutines import run
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    lmdb_map_bytes_default,
    lmdb_map_bytes_max,
    transactions_per_commit_max,
    transactions_per_turn_max,
    transactions_waiting_max,
)
from fs3.base.status import Code
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.overlay import Overlay, Snapshot, WriteSet
from fs3.drivers.lmdb.writer import Writer
from fs3.ports.clock import Clock
from fs3.ports.kv import Done, ReadOp, WriteOp

log = logging.getLogger("fs3.lmdb")

T = TypeVar("T")
_KIND = "kv"
_VERSION = 1


class _Batch:
    """Operations that share a commit: what they write, and for each how to run it again and what to tell its caller."""

    __slots__ = ("outcomes", "writes")

    def __init__(self) -> None:
        self.writes = WriteSet()
        self.outcomes: list[tuple[WriteOp[Any], Done[Any], Any, Exception | None]] = []


class Counters:
    """What a store has done since it was opened."""

    __slots__ = ("commit_ns", "commits", "rerun", "rows", "transactions")

    def __init__(self) -> None:
        self.transactions = 0
        """Answered."""
        self.commits = 0
        """Synced to the disk."""
        self.rows = 0
        """Written by them."""
        self.commit_ns = 0
        """From handing a batch to the writer until it was durable; 0 without a clock."""
        self.rerun = 0
        """Operations run again because the commit they built on failed."""


class LmdbKV:
    """`KV` on one directory. All methods are called on one loop."""

    def __init__(self, environment: Environment, clock: Clock | None) -> None:
        """Use `open`."""
        self._environment = environment
        self._clock = clock
        self._snapshot = Snapshot(environment.begin_read())
        self._writer = Writer(environment)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[tuple[WriteOp[Any], Done[Any]]] = deque()
        self._gathering = _Batch()
        self._flying: _Batch | None = None
        self._flying_since = 0
        self._drain_is_scheduled = False
        self._broken: FS3Error | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self.counters = Counters()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        map_bytes: int = lmdb_map_bytes_default,
        map_bytes_max: int = lmdb_map_bytes_max,
        clock: Clock | None = None,
    ) -> Self:
        """Open the store in a directory, creating it when absent.

        `map_bytes` is address space; a map that is full is doubled up to `map_bytes_max`, then operations fail with NO_SPACE.
        Raises FS3Error: BUSY naming the process that has the directory, UNSUPPORTED for a directory of another version or
        program, DISK when it cannot be read.
        """
        return cls(Environment(Path(path), _KIND, _VERSION, map_bytes=map_bytes, map_bytes_max=map_bytes_max), clock)

    # --- reading ------------------------------------------------------------------------------------------------------

    def submit_read(self, op: ReadOp[T], done: Done[T]) -> None:
        """See the port. `done` is called before this returns."""
        if self._closing:
            done(None, self._refusal())
            return
        try:
            result: T = run(op(self._snapshot))  # type: ignore[arg-type]
        except Exception as why:
            done(None, why)
            return
        done(result, None)

    async def read(self, op: ReadOp[T]) -> T:
        """See the port."""
        if self._closing:
            raise self._refusal()
        return run(op(self._snapshot))  # type: ignore[arg-type]

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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: T | None, why: BaseException | None) -> None:
            if future.done():
                return
            if why is not None:
                future.set_exception(why)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self.submit(op, done)
        return await future

    def _refusal(self) -> FS3Error:
        directory = str(self._environment.directory)
        if self._closing:
            return error(Code.SHUTTING_DOWN, "the key-value store is closed", directory)
        if self._broken is not None:
            return error(self._broken.code, f"the key-value store has failed: {self._broken.strerror}", directory)
        return error(Code.BUSY, f"{transactions_waiting_max} operations are waiting already", directory)

    def _schedule_drain(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._drain_is_scheduled = True
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Run what waits, into the gathering batch; hand the batch over when the writer is free."""
        self._drain_is_scheduled = False
        batch, inbox = self._gathering, self._inbox
        room = transactions_per_commit_max - len(batch.outcomes)
        for _ in range(min(len(inbox), room, transactions_per_turn_max)):
            self._run(*inbox.popleft(), batch)
        if self._flying is None:
            self._launch()
        # A full batch behind a commit under way: its end continues here.
        if inbox and not self._drain_is_scheduled and len(self._gathering.outcomes) < transactions_per_commit_max:
            self._schedule_drain()

    def _run(self, op: WriteOp[Any], done: Done[Any], batch: _Batch) -> None:
        flying = self._flying
        txn = Overlay(self._snapshot, (batch.writes,) if flying is None else (batch.writes, flying.writes))
        result: Any = None
        failure: Exception | None = None
        try:
            result = run(op(txn))  # type: ignore[arg-type]
        except Exception as why:
            failure = why
        else:
            batch.writes.rows.update(txn.own.rows)
        batch.outcomes.append((op, done, result, failure))

    def _launch(self) -> None:
        """The gathering batch goes to the writer; a new one gathers. Batches that write nothing need no commit."""
        while self._gathering.outcomes:
            batch, self._gathering = self._gathering, _Batch()
            if batch.writes.rows:
                self._flying = batch
                self._flying_since = self._clock.now() if self._clock else 0
                assert self._loop is not None
                self._writer.commit(batch.writes.rows, self._loop, self._committed)
                return
            self._answer(batch)
        if self._idle is not None and not self._inbox and not self._idle.done():
            self._idle.set_result(None)

    def _committed(self, problem: BaseException | None) -> None:
        """On the loop, after the writer has done with the flying batch."""
        batch = self._flying
        assert batch is not None
        if isinstance(problem, lmdb.MapFullError) and self._grow_map():
            assert self._loop is not None
            self._writer.commit(batch.writes.rows, self._loop, self._committed)
            return
        self._flying = None
        if isinstance(problem, lmdb.MapFullError) and (trouble := self._renew_snapshot()) is not None:
            self._break(trouble)
        if problem is None:
            self.counters.commits += 1
            self.counters.rows += len(batch.writes.rows)
            if self._clock:
                self.counters.commit_ns += self._clock.now() - self._flying_since
            # The newest commit is visible before anybody hears of it, and the disk has its next work before we talk.
            if (trouble := self._renew_snapshot()) is not None:
                self._break(trouble)
            self._launch()
            self._answer(batch)
        else:
            self._failed(batch, problem)
        if self._inbox and not self._drain_is_scheduled:
            self._schedule_drain()

    def _failed(self, batch: _Batch, problem: BaseException) -> None:
        """The batch is as if it had never been. Whoever ran after it may have read its writes, and runs again."""
        why = self._environment.explain(problem)
        if why.code is Code.NO_SPACE:
            again, self._gathering = self._gathering, _Batch()
            log.warning("%s: %d operations fail: %s", self._environment.directory, len(batch.outcomes), why.strerror)
            self.counters.rerun += len(again.outcomes)
            self._inbox.extendleft((op, done) for op, done, _, _ in reversed(again.outcomes))
        else:
            # After a failed sync nobody knows what the disk has.
            self._break(why)
        self._launch()
        self._answer(_refused(batch, why))

    def _break(self, why: FS3Error) -> None:
        """Accept no further write: everything that is not committed fails. A person or a supervisor opens the store anew."""
        log.error("%s: %s; no further write is accepted", self._environment.directory, why.strerror)
        self._broken = why
        waiting, self._gathering = self._gathering, _Batch()
        waiting.outcomes += [(op, done, None, None) for op, done in self._inbox]
        self._inbox.clear()
        self._answer(_refused(waiting, why))

    def _answer(self, batch: _Batch) -> None:
        self.counters.transactions += len(batch.outcomes)
        for _, done, result, failure in batch.outcomes:
            try:
                done(result, failure)
            except Exception:
                log.exception("the callback of a transaction raised")

    def _grow_map(self) -> bool:
        # Moving the map invalidates every open transaction; here none can be under way but our own snapshot.
        self._snapshot.close()
        return self._environment.grow() and self._renew_snapshot() is None

    def _renew_snapshot(self) -> FS3Error | None:
        """Show the newest commit. What went wrong otherwise: then nothing can be read, rather than something old."""
        self._snapshot.close()
        try:
            self._snapshot = Snapshot(self._environment.begin_read())
        except lmdb.Error as why:
            return self._environment.explain(why)
        return None

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
        self._snapshot.close()
        self._environment.close()


def _refused(batch: _Batch, why: FS3Error) -> _Batch:
    """The batch with an error for everybody: one each, since raising one object in many places would chain their tracebacks."""
    batch.outcomes = [(op, done, None, error(why.code, why.strerror or "", why.filename)) for op, done, _, _ in batch.outcomes]
    return batch

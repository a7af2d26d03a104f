"""The transactional store of simulated services: one engine, shared by the processes that open it, with commits that take time.

As in an embedded store, what waits for a commit dies with the process that submitted it, some of it perhaps just after it became
durable and before its caller was told; what was answered is there for ever.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any, TypeVar

from fs3.base.errors import error
from fs3.base.limits import transactions_per_commit_max, transactions_waiting_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.memory.kv import MemoryKV
from fs3.drivers.memory.sorted_rows import SortedRows
from fs3.ports.kv import OnDone, ReadOp, WriteOp, future_callback
from fs3.sim.ring2.loop import SimLoop, SimProcess, current_process

T = TypeVar("T")

_Waiting = tuple[WriteOp[Any], OnDone[Any], Context, SimProcess | None]


class SimKVEngine:
    """The rows, and the commits that are under way."""

    def __init__(self, loop: SimLoop, prng: Prng, commit_ns_min: int, commit_ns_max: int) -> None:
        self.memory_kv = MemoryKV()
        self._loop = loop
        self._prng = prng
        self._commit_ns_min = commit_ns_min
        self._commit_ns_max = commit_ns_max
        self._waiting: list[_Waiting] = []
        self._is_commit_scheduled = False
        self._context = copy_context()

    def open(self) -> SimKV:
        """The store, for the process that is running."""
        return SimKV(self)

    def back_up(self) -> SortedRows:
        """A copy of what is committed."""
        return self.memory_kv.copy_rows()

    def put_back(self, rows: SortedRows) -> None:
        """Go on with a copy. No process may have the store open."""
        self.memory_kv = MemoryKV(rows)

    def submit(self, op: WriteOp[Any], done: OnDone[Any]) -> None:
        """Run with the next commit."""
        if len(self._waiting) >= transactions_waiting_max:
            done(None, error(Code.BUSY, f"{transactions_waiting_max} transactions are waiting"))
            return
        self._waiting.append((op, done, copy_context(), current_process()))
        self._schedule_commit()

    def on_process_death(self, process: SimProcess) -> None:
        """A process was killed: of what it had submitted, the first few may have been committed."""
        own = [each for each in self._waiting if each[3] is process]
        self._waiting = [each for each in self._waiting if each[3] is not process]
        for op, _, _, _ in own[: self._prng.between(0, len(own))]:
            self._execute(op)

    def _schedule_commit(self) -> None:
        if not self._is_commit_scheduled:
            self._is_commit_scheduled = True
            wait = self._prng.between(self._commit_ns_min, self._commit_ns_max)
            self._loop.call_later(wait / SECOND, self._commit, context=self._context)

    def _commit(self) -> None:
        self._is_commit_scheduled = False
        batch = self._waiting[:transactions_per_commit_max]
        del self._waiting[: len(batch)]
        for op, done, context, _ in batch:
            result, failure = self._execute(op)
            self._loop.call_soon(done, result, failure, context=context)
        if self._waiting:
            self._schedule_commit()

    def _execute(self, op: WriteOp[Any]) -> tuple[Any, Exception | None]:
        try:
            return self.memory_kv.transact_now(op), None
        except Exception as failure:
            return None, failure


class SimKV:
    """`fs3.ports.kv.KV` of one process on a shared engine."""

    def __init__(self, engine: SimKVEngine) -> None:
        self._engine = engine
        self._closed = False

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """See `KV.submit_read`."""
        self._engine.memory_kv.submit_read(op, done)

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """See `KV.submit`."""
        if self._closed:
            done(None, error(Code.SHUTTING_DOWN, "the store is closed"))
        else:
            self._engine.submit(op, done)

    async def read(self, op: ReadOp[T]) -> T:
        """`submit_read`, awaited."""
        return self._engine.memory_kv.read_now(op)

    async def transact(self, op: WriteOp[T]) -> T:
        """`submit`, awaited."""
        future, done = future_callback()
        self.submit(op, done)
        result: T = await future
        return result

    async def close(self) -> None:
        """See `KV.close`."""
        if self._closed:
            return
        self._closed = True
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def nothing(_: object) -> None:
            return None

        def done(_: None, __: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(None)  # also when it failed: what was submitted before has ended all the same

        self._engine.submit(nothing, done)
        await ended

"""The transactional key-value store in memory: for tests, the simulator, and clusters that need not outlive their process.

Deterministic and strictly serial. A transaction writes straight into the rows and keeps what it replaced, so that a failed
one can be undone; that is enough, because nothing else runs before it has ended. Rows carry sums, as they do on a disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from copy import copy, deepcopy
from typing import Any, Self, TypeVar, cast

from fs3.base.checksum import seal_row
from fs3.base.coroutines import run
from fs3.base.errors import error
from fs3.base.limits import transactions_per_commit_max, transactions_waiting_max
from fs3.base.status import Code
from fs3.core.txn import unseal_row
from fs3.drivers.memory.sorted_rows import SortedRows
from fs3.ports.kv import OnDone, ReadOp, WriteOp, check_key, check_row, future_callback

T = TypeVar("T")
log = logging.getLogger("fs3.kv")


class MemoryKV:
    """Implements `fs3.ports.kv.KV`. Operations must not wait for anything but their transaction.

    `submit` completes on a later turn of the running loop, together with whatever else was submitted meanwhile: callers see
    the grouping, and the order of answers, that a durable store has.
    """

    def __init__(self, rows: SortedRows | None = None) -> None:
        """`rows`: those of another store, to share them; values are sealed (`fs3.base.checksum.seal_row`)."""
        self._rows = SortedRows() if rows is None else rows
        self._waiting: deque[tuple[WriteOp[Any], OnDone[Any]]] = deque()
        self._armed = False
        self._closed = False
        self.commits = 0
        """Groups of transactions that were committed together."""

    def open_again(self) -> MemoryKV:
        """A second opening of the same store: it has the same rows, and is closed by itself."""
        return MemoryKV(self._rows)

    def copy_rows(self) -> SortedRows:
        """What is committed now, for another store."""
        return deepcopy(self._rows)

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """Run `op` on what is committed; `done` is called before this returns."""
        try:
            result = self.read_now(op)
        except Exception as why:  # of `op`: it is the answer to its caller
            done(None, why)
        else:
            done(result, None)

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """Run `op` in a transaction on a later turn of the loop."""
        if self._closed:
            done(None, error(Code.SHUTTING_DOWN, "the store is closed"))
        elif len(self._waiting) >= transactions_waiting_max:
            done(None, error(Code.BUSY, f"{transactions_waiting_max} transactions are waiting"))
        else:
            self._waiting.append((op, done))
            self._arm()

    async def read(self, op: ReadOp[T]) -> T:
        """`submit_read`, awaited."""
        return self.read_now(op)

    async def transact(self, op: WriteOp[T]) -> T:
        """`submit`, awaited."""
        future, done = future_callback()
        self.submit(op, done)
        result: T = await future
        return result

    async def close(self) -> None:
        """Finish what was submitted, then refuse everything."""
        while self._waiting:
            self._commit()
        self._closed = True

    def read_now(self, op: ReadOp[T]) -> T:
        """The result of a read, without a loop. Raises what the operation raises."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        txn = _ReadTxn(self._rows)
        try:
            return run(cast("Coroutine[Any, Any, T]", op(txn)))
        finally:
            txn.end()

    def transact_now(self, op: WriteOp[T]) -> T:
        """The result of a transaction of its own, without a loop. Raises what the operation raises; then nothing is written."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        self.commits += 1
        return self._execute(op)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self._commit()
        if self._waiting:
            self._arm()

    def _commit(self) -> None:
        if not self._waiting:
            return
        answers: list[tuple[OnDone[Any], Any, Exception | None]] = []
        for _ in range(min(len(self._waiting), transactions_per_commit_max)):
            op, done = self._waiting.popleft()
            try:
                result = self._execute(op)
            except Exception as why:  # of `op`: it fails alone
                answers.append((done, None, why))
            else:
                answers.append((done, result, None))
        self.commits += 1
        for done, result, failure in answers:
            try:
                done(result, failure)
            except Exception:
                log.exception("the callback of a transaction failed")

    def _execute(self, op: WriteOp[T]) -> T:
        txn = _Txn(self._rows)
        try:
            result = run(cast("Coroutine[Any, Any, T]", op(txn)))
        except BaseException:
            txn.undo()
            raise
        finally:
            txn.end()
        return result


class _ReadTxn:
    __slots__ = ("_rows", "_tolerant")

    def __init__(self, rows: SortedRows) -> None:
        self._rows = rows
        self._tolerant = False

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when absent."""
        sealed = self._rows.values.get(key)
        return None if sealed is None else unseal_row(key, sealed, tolerant=self._tolerant)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """`get` of each of these keys."""
        return [await self.get(key) for key in keys]

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with begin <= key < end."""
        return [
            (key, unseal_row(key, sealed, tolerant=self._tolerant))
            for key, sealed in self._rows.scan(begin, end, limit, reverse=reverse)
        ]

    def tolerant(self) -> Self:
        """See `ReadTxn`."""
        other = copy(self)
        other._tolerant = True
        return other

    def end(self) -> None:
        """A caller that kept the transaction beyond its operation gets an AttributeError instead of later rows."""
        del self._rows


class _Txn(_ReadTxn):
    __slots__ = ("_replaced",)

    def __init__(self, rows: SortedRows) -> None:
        super().__init__(rows)
        self._replaced: list[tuple[bytes, bytes | None]] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key. Raises InvalidArgument for a row that other stores could not hold either."""
        check_row(key, value)
        self._replaced.append((key, self._rows.put(key, seal_row(key, value))))

    def delete(self, key: bytes) -> None:
        """Remove a key; removing an absent one is fine."""
        check_key(key)
        before = self._rows.delete(key)
        if before is not None:
            self._replaced.append((key, before))

    def undo(self) -> None:
        """Put everything back."""
        for key, before in reversed(self._replaced):
            if before is None:
                self._rows.delete(key)
            else:
                self._rows.put(key, before)

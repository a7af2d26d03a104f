"""What an operation sees: its own writes over those of its batch, over the row cache. It waits for rows that the cache lacks.

An operation is a coroutine that awaits nothing but its transaction, so it is run by hand: `OperationRun` takes it to its end, or
to a row that is missing, from where it goes on once that was read.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from copy import copy
from typing import Any, Self

from fs3.core.txn import unseal_row
from fs3.drivers.etcd.row_cache import UNKNOWN, CachedRow, EtcdRowCache
from fs3.drivers.kv.write_set import WriteSet
from fs3.ports.kv import check_key, check_row
from fs3.wire.etcd import EtcdRange, EtcdRow

_UNSET: Any = object()


class ReadSet:
    """What operations have read of the store, and at which revisions: it must be the same when they commit."""

    __slots__ = ("rows", "scans")

    def __init__(self) -> None:
        self.rows: dict[bytes, int] = {}
        """Key -> revision of its last change; 0: absent."""
        self.scans: dict[tuple[bytes, bytes], int] = {}
        """[begin, end) -> revision of the newest change there can have been in it."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.scans)

    def agrees_with(self, other: ReadSet) -> bool:
        """Both can have been read in one state."""
        rows = self.rows
        return all(rows.get(key, revision) == revision for key, revision in other.rows.items())

    def update(self, other: ReadSet) -> None:
        """Both."""
        self.rows.update(other.rows)
        for bounds, revision in other.scans.items():
            self.scans[bounds] = min(revision, self.scans.get(bounds, revision))


class Missing:
    """Awaited by an operation that needs rows the cache does not have."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: list[EtcdRange]) -> None:
        self.ranges = ranges

    def __await__(self) -> Generator[Missing, None, None]:
        yield self


class EtcdTxn:
    """The `Txn` of one operation. The store that runs it keeps or drops `own`."""

    __slots__ = ("_below", "_cache", "_tolerant", "guessed", "own", "reads")

    def __init__(self, cache: EtcdRowCache, below: WriteSet) -> None:
        """`below`: the writes of the operations before it that will share its commit."""
        self._cache = cache
        self._below = below
        self._tolerant = False
        self.guessed: list[EtcdRange] | None = None
        """Not None: rows that the cache lacks are taken to be absent and noted here; what comes of it is of no other use."""
        self.own = WriteSet()
        self.reads = ReadSet()

    async def get(self, key: bytes) -> bytes | None:
        """See `ReadTxn`."""
        value = self.own.rows.get(key, _UNSET)
        if value is _UNSET:
            value = self._below.rows.get(key, _UNSET)
        if value is not _UNSET:
            result: bytes | None = value
            return result
        if not key:
            return None
        row = self._cache.find(key)
        while row is UNKNOWN:
            if await self._guess([EtcdRange(key)]):
                return None
            row = self._cache.find(key)
        return self._show(key, row)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ReadTxn`."""
        own, below, find = self.own.rows, self._below.rows, self._cache.find
        while missing := [EtcdRange(key) for key in keys if key and key not in own and key not in below and find(key) is UNKNOWN]:
            if await self._guess(missing):
                break
        return [await self.get(key) for key in keys]

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """See `ReadTxn`."""
        if limit <= 0 or begin >= end:
            return []
        changed: dict[bytes, bytes | None] = {}
        for layer in (self._below, self.own):
            for key in layer.keys(begin, end):
                changed[key] = layer.rows[key]
        # A deleted key can hide one row of the store, so with that many more the first `limit` are surely among them.
        wanted = limit + sum(value is None for value in changed.values())
        found = self._cache.scan(begin, end, wanted, reverse=reverse)
        while found.missing is not None:
            if await self._guess([found.missing]):
                break
            found = self._cache.scan(begin, end, wanted, reverse=reverse)
        self._note_scan(begin, end, found.rows if len(found.rows) == wanted else None, reverse)
        merged: dict[bytes, bytes | None] = {}
        for row in found.rows:
            self.reads.rows[row.key] = row.mod_revision
            if row.key not in changed:
                merged[row.key] = unseal_row(row.key, row.value, tolerant=self._tolerant)
        merged.update(changed)
        rows = [(key, value) for key, value in merged.items() if value is not None]
        rows.sort(reverse=reverse)
        return rows[:limit]

    async def _guess(self, missing: list[EtcdRange]) -> bool:
        """False once the cache has these rows; True when they are to be taken for absent."""
        if self.guessed is None:
            await Missing(missing)
        if self.guessed is None:
            return False
        self.guessed += missing
        return True

    def _note_scan(self, begin: bytes, end: bytes, full: tuple[EtcdRow, ...] | None, reverse: bool) -> None:
        """What was looked at: a range, or its part up to the last row of a `full` answer."""
        if full and reverse:
            begin = full[-1].key
        elif full:
            end = full[-1].key + b"\0"
        self.reads.scans[begin, end] = self._cache.revision

    def tolerant(self) -> Self:
        """See `ReadTxn`. Reads and writes are noted in the same place."""
        other = copy(self)
        other._tolerant = True
        return other

    def put(self, key: bytes, value: bytes) -> None:
        """See `Txn`."""
        check_row(key, value)
        self.own.rows[key] = value

    def delete(self, key: bytes) -> None:
        """See `Txn`."""
        check_key(key)
        self.own.rows[key] = None

    def _show(self, key: bytes, row: CachedRow | None) -> bytes | None:
        if row is None:
            self.reads.rows[key] = 0
            return None
        self.reads.rows[key] = row.mod_revision
        return unseal_row(key, row.sealed, tolerant=self._tolerant)


class OperationRun:
    """One run of one operation."""

    __slots__ = ("_coroutine", "failure", "missing", "result", "revision", "txn")

    def __init__(self, operation: Any, cache: EtcdRowCache, below: WriteSet) -> None:
        """Runs `operation` to its end, or to the first row that is missing."""
        self.txn = EtcdTxn(cache, below)
        self.revision = cache.revision
        """Of the state it began in."""
        self.result: Any = None
        self.failure: Exception | None = None
        """What it has raised."""
        self.missing: list[EtcdRange] = []
        """What it waits for; empty once it has ended."""
        self._coroutine: Any = None
        try:
            self._coroutine = operation(self.txn)
        except Exception as why:  # of the operation
            self.failure = why
        else:
            self.go_on()

    def go_on(self) -> None:
        """What was missing is in the cache."""
        try:
            wanted = self._coroutine.send(None)
        except StopIteration as ended:
            self.missing = []
            self.result = ended.value
        except Exception as why:  # of the operation: it is the answer to its caller
            self.missing = []
            self.failure = why
        else:
            if isinstance(wanted, Missing):
                self.missing = wanted.ranges
            else:
                self.missing = []
                self._coroutine.close()
                self.failure = RuntimeError(f"{self._coroutine!r} waits for something else than its transaction")

    def guess(self) -> list[EtcdRange]:
        """Rows that it will probably need: what it asks for when those that are missing are absent, as new names are. It has no
        result then."""
        if not self.missing:
            return []
        self.txn.guessed = []
        self.go_on()
        return self.txn.guessed

    def drop(self) -> None:
        """It is not taken to its end."""
        if self._coroutine is not None:
            self._coroutine.close()

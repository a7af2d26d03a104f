"""What an operation of the lane sees: its own writes over those of its batch, over the batch being committed, over a snapshot.

Nothing here suspends: every `async` method runs to its end at once, so an operation does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import islice
from typing import Any, NoReturn, Self

import lmdb

from fs3.base.checksum import ROW_SUM_BYTES, is_sealed
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.core.txn import DAMAGED_VALUE, KVRowDamaged
from fs3.drivers.kv.write_set import Rows, WriteSet
from fs3.drivers.lmdb.damage import KnownDamage
from fs3.ports.kv import check_key, check_row

NO_STATE = -1
"""Id of no state."""
_UNKNOWN: Any = object()
_RECENT_ROWS_MAX = 2048
"""Rows that one state keeps in memory."""
_RECENT_BYTES_MAX = 1024
"""Of a row that is kept: inodes without data and entries of directories are far below it."""
_PROBE_BYTES_MAX = 511
"""LMDB compares at most so many bytes of a probe; as stored keys are shorter, cutting a longer one changes nothing."""


class Snapshot:
    """A `ReadTxn` on one committed state, whose id is `state`; `NO_STATE` once it is closed.

    Every operation on a path reads the rows of the directories it goes through. A row that has been found whole in this state is
    kept, a bounded number of small ones, and is not searched and verified again until the state changes.
    """

    __slots__ = ("_cursor", "_get", "_probe", "_recent", "_tolerant", "_txn", "damage", "state")

    def __init__(self, txn: Any, damage: KnownDamage) -> None:
        """`txn`: a read transaction whose default database holds the rows, sealed."""
        self.damage = damage
        self._tolerant = False
        self.state: int = txn.id()
        self._txn = txn
        self._get = txn.get
        self._cursor = txn.cursor
        self._recent: dict[bytes, bytes] = {}
        self._probe: Any = None
        """The cursor that looks beside absent keys; one for all of them."""

    async def get(self, key: bytes) -> bytes | None:
        return self.get_nowait(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        find = self._find  # the rows of a listing: thousands, each once
        return [find(key) for key in keys]

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        return self.scan_nowait(begin, end, limit, reverse)

    def get_nowait(self, key: bytes) -> bytes | None:
        """The value of a key. A key LMDB cannot hold (empty, too long) is absent."""
        recent = self._recent
        value = recent.get(key)
        if value is None:
            value = self._find(key)
            if value is not None and value is not DAMAGED_VALUE and len(value) <= _RECENT_BYTES_MAX:
                if len(recent) >= _RECENT_ROWS_MAX:
                    recent.clear()
                recent[key] = value
        return value

    def _find(self, key: bytes) -> bytes | None:
        try:
            sealed: bytes | None = self._get(key)
        except lmdb.BadValsizeError:
            return None
        except lmdb.Error as why:
            raise _explain(why, "reading") from why
        if sealed is None:
            return self._value_of_absent(key)
        return sealed[ROW_SUM_BYTES:] if is_sealed(key, sealed) else self._damaged_value(key)

    def scan_nowait(self, begin: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        """See `ReadTxn.scan`."""
        if limit <= 0 or begin >= end:
            return []
        found: list[tuple[bytes, bytes]] = []
        try:
            cursor = self._cursor()
            if not self._tolerant:
                _require_sound_neighbours(cursor, end if reverse else begin, self.damage)
            if reverse:
                # The last key below `end`: one before the first that is not below it.
                if not (cursor.prev() if cursor.set_range(end[:_PROBE_BYTES_MAX]) else cursor.last()):
                    return found
                for row in islice(cursor.iterprev(), limit):
                    if row[0] < begin:
                        self._require_sound_end(begin, row)
                        break
                    found.append(self._unseal(row))
            else:
                if not cursor.set_range(begin[:_PROBE_BYTES_MAX]):
                    return found
                for row in islice(cursor.iternext(), limit):
                    if row[0] >= end:
                        self._require_sound_end(end, row)
                        break
                    found.append(self._unseal(row))
        except lmdb.Error as why:
            raise _explain(why, "scanning") from why
        if self.damage and not self._tolerant:
            self._require_whole(begin, end, found if len(found) == limit else None, reverse)
        return found

    def tolerant(self) -> Self:
        """See `ReadTxn`."""
        other = copy(self)
        other._tolerant = True
        return other

    def _unseal(self, row: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        key, sealed = row
        return key, sealed[ROW_SUM_BYTES:] if is_sealed(key, sealed) else self._damaged_value(key)

    def _damaged_value(self, key: bytes) -> bytes:
        self.damage.note(key)
        if self._tolerant:
            return DAMAGED_VALUE
        raise KVRowDamaged(key)

    def _require_sound_end(self, bound: bytes, row: tuple[bytes, bytes]) -> None:
        """The row that ends a scan lies beyond it by its own key, and not by one that has rotted."""
        if not self._tolerant and not is_sealed(*row):
            self.damage.note(row[0])
            raise KVRowDamaged(bound, row[0])

    def _value_of_absent(self, key: bytes) -> bytes | None:
        try:
            self.damage.require_absent(key)
            if self._probe is None:
                self._probe = self._cursor()
            if _require_sound_neighbours(self._probe, key, self.damage):
                raise KVRowDamaged(key)  # it is there: the search from the top was led astray
        except lmdb.Error as why:
            raise _explain(why, "reading") from why
        except KVRowDamaged:
            if self._tolerant:
                return DAMAGED_VALUE
            raise
        return None

    def _require_whole(self, begin: bytes, end: bytes, full: list[tuple[bytes, bytes]] | None, reverse: bool) -> None:
        """Nothing is missing from what was scanned: from a range, or from its part up to the last row of a `full` answer."""
        if full and reverse:
            begin = full[-1][0]
        elif full:
            end = full[-1][0] + b"\0"
        self.damage.require_whole(begin, end)

    def close(self) -> None:
        """Let the pages of this state be reused. Reading from it is an error afterwards.

        py-lmdb gives the reader's slot back when the transaction *object* goes, not when it is aborted. The traceback of an
        operation that raised reaches this snapshot, and keeping the exception would keep the slot: so nothing of the
        transaction, not even a bound method, stays here.
        """
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            self.state = NO_STATE
            self._probe = None
            self._recent.clear()
            self._get = self._cursor = _ended


class Overlay:
    """The `Txn` of one operation. Its writes are in `own.rows`; the store that ran the operation keeps or drops them."""

    __slots__ = ("_below", "_rows", "_snapshot", "own")

    def __init__(self, snapshot: Snapshot, below: Sequence[WriteSet]) -> None:
        """`below`: the writes this operation builds on, newest first."""
        self._snapshot = snapshot
        self._below = below
        self.own = WriteSet()
        self._rows = self.own.rows

    async def get(self, key: bytes) -> bytes | None:
        value = self._rows.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            for layer in self._below:
                value = layer.rows.get(key, _UNKNOWN)
                if value is not _UNKNOWN:
                    break
            else:
                return self._snapshot.get_nowait(key)
        result: bytes | None = value
        return result

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        if limit <= 0 or begin >= end:
            return []
        changed: Rows = {}
        for layer in (*reversed(self._below), self.own):
            rows = layer.rows
            for key in layer.keys(begin, end):
                changed[key] = rows[key]
        if not changed:
            return self._snapshot.scan_nowait(begin, end, limit, reverse)
        # A deleted key can hide one row of the snapshot, so with that many more the first `limit` are surely among them.
        hidden = sum(value is None for value in changed.values())
        merged: Rows = dict(self._snapshot.scan_nowait(begin, end, limit + hidden, reverse))
        merged.update(changed)
        found = [(key, value) for key, value in merged.items() if value is not None]
        found.sort(reverse=reverse)
        return found[:limit]

    def tolerant(self) -> Self:
        """See `ReadTxn`. Writes go to the same place."""
        other = copy(self)
        other._snapshot = self._snapshot.tolerant()
        return other

    def put(self, key: bytes, value: bytes) -> None:
        check_row(key, value)
        if self._snapshot.damage:
            self._snapshot.damage.require_writable(key)
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        check_key(key)
        if self._snapshot.damage:
            self._snapshot.damage.require_writable(key)
        self._rows[key] = None


def _require_sound_neighbours(cursor: Any, key: bytes, damage: KnownDamage) -> bool:
    """The rows before and behind the place of a key are what was written, and are where they belong. Raises KVRowDamaged. True:
    the key itself was found, by a cursor that begins where it stands.

    A search that a rotten key leads astray, in a page of rows or one above them, goes on towards that key and ends beside it, or
    beside a row that should be on the other side. So where this holds, what is absent is absent, and a scan begins where it
    should. Of one key per page that is certain; a page that was replaced by another whole one is for the scrub to find.
    """
    if cursor.set_range(key[:_PROBE_BYTES_MAX]):
        row = cursor.item()
        if row[0] < key or not is_sealed(*row):
            _refuse(key, row, damage)
        if row[0] == key:
            return True  # the place itself, whatever is before it
        below = cursor.prev()
    else:
        below = cursor.last()
    if below:
        row = cursor.item()
        if row[0] >= key or not is_sealed(*row):
            _refuse(key, row, damage)
    return False


def _refuse(key: bytes, beside: tuple[bytes, bytes], damage: KnownDamage) -> NoReturn:
    if not is_sealed(*beside):
        damage.note(beside[0])
    raise KVRowDamaged(key, beside[0])


def _ended(*_: object) -> NoReturn:
    raise error(Code.SHUTTING_DOWN, "the transaction has ended")


def _explain(why: lmdb.Error, what: str) -> FS3Error:
    code = Code.DATA_LOSS if isinstance(why, lmdb.CorruptedError | lmdb.PageNotFoundError) else Code.DISK
    return error(code, f"{what} the key-value store: {why}")

"""Rows of the store as they are at one revision: kept up to date by the changes that a watch tells, filled by reads.

The cache knows some keys one by one (rows, and that there is none), and some ranges as a whole, in which what it does not have
is absent. Everything it knows is as it was at `revision`, the newest change of the store it has been told of; so what is read
from it between two changes is one state of the store.

A read of the store answers at a newer state than the cache has. It is taken in when the cache has caught up with that state, and
with what the watch has told meanwhile laid over it (`Fetch`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fs3.base.units import MIB
from fs3.drivers.memory.sorted_rows import SortedRows
from fs3.wire.etcd import EtcdChange, EtcdRange, EtcdRow

etcd_cache_bytes_max = 256 * MIB
"""Of rows kept in memory; then the cache begins anew."""
etcd_fetch_rows_max = 512
"""Rows of one range that are read at once."""
_ROW_BYTES = 200
"""What a row costs beside its bytes."""

UNKNOWN: Any = object()
"""The cache does not know; None is a row that is known to be absent."""


class CachedRow(NamedTuple):
    """A row of the store."""

    sealed: bytes
    mod_revision: int


class Found(NamedTuple):
    """What a scan finds."""

    rows: tuple[EtcdRow, ...]
    missing: EtcdRange | None
    """What has to be read before the scan can be answered; None: these rows are the answer."""


class Fetch:
    """A read of the store under way: what has changed since it was sent."""

    __slots__ = ("changed", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.changed: dict[bytes, EtcdChange] = {}


class EtcdRowCache:
    """See the module. Keys are those of the KV port; values are sealed."""

    def __init__(self) -> None:
        self.revision = 0
        self._present = SortedRows()
        self._revisions: dict[bytes, int] = {}
        self._absent: set[bytes] = set()
        self._begins: list[bytes] = []
        self._ends: list[bytes] = []
        """Ranges known as a whole: disjoint, not even touching each other, in order."""
        self._fetches: dict[Fetch, None] = {}
        self._generation = 0
        self.bytes = 0

    # --- what is known ------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Any:
        """The `CachedRow` of a key, None when it is known to be absent, else UNKNOWN."""
        sealed = self._present.values.get(key)
        if sealed is not None:
            return CachedRow(sealed, self._revisions[key])
        if key in self._absent or self._knows(key):
            return None
        return UNKNOWN

    def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> Found:
        """At most `limit` rows of [begin, end), or what is missing."""
        if reverse:
            at = bisect_left(self._begins, end) - 1
            inside = at >= 0 and self._ends[at] >= end
            known = max(self._begins[at], begin) if inside else end
            rows = self._rows(known, end, limit, reverse=True)
            if len(rows) == limit or known <= begin:
                return Found(rows, None)
            missing = EtcdRange(begin, known, min(limit - len(rows), etcd_fetch_rows_max), True)
        else:
            at = bisect_right(self._begins, begin) - 1
            inside = at >= 0 and self._ends[at] > begin
            known = min(self._ends[at], end) if inside else begin
            rows = self._rows(begin, known, limit)
            if len(rows) == limit or known >= end:
                return Found(rows, None)
            missing = EtcdRange(known, end, min(limit - len(rows), etcd_fetch_rows_max))
        return Found((), missing)

    def _rows(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> tuple[EtcdRow, ...]:
        revisions = self._revisions
        found = self._present.scan(begin, end, limit, reverse=reverse)
        return tuple(EtcdRow(key, sealed, revisions[key]) for key, sealed in found)

    def _knows(self, key: bytes) -> bool:
        at = bisect_right(self._begins, key) - 1
        return at >= 0 and key < self._ends[at]

    # --- what is told -------------------------------------------------------------------------------------------------

    def apply(self, changes: Iterable[EtcdChange], revision: int) -> None:
        """All changes up to `revision`, in order. Those that are known already are passed over."""
        if revision <= self.revision:
            return
        for change in changes:
            if change.mod_revision <= self.revision:
                continue
            for fetch in self._fetches:
                fetch.changed[change.key] = change
            self._take(change)
        self.revision = revision

    def _take(self, change: EtcdChange) -> None:
        """A change of a key, if the key is one that is known."""
        key = change.key
        if key not in self._revisions and key not in self._absent and not self._knows(key):
            return
        if change.value is None:
            self._forget(key)
            self._absent.add(key)
        else:
            self._keep(key, change.value, change.mod_revision)

    def begin_fetch(self) -> Fetch:
        """Before a read of the store is sent."""
        fetch = Fetch(self._generation)
        self._fetches[fetch] = None
        return fetch

    def end_fetch(self, fetch: Fetch) -> None:
        """The read is over, whatever became of it."""
        self._fetches.pop(fetch, None)

    def take_in(self, fetch: Fetch, ranges: Sequence[EtcdRange], found: Sequence[Sequence[EtcdRow]], revision: int) -> None:
        """What a read has found in a state whose newest change is `revision`, with which the cache has caught up."""
        if fetch.generation != self._generation:
            return  # what the cache was told meanwhile is not complete
        assert revision <= self.revision, "the cache is behind what was read"
        later = {key: change for key, change in fetch.changed.items() if change.mod_revision > revision}
        for wanted, rows in zip(ranges, found, strict=True):
            for row in rows:
                if row.key not in later:
                    self._keep(row.key, row.value, row.mod_revision)
            if not wanted.end:
                if not rows and wanted.begin not in later and wanted.begin not in self._revisions:
                    self._absent.add(wanted.begin)
                self._overlay(later, wanted.begin, wanted.begin + b"\0")
                continue
            begin, end = wanted.begin, wanted.end
            if wanted.limit and len(rows) >= wanted.limit:
                if wanted.reverse:
                    begin = rows[-1].key
                else:
                    end = rows[-1].key + b"\0"
            self._overlay(later, begin, end)
            self._know(begin, end)

    def _overlay(self, later: dict[bytes, EtcdChange], begin: bytes, end: bytes) -> None:
        for key, change in later.items():
            if begin <= key < end:
                self._absent.add(key)  # the key is known from here on
                self._take(change)

    def _keep(self, key: bytes, sealed: bytes, mod_revision: int) -> None:
        known = self._revisions.get(key, 0)
        if known > mod_revision:
            return
        before = self._present.put(key, sealed)
        self._revisions[key] = mod_revision
        self._absent.discard(key)
        self.bytes += len(sealed) - len(before) if before is not None else _ROW_BYTES + len(key) + len(sealed)

    def _forget(self, key: bytes) -> None:
        before = self._present.delete(key)
        if before is not None:
            del self._revisions[key]
            self.bytes -= _ROW_BYTES + len(key) + len(before)

    def _know(self, begin: bytes, end: bytes) -> None:
        """Everything in [begin, end) is known; ranges that touch it become one with it."""
        if begin >= end:
            return
        first = bisect_left(self._ends, begin)
        last = bisect_right(self._begins, end)
        if first < last:
            begin = min(begin, self._begins[first])
            end = max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]

    # --- when it begins anew ------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """It holds more than it may; its owner clears it when no operation is under way."""
        return self.bytes + _ROW_BYTES * (len(self._absent) + len(self._begins)) > etcd_cache_bytes_max

    def clear(self) -> None:
        """Forget all rows; what is told afterwards is complete from `revision` on."""
        self._present = SortedRows()
        self._revisions.clear()
        self._absent.clear()
        self._begins.clear()
        self._ends.clear()
        self.bytes = 0

    def reset(self, revision: int) -> None:
        """Begin anew at another state: changes up to it may never be told, so reads under way are of no use."""
        self.clear()
        self._generation += 1
        self.revision = revision

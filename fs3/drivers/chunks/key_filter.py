"""Which chunks may have a row: a filter after Bloom (Space/time trade-offs in hash coding with allowable errors, CACM 1970).

Most updates of a KVCache, and most questions for its pages, are of chunks that are not there. Asking LMDB for each costs as much
as all the rest of staging one: it lets the interpreter lock go, which the disk threads then have. The filter answers in memory.
It says no of nearly every chunk that is absent, and never of one that is there.

A key sets two bits of one byte. Bits are never taken back, so the filter fills up as chunks come and go. When it has taken as
many keys as it is made for, another one is filled from the index, a few rows with every barrier, and takes its place once it has
them all; keys that come meanwhile are in both.
"""

from __future__ import annotations

from fs3.base.ids import ChunkId
from fs3.base.units import KIB
from fs3.drivers.chunks.durable_index import DurableIndex

keys_per_sweep_max = 1024
"""Rows that one barrier looks at to fill another filter."""

_BYTES_MIN = 64 * KIB
_BYTES_PER_KEY = 4
"""At the beginning. A filter is full at two, and then says of one absent chunk in twenty that it may be there."""
_BITS = tuple(1 << one | 1 << other for one in range(8) for other in range(8))
_BITS_SHIFT = 48


class KeyFilter:
    """The filter of one target. Belongs to the loop."""

    def __init__(self, index: DurableIndex) -> None:
        """Empty, with room for the rows that are there: the caller, who looks at each, adds them."""
        self._index = index
        self._table = self._make_table()
        self._mask = len(self._table) - 1
        self._left = len(self._table) // 2
        """So many keys may be added before another one is made."""
        self._next: bytearray | None = None
        """Being filled."""
        self._next_left = 0
        self._after: ChunkId | None = None
        """The rows up to this key are in the next one."""

    @property
    def needs_sweep(self) -> bool:
        """Another filter is being filled."""
        return self._next is not None

    def may_have(self, chunk: ChunkId) -> bool:
        """False: the durable index has no row of this chunk."""
        key = hash(chunk)
        bits = _BITS[key >> _BITS_SHIFT & 63]
        return self._table[key & self._mask] & bits == bits

    def add(self, chunk: ChunkId) -> None:
        """The durable index has a row of this chunk."""
        self._left -= _set(self._table, chunk)
        if self._next is not None:
            self._next_left -= _set(self._next, chunk)
        elif self._left <= 0:
            self._next = self._make_table()
            self._next_left = len(self._next) // 2
            self._after = None

    def sweep(self) -> None:
        """Go on with filling the next one. Raises StoreDamaged."""
        table = self._next
        if table is None:
            return
        for count, (chunk, _) in enumerate(self._index.scan(self._after, keys_per_sweep_max), 1):
            self._next_left -= _set(table, chunk)
            if count == keys_per_sweep_max:
                self._after = chunk
                return
        self._table, self._mask, self._left, self._next = table, len(table) - 1, self._next_left, None

    def _make_table(self) -> bytearray:
        wanted = _BYTES_PER_KEY * self._index.count_chunks_at_most()
        return bytearray(max(_BYTES_MIN, 1 << wanted.bit_length()))


def _set(table: bytearray, chunk: ChunkId) -> bool:
    """Whether the key is new to the table."""
    key = hash(chunk)
    bits = _BITS[key >> _BITS_SHIFT & 63]
    at = key & len(table) - 1
    before = table[at]
    table[at] = before | bits
    return before & bits != bits

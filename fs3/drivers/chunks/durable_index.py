"""What is durable of a target's rows: those of the index, and over them those that only the log has yet.

The loop looks here for whatever a barrier has made durable. Two layers lie over the index's snapshot: `fresh`, which the log got
since the last checkpoint began, and `moving`, which the checkpoint that is under way writes to the index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fs3.base.ids import ChunkId
from fs3.drivers.chunks.index import Index, Table, pack_key
from fs3.drivers.chunks.log_records import Packed, PackedRows
from fs3.model.chunk import ChannelKey

_SCAN_ROWS = 512


class DurableIndex:
    """The durable rows of a target. Belongs to the loop."""

    def __init__(self, index: Index, replayed: PackedRows) -> None:
        """`replayed`: rows that the log has and the index has not."""
        self.index = index
        self._fresh = replayed
        self._moving = PackedRows()
        self._sorted: dict[Table, list[bytes]] = {}
        """Keys of both layers; absent when there are new ones."""

    @property
    def directory(self) -> Path:
        """Of the target."""
        return self.index.directory

    @property
    def rows_in_log(self) -> int:
        """Rows that the index lacks."""
        return self._fresh.count + self._moving.count

    @property
    def has_fresh_rows(self) -> bool:
        """A checkpoint would have something to write."""
        return bool(self._fresh)

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_chunk(self, chunk: ChunkId) -> bytes | None:
        """The packed row of a chunk."""
        for layer in (self._fresh.chunks, self._moving.chunks):
            if chunk in layer:
                return layer[chunk]
        return self.index.get_chunk(chunk)

    def get_channel(self, key: ChannelKey) -> bytes | None:
        """The packed row of an update channel."""
        packed_key = pack_key(key)
        for layer in (self._fresh.channels, self._moving.channels):
            if packed_key in layer:
                return layer[packed_key]
        return self.index.get_channel(packed_key)

    def scan(self, after: ChunkId | None, step: int = _SCAN_ROWS) -> Iterator[tuple[ChunkId, bytes]]:
        """Packed rows in key order, after a key; about `step` are read at a time, each as of then. Raises StoreDamaged."""
        return self._scan(Table.CHUNKS, after, step)

    def scan_channels(self, after: bytes | None, step: int = _SCAN_ROWS) -> Iterator[tuple[bytes, bytes]]:
        """The same for channel rows, by packed key."""
        return self._scan(Table.CHANNELS, after, step)

    def scan_bad_chunks(self) -> Iterator[tuple[ChunkId, bytes]]:
        """Bad chunks, and what was found (UTF-8)."""
        return self._scan(Table.BAD_CHUNKS, None, _SCAN_ROWS)

    def count_chunks_at_most(self) -> int:
        """Rows of chunks there are, or more: some that the log has may be in the index as well."""
        return self.index.count(Table.CHUNKS) + len(self._fresh.chunks) + len(self._moving.chunks)

    def count_channels(self) -> int:
        """Channel rows there are. Looks at each that the log has."""
        count = self.index.count(Table.CHANNELS)
        for key in self._keys(Table.CHANNELS):
            count += (self._find(Table.CHANNELS, key) is not None) - self.index.has(Table.CHANNELS, key)
        return count

    def read_channel_epoch(self) -> int:
        """The channel epoch; 1 when none was ever stored. Raises StoreDamaged."""
        return self._fresh.channel_epoch or self._moving.channel_epoch or self.index.read_channel_epoch()

    def _scan(self, table: Table, after: bytes | None, step: int) -> Iterator[tuple[Any, bytes]]:
        while True:
            page = self.index.read_page(table, after, step)
            last = page[-1][0] if len(page) == step else None
            yield from self._lay_over(table, page, after, last)
            if last is None:
                return
            after = last

    def _lay_over(
        self, table: Table, page: list[tuple[Any, bytes]], after: bytes | None, last: bytes | None
    ) -> list[tuple[Any, bytes]]:
        """A page of the index, which has all its rows with `after` < key <= `last`, as the layers have it."""
        keys = self._keys(table)
        begin = bisect_right(keys, after) if after is not None else 0
        end = bisect_right(keys, last) if last is not None else len(keys)
        if begin == end:
            return page
        rows: dict[bytes, bytes | None] = dict(page)
        for at in range(begin, end):
            rows[keys[at]] = self._find(table, keys[at])
        return [(key, packed) for key, packed in sorted(rows.items()) if packed is not None]

    def _keys(self, table: Table) -> list[bytes]:
        keys = self._sorted.get(table)
        if keys is None:
            keys = self._sorted[table] = sorted({*_layer(self._fresh, table), *_layer(self._moving, table)})
        return keys

    def _find(self, table: Table, key: bytes) -> bytes | None:
        fresh = _layer(self._fresh, table)
        return fresh[key] if key in fresh else _layer(self._moving, table)[key]

    # --- barriers and checkpoints ------------------------------------------------------------------------------------

    def add(self, rows: PackedRows) -> None:
        """The log has these rows now."""
        for table in Table:
            if _layer(rows, table):
                self._sorted.pop(table, None)
        self._fresh.add(rows)

    def begin_checkpoint(self) -> PackedRows:
        """The rows that the log has and the index lacks, to be written to it."""
        assert not self._moving, "two checkpoints at once"
        self._moving, self._fresh = self._fresh, PackedRows()
        return self._moving

    def end_checkpoint(self) -> None:
        """The index has those rows. Raises lmdb.Error when it cannot be read any more; then the layers are as they were."""
        self.index.advance()
        self._moving = PackedRows()
        self._sorted.clear()

    def undo_checkpoint(self) -> None:
        """The index has not got them."""
        self._moving.add(self._fresh)
        self._fresh, self._moving = self._moving, PackedRows()


def _layer(rows: PackedRows, table: Table) -> Packed:
    if table is Table.CHUNKS:
        return rows.chunks
    return rows.channels if table is Table.CHANNELS else rows.bad_chunks

"""What the loop knows of rows without asking the index: changes the durable index lacks, and rows decoded lately."""

from __future__ import annotations

from fs3.base.ids import ChunkId
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.key_filter import KeyFilter
from fs3.drivers.chunks.rows import IndexRow, RowDamaged, Version, decode, describe
from fs3.model.chunk import ChunkMeta
from fs3.ports.chunk_store import OnChange, StoreDamaged


class RowCache:
    """The current rows of a target: unsynced changes over the index's snapshot, through a cache of two generations.

    A hit in the young generation costs one dictionary lookup and changes nothing. When the young one is full it becomes the old
    one; what is still wanted comes back from there. So the memory is bounded by the limit and idle chunks take none.
    """

    def __init__(self, index: DurableIndex, files: BlockFiles, bytes_max: int) -> None:
        self._index = index
        self._files = files
        self._half = max(bytes_max // 2, 1)
        self.keys = KeyFilter(index)
        """Has every chunk of the durable index once the store is open."""
        self.unsynced: dict[ChunkId, IndexRow] = {}
        """Rows that differ from the durable index. A row that does not exist stands for its absence."""
        self.young: dict[ChunkId, IndexRow] = {}
        """Existing rows only. Hot paths look here first, then call `find`."""
        self.on_change: OnChange | None = None
        """`ChunkStore.on_change`."""
        self._old: dict[ChunkId, IndexRow] = {}
        self._young_bytes = 0

    def find(self, chunk: ChunkId) -> IndexRow | None:
        """The current row, None when the chunk is absent. Raises StoreDamaged."""
        row = self.young.get(chunk)
        if row is not None:
            return row
        if not self.keys.may_have(chunk):
            return None  # nor is there an unsynced row: of each there was a durable one first
        row = self.unsynced.get(chunk)
        if row is not None:
            if not row.exists:
                return None
        else:
            row = self._old.get(chunk)
            if row is None:
                packed = self._index.get_chunk(chunk)
                if packed is None:
                    return None
                row = self.decode(chunk, packed)
        self._keep(chunk, row)
        return row

    def peek(self, chunk: ChunkId, packed: bytes) -> ChunkMeta | None:
        """What is known of a chunk whose row the caller has found in the index; leaves the cache as it is.
        Raises StoreDamaged."""
        row = self.unsynced.get(chunk)
        if row is not None:
            return row.describe() if row.exists else None
        row = self.young.get(chunk)
        if row is not None:
            return row.describe()
        try:
            return describe(chunk, packed)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._files.directory)) from why

    def decode(self, chunk: ChunkId, packed: bytes) -> IndexRow:
        """The row that the index has under a key; leaves the cache as it is. Raises StoreDamaged."""
        try:
            return decode(chunk, packed, self._files)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._files.directory)) from why

    def forget(self, chunk: ChunkId) -> None:
        """The next `find` looks into the index, unless that is behind."""
        self.young.pop(chunk, None)
        self._old.pop(chunk, None)

    def set_unsynced(self, chunk: ChunkId, row: IndexRow) -> None:
        """The row is this from now on; the durable index lacks it."""
        self.unsynced[chunk] = row
        self._show(chunk, row)

    def set_durable(self, chunk: ChunkId, row: IndexRow) -> None:
        """The row is this from now on, and durable."""
        self.unsynced.pop(chunk, None)
        self.keys.add(chunk)
        self._show(chunk, row)

    def mark_durable(self, chunk: ChunkId, row: IndexRow) -> None:
        """The durable index has this row now. It may have changed again in the meantime."""
        if self.unsynced.get(chunk) is row:
            del self.unsynced[chunk]

    def _show(self, chunk: ChunkId, row: IndexRow) -> None:
        if self.on_change is not None:
            self.on_change(chunk)
        if row.committed is not None or row.pending is not None:
            self._keep(chunk, row)
        else:
            self.young.pop(chunk, None)
            self._old.pop(chunk, None)

    def _keep(self, chunk: ChunkId, row: IndexRow) -> None:
        self.young[chunk] = row
        self._young_bytes += row.weight
        if self._young_bytes > self._half:
            self._rotate()

    def _rotate(self) -> None:
        self._old = self.young
        self.young = {}
        self._young_bytes = 0

    def reserve_piece_sums(self, version: Version) -> None:
        """Make room for the piece sums of a version."""
        self._young_bytes += version.reserve_piece_sums()
        if self._young_bytes > self._half:
            self._rotate()

    @property
    def row_count(self) -> int:
        """Decoded rows in memory."""
        return len(self.young) + len(self._old)

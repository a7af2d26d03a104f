"""Where readers on the same host find the bytes of a chunk themselves, and the sums by which they know them."""

from __future__ import annotations

from array import array
from pathlib import Path

from fs3.base.checksum import BLOCK_BYTES
from fs3.base.ids import ChunkId
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_writes import BlockDamaged
from fs3.drivers.chunks.files import path_of, read_warm
from fs3.drivers.chunks.range_reads import derive_pieces
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import Version
from fs3.drivers.chunks.sizes import split_place
from fs3.ports.chunk_store import BlockPlace


class BlockFinder:
    """Of one store. Belongs to its loop."""

    def __init__(self, directory: Path, rows: RowCache, bad_chunks: BadChunks) -> None:
        self._directory = directory
        self._rows = rows
        self._bad_chunks = bad_chunks

    def locate(self, chunk: ChunkId) -> BlockPlace | None:
        """`ChunkStore.locate_block`. Raises StoreDamaged."""
        if chunk in self._bad_chunks.reasons:
            return None
        row = self._rows.find(chunk)
        version = row.committed if row is not None else None
        if version is None or version.place < 0:
            return None
        if version.pieces is None and not self._derive(chunk, version):
            return None
        assert version.pieces is not None
        class_number, _ = split_place(version.place)
        path = str(path_of(self._directory, class_number))
        return BlockPlace(path, version.base, version.length, version.version, array("q", version.pieces))

    def _derive(self, chunk: ChunkId, version: Version) -> bool:
        """Make the piece sums of a chunk that is one block: reads of all of it need none, so they are not known."""
        if not 0 < version.length <= BLOCK_BYTES:
            return False
        self._rows.reserve_piece_sums(version)
        assert version.pieces is not None
        try:
            return derive_pieces(version, chunk, 0, version.pieces, read_warm)
        except BlockDamaged as why:
            self._bad_chunks.mark(chunk, str(why))
            return False

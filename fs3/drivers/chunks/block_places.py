"""Where readers on the same host find the bytes of a chunk themselves, and the sums by which they know them."""

from __future__ import annotations

from array import array
from pathlib import Path

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES
from fs3.base.ids import ChunkId
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_writes import BlockDamaged
from fs3.drivers.chunks.files import path_of, read_all
from fs3.drivers.chunks.range_reads import derive_pieces
from fs3.drivers.chunks.read_path import ReadPath
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import Version
from fs3.drivers.chunks.sizes import split_place
from fs3.ports.chunk_store import BlockPlace

_PIECES_PER_BLOCK = BLOCK_BYTES // PIECE_BYTES


class _PieceSums:
    """Makes the piece sums of a version that are not known yet; see `PinnedCheck`."""

    def __init__(self, chunk: ChunkId, version: Version, pieces: array[int], bad_chunks: BadChunks) -> None:
        self._chunk = chunk
        self._version = version
        self._pieces = pieces
        self._bad_chunks = bad_chunks

    def run(self) -> str:
        """On a reader thread. What is wrong with the bytes; "": nothing, and every sum is known."""
        pieces = self._pieces
        try:
            for first in range(0, len(pieces), _PIECES_PER_BLOCK):
                if pieces[first] < 0 and not derive_pieces(
                    self._version, self._chunk, first // _PIECES_PER_BLOCK, pieces, read_all
                ):
                    return f"bytes of chunk {self._chunk.hex()} are missing on the disk"
        except BlockDamaged as why:
            return str(why)
        return ""

    def on_result(self, result: str) -> None:
        """On the loop."""
        if result:
            self._bad_chunks.record_check(self._chunk, self._version, result)


class BlockFinder:
    """Of one store. Belongs to its loop."""

    def __init__(self, directory: Path, rows: RowCache, read_path: ReadPath, bad_chunks: BadChunks) -> None:
        self._directory = directory
        self._rows = rows
        self._read_path = read_path
        self._bad_chunks = bad_chunks

    async def locate(self, chunk: ChunkId) -> BlockPlace | None:
        """`ChunkStore.locate_block`. Raises StoreDamaged, OSError."""
        version = self._find(chunk)
        if version is None:
            return None
        self._rows.reserve_piece_sums(version)
        pieces = version.pieces
        assert pieces is not None
        if -1 in pieces:
            problem = await self._read_path.run_pinned(_PieceSums(chunk, version, pieces, self._bad_chunks), [version.place])
            now = self._find(chunk)
            if problem or now is None or (now.version, now.place, now.sums) != (version.version, version.place, version.sums):
                return None
        class_number, _ = split_place(version.place)
        path = str(path_of(self._directory, class_number))
        return BlockPlace(path, version.base, version.length, version.version, array("I", pieces))

    def _find(self, chunk: ChunkId) -> Version | None:
        """The committed version, if its bytes lie in a file and are not known to be wrong."""
        if chunk in self._bad_chunks.reasons:
            return None
        row = self._rows.find(chunk)
        version = row.committed if row is not None else None
        return version if version is not None and version.place >= 0 else None

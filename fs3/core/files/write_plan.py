"""A byte range of a file as updates of chunks."""

from __future__ import annotations

import msgspec

from fs3.base.checksum import checksums, checksums_of_parts
from fs3.base.ids import ChainId, ChunkId, InodeId
from fs3.core.files.layout import slices
from fs3.core.files.read_plan import Buffers
from fs3.model.chunk import Tag, UpdateKind
from fs3.model.inode import Layout


class WriteIO(msgspec.Struct, frozen=True, gc=False):
    """One update of one chunk, as a caller wants it."""

    chunk: ChunkId
    chain: ChainId
    kind: UpdateKind
    offset: int
    """WRITE: where the data goes, bytes in the chunk. TRUNCATE: where the chunk ends afterwards. Else 0."""
    data: Buffers | None = None
    """WRITE and PUT: what to store. It must not change until the update is answered."""
    reserve: int = 0
    """Bytes the chunk is expected to reach, so that one block is chosen for it; 0 unknown."""
    tagged: bool = True
    """Apply it exactly once. Only a REMOVE of what nobody will ever write again may go without: it leaves no channel row behind,
    and a retry may remove again."""
    checksums: tuple[int, ...] | None = None
    """CRC32C of the data, cut at multiples of 64 KiB of chunk offset; None: made by the client when it sends."""
    tag: Tag | None = None
    """The name of an update that several clients may send and that happens once; None: the client makes one that is its own."""


def sums_of(data: Buffers, offset: int) -> tuple[int, ...]:
    """Checksums of an update's data, as they travel."""
    return tuple(checksums_of_parts(data, offset) if isinstance(data, tuple) else checksums(data, offset))


def plan_write(layout: Layout, inode: InodeId, offset: int, data: memoryview, expected_length: int = 0) -> list[WriteIO]:
    """The updates that store `data` at `offset`, with checksums.

    `expected_length` is how long the file is known to become (0 unknown): chunks get a reserve hint from it, so that a chunk
    written by small appends is not moved from block to block while it grows.
    """
    size = layout.chunk_size
    writes = []
    for cut in slices(layout, inode, offset, len(data)):
        part = data[cut.at : cut.at + cut.length]
        reserve = max(cut.offset + cut.length, min(size, expected_length - cut.chunk_index * size))
        writes.append(
            WriteIO(
                cut.chunk,
                cut.chain,
                UpdateKind.WRITE,
                cut.offset,
                part,
                reserve,
                checksums=tuple(checksums(part, cut.offset)),
            )
        )
    return writes

"""Where the bytes of a file are: chunk `i` holds [i * chunk_size, (i + 1) * chunk_size) and is on chains[i % len(chains)]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fs3.base.ids import ChainId, ChunkId, InodeId, file_chunk
from fs3.base.limits import chunk_bytes_max, chunk_bytes_min, file_bytes_max, stripe_max
from fs3.model.inode import Layout


class Slice(NamedTuple):
    """The part of a byte range that falls into one chunk."""

    chunk_index: int
    """Of the chunk in its file."""
    chunk: ChunkId
    chain: ChainId
    offset: int
    """Bytes, in the chunk."""
    length: int
    at: int
    """Bytes, from the beginning of the range that was cut."""


CHUNK_SIZES = f"a power of two from {chunk_bytes_min} to {chunk_bytes_max}"
"""In words: which chunk sizes a file may be given."""


def is_chunk_size(size: int) -> bool:
    """A file may be given chunks of so many bytes."""
    return chunk_bytes_min <= size <= chunk_bytes_max and not size & (size - 1)


def is_stripe(count: int) -> bool:
    """A file may be striped over so many chains."""
    return 1 <= count <= stripe_max


def explain_unusable(layout: Layout) -> str:
    """Which field of a layout that is asked for no file can have, and why; "" when all are fine. Fields of 0 say "inherit"."""
    if layout.chunk_size and not is_chunk_size(layout.chunk_size):
        return f"chunk_size {layout.chunk_size} is not {CHUNK_SIZES}"
    if layout.stripe and not is_stripe(layout.stripe):
        return f"stripe {layout.stripe} is not from 1 to {stripe_max}"
    return ""


def check_layout(layout: Layout) -> None:
    """Raises ValueError naming what no file can have: chunk size or stripe out of bounds, no chains."""
    if not chunk_bytes_min <= layout.chunk_size <= chunk_bytes_max:
        raise ValueError(f"chunk size {layout.chunk_size} is not between {chunk_bytes_min} and {chunk_bytes_max} bytes")
    if not is_stripe(len(layout.chains)):
        raise ValueError(f"a file is striped over 1 to {stripe_max} chains, this layout has {len(layout.chains)}")


def chain_of(layout: Layout, index: int) -> ChainId:
    """The chain of chunk `index`."""
    return layout.chains[index % len(layout.chains)]


def chunk_count(layout: Layout, length: int) -> int:
    """How many chunks a file of `length` bytes spans, holes included."""
    return -(-length // layout.chunk_size)


def slices(layout: Layout, inode: InodeId, offset: int, length: int) -> list[Slice]:
    """Cuts [offset, offset + length) of a file at chunk borders, in order. Empty for length 0.

    Raises ValueError when the range is negative or ends past the largest file.
    """
    if offset < 0 or length < 0 or offset + length > file_bytes_max:
        raise ValueError(f"range of {length} bytes at {offset} is not within a file of at most {file_bytes_max} bytes")
    size = layout.chunk_size
    chains = layout.chains
    index, start = divmod(offset, size)
    if 0 < length <= size - start:  # one chunk: nearly every small read
        return [Slice(index, file_chunk(inode, index), chains[index % len(chains)], start, length, 0)]
    cut = []
    at = 0
    while at < length:
        step = min(size - start, length - at)
        cut.append(Slice(index, file_chunk(inode, index), chains[index % len(chains)], start, step, at))
        at += step
        index += 1
        start = 0
    return cut


def chunks(layout: Layout, inode: InodeId, first: int, end: int) -> Iterator[tuple[ChunkId, ChainId]]:
    """The chunks with indices [first, end), for looking them up or removing them."""
    chains = layout.chains
    for index in range(first, end):
        yield file_chunk(inode, index), chains[index % len(chains)]

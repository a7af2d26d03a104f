"""A byte range of a file as reads of chunks, and what is left to fill with zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fs3.base.ids import ChainId, ChunkId, InodeId
from fs3.core.files.layout import Slice, slices
from fs3.model.inode import Layout

Buffers = memoryview | tuple[memoryview, ...]
"""Bytes of one IO: one buffer, or several that are taken as if they were one (a page and its trailer). Format "B", contiguous."""


class ReadIO(msgspec.Struct, frozen=True, gc=False):
    """One range of one chunk, wanted in `buffer`; its size is the length of the range."""

    chunk: ChunkId
    chain: ChainId
    offset: int
    """Bytes, in the chunk."""
    buffer: Buffers


def buffer_bytes(buffer: Buffers) -> int:
    """Size of an IO."""
    return sum(map(len, buffer)) if isinstance(buffer, tuple) else len(buffer)


def plan_read(layout: Layout, inode: InodeId, offset: int, length: int, file_length: int) -> list[Slice]:
    """The slices of a read that is shortened at the end of the file. Their lengths add up to what the read returns."""
    return slices(layout, inode, offset, max(0, min(length, file_length - offset)))


def make_read_ios(plan: Iterable[Slice], into: memoryview) -> list[ReadIO]:
    """The slices as reads into one buffer, each at its place."""
    return [ReadIO(cut.chunk, cut.chain, cut.offset, into[cut.at : cut.at + cut.length]) for cut in plan]


def holes(plan: Sequence[Slice], got: Sequence[int]) -> list[tuple[int, int]]:
    """(at, length) of what the chunks did not have, neighbours joined: bytes of the file that are zero.

    `got[i]` is how many bytes slice i returned: 0 for a chunk that does not exist.
    """
    missing: list[tuple[int, int]] = []
    for cut, count in zip(plan, got, strict=True):
        if count >= cut.length:
            continue
        at, length = cut.at + count, cut.length - count
        if missing and missing[-1][0] + missing[-1][1] == at:
            at, length = missing[-1][0], missing[-1][1] + length
            missing.pop()
        missing.append((at, length))
    return missing

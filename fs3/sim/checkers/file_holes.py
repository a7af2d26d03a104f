"""When all is quiet, a file that is said to have no holes has every byte before its end in storage, so its length is what it
takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fs3.base.ids import ChainId, ChunkId
from fs3.core.files.layout import slices
from fs3.model.inode import Inode, InodeType

LengthOf = Callable[[ChunkId, ChainId], int]
"""Committed bytes of a chunk on its chain; 0: it is not there."""


def explain(inodes: Iterable[Inode], length_of: LengthOf) -> str:
    """The first hole of a file that is said to have none; "" when there is no such."""
    for inode in inodes:
        if inode.type is not InodeType.FILE or not inode.nlink or inode.inline or inode.has_holes or inode.trim is not None:
            continue
        for part in slices(inode.layout, inode.content_id, 0, inode.length):
            stored = length_of(part.chunk, part.chain)
            if stored < part.length:
                what = f"{stored} of {part.length} bytes of chunk {part.chunk_index}"
                return f"inode {inode.id} is said to have no holes, and {what} are stored"
    return ""

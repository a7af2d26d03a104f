"""Which chunks storage has of a file, in a range that may be nearly all hole or nearly all data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, InodeId, chunk_file
from fs3.base.status import Code
from fs3.client.storage.finds import FindOutcome
from fs3.core.files.layout import chunks
from fs3.model.inode import Layout

chunks_per_page_max = 1024
"""Neighbouring chunks that are asked about together."""


class StoredChunk(msgspec.Struct, frozen=True, gc=False):
    """A chunk that is there."""

    index: int
    """In its file."""
    length: int
    """Bytes."""


class ChunkLookup(Protocol):
    """Where chunks are looked for. `StorageClient` is the one of production."""

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> Sequence[FindOutcome]:
        """Which of these chunks are there, and how long."""
        ...

    async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> Sequence[FindOutcome]:
        """For each key, the first chunk of the same file that is on its chain, from it on."""
        ...


async def stored_chunks(
    lookup: ChunkLookup, content: InodeId, layout: Layout, first: int, end: int
) -> AsyncIterator[list[StoredChunk]]:
    """The chunks with indices [first, end) that storage has, rising, page by page; two rounds of requests for each.

    A hole of any size costs one round. Raises FS3Error when a chain of the file does not answer.
    """
    at = first
    while at < end:
        # As many neighbouring chunks as there are chains: each chain once.
        keys = list(chunks(layout, content, at, at + len(layout.chains)))
        begin = end
        for (_, chain), outcome in zip(keys, await lookup.find_next(keys), strict=True):
            if _is_there(chain, outcome):
                there = chunk_file(outcome.chunk)
                if there is None or there[0] != content:
                    raise error(Code.PROTOCOL, f"chain {chain} was asked about content {content} and answered with another")
                begin = min(begin, there[1])
        if begin >= end:
            return
        at = min(end, begin + chunks_per_page_max)
        keys = list(chunks(layout, content, begin, at))
        found = zip(range(begin, at), keys, await lookup.find(keys), strict=True)
        yield [StoredChunk(index, outcome.length) for index, (_, chain), outcome in found if _is_there(chain, outcome)]


def _is_there(chain: ChainId, outcome: FindOutcome) -> bool:
    if outcome.code not in (Code.OK, Code.NOT_FOUND):
        raise error(outcome.code, f"chain {chain} does not tell what it has: {outcome.message or outcome.code.name}")
    return outcome.code is Code.OK

"""Where a file ends, by what storage has: for files whose writer died before it could tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, InodeId, chunk_file, file_chunk
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.client.storage.finds import FindOutcome
from fs3.model.inode import Layout


class ChunkFinder(Protocol):
    """Where chunks are looked for. `StorageClient` is the one of production."""

    async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> Sequence[FindOutcome]:
        """For each key, the first chunk of the same file that is on its chain, from it on."""
        ...


class _LastChunkSearch:
    """The last chunk of a file on one of its chains. "There is a chunk from place i on" is true up to it and false behind it, so
    galloping ahead and then halving finds it, whatever gaps there are. Places count the chunks of this chain."""

    def __init__(self, layout: Layout, inode: InodeId, offset: int, first: int) -> None:
        """Chunk `first` of the file is the first that matters; the chain's chunks are those at `offset` of each stripe."""
        self._inode = inode
        self._offset = offset
        self._stripe = len(layout.chains)
        self.chain = layout.chains[offset]
        self._probe = max(0, -(-(first - offset) // self._stripe))
        """Asked next."""
        self._low = self._probe - 1
        """The last chunk, if there is one behind what does not matter, is at this place or behind it."""
        self._high: int | None = None
        """No chunk is at this place or behind it."""
        self._last = file_bytes_max // layout.chunk_size // self._stripe
        self._step = 1
        self.index = -1
        """Of the last chunk in the file; -1 none that matters."""
        self.length = 0

    @property
    def is_done(self) -> bool:
        """There is nothing more to ask."""
        return self._high is not None and self._high <= self._low + 1

    def key(self) -> tuple[ChunkId, ChainId]:
        """What to ask about."""
        return file_chunk(self._inode, self._probe * self._stripe + self._offset), self.chain

    def on_nothing(self) -> None:
        """Nothing is there from the probe on."""
        self._high = self._probe
        self._probe = (self._low + 1 + self._probe) // 2

    def on_chunk(self, index: int, length: int) -> None:
        """The first chunk from the probe on has this index. One that belongs to another chain holds nothing of the file."""
        place = (index - self._offset) // self._stripe
        if index % self._stripe == self._offset and place <= self._last:
            self.index, self.length = index, length
        self._low = max(self._probe, place)
        if self._low >= self._last:
            self._high = self._low + 1  # no file is longer
        if self._high is None:
            self._probe = min(self._low + self._step, self._last)
            self._step *= 2
        else:
            self._probe = (self._low + 1 + self._high) // 2


async def find_file_end(chunks: ChunkFinder, inode: InodeId, layout: Layout, length: int, *, timeout_ns: int = 0) -> int:
    """The end of the last byte that storage has of a file, at least `length` bytes: what is before that is not looked at.

    Exact whatever gaps there are; one round of requests where nothing is behind `length`. `timeout_ns`: of each round, 0 the
    finder's. Raises FS3Error when a chain of the file does not answer.
    """
    first = length // layout.chunk_size
    searches = [_LastChunkSearch(layout, inode, place, first) for place in range(len(layout.chains))]
    end = length
    open_searches = searches
    while open_searches:
        outcomes = await chunks.find_next([search.key() for search in open_searches], timeout_ns=timeout_ns)
        for search, outcome in zip(open_searches, outcomes, strict=True):
            if outcome.code is Code.NOT_FOUND:
                search.on_nothing()
                continue
            if outcome.code is not Code.OK:
                why = outcome.message or outcome.code.name
                raise error(outcome.code, f"chain {search.chain} does not tell where inode {inode} ends: {why}")
            there = chunk_file(outcome.chunk)
            if there is None or there[0] != inode:
                raise error(Code.PROTOCOL, f"chain {search.chain} was asked about inode {inode} and answered with another")
            search.on_chunk(there[1], outcome.length)
        open_searches = [search for search in open_searches if not search.is_done]
    for search in searches:
        if search.index >= 0:
            end = max(end, search.index * layout.chunk_size + search.length)
    return end

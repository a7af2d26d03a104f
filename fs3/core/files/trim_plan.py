"""Cutting what lies behind the end of a file that was truncated: which chunks, in which steps, and under which names.

Several services may do this for one truncation, at different speeds, and what a slow one has sent may arrive when the file has
long been written anew. So the cut of a chunk is one update with one name, whichever service sends it: the tag is made of the
file, the truncation and the chunk, and a target that has applied it, or one behind it, does not apply it again.

A target keeps the last update of a channel. The chunks of a chain are dealt out to `trim_lanes` channels, each of which goes
through its chunks in ascending order, one at a time: so few rows are enough, and "behind it" is the same as "later".
"""

from __future__ import annotations

from fs3.base.ids import ChainId, ChunkId, InodeId, chunk_file, file_chunk
from fs3.base.limits import file_bytes_max
from fs3.core.files.file_clients import FileClientKind, make_file_client
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import Tag, UpdateKind
from fs3.model.inode import Layout, Trim

trim_lanes = 32
"""Chunks of one chain that are cut at once; a target keeps so many channel rows of a truncated file."""

_SERIAL_BITS = 24
"""Of the count of truncations, as far as it orders the updates of a channel. The rest is part of the name: updates of a time so
long ago have died with their connections."""


class ChainTrim:
    """The chunks of one chain of a file that was truncated. Places count the chunks of this chain."""

    def __init__(self, inode: InodeId, layout: Layout, trim: Trim, offset: int) -> None:
        """The chain's chunks are those at `offset` of each stripe."""
        self._inode = inode
        self._layout = layout
        self._trim = trim
        self._offset = offset
        self._stripe = len(layout.chains)
        self.chain: ChainId = layout.chains[offset]
        first = trim.start // layout.chunk_size
        self._place = max(0, -(-(first - offset) // self._stripe))
        """Places before this one are done."""
        self._last = file_bytes_max // layout.chunk_size // self._stripe
        self._client = make_file_client(FileClientKind.TRIM, inode, trim.serial >> _SERIAL_BITS)
        self.is_done = False
        """There is nothing more to look for."""

    def key(self) -> tuple[ChunkId, ChainId]:
        """Where to look for the next chunk."""
        return file_chunk(self._inode, self._index_of(self._place)), self.chain

    def on_nothing(self) -> None:
        """There is no chunk from there on."""
        self.is_done = True

    def on_chunk(self, chunk: ChunkId) -> list[tuple[ChunkId, ChainId]]:
        """The first one there is: chunks to look for beside it, in one step. Raises ValueError for one of another file."""
        found = chunk_file(chunk)
        if found is None or found[0] != self._inode:
            raise ValueError(f"chain {self.chain} was asked about inode {self._inode} and answered with another")
        self._place = max(self._place, -(-(found[1] - self._offset) // self._stripe))
        if self._place > self._last:
            self.is_done = True
            return []
        end = min(self._place + trim_lanes, self._last + 1)
        return [(file_chunk(self._inode, self._index_of(place)), self.chain) for place in range(self._place, end)]

    def plan(self, lengths: list[int | None]) -> list[WriteIO]:
        """The updates of the step, for the lengths of those chunks; None: there is no such chunk. The next step follows them."""
        updates = []
        for place, length in enumerate(lengths, self._place):
            keep = max(0, self._trim.start - self._index_of(place) * self._layout.chunk_size)
            if length is None or (keep and length <= keep):
                continue
            kind = UpdateKind.TRUNCATE if keep else UpdateKind.REMOVE
            chunk = file_chunk(self._inode, self._index_of(place))
            updates.append(WriteIO(chunk, self.chain, kind, keep, tag=self._tag(place)))
        self._place += len(lengths)
        self.is_done = self._place > self._last
        return updates

    def _index_of(self, place: int) -> int:
        return place * self._stripe + self._offset

    def _tag(self, place: int) -> Tag:
        turn, lane = divmod(place, trim_lanes)
        turns = self._last // trim_lanes + 1
        serial = self._trim.serial & ((1 << _SERIAL_BITS) - 1)
        return Tag(self._client, lane + 1, serial * turns + turn + 1)

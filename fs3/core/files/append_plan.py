"""Bytes behind the end of a file as updates of chunks, of which those of a turn that was taken over have no effect any more.

A client whose turn was taken over may be stopped for a minute and go on, or its frames be late. So all appends to a file go
through channels that are the file's own, whichever client sends them, and the turn's serial comes first in their numbers: once a
chunk has an update of a later turn, those of earlier turns are refused there as STALE_UPDATE. What they wrote before that lies
where the later turn writes, or behind its end.

A target keeps the last update of a channel. The chunks of a chain are dealt out to `append_lanes` channels, and of each channel
one update is sent at a time."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fs3.base.limits import client_write_call_bytes
from fs3.core.files.file_clients import FileClientKind, make_file_client
from fs3.core.files.write_plan import WriteIO, plan_write
from fs3.model.chunk import Tag
from fs3.model.inode import Inode

append_lanes = 8
"""Chunks of one chain that an append writes at once; a target keeps so many channel rows of an appended file."""

_PIECE_BITS = 24
_SERIAL_BITS = 38
"""Of the turn's serial, as far as it orders the updates of a channel. The rest is part of the name."""


class AppendPlan:
    """One append: `length` bytes behind the end of a file, in pieces that are sent one after the other."""

    def __init__(self, inode: Inode, length: int) -> None:
        """`inode`: as it was answered together with the turn."""
        assert inode.append is not None
        self._inode = inode
        self._length = length
        self.serial = inode.append.serial
        self.start = inode.length
        """Where the bytes go."""
        self._client = make_file_client(FileClientKind.APPEND, inode.content_id, self.serial >> _SERIAL_BITS)

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """(number, at, size) of each piece of the bytes: whole chunks where it can be, of each chain not more than it has
        lanes."""
        layout = self._inode.layout
        size = layout.chunk_size
        chunks = max(1, min(append_lanes * len(layout.chains), client_write_call_bytes // size))
        at = number = 0
        while at < self._length:
            begin = self.start + at
            end = min(self.start + self._length, (begin // size + chunks) * size)
            number += 1
            yield number, at, end - begin
            at += end - begin

    def plan(self, number: int, at: int, data: memoryview) -> list[WriteIO]:
        """The updates of a piece."""
        layout = self._inode.layout
        seq = ((self.serial & ((1 << _SERIAL_BITS) - 1)) << _PIECE_BITS) + number
        # No two chunks of a piece share a name, on whatever chains they are.
        first = (self.start + at) // layout.chunk_size
        writes = plan_write(layout, self._inode.content_id, self.start + at, data, self.start + self._length)
        return [
            replace(write, tag=Tag(self._client, 1 + (first + place) % (append_lanes * len(layout.chains)), seq))
            for place, write in enumerate(writes)
        ]

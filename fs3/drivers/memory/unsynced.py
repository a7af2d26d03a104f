"""What a store in memory shows and its disk would not have yet: the one rule of what a loss of power may take.

Each chunk that was changed since it was last durable is kept or lost *by itself*, with the channel rows that its commits have
set; so a commit is there with its channel row or not at all. A barrier makes durable what had been changed when it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fs3.base.ids import ChunkId
from fs3.drivers.memory.chunk_versions import MemoryChunk
from fs3.model.chunk import ChannelKey, ChannelRow

Entry = tuple[ChannelKey, ChannelRow]


@dataclass(frozen=True, slots=True)
class Loss:
    """What a loss of power takes: of what is not durable, in these chunks and these marks of bad chunks."""

    chunks: frozenset[ChunkId] = frozenset()
    marks: frozenset[ChunkId] = frozenset()


@dataclass(frozen=True, slots=True)
class BarrierMark:
    """What a barrier that has begun will make durable."""

    number: int
    chunks: dict[ChunkId, MemoryChunk | None]
    rows: dict[ChunkId, tuple[Entry, ...]]


class UnsyncedChanges:
    """Changes no barrier has made durable. Barriers may overlap: what a later one has written of a chunk stays."""

    def __init__(self) -> None:
        self._count = 0
        """Of barriers begun, and of chunks settled."""
        self._settled: dict[ChunkId, int] = {}
        """The number of the last barrier that has written a chunk."""
        self.chunks: dict[ChunkId, MemoryChunk] = {}
        """The changed chunks as the disk has them, in the order in which they were changed first."""
        self._rows: dict[ChunkId, list[Entry]] = {}
        """Channel rows that commits have set, by the chunk of the commit."""
        self._durable_rows: dict[ChannelKey, ChannelRow | None] = {}
        """What the disk has of those channels."""

    def add_change(self, chunk: ChunkId, was: MemoryChunk) -> None:
        """A chunk is changed in memory."""
        self.chunks.setdefault(chunk, was)

    def add_row(self, chunk: ChunkId, key: ChannelKey, row: ChannelRow, was: ChannelRow | None) -> None:
        """Its commit has set a channel row."""
        self._durable_rows.setdefault(key, was)
        self._rows.setdefault(chunk, []).append((key, row))

    def set_durable_row(self, key: ChannelKey, row: ChannelRow) -> None:
        """The disk has a channel row, whatever becomes of the commits that have set a later one."""
        if key in self._durable_rows:
            was = self._durable_rows[key]
            if was is None or was.seq < row.seq:
                self._durable_rows[key] = row

    def begin(self, now: Mapping[ChunkId, MemoryChunk]) -> BarrierMark:
        """A barrier begins; `now`: the chunks as memory shows them."""
        self._count += 1
        return BarrierMark(
            self._count,
            {chunk: now.get(chunk) for chunk in self.chunks},
            {chunk: tuple(rows) for chunk, rows in self._rows.items()},
        )

    def end(self, mark: BarrierMark, now: Mapping[ChunkId, MemoryChunk]) -> None:
        """It is on the disk. A chunk that was changed again meanwhile stays unsynced, over what the barrier has written of it."""
        for chunk, state in mark.chunks.items():
            if chunk not in self.chunks or self._settled.get(chunk, 0) > mark.number:
                continue
            self._settled[chunk] = mark.number
            if now.get(chunk) is state:
                del self.chunks[chunk]
            else:
                self.chunks[chunk] = state if state is not None else MemoryChunk()
        for chunk, rows in mark.rows.items():
            self._settle_rows(chunk, rows)

    def settle(self, chunk: ChunkId) -> None:
        """The disk has one chunk as memory shows it, with the rows its commits have set."""
        self._count += 1
        self._settled[chunk] = self._count
        self.chunks.pop(chunk, None)
        self._settle_rows(chunk, tuple(self._rows.get(chunk, ())))

    def _settle_rows(self, chunk: ChunkId, rows: tuple[Entry, ...]) -> None:
        if not rows:
            return
        for key, row in rows:
            self.set_durable_row(key, row)
        left = [entry for entry in self._rows.pop(chunk, ()) if entry not in rows]
        if left:
            self._rows[chunk] = left
        named = {key for entries in self._rows.values() for key, _ in entries}
        for key in [key for key in self._durable_rows if key not in named]:
            del self._durable_rows[key]

    def clear(self) -> None:
        """Everything is durable."""
        for chunk in list(self.chunks):
            self.settle(chunk)
        self.chunks.clear()
        self._rows.clear()
        self._durable_rows.clear()

    def forget_channel(self, key: ChannelKey) -> None:
        """A channel row is dropped, durably."""
        self._durable_rows.pop(key, None)
        for rows in self._rows.values():
            rows[:] = [entry for entry in rows if entry[0] != key]

    def take(self, loss: Loss, chunks: dict[ChunkId, MemoryChunk], rows: dict[ChannelKey, ChannelRow]) -> None:
        """Undo in `chunks` and `rows`, which are as memory shows them, what a loss of power takes."""
        for key, was in self._durable_rows.items():
            if was is None:
                rows.pop(key, None)
            else:
                rows[key] = was
        for chunk, state in self.chunks.items():
            if chunk in loss.chunks:
                if state.exists:
                    chunks[chunk] = state
                else:
                    chunks.pop(chunk, None)
                continue
            for key, row in self._rows.get(chunk, ()):
                newer = rows.get(key)
                if newer is None or newer.seq < row.seq:
                    rows[key] = row

"""Changes of rows in memory: commits, dropped pendings, channel rows and marks, until a barrier takes them along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fs3.base.ids import ChunkId
from fs3.drivers.chunks.cache import Rows
from fs3.drivers.chunks.channels import Channels
from fs3.drivers.chunks.holds import Holds
from fs3.drivers.chunks.index import Index
from fs3.drivers.chunks.marks import Marks
from fs3.drivers.chunks.rows import Row, RowDamaged
from fs3.model.chunk import ChannelRow, Tag, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChannelKey, StoreDamaged


class Commits:
    """What the loop changes without the disk. `Updates` makes it durable."""

    def __init__(
        self, directory: Path, index: Index, rows: Rows, holds: Holds, channels_max: int, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when a barrier has something to take along."""
        self._directory = directory
        self._rows = rows
        self._holds = holds
        self._notify = changed
        self.pending: dict[ChunkId, None] = {}
        """Chunks that have a pending version; a set that keeps its order."""
        self.chunks = 0
        """How many there are."""
        self.channels = Channels(index, channels_max)
        self.marks = Marks(rows, changed)
        self.staging: set[ChunkId] = set()
        """Chunks with a `stage` under way."""
        self.changed: dict[ChunkId, Row] = {}
        """Unsynced rows that no barrier has taken yet; a part of `Rows.unsynced`."""

    def find(self, chunk: ChunkId) -> Row | None:
        """The current row. Raises StoreDamaged."""
        try:
            return self._rows.find(chunk)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._directory)) from why

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending, StoreDamaged."""
        row = self._idle(chunk)
        committed, pending = row.committed, row.pending
        if pending is None or pending.version != version:
            raise ValueError(
                f"version {version} of chunk {chunk.hex()} is not pending, {pending.version if pending else None} is"
            )
        holds = self._holds
        if row.kind is UpdateKind.REMOVE:
            if committed is not None:
                holds.let_block(committed.place)
            self.chunks -= 1
            after = Row(None, None, UpdateKind.WRITE, None)
        else:
            if committed is not None and committed.place >= 0:
                if committed.place != pending.place:
                    holds.let_block(committed.place)
                elif pending.length > committed.length:
                    holds.unguard(committed.place)
                elif pending.length < committed.length:
                    holds.guard(committed.place)
                    holds.let_guard(committed.place)
            after = Row(pending, None, UpdateKind.WRITE, None)
        if tag.client:
            self.use_channel((tag.client, tag.channel), ChannelRow(tag.seq, chunk, result))
        if after.committed is None or after.committed.place < 0 or committed is None or after.committed.place != committed.place:
            self.marks.clear(chunk)  # of the old bytes, those that remain were copied, and verified on the way
        self._change(chunk, after)

    def use_channel(self, key: ChannelKey, row: ChannelRow) -> None:
        """The row is the channel's, unless that has a later one. Raises StoreDamaged."""
        try:
            self.channels.use(key, row)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._directory)) from why

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        row = self._idle(chunk)
        if row.pending is None:
            return
        self.let_pending(row)
        if row.committed is None:
            self.chunks -= 1
        self._change(chunk, Row(row.committed, None, UpdateKind.WRITE, None))

    def _idle(self, chunk: ChunkId) -> Row:
        if chunk in self.staging:
            raise ValueError(f"chunk {chunk.hex()} is changed while an update of it is being staged")
        return self.find(chunk) or Row(None, None, UpdateKind.WRITE, None)

    def let_pending(self, row: Row) -> None:
        """The pending version goes without having been committed."""
        committed, pending = row.committed, row.pending
        if pending is None or pending.place < 0:
            return
        if committed is None or committed.place != pending.place:
            self._holds.let_block(pending.place)
        elif pending.length > committed.length:
            self._holds.let_guard(pending.place)

    def _change(self, chunk: ChunkId, row: Row) -> None:
        self.pending.pop(chunk, None)
        self._rows.change(chunk, row)
        self.changed[chunk] = row
        self._notify()

    def find_channel(self, key: ChannelKey) -> ChannelRow | None:
        """The row of a channel. Raises StoreDamaged."""
        try:
            return self.channels.find(key)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._directory)) from why

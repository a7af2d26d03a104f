"""Changes of rows in memory: commits, dropped pendings, channel rows and bad chunks, until a barrier takes them along."""

from __future__ import annotations

from fs3.base.ids import ChunkId
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.change_count import ChangeCount
from fs3.drivers.chunks.channel_table import ChannelTable
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import IndexRow
from fs3.model.chunk import ChannelRow, Tag, UpdateKind, UpdateResult
from fs3.ports.chunk_store import describe_carried


class PendingChanges:
    """What the loop changes without the disk. `WritePath` makes it durable."""

    def __init__(
        self, rows: RowCache, reclaimer: BlockReclaimer, channels: ChannelTable, bad_chunks: BadChunks, changes: ChangeCount
    ) -> None:
        self._rows = rows
        self._reclaimer = reclaimer
        self.channels = channels
        self.bad_chunks = bad_chunks
        self.count = changes
        self.pending_chunks: dict[ChunkId, None] = {}
        """Chunks that have a pending version; a set that keeps its order."""
        self.chunk_count = 0
        """How many there are."""
        self.staging: set[ChunkId] = set()
        """Chunks with a `stage` under way."""
        self.changed_rows: dict[ChunkId, IndexRow] = {}
        """Unsynced rows that no barrier has taken yet; a part of `RowCache.unsynced`."""

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending, StoreDamaged."""
        row = self._find_unstaged(chunk)
        committed, pending = row.committed, row.pending
        if pending is None or pending.version != version:
            raise ValueError(
                f"version {version} of chunk {chunk.hex()} is not pending, {pending.version if pending else None} is"
            )
        reclaimer = self._reclaimer
        if row.kind is UpdateKind.REMOVE:
            if committed is not None:
                reclaimer.retire_block(committed.place)
            self.chunk_count -= 1
            after = IndexRow(None, None, UpdateKind.WRITE, None)
        else:
            if committed is not None and committed.place >= 0:
                if committed.place != pending.place:
                    reclaimer.retire_block(committed.place)
                elif pending.length > committed.length:
                    reclaimer.unguard(committed.place)
                elif pending.length < committed.length:
                    reclaimer.guard(committed.place)
                    reclaimer.retire_guard(committed.place)
            after = IndexRow(pending, None, UpdateKind.WRITE, None)
        if tag.client:
            self.channels.record((tag.client, tag.channel), ChannelRow(tag.seq, chunk, result))
        if after.committed is None or after.committed.place < 0 or committed is None or after.committed.place != committed.place:
            self.bad_chunks.clear(chunk)  # of the old bytes, those that remain were copied, and verified on the way
        self._change(chunk, after)
        if row.kind is UpdateKind.FILL_BAD:
            self.bad_chunks.clear(chunk)
            self.bad_chunks.mark(chunk, describe_carried(chunk))

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        row = self._find_unstaged(chunk)
        if row.pending is None:
            return
        self.discard_pending(row)
        if row.committed is None:
            self.chunk_count -= 1
        self._change(chunk, IndexRow(row.committed, None, UpdateKind.WRITE, None))

    def _find_unstaged(self, chunk: ChunkId) -> IndexRow:
        if chunk in self.staging:
            raise ValueError(f"chunk {chunk.hex()} is changed while an update of it is being staged")
        return self._rows.find(chunk) or IndexRow(None, None, UpdateKind.WRITE, None)

    def discard_pending(self, row: IndexRow) -> None:
        """The pending version goes without having been committed."""
        committed, pending = row.committed, row.pending
        if pending is None or pending.place < 0:
            return
        if committed is None or committed.place != pending.place:
            self._reclaimer.retire_block(pending.place)
        elif pending.length > committed.length:
            self._reclaimer.retire_guard(pending.place)

    def _change(self, chunk: ChunkId, row: IndexRow) -> None:
        self.pending_chunks.pop(chunk, None)
        self._rows.set_unsynced(chunk, row)
        self.changed_rows[chunk] = row
        self.count.add()

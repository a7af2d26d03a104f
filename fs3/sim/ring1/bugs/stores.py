"""Mistakes in the store, and in what a read is answered."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq import reads
from fs3.drivers.memory.chunk_versions import MemoryChunk
from fs3.drivers.memory.unsynced import BarrierMark, Loss
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelKey, ChannelRow, ChunkMeta, Update, UpdateKind
from fs3.sim.ring1.chunks import SimChunks


class RowsInMemory(SimChunks):
    """Channel rows are kept in memory only."""

    def crash(self, loss: Loss) -> None:
        super().crash(loss)
        self.rows.clear()


class StagesNoTag(SimChunks):
    """The pending version is stored without its tag."""

    def stage(self, update: Update) -> tuple[Code, int, int]:
        result = super().stage(update)
        if result[0] is Code.OK:
            found = self.records[update.chunk]
            self.records[update.chunk] = MemoryChunk(found.committed, found.pending, found.kind, None)
        return result


class StagesUnsynced(SimChunks):
    """A stage is answered before its barrier."""

    def __init__(self, *, is_new: bool = False) -> None:
        super().__init__(is_new=is_new)
        self._volatile: dict[ChunkId, MemoryChunk | None] = {}

    def stage(self, update: Update) -> tuple[Code, int, int]:
        self._volatile.setdefault(update.chunk, self.records.get(update.chunk))
        return super().stage(update)

    def end_barrier(self, mark: BarrierMark) -> None:
        super().end_barrier(mark)
        self._volatile.clear()

    def crash(self, loss: Loss) -> None:
        super().crash(loss)
        for chunk, record in self._volatile.items():
            now = self.records.get(chunk)
            if now is None or not now.meta.pending:
                continue
            if record is None:
                del self.records[chunk]
            else:
                self.records[chunk] = record
        self._volatile.clear()


class DropsUnsynced(SimChunks):
    """A pending version is forgotten before that is durable: a loss of power brings it back."""

    def __init__(self, *, is_new: bool = False) -> None:
        super().__init__(is_new=is_new)
        self._dropped: dict[ChunkId, MemoryChunk] = {}

    def drop_pending(self, chunk: ChunkId) -> None:
        self._dropped[chunk] = self.records[chunk]
        super().drop_pending(chunk)

    def stage(self, update: Update) -> tuple[Code, int, int]:
        self._dropped.pop(update.chunk, None)
        return super().stage(update)

    def crash(self, loss: Loss) -> None:
        super().crash(loss)
        for chunk, record in self._dropped.items():
            now = self.records.get(chunk)
            if (now.meta.committed if now is not None else 0) == record.meta.committed:
                self.records[chunk] = record
        self._dropped.clear()


class MergesInMemory(SimChunks):
    """Channel rows of a resync are kept in memory only."""

    def __init__(self, *, is_new: bool = False) -> None:
        super().__init__(is_new=is_new)
        self._before: dict[ChannelKey, ChannelRow | None] = {}

    def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        for key, row in rows:
            before = self.rows.get(key)
            if before is None or before.seq < row.seq:
                self._before[key] = before
                self.rows[key] = row

    def crash(self, loss: Loss) -> None:
        super().crash(loss)
        for key, before in self._before.items():
            if before is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = before
        self._before.clear()


class ShowsPending(SimChunks):
    """A read is answered with the pending version."""

    def read(self, chunk: ChunkId) -> tuple[int, bytes]:
        record = self.records[chunk]
        if record.pending is not None and record.kind is not UpdateKind.REMOVE:
            return record.pending.version, record.pending.content
        return record.meta.committed, record.content


def reads_while_pending(meta: ChunkMeta | None, pending_is_dirty: bool) -> Code:
    code = reads.answer(meta, pending_is_dirty)
    return Code.OK if code is Code.DIRTY and meta is not None and meta.committed else code


def reads_without_lease(chain: Chain | None, target: TargetId, version: int, now: int, lease: int) -> Code:
    return reads.gate(chain, target, version, 0, 1)


def reads_any_version(chain: Chain | None, target: TargetId, version: int, now: int, lease: int) -> Code:
    return reads.gate(chain, target, chain.version if chain is not None else version, now, lease)

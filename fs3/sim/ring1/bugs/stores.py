"""Mistakes in the store, and in what a read is answered."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.reads import decide
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update
from fs3.sim.ring1.chunks import ChannelKey, Record, SimChunks


class RowsInMemory(SimChunks):
    """Channel rows are kept in memory only."""

    def crash(self, lost: int) -> None:
        super().crash(lost)
        self.rows.clear()


class StagesNoTag(SimChunks):
    """The pending version is stored without its tag."""

    def choose_stored_tag(self, update: Update) -> Tag | None:
        return None


class StagesUnsynced(SimChunks):
    """A stage is answered before its barrier."""

    def __init__(self, *, is_new: bool = False) -> None:
        super().__init__(is_new=is_new)
        self._volatile: dict[ChunkId, Record | None] = {}

    def stage(self, update: Update) -> tuple[Code, int, int]:
        self._volatile.setdefault(update.chunk, self.records.get(update.chunk))
        return super().stage(update)

    def end_barrier(self, mark: int) -> None:
        super().end_barrier(mark)
        self._volatile.clear()

    def crash(self, lost: int) -> None:
        super().crash(lost)
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
        self._dropped: dict[ChunkId, Record] = {}

    def drop_pending(self, chunk: ChunkId) -> None:
        self._dropped[chunk] = self.records[chunk]
        super().drop_pending(chunk)

    def stage(self, update: Update) -> tuple[Code, int, int]:
        self._dropped.pop(update.chunk, None)
        return super().stage(update)

    def crash(self, lost: int) -> None:
        super().crash(lost)
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

    def crash(self, lost: int) -> None:
        super().crash(lost)
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
        if record.meta.pending and record.pending is not None:
            return record.meta.pending, record.pending
        return record.meta.committed, record.content


def reads_while_pending(
    meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int
) -> Code:
    code = decide(meta, chain, target, version, now, lease)
    return Code.OK if code is Code.DIRTY and meta is not None and meta.committed else code


def reads_without_lease(
    meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int
) -> Code:
    return decide(meta, chain, target, version, 0, 1)


def reads_any_version(meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int) -> Code:
    return decide(meta, chain, target, chain.version if chain is not None else version, now, lease)

"""The chunks of one simulated target: the memory store of the drivers, and what the checkers of ring 1 want to know besides.

The store's bytes, rules and losses are those of `MemoryChunkStore`. Its barriers take time here, so the host begins and ends
them; what they carry (`stage`, `drop_pending`, `merge_channels`) is durable at once, and nothing else becomes so with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fs3.base.checksum import checksums
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, ClientId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion
from fs3.drivers.memory.unsynced import BarrierMark, Loss
from fs3.model.chunk import FILLS, ChannelKey, ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult
from fs3.model.generation import Generation


class SimChunks:
    """Chunks of one simulated target. What a replica and a resync ask is `StoreView`."""

    def __init__(self, *, is_new: bool = False) -> None:
        """`is_new`: it was made for a target that has none, which does not know yet whether it had one before."""
        self.store = MemoryChunkStore()
        self.is_new = is_new
        self.whole = True
        """As noted on the disk; see `fs3.core.craq.events.StoreOpened.whole`."""
        self.generations: tuple[Generation, ...] = ()
        """As noted on the disk; see `fs3.core.membership.generations`. Empty in runs without rollbacks."""
        self.is_restored = False
        """It is a copy that was put back, and has not been compared with what the manager remembers."""
        self.applications: dict[Tag, int] = {}
        """How often each tagged update was committed here, lost commits not counted. For checkers."""
        self.corrupt_next = False
        """The next stage stores other bytes than it was given."""
        self._names: dict[MemoryVersion, Tag] = {}
        """Tags of staged updates as they were sent, whatever is stored of them."""
        self._unsynced_names: dict[ChunkId, list[Tag]] = {}
        """Of the applications counted, those a crash may undo, by chunk."""

    @property
    def is_settled(self) -> bool:
        """It is known whether everything is there that should be."""
        return not self.is_new and not self.is_restored

    def duplicate(self) -> SimChunks:
        """A copy of the directory. No process uses this one, and nothing of it is unsynced."""
        other = type(self)()
        before = self.store
        self.store, other.store = before.lose(Loss()), before.lose(Loss())
        other.whole = self.whole
        other.generations = self.generations
        other.applications = dict(self.applications)
        other._names = dict(self._names)
        return other

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def records(self) -> dict[ChunkId, MemoryChunk]:
        """All chunks, live."""
        return self.store.chunks

    @records.setter
    def records(self, chunks: dict[ChunkId, MemoryChunk]) -> None:
        self.store.chunks = chunks

    @property
    def rows(self) -> dict[ChannelKey, ChannelRow]:
        """All channel rows, live."""
        return self.store.channel_rows

    @property
    def is_full(self) -> bool:
        """Updates with data are refused."""
        return self.store.is_full

    @is_full.setter
    def is_full(self, value: bool) -> None:
        self.store.is_full = value

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """Chunks whose committed bytes are known to be wrong."""
        return self.store.bad_chunks

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """See `StoreView`."""
        return self.store.get(chunk)

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """See `StoreView`."""
        return self.store.get_channel(client, channel)

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """See `StoreView`."""
        return self.store.list(after, limit, until)

    def list_channels(self, after: ChannelKey | None, limit: int) -> Sequence[tuple[ChannelKey, ChannelRow]]:
        """See `StoreView`."""
        return self.store.list_channels(after, limit)

    def list_pending(self) -> Sequence[ChunkId]:
        """See `ChunkStore.list_pending`."""
        return self.store.list_pending()

    def get_content(self, chunk: ChunkId) -> bytes | None:
        """The committed bytes; None without committed version."""
        record = self.records.get(chunk)
        return record.committed.content if record is not None and record.committed is not None else None

    def read(self, chunk: ChunkId) -> tuple[int, bytes]:
        """Version and bytes that a read is answered with."""
        record = self.records[chunk]
        return record.meta.committed, record.content

    def get_pending_content(self, chunk: ChunkId, version: int) -> bytes | None:
        """The bytes of a pending version, for sending all of it to a successor. None when it is not there, or a removal."""
        record = self.records.get(chunk)
        if record is None or record.pending is None or record.pending.version != version:
            return None
        return None if record.kind is UpdateKind.REMOVE else record.pending.content

    def get_sums(self, chunk: ChunkId, version: int) -> tuple[int, ...]:
        """The checksums that the bytes of a version should have. KeyError without that version."""
        record = self.records[chunk]
        for found in (record.committed, record.pending):
            if found is not None and found.version == version:
                return found.sums
        raise KeyError(version)

    def verify(self, chunk: ChunkId) -> bool:
        """The committed bytes have their checksums; marks the chunk when they have not."""
        return self.store.verify_now(chunk)

    def rot(self, chunk: ChunkId) -> None:
        """The disk changes a committed byte, which is not noticed yet."""
        self.store.rot(chunk, 0)

    # --- changing ----------------------------------------------------------------------------------------------------

    def begin_barrier(self) -> BarrierMark:
        """See `MemoryChunkStore.begin_barrier`."""
        return self.store.begin_barrier()

    def end_barrier(self, mark: BarrierMark) -> None:
        """See `MemoryChunkStore.end_barrier`."""
        self.store.end_barrier(mark)
        self._forget_durable_names()

    def stage(self, update: Update) -> tuple[Code, int, int]:
        """The update is durable as the pending version: (code, length, checksum) of the chunk once it is committed."""
        if update.data is not None and not update.checksums:
            update = msgspec.structs.replace(update, checksums=tuple(checksums(update.data, update.offset)))
        result = self.store.stage_within(update, update.version, update.chain_version)
        if result.code is not Code.OK:
            return result.code, 0, 0
        record = self.records[update.chunk]
        pending = record.pending
        assert pending is not None
        if self.corrupt_next and pending.content:
            self.corrupt_next = False
            wrong = bytes((pending.content[0] ^ 1,)) + pending.content[1:]
            pending = MemoryVersion(pending.version, pending.chain_version, wrong)
            record = self.records[update.chunk] = MemoryChunk(record.committed, pending, record.kind, record.tag)
        self._names[pending] = update.tag
        self._forget_durable_names()
        return Code.OK, record.meta.pending_length, record.meta.pending_checksum

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """The pending version becomes the committed one."""
        record = self.records[chunk]
        assert record.pending is not None, f"commit of version {version} of {chunk.hex()}, which has {record.meta}"
        name = self._names.get(record.pending)
        self.store.commit(chunk, version, tag, result)
        if name is None or not name.client or (record.kind in FILLS and self.applications.get(name)):
            return  # a fill says what the chunk is, however often: it applies nothing to what was there
        self.applications[name] = self.applications.get(name, 0) + 1
        self._unsynced_names.setdefault(chunk, []).append(name)

    def drop_pending(self, chunk: ChunkId) -> None:
        """Forget the pending version, durably."""
        self.store.drop_within(chunk)
        self._forget_durable_names()

    def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """Take over channel rows: of each channel the higher seq stays. Durable."""
        for key, row in rows:
            self.store.merge_within(key, row)

    def repair(self, chunk: ChunkId, version: int, content: bytes) -> bool:
        """Another replica's bytes for a bad chunk. False when they are not the ones."""
        try:
            return self.store.repair_within(chunk, version, content)
        except FS3Error:
            return False

    # --- losing power ------------------------------------------------------------------------------------------------

    @property
    def unsynced_chunks(self) -> Sequence[ChunkId]:
        """Chunks with a change that a crash may undo, the oldest first."""
        return tuple(self.store.unsynced.chunks)

    def draw_loss(self, prng: Prng, count: int) -> Loss:
        """A loss of `count` changes, whichever they are, and of marks by a coin each."""
        unsynced = list(self.unsynced_chunks)
        prng.shuffle(unsynced)
        return Loss(frozenset(unsynced[:count]), frozenset([chunk for chunk in self.bad_chunks if prng.chance(1, 2)]))

    def crash(self, loss: Loss) -> None:
        """Power fails, and takes this with it."""
        before = self.store
        self.store = before.lose(loss)
        for chunk in before.unsynced.chunks:
            if chunk in loss.chunks:
                for name in self._unsynced_names.get(chunk, ()):
                    self.applications[name] -= 1
        self._unsynced_names.clear()

    def _forget_durable_names(self) -> None:
        for chunk in [chunk for chunk in self._unsynced_names if chunk not in self.store.unsynced.chunks]:
            del self._unsynced_names[chunk]

    # --- for checkers ------------------------------------------------------------------------------------------------

    def has_update(self, tag: Tag) -> bool:
        """The update of this tag is committed or pending here, or came with a resync."""
        if self.has_applied(tag):
            return True
        return any(record.pending is not None and self._names.get(record.pending) == tag for record in self.records.values())

    def has_applied(self, tag: Tag) -> bool:
        """It was committed here, or where this store was brought up to date from."""
        row = self.rows.get((tag.client, tag.channel))
        return bool(self.applications.get(tag)) or (row is not None and row.seq >= tag.seq)


def newest_lost(chunks: SimChunks, count: int) -> Loss:
    """The loss of the newest `count` changes, for steps that are told and not drawn."""
    unsynced = chunks.unsynced_chunks
    return Loss(frozenset(unsynced[len(unsynced) - min(count, len(unsynced)) :]))

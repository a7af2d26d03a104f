"""A chunk store that keeps everything in dictionaries and loses, in a crash, what its promises allow it to lose.

What the promises are is in `fs3.ports.chunk_store`: a stage that has completed survives. A commit is durable with the next
barrier that begins after it, or by itself after a while; a crash shows such a version as pending again. Commits reach the disk
in order, so a crash undoes the newest few of those that no barrier has covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from fs3.base.checksum import crc32c
from fs3.base.ids import ChunkId, ClientId
from fs3.base.status import Code
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult

ChannelKey = tuple[ClientId, int]


def apply_update(kind: UpdateKind, offset: int, data: bytes, content: bytes | None) -> bytes | None:
    """The content of a chunk after an update. None: the chunk does not exist."""
    if kind is UpdateKind.REMOVE:
        return None
    if kind is UpdateKind.PUT or kind is UpdateKind.FILL:
        return data
    before = content or b""
    if kind is UpdateKind.TRUNCATE:
        return before[:offset]
    return before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]


@dataclass(frozen=True, slots=True)
class Record:
    """One chunk: what is known of it, and its bytes."""

    meta: ChunkMeta
    content: bytes
    """Of the committed version."""
    pending: bytes | None = None
    """Of the pending version; None when it is a removal or there is none."""
    pending_name: Tag | None = None
    """Tag of the pending update as it was sent, whatever is stored of it. For checkers."""


@dataclass(frozen=True, slots=True)
class Undo:
    """What a lost commit leaves behind: how things were before it."""

    chunk: ChunkId
    record: Record
    channel: ChannelKey | None
    row: ChannelRow | None
    tag: Tag | None


class SimChunks:
    """Chunks of one simulated target. The methods a replica asks have the names and promises of the chunk store port."""

    def __init__(self, *, is_new: bool = False) -> None:
        """`is_new`: it was made for a target that has none, which does not know yet whether it had one before."""
        self.records: dict[ChunkId, Record] = {}
        self.rows: dict[ChannelKey, ChannelRow] = {}
        self.is_new = is_new
        self.whole = True
        """As noted on the disk; see `fs3.core.craq.events.Opened.whole`."""
        self.is_full = False
        """Nothing that takes room is staged."""
        self.bad_chunks: dict[ChunkId, str] = {}
        """Chunks whose committed bytes are known to be wrong."""
        self.applications: dict[Tag, int] = {}
        """How often each tagged update was committed here, lost commits not counted. For checkers."""
        self.corrupt_next = False
        """The next stage stores other bytes than it was given."""
        self._unsynced: list[Undo] = []
        self._synced = 0
        """Commits that are durable."""
        self._merged: dict[ChannelKey, ChannelRow] = {}
        """Rows taken over from another replica: durable, whatever commits are lost."""

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """What is known of a chunk."""
        record = self.records.get(chunk)
        return record.meta if record is not None else None

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """The last update committed for a channel."""
        return self.rows.get((client, channel))

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """Chunks in key order after a key and before `until`."""
        found = [
            (chunk, record.meta)
            for chunk, record in self.records.items()
            if (after is None or chunk > after) and (until is None or chunk < until)
        ]
        return sorted(found, key=itemgetter(0))[:limit]

    def list_channels(self, after: ChannelKey | None, limit: int) -> Sequence[tuple[ChannelKey, ChannelRow]]:
        """Channel rows in order after a key."""
        return sorted((item for item in self.rows.items() if after is None or item[0] > after), key=itemgetter(0))[:limit]

    def get_content(self, chunk: ChunkId) -> bytes | None:
        """The committed bytes; None without committed version."""
        record = self.records.get(chunk)
        return record.content if record is not None and record.meta.committed else None

    def read(self, chunk: ChunkId) -> tuple[int, bytes]:
        """Version and bytes that a read is answered with."""
        record = self.records[chunk]
        return record.meta.committed, record.content

    def verify(self, chunk: ChunkId) -> bool:
        """The committed bytes have their checksum; marks the chunk when they have not."""
        record = self.records.get(chunk)
        if record is None or not record.meta.committed or crc32c(record.content) == record.meta.checksum:
            return True
        self.bad_chunks.setdefault(chunk, "the disk returned other bytes")
        return False

    def rot(self, chunk: ChunkId) -> None:
        """The disk changes a committed byte, and nobody notices yet."""
        record = self.records[chunk]
        self.records[chunk] = replace(record, content=bytes((record.content[0] ^ 0x20,)) + record.content[1:])

    def repair(self, chunk: ChunkId, version: int, content: bytes) -> bool:
        """Another replica's bytes for a bad chunk. False when they are not the ones."""
        record = self.records.get(chunk)
        if record is None or record.meta.committed != version or crc32c(content) != record.meta.checksum:
            return False
        self.records[chunk] = replace(record, content=content)
        self.bad_chunks.pop(chunk, None)
        return True

    def get_pending_content(self, chunk: ChunkId, version: int) -> bytes | None:
        """The bytes of a pending version, for sending all of it to a successor. None when it is not there."""
        record = self.records.get(chunk)
        return record.pending if record is not None and record.meta.pending == version else None

    def list_pending(self) -> Sequence[ChunkId]:
        """Chunks that have a pending version."""
        return [chunk for chunk, record in self.records.items() if record.meta.pending]

    # --- changing ----------------------------------------------------------------------------------------------------

    def begin_barrier(self) -> int:
        """A mark for `end_barrier`: commits so far become durable with this barrier."""
        return self._synced + len(self._unsynced)

    def end_barrier(self, mark: int) -> None:
        """The barrier is on the disk."""
        covered = mark - self._synced
        if covered > 0:
            del self._unsynced[:covered]
            self._synced = mark

    def stage(self, update: Update) -> tuple[Code, int, int]:
        """The update is durable as the pending version: (code, length, checksum) of the chunk once it is committed."""
        if self.is_full and update.length and update.kind is not UpdateKind.REMOVE:
            return Code.NO_SPACE, 0, 0
        if update.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE) and not self.verify(update.chunk):
            return Code.CHECKSUM, 0, 0
        old = self.records.get(update.chunk)
        data = bytes(update.data) if update.data is not None else b""
        after = apply_update(update.kind, update.offset, data, old.content if old is not None and old.meta.committed else None)
        if self.corrupt_next and after:
            after = bytes((after[0] ^ 1,)) + after[1:]
            self.corrupt_next = False
        length, checksum = (len(after), crc32c(after)) if after is not None else (0, 0)
        before = old.meta if old is not None else _ABSENT
        meta = ChunkMeta(
            committed=before.committed,
            pending=update.version,
            chain_version=update.chain_version,
            length=before.length,
            checksum=before.checksum,
            pending_kind=update.kind,
            pending_tag=self.choose_stored_tag(update),
            pending_length=length,
            pending_checksum=checksum,
        )
        self.records[update.chunk] = Record(meta, old.content if old is not None else b"", after, update.tag)
        return Code.OK, length, checksum

    def choose_stored_tag(self, update: Update) -> Tag | None:
        """What of the tag is stored with the pending version."""
        return update.tag

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """The pending version becomes the committed one."""
        record = self.records[chunk]
        meta = record.meta
        assert meta.pending == version, f"commit of version {version} of {chunk.hex()}, which has {meta}"
        channel = (tag.client, tag.channel) if tag.client else None
        self.bad_chunks.pop(chunk, None)
        name = record.pending_name if record.pending_name is not None and record.pending_name.client else None
        if name is not None and meta.pending_kind is UpdateKind.FILL and self.applications.get(name):
            name = None  # a fill says what the chunk is, however often: it applies nothing to what was there
        self._unsynced.append(Undo(chunk, record, channel, self.rows.get(channel) if channel else None, name))
        if meta.pending_kind is UpdateKind.REMOVE:
            del self.records[chunk]
        else:
            after = ChunkMeta(version, 0, meta.chain_version, meta.pending_length, meta.pending_checksum)
            self.records[chunk] = Record(after, record.pending or b"")
        if channel:
            self.rows[channel] = ChannelRow(tag.seq, chunk, result)
        if name is not None:
            self.applications[name] = self.applications.get(name, 0) + 1

    def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """Take over channel rows: of each channel the higher seq stays. Durable."""
        for key, row in rows:
            for held in (self.rows, self._merged):
                if key not in held or held[key].seq < row.seq:
                    held[key] = row

    def drop_pending(self, chunk: ChunkId) -> None:
        """Forget the pending version."""
        record = self.records[chunk]
        if record.meta.committed:
            meta = record.meta
            kept = ChunkMeta(meta.committed, 0, meta.chain_version, meta.length, meta.checksum)
            self.records[chunk] = Record(kept, record.content)
        else:
            del self.records[chunk]

    def is_synced(self, chunk: ChunkId) -> bool:
        """No commit of the chunk can be lost any more."""
        return all(undo.chunk != chunk for undo in self._unsynced)

    @property
    def unsynced_count(self) -> int:
        """Commits that a crash may undo."""
        return len(self._unsynced)

    def crash(self, lost: int) -> None:
        """Power fails: the newest `lost` commits (at most `unsynced`) were not on the disk."""
        for _ in range(lost):
            undo = self._unsynced.pop()
            self.records[undo.chunk] = undo.record
            if undo.channel:
                merged = self._merged.get(undo.channel)
                row = undo.row if merged is None or (undo.row is not None and undo.row.seq > merged.seq) else merged
                if row is None:
                    del self.rows[undo.channel]
                else:
                    self.rows[undo.channel] = row
            if undo.tag is not None:
                self.applications[undo.tag] -= 1
        self._synced += len(self._unsynced)
        self._unsynced.clear()

    def has_update(self, tag: Tag) -> bool:
        """The update of this tag is committed or pending here, or came with a resync. For checkers."""
        if self.has_applied(tag):
            return True
        return any(record.pending_name == tag for record in self.records.values() if record.meta.pending)

    def has_applied(self, tag: Tag) -> bool:
        """It was committed here, or where this store was brought up to date from. For checkers."""
        row = self.rows.get((tag.client, tag.channel))
        return bool(self.applications.get(tag)) or (row is not None and row.seq >= tag.seq)


_ABSENT = ChunkMeta(0, 0, 0, 0, 0)

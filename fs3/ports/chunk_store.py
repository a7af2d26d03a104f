"""Where a target keeps its chunks.

Two worlds meet here. The loop asks for metadata and for warm data and never waits for the disk. Everything that must be
durable goes through `stage`, whose implementation gathers whatever is waiting into one barrier: data synced, then the index
committed, then all callers answered.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.core.craq.change_board import OwnerMark
from fs3.core.craq.resync.rows import StoreView
from fs3.model.chunk import ChannelKey, ChannelRow, Tag, Update, UpdateResult
from fs3.ports.rpc import FileRange, Part


class StoreDamaged(FS3Error):
    """The store of a target is not what was written: truncated, or full of other bytes, in a way no single chunk stands for.

    The node that opened it must not serve it: it moves it out of the way, never deletes it, and an empty one is filled by the
    chain. A store of another owner is no case of this: CONFIG (target), WRONG_CLUSTER, UNSUPPORTED (format), BUSY (process).
    """

    def __init__(self, message: str, filename: str | None = None) -> None:
        super().__init__(Code.CHECKSUM, message, filename)

    def __reduce__(self) -> tuple[object, ...]:
        return (StoreDamaged, (self.strerror, self.filename))


def describe_carried(chunk: ChunkId) -> str:
    """What a store says of a chunk that a FILL_BAD has marked."""
    return f"chunk {chunk.hex()} was damaged on every target that served its chain when it was brought here"


@dataclass(slots=True)
class ScrubStep:
    """What one step of a scrub looked at."""

    after: ChunkId | None
    """Where the next step begins; None: that was the last chunk."""
    chunks: int
    """Looked at, with a committed version."""
    bytes: int
    """Read from the disk."""
    bad_chunks: Sequence[ChunkId]
    """Found bad by this step; they are marked."""


class StageResult(msgspec.Struct, gc=False):
    """The outcome of staging one update. On anything but OK nothing of it is left."""

    code: Code
    length: int = 0
    """Of the chunk, once the update is committed."""
    checksum: int = 0
    """Digest of the chunk's block checksums, once the update is committed."""
    message: str = ""


Staged = tuple[Update, StageResult]
"""What has come of staging an update."""
OnStaged = Callable[[Sequence[Staged]], None]
"""Told of one or more at a time."""


@dataclass(slots=True)
class ReadResult:
    """A served range. `parts` are handed to the transport; `release` must be called once they are gone (unpins the block)."""

    code: Code
    version: int = 0
    length: int = 0
    parts: Sequence[memoryview | bytes | FileRange] = ()
    checksums: Sequence[int] = ()
    """Stored or verified sums of the range, cut at multiples of `piece_bytes` of chunk offset."""
    piece_bytes: int = 0
    pin: int = 0
    """Handle for `release`; 0: nothing to release."""
    message: str = ""


class ReadGather:
    """Many reads gathered for one reply. Columns: element i of every list belongs to IO i.

    Small ranges (below `small_read_bytes`) land side by side in one buffer, so that a reply of 64 of them leaves as one part.
    The service that gathers the batch asks each store for its share of it (`read_many`), then reads what was cold (`read_cold`,
    `put`), or refuses an IO itself (`refuse`); when every IO is answered, the columns and `parts` are the reply.
    """

    __slots__ = (
        "checksums",
        "codes",
        "large_parts",
        "lengths",
        "offsets",
        "piece_bytes",
        "pins",
        "positions",
        "versions",
        "view",
        "wanted",
    )
    codes: list[int]
    """`Code` of each IO; INTERNAL until it is answered."""
    lengths: list[int]
    """Bytes served; 0 unless OK. A chunk that ends earlier gives fewer than wanted."""
    versions: list[int]
    """Committed version that was read; 0 unless OK."""
    checksums: list[Sequence[int]]
    """Sums of the range, cut at multiples of `piece_bytes` of chunk offset; empty unless OK."""
    piece_bytes: list[int]
    """Piece size of the sums; 0 unless OK."""

    def __init__(self, offsets: Sequence[int], wanted: Sequence[int]) -> None:
        count = len(wanted)
        self.offsets = offsets
        self.wanted = wanted
        room = wanted if not count or max(wanted) < small_read_bytes else [n if n < small_read_bytes else 0 for n in wanted]
        self.positions = list(accumulate(room, initial=0))
        self.view = memoryview(bytearray(self.positions[-1]))
        self.codes = [int(Code.INTERNAL)] * count
        self.lengths = [0] * count
        self.versions = [0] * count
        self.checksums = [()] * count
        self.piece_bytes = [0] * count
        self.large_parts: dict[int, Sequence[memoryview | bytes | FileRange]] = {}
        """Parts of the IOs that are not in the buffer."""
        self.pins: list[tuple[ChunkStore, int]] = []
        """Held until `release`."""

    def refuse(self, index: int, code: Code) -> None:
        """IO `index` is answered with a code."""
        self.codes[index] = int(code)

    def put(self, index: int, store: ChunkStore, result: ReadResult) -> None:
        """IO `index` is answered with what `store` read for it alone."""
        self.codes[index] = int(result.code)
        if result.pin:
            self.pins.append((store, result.pin))
        if result.code is Code.OK:
            self.lengths[index] = result.length
            self.versions[index] = result.version
            self.checksums[index] = result.checksums
            self.piece_bytes[index] = result.piece_bytes
            self.large_parts[index] = result.parts

    def join_parts(self) -> list[Part]:
        """The payload: bytes of all OK IOs in order, without gaps. Neighbours in the buffer are one part."""
        if not self.large_parts and self.lengths == list(self.wanted):
            return [self.view] if len(self.view) else []
        parts: list[Part] = []
        begin = end = 0
        for index, length in enumerate(self.lengths):
            if not length:
                continue
            other = self.large_parts.get(index)
            at = self.positions[index]
            if other is None and at == end:
                end += length
                continue
            if end > begin:
                parts.append(self.view[begin:end])
            if other is None:
                begin, end = at, at + length
            else:
                begin = end = at
                parts.extend(other)
        if end > begin:
            parts.append(self.view[begin:end])
        return parts

    def release(self) -> None:
        """The parts are gone."""
        for store, pin in self.pins:
            store.release(pin)
        self.pins.clear()


@dataclass(slots=True)
class StoreSpace:
    """Bytes and chunks of a store. `used` counts whole blocks; `free` what new blocks may still take under every limit.

    `pinned`, a part of `used`: blocks no chunk refers to any more that are not free yet, because of readers or the next barrier.
    """

    used: int
    free: int
    chunks: int
    pinned: int


class Prewritten(Protocol):
    """Bytes that were written to a block before the update that brings them is staged. No row refers to them."""

    @property
    def checksums(self) -> tuple[int, ...]:
        """Of pieces of 64 KiB, found in the bytes that were written."""
        ...


OnChange = Callable[[ChunkId], None]
"""Told of a chunk of which a read may be answered otherwise from now on."""


class BlockPlace(NamedTuple):
    """Where the bytes of a committed version lie, for readers on the same host that verify them."""

    path: str
    """Of the file."""
    offset: int
    """Of the chunk's first byte in it."""
    length: int
    """In bytes."""
    version: int
    sums: array[int]
    """CRC32C of each piece of PIECE_BYTES, of format q; -1: it is not known yet."""


class ChunkStore(StoreView, Protocol):
    """Durable chunks of one target. All methods are called on one loop; those that are not `async` never touch a cold disk
    for longer than an index lookup. What a replica and a resync ask is in `StoreView`; listing costs about 2 µs a chunk, and
    `get`, `get_channel`, `list` and `list_channels` raise StoreDamaged when a row is not what was written.

    A chunk is *bad* when its committed bytes are not what their stored sums say, or cannot be read. It is marked by what finds
    out: `read`, `read_cold`, a `stage` that keeps some of the bytes, `verify` and `scrub` here; `mark_bad` for callers. While
    it is marked every read of the committed version is answered CHECKSUM at once. The mark goes with the bytes: `repair`
    replaces them, and so does a commit that leaves none of the old block (of a FILL, a PUT, a REMOVE, an update for which all
    remaining bytes were read and found good; of a marked chunk, every WRITE and TRUNCATE is such an update or is answered
    CHECKSUM: replicas with the same bytes do not differ in that). The commit of a FILL_BAD marks the chunk. The marks are kept
    over a restart. There are `bad_chunks_max` of them; beyond that, chunks are found bad anew at every read.

    Channel rows are bounded: each carries the *channel epoch* of the store at its last commit or merge. Rows that are two
    epochs old are dropped, a bounded number at a time, once `advance_channel_epoch` has made them so.
    """

    on_bad: Callable[[ChunkId], None] | None
    """Called on the loop when a chunk is marked that was not; set by the service that repairs it. Never for marks found at
    opening: those are in `bad_chunks`."""

    on_change: OnChange | None
    """Called on the loop when a read of a chunk may be answered otherwise from now on, in the step in which that is so: its
    versions or where their bytes are have changed, or it was marked bad."""

    @property
    def owner_mark(self) -> OwnerMark | None:
        """By what readers on the same host know that no other process has opened this store since. None: they cannot."""
        ...

    def locate_block(self, chunk: ChunkId) -> BlockPlace | None:
        """Where the committed version is now. None: there is none, it is marked bad, it lies in no file, or no small range of it
        was read lately. Sums are known of pieces that small reads have needed. Raises StoreDamaged."""
        ...

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """Take over channel rows of another replica: of each channel the row with the higher seq stays. Durable on return.

        They count as used in the present epoch. At most `channel_rows_per_merge_max`. A store that is full of rows takes as many
        again from merges, since it cannot choose. Raises FS3Error: NO_SPACE beyond that or without room for the index, DISK,
        SHUTTING_DOWN; some of the rows may then be there already, which does no harm.
        """
        ...

    @property
    def channel_room(self) -> int:
        """How many new channels may begin before `channels_per_target_max` is reached; 0: updates of new channels are BUSY.

        For the head to ask before it admits an update whose channel has no row. `stage` and `commit` do not ask: what the head
        has admitted must not fail further down.
        """
        ...

    @property
    def channel_count(self) -> int:
        """Channel rows there are."""
        ...

    @property
    def channel_epoch(self) -> int:
        """The present channel epoch, from 1 (u32)."""
        ...

    def advance_channel_epoch(self) -> None:
        """Begin the next channel epoch: `channel_forget_ns` of running time have passed since the last one began.

        Durable with the next barrier; a crash before that only keeps rows longer.
        """
        ...

    async def prewrite(self, data: memoryview, reserve: int) -> Prewritten | None:
        """Write what will be all of a chunk to a free block and sync it, so that staging it is no more than a row. A loss of
        power takes it, as `discard` does. `reserve`: see `Update.reserve`.

        None: it is not done, for want of room, memory or a disk that works, or because it is not worth while. `data` must stay as
        it is until then, also when the caller is cancelled.
        """
        ...

    def discard(self, prewritten: Prewritten) -> None:
        """No update brings these bytes: their block is free again. Nothing happens when one has been staged with them."""
        ...

    async def stage(self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None) -> StageResult:
        """Make an update durable as the pending version of its chunk. When it returns OK it survives loss of power.

        `update.data` must stay as it is until then, also when the caller is cancelled: the call then completes by itself.

        A pending version that is there already is replaced (the caller has decided so). The checksums of the data are
        verified first: CHECKSUM when they differ. NO_SPACE: nothing was changed. Bytes of partly overwritten blocks are
        verified when they are read: CHECKSUM naming the chunk when the disk has changed them, then the chunk stays as it was.
        Concurrent calls share a barrier; calls for one chunk are never concurrent.
        A FILL_BAD has the data of a damaged chunk and the sums they should have, which are not compared but kept; one whose data
        have them after all is a FILL.
        A PUT whose chunk has a committed version changes nothing: EXISTS with that version's length and checksum.
        INVALID for an update that contradicts itself (length of the data, number of checksums, PUT or a fill not from 0);
        TOO_LARGE when the chunk would pass `block_bytes_max`; BUSY for prewritten bytes that are not all of what the chunk
        becomes, or that were discarded: then the caller needs the data. They take the place of `update.data`, and are the
        store's again, whatever is answered. DISK when a write or a sync failed (after a failed sync every further one).
        """
        ...

    def submit(self, updates: Sequence[Update], on_staged: OnStaged) -> None:
        """`stage` of updates of different chunks, under the version and chain version each has, for callers with hundreds at a
        time: no task waits for each. `on_staged` is told of each once, from the loop and not within this call, whatever the
        outcome is."""
        ...

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """The pending version becomes the committed one and the channel row is set, at once and atomically for readers.

        Durable with the next barrier, or within `commit_sync_ns` (100 ms) by itself; a store that is opened after a crash may
        show the version as pending again, never lose it. A REMOVE makes the chunk absent. A tag with client b"" keeps no row.
        """
        ...

    def drop_pending(self, chunk: ChunkId) -> None:
        """Forget the pending version."""
        ...

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """Serve a range of the committed version if that needs no disk: None when it is cold, then use `read_cold`.

        NOT_FOUND: no committed version. A range past the end is shortened. Small ranges are read into memory and verified;
        large aligned ones are FileRange parts with stored sums that the *client* verifies. The block is pinned until `release`.
        """
        ...

    def read_many(
        self, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """`read` for the IOs `which` of a batch, with next to no cost for each: IO i reads `chunks[i]`. Returns those that are
        cold, for `read_cold` and `batch.put`. The codes are those of `core.craq.reads.answer`, with `refuse_dirty` as its
        `pending_is_dirty`: DIRTY for a chunk that has a pending version then, CHECKSUM for one that is marked bad in any case."""
        ...

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """The same on the disk's thread, every byte verified on the way. CHECKSUM when the disk returned other bytes.

        With `pending`, the pending version is read instead (to send it to a successor after a restart), whole blocks verified.
        """
        ...

    async def read_damaged(self, chunk: ChunkId, *, pending: bool = False) -> ReadResult:
        """All bytes of a version as the disk gives them, unverified, zeros where it gives none; and the sums they should have, in
        pieces of BLOCK_BYTES. To hand a bad chunk on as it is (FILL_BAD), for nothing else. Nothing is pinned. NOT_FOUND without
        such a version."""
        ...

    def release(self, pin: int) -> None:
        """A reader is done."""
        ...

    def pin_version(self, chunk: ChunkId) -> int:
        """Keep the bytes of the committed version, whatever becomes of the chunk, for `read_pinned`. 0: there is none. Raises
        StoreDamaged.

        The block is not free before `read_pinned` or `unpin`, so pins are to be few, and short. `close` ends them all.
        """
        ...

    async def read_pinned(self, pins: Sequence[int], length: int) -> Sequence[bytes | None]:
        """The first `length` bytes (less than `small_read_bytes`) of each pinned version, or all it has: all of them read on one
        thread, and verified. None where they are not what was written; marks do not matter, and none is made. Unpins, also when
        the caller is cancelled. Raises FS3Error SHUTTING_DOWN."""
        ...

    def unpin(self, pins: Sequence[int]) -> None:
        """These versions are not to be read. Harmless for what is not pinned any more."""
        ...

    @property
    def block_reuse_delay_ns(self) -> int:
        """For at least so long after `release` the bytes of a block that was pinned stay as they are, by the store's clock, also
        when the store is closed, or dies, and is opened again meanwhile: sockets may refer to them."""
        ...

    def list_pending(self) -> Sequence[ChunkId]:
        """Chunks that have a pending version; after opening, those a crash interrupted."""
        ...

    # --- bad chunks --------------------------------------------------------------------------------------------------

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """The chunks that are marked bad, and what was found. A live view."""
        ...

    def mark_bad(self, chunk: ChunkId, why: str = "") -> None:
        """Mark a chunk: its committed bytes are wrong. Nothing happens without a committed version."""
        ...

    async def verify(self, chunk: ChunkId) -> bool:
        """Are the committed bytes what was written? Reads all of them from the disk itself, and as readers get them. Marks the
        chunk when they are not, takes the mark away when they are. True also when there is no committed version. For a chunk
        whose reader saw wrong bytes."""
        ...

    async def scrub(self, after: ChunkId | None, limit_bytes: int) -> ScrubStep:
        """Verify chunks in key order after a key: whole chunks, until `limit_bytes` have been read or `scrub_rows_max` rows.

        Reads the disk itself in pieces of 1 MiB and leaves the page cache as it is; marks what it finds. Marked chunks are not
        read again. Raises StoreDamaged when an index row is damaged.
        """
        ...

    async def repair(self, chunk: ChunkId, version: int, data: memoryview) -> bool:
        """Replace the bytes of a committed version by `data`, another replica's of the same version; clears the mark. Durable.

        False: that version is not the committed one (any more), an update of the chunk is being staged, or the pending version is
        in the same block; nothing happened, look again later. A stage that comes meanwhile waits; commits and drops go ahead.
        `data` must stay as it is until the end. Raises FS3Error: CHECKSUM when `data` do not have the sums this store has,
        NO_SPACE, DISK, BUSY, SHUTTING_DOWN.
        """
        ...

    def get_space(self) -> StoreSpace:
        """Room and use."""
        ...

    async def flush(self) -> None:
        """Make every commit so far durable as committed."""
        ...

    async def close(self) -> None:
        """Flush and close the files."""
        ...

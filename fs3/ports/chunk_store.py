"""Where a target keeps its chunks.

Two worlds meet here. The loop asks for metadata and for warm data and never waits for the disk. Everything that must be
durable goes through `stage`, whose implementation gathers whatever is waiting into one barrier: data synced, then the index
committed, then everybody answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from fs3.base.ids import ChunkId, ClientId
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult
from fs3.ports.rpc import FileRange, Part


@dataclass(slots=True)
class StageResult:
    """The outcome of staging one update. On anything but OK nothing of it is left."""

    code: Code
    length: int = 0
    """Of the chunk, once the update is committed."""
    checksum: int = 0
    """Digest of the chunk's block checksums, once the update is committed."""
    message: str = ""


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


class ReadBatch:
    """Many reads gathered for one reply. Columns: element i of every list belongs to IO i.

    Small ranges (below `small_read_bytes`) land side by side in one buffer, so that a reply of 64 of them leaves as one part.
    Whoever gathers the batch asks each store for its share of it (`read_many`), then reads what was cold (`read_cold`, `put`),
    or refuses an IO itself (`refuse`); when every IO is answered, the columns and `parts` are the reply.
    """

    __slots__ = (
        "checksums",
        "codes",
        "elsewhere",
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
        self.elsewhere: dict[int, Sequence[memoryview | bytes | FileRange]] = {}
        """Parts of the IOs that are not in the buffer."""
        self.pins: list[tuple[Callable[[int], None], int]] = []

    def refuse(self, index: int, code: Code) -> None:
        """IO `index` is answered with a code."""
        self.codes[index] = int(code)

    def put(self, index: int, store: ChunkStore, result: ReadResult) -> None:
        """IO `index` is answered with what `store` read for it alone."""
        self.codes[index] = int(result.code)
        if result.pin:
            self.pins.append((store.release, result.pin))
        if result.code is Code.OK:
            self.lengths[index] = result.length
            self.versions[index] = result.version
            self.checksums[index] = result.checksums
            self.piece_bytes[index] = result.piece_bytes
            self.elsewhere[index] = result.parts

    def parts(self) -> list[Part]:
        """The payload: bytes of all OK IOs in order, without gaps. Neighbours in the buffer are one part."""
        if not self.elsewhere and self.lengths == list(self.wanted):
            return [self.view] if len(self.view) else []
        parts: list[Part] = []
        begin = end = 0
        for index, length in enumerate(self.lengths):
            if not length:
                continue
            other = self.elsewhere.get(index)
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
        for unpin, pin in self.pins:
            unpin(pin)
        self.pins.clear()


@dataclass(slots=True)
class Space:
    """Bytes and chunks of a store. `used` counts whole blocks; `free` what new blocks may still take under every limit.

    `pinned`, a part of `used`: blocks no chunk refers to any more that are not free yet, because of readers or the next barrier.
    """

    used: int
    free: int
    chunks: int
    pinned: int


class ChunkStore(Protocol):
    """Durable chunks of one target. All methods are called on one loop; those that are not `async` never touch a cold disk
    for longer than an index lookup."""

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """What is known of a chunk, with every stage and commit that has completed. None: it does not exist."""
        ...

    def channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """The last update committed for a channel."""
        ...

    async def stage(self, update: Update, version: int, chain_version: int) -> StageResult:
        """Make an update durable as the pending version of its chunk. When it returns OK it survives loss of power.

        `update.data` must stay as it is until then, also when the caller is cancelled: the call then completes by itself.

        A pending version that is there already is replaced (the caller has decided so). The checksums of the data are
        verified first: CHECKSUM when they differ. NO_SPACE: nothing was changed. Bytes of partly overwritten blocks are
        verified when they are read: CHECKSUM naming the chunk when the disk has changed them, then the chunk stays as it was.
        Concurrent calls share a barrier; calls for one chunk are never concurrent.
        A PUT whose chunk has a committed version changes nothing: EXISTS with that version's length and checksum.
        INVALID for an update that contradicts itself (length of the data, number of checksums, PUT or FILL not from 0); TOO_LARGE
        when the chunk would pass `block_bytes_max`; DISK when a write or a sync failed (after a failed sync every further one).
        """
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
        self, chunks: Sequence[ChunkId], batch: ReadBatch, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """`read` for the IOs `which` of a batch, with next to no cost for each: IO i reads `chunks[i]`. Returns those that are
        cold, for `read_cold` and `batch.put`. With `refuse_dirty`, a chunk that has a pending version is answered DIRTY."""
        ...

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """The same on the disk's thread, every byte verified on the way. CHECKSUM when the disk returned other bytes.

        With `pending`, the pending version is read instead (to send it to a successor after a restart), whole blocks verified.
        """
        ...

    def release(self, pin: int) -> None:
        """A reader is done."""
        ...

    def pending(self) -> Sequence[ChunkId]:
        """Chunks that have a pending version; after opening, those a crash interrupted."""
        ...

    def list(self, after: ChunkId | None, limit: int) -> list[tuple[ChunkId, ChunkMeta]]:
        """Chunks in key order after a key."""
        ...

    def space(self) -> Space:
        """Room and use."""
        ...

    async def flush(self) -> None:
        """Make every commit so far durable as committed."""
        ...

    async def close(self) -> None:
        """Flush and let go of the files."""
        ...

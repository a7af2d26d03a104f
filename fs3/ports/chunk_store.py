"""Where a target keeps its chunks.

Two worlds meet here. The loop asks for metadata and for warm data and never waits for the disk. Everything that must be
durable goes through `stage`, whose implementation gathers whatever is waiting into one barrier: data synced, then the index
committed, then everybody answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fs3.base.ids import ChunkId, ClientId
from fs3.base.status import Code
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult
from fs3.ports.rpc import FileRange


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


@dataclass(slots=True)
class Space:
    """Bytes and chunks of a store. `used` counts whole blocks; `free` what new blocks may still take under every limit."""

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

        A pending version that is there already is replaced (the caller has decided so). The checksums of the data are
        verified first: CHECKSUM when they differ. NO_SPACE: nothing was changed. Bytes of partly overwritten blocks are
        verified when they are read: CHECKSUM naming the chunk when the disk has changed them, then the chunk stays as it was.
        Concurrent calls share a barrier; calls for one chunk are never concurrent.
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

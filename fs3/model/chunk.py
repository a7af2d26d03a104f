"""Chunks and the updates that change them."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.status import Code


class UpdateKind(IntEnum):
    """What an update does to its chunk. Numbers as on the wire; the .proto says more."""

    WRITE = 0
    PUT = 1
    TRUNCATE = 2
    REMOVE = 3
    FILL = 4


class Tag(msgspec.Struct, frozen=True, array_like=True):
    """Names one update for ever: it is applied once however often it is sent."""

    client: ClientId
    channel: int
    seq: int


class Update(msgspec.Struct, frozen=True):
    """A change to one chunk, as it travels down a chain. `data` is not looked at by the machine, only handed on."""

    chunk: ChunkId
    kind: UpdateKind
    chain: ChainId
    chain_version: int
    version: int
    """Version it creates; 0 from a client, numbered by the head."""
    offset: int
    length: int
    tag: Tag
    checksums: tuple[int, ...] = ()
    """Of the data, cut at multiples of 64 KiB of chunk offset."""
    reserve: int = 0
    """Size the chunk is expected to reach, 0 unknown."""
    data: memoryview | None = None
    from_target: TargetId = TargetId(0)
    """Who sent it: 0 a client, else the predecessor."""
    serial: int = 0
    """Number of this sending between two neighbours of a chain; rises with every sending, also over restarts. 0 from a client."""
    floor: int = 0
    """The sender waits for no answer to a sending with a lower serial; whoever receives one later than this drops it."""


class ChunkMeta(msgspec.Struct, frozen=True):
    """What a target knows of one chunk. A chunk without committed version (0) is not readable; absent means hole."""

    committed: int
    """Readable version, 0 none."""
    pending: int
    """Staged version, 0 none; always committed + 1, but for a FILL."""
    chain_version: int
    """Chain version under which the newest of the two was staged."""
    length: int
    """Bytes of the committed version."""
    checksum: int
    """Digest of the committed version's block checksums (`fs3.base.checksum.digest_of`)."""
    pending_kind: UpdateKind = UpdateKind.WRITE
    pending_tag: Tag | None = None
    """Tag of the pending update, so that whoever rolls it forward does so under the right name."""
    pending_length: int = 0
    pending_checksum: int = 0


class UpdateResult(msgspec.Struct, frozen=True, array_like=True):
    """The answer to an update, kept with the channel so that a repetition gets the same."""

    code: Code
    version: int = 0
    length: int = 0
    checksum: int = 0
    message: str = ""


class ChannelRow(msgspec.Struct, frozen=True, array_like=True):
    """The last update applied for (client, channel): part of the replicated state, persisted with the commit it describes."""

    seq: int
    chunk: ChunkId
    result: UpdateResult

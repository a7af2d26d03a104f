"""What a storage node tells about its targets when it is asked: their chunks, their room, their scrubs."""

from __future__ import annotations

import msgspec

from fs3.base.ids import ChunkId, TargetId


class ChunkRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One chunk as one target has it."""

    chunk: ChunkId
    committed: int
    """Readable version, 0 none."""
    pending: int
    """Staged version, 0 none."""
    chain_version: int
    length: int
    """Bytes of the committed version."""
    checksum: int
    bad: bool
    """The target knows that its bytes are wrong."""


class ChunkPage(msgspec.Struct, frozen=True):
    """Chunks of one target in key order."""

    rows: list[ChunkRow]
    more: bool
    """There are chunks behind the last of them."""


class TargetSpace(msgspec.Struct, frozen=True, gc=False):
    """Room and use of one target, in bytes."""

    target_id: TargetId
    used_bytes: int
    free_bytes: int
    chunks: int = 0
    pinned_bytes: int = 0


class ScrubStatus(msgspec.Struct, frozen=True):
    """How far the scrub of one target is."""

    target_id: TargetId
    running: bool
    """One is under way: `done_chunks` of it are verified, of `total_chunks`."""
    done_chunks: int
    total_chunks: int
    bytes: int
    """Read since the node's process started."""
    passes: int
    """Scrubs that went through the whole target since it was made."""
    bad_chunks: int
    """Known to be bad now."""
    bad: tuple[ChunkId, ...]
    """The first of them."""
    repaired_chunks: int
    """From other replicas, since the node's process started."""

"""What an operator may set about one target's store."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base import limits
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND

cold_readers_per_target = 4
"""Threads that wait for the disk on behalf of cold reads."""


@dataclass(frozen=True, slots=True)
class ChunkStoreConfig:
    """How much a target may use of what."""

    capacity_bytes: int = 0
    """Blocks of this target together; 0: as much as the file system has."""
    repair_reserve_bytes: int = 0
    """Part of the capacity that only fills of a resync may use."""
    disk_reserve_bytes: int = 256 * MIB
    """Bytes the file system keeps free. Fills may use half of them."""
    index_map_bytes: int = limits.lmdb_map_bytes_default
    """Address space of the index at first; it doubles when needed."""
    index_map_bytes_max: int = limits.lmdb_map_bytes_max
    channels_max: int = limits.channels_per_target_max
    log_segment_bytes: int = 4 * MIB
    """Of a log that is made; it keeps them. One segment is written while the others wait for a checkpoint."""
    log_segments_max: int = 8
    logged_bytes_max: int = 64 * KIB
    """New bytes of an update that go into the log with its row, for one sync instead of two, and into their block at leisure."""
    checkpoint_interval_ns: int = 5 * SECOND
    """What the log has is in the index after so long at the latest."""
    row_cache_bytes: int = 32 * MIB
    """Decoded index rows and piece sums one target keeps in memory."""
    commit_sync_ns: int = 100 * MILLISECOND
    """A commit that no barrier has taken along by then is made durable by itself."""
    block_reuse_delay_ns: int = 2 * SECOND
    """A block that left by sendfile is not written again for so long after its last reader: its pages may still be in a socket.
    The length of a block lease (`fs3.core.craq.block_lease`); shorter ones make more unverified reads late."""
    cold_readers: int = cold_readers_per_target

"""What a store says about itself, for tests and tools."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChunkStoreState:
    """Counters of one `FileChunkStore` at one moment."""

    pins: int
    """Readers that have a block pinned."""
    cold_reads: int
    """Calls on reader threads."""
    is_barrier_running: bool
    """The disk thread has work."""
    rows_cached: int
    """Decoded index rows in memory."""
    rows_unsynced: int
    """Rows that differ from the durable index."""
    rows_in_log: int
    """Durable rows that the index has not got yet."""
    vacant_bytes: int
    """Free blocks that may still have their space on the disk."""
    may_punch: bool
    """The file system can take the space of free blocks back, as far as is known."""
    index_map_bytes: int
    """Address space of the index now."""

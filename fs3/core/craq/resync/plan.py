"""What a resync keeps in mind: its limits, and one plan per chain version and incarnation of the successor."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from fs3.base import limits
from fs3.base.ids import ChunkId
from fs3.base.units import SECOND
from fs3.core.craq.resync.rows import RangeDigest
from fs3.core.craq.resync.steps import ResyncPeer
from fs3.model.chunk import ChannelKey, ChannelRow

resync_finish_ns = 1 * SECOND
"""How often a successor is told that it has everything, until the chain version changes."""

resync_queries_max = 4
"""Requests one target has under way to find out what its successor lacks."""


class ResyncLimits(msgspec.Struct, frozen=True):
    """Limits and times of one resync; see `fs3.base.limits`."""

    range_chunks: int = limits.resync_range_chunks
    ranges_max: int = limits.resync_ranges_at_once
    queries_max: int = resync_queries_max
    list_max: int = limits.resync_list_rows
    fills_max: int = limits.resync_fills_max
    bytes_max: int = limits.resync_bytes_max
    bytes_per_second: int = 0
    """0: no limit."""
    burst_ns: int = limits.throttle_burst_ns
    channels_max: int = limits.resync_channels_per_request
    finish_ns: int = resync_finish_ns
    retry_min_ns: int = limits.resync_retry_min_ns
    retry_max_ns: int = limits.resync_retry_max_ns

    def retry_ns(self, failures: int) -> int:
        """How long to rest after so many failures in a row."""
        return min(self.retry_max_ns, self.retry_min_ns << min(failures - 1, 20))


DEFAULT_LIMITS = ResyncLimits()


@dataclass(slots=True)
class DifferingRange:
    """A range of keys that is known to differ, and about how many chunks it has here."""

    begin: bytes
    end: bytes
    count: int
    is_empty: bool
    """The successor has nothing in it: there is no need to ask what."""


@dataclass(slots=True)
class FillRetry:
    """A chunk whose fill failed."""

    due_ns: int
    failures: int
    why: str


@dataclass(slots=True)
class Plan:
    """All that a resync knows; a new one for each chain version and each incarnation of the successor."""

    peer: ResyncPeer
    total: int
    cursor: bytes = b""
    """Ranges begin here next."""
    scanned: bool = False
    """All ranges were asked about."""
    compares: deque[tuple[RangeDigest, ...]] = field(default_factory=deque)
    """To be asked again."""
    differing: deque[DifferingRange] = field(default_factory=deque)
    todo: deque[ChunkId] = field(default_factory=deque)
    retries: dict[ChunkId, FillRetry] = field(default_factory=dict)
    damaged: dict[ChunkId, int] = field(default_factory=dict)
    """Chunks of which no target that serves has the bytes, and their committed version (`CopyLost`)."""
    unsettled: dict[ChunkId, int] = field(default_factory=dict)
    """Versions that were pending in this store when their range was looked at. After a restart they may have been acknowledged
    before: the successor is not complete without them."""
    channel_after: ChannelKey | None = None
    channels_done: bool = False
    merge: tuple[tuple[ChannelKey, ChannelRow], ...] = ()
    """The page under way, or to be sent again."""
    finish_at: int = 0
    rest_until: int = 0
    failures: int = 0
    why: str = ""
    settled: int = 0
    fills: int = 0
    removals: int = 0
    bytes_moved: int = 0
    damaged_fills: int = 0
    channels: int = 0


RequestSubject = tuple[RangeDigest, ...] | DifferingRange | None
"""What a request under way is about: ranges to compare, a range to list, or neither."""

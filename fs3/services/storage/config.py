"""Configuration of a storage service."""

from __future__ import annotations

import msgspec

from fs3.base.errors import error
from fs3.base.limits import (
    cache_bytes_max,
    call_timeout_ns,
    chunk_bytes_max,
    resync_fills_max,
    scrub_bytes_per_second_default,
    throttle_bytes_per_second_max,
    throttle_bytes_per_second_min,
)
from fs3.base.status import Code
from fs3.base.units import GIB, MIB, MILLISECOND

push_bytes_min_default = 1 * MIB
scrub_interval_s_default = 14 * 24 * 3600
cache_share_max_default = 0.8
cache_file_room_bytes_default = 1 * GIB
cache_exchange_ms_default = 1000
cache_exchange_ms_max = 3_600_000

_INTERVAL_S_MAX = 366 * 24 * 3600


class StorageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set; keys of the storage role's TOML. All of it is applied while the service runs."""

    enforce_lease: bool = True
    """Refuse reads, finds and updates of clients (code LEASE) while the lease this node holds may have run out. Without it a node
    that was cut off may answer with what is no longer true: for experiments only."""
    stop_grace_ms: int = 5000
    """How long a clean stop waits for the chains to go on without this node, and for updates under way."""
    push_bytes_min: int = push_bytes_min_default
    """Updates of whole chunks with so many bytes are pushed: sent to the next target while this one still writes them; 0: none
    are."""
    read_only: bool = False
    """Refuse updates from clients; what predecessors forward is still taken."""
    short_circuit: bool = True
    """Tell clients of this host and user where blocks lie, so that they read small ranges from the files themselves."""
    resync_bytes_per_second: int = 0
    """Chunk bytes one target sends in a second to bring its successor up to date; 0: as fast as that goes."""
    resync_fills_max: int = resync_fills_max
    """Chunks one target sends at once to bring its successor up to date."""
    scrub_bytes_per_second: int = scrub_bytes_per_second_default
    """Bytes each target reads back in a second to verify them in the background; 0: no scrub but the ones that are asked for."""
    scrub_interval_s: int = scrub_interval_s_default
    """From the beginning of one scrub of a target to the beginning of the next."""
    cache_share_max: float = cache_share_max_default
    """The part of a target's capacity that pages of KVCaches may take. Files have room beside a full cache."""
    cache_share_min: float = 0.0
    """The part of a target's capacity that files leave to pages: down to it, pages give way when a target runs short of room."""
    cache_file_room_bytes: int = cache_file_room_bytes_default
    """When less is free, pages are evicted so that files find room; 0: never. A twentieth of a target at most."""
    cache_exchange_ms: int = cache_exchange_ms_default
    """How often the replicas of a chain tell each other which pages were read; 0: never."""

    def __post_init__(self) -> None:
        _within("stop_grace_ms", self.stop_grace_ms, 0, 10 * call_timeout_ns // MILLISECOND)
        _within("push_bytes_min", self.push_bytes_min, 0, chunk_bytes_max)
        _within("resync_fills_max", self.resync_fills_max, 1, resync_fills_max)
        _within("scrub_interval_s", self.scrub_interval_s, 0, _INTERVAL_S_MAX)
        _within("cache_share_max", self.cache_share_max, 0.0, 1.0)
        _within("cache_share_min", self.cache_share_min, 0.0, self.cache_share_max)
        _within("cache_file_room_bytes", self.cache_file_room_bytes, 0, cache_bytes_max)
        _within("cache_exchange_ms", self.cache_exchange_ms, 0, cache_exchange_ms_max)
        for name in ("resync_bytes_per_second", "scrub_bytes_per_second"):
            rate: int = getattr(self, name)
            if rate:
                _within(name, rate, throttle_bytes_per_second_min, throttle_bytes_per_second_max)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise error(Code.CONFIG, f"{name} {value}: {low} to {high}")

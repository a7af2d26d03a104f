"""How much room a target has, for pages and for files beside them."""

from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.room import MeasuredSpace, TargetRoom
from fs3.model.chunk import Update, UpdateKind
from fs3.ports.chunk_store import ChunkStore
from fs3.services.storage.node_context import NodeContext

space_ns = 1 * SECOND
"""How often the store is asked how much room there is."""

cache_file_room_parts = 20
"""No more than one part of so many of a target is kept free for files by evicting pages."""

peer_space_ns = 10 * SECOND
"""How long what another replica said of its room counts."""


class CacheSpace:
    """Of one target, and of the replica of its chain that has least."""

    def __init__(self, store: ChunkStore, room: TargetRoom, context: NodeContext) -> None:
        self.has_file_limits = False
        """Updates of files are looked at too: there is not much room, or pages have a guaranteed part."""
        self._store = store
        self._room = room
        self._context = context
        self._file_room = 0
        """What files may take until the next measurement."""
        self._measured_at = -space_ns
        self._peer_free: dict[TargetId, tuple[int, int]] = {}
        """What other replicas said last of their free bytes, and when."""

    def is_due(self, now: int) -> bool:
        """The last measurement is old."""
        return now - self._measured_at >= space_ns

    def expire(self) -> None:
        """The last measurement does not count any more."""
        self._measured_at = -space_ns

    def on_peer(self, peer: TargetId, free_bytes: int, now: int) -> None:
        """Another replica of the chain says what room it has."""
        self._peer_free[peer] = (free_bytes, now)

    def measure(self, now: int) -> None:
        """Ask the store."""
        self._measured_at = now
        config = self._context.config
        space = self._store.get_space()
        told = [free for free, when in self._peer_free.values() if now - when < peer_space_ns]
        free = min([space.free, *told])
        wanted = min(config.cache_file_room_bytes, (space.used + space.free) // cache_file_room_parts)
        room = MeasuredSpace(space.used, space.free, free + space.pinned, wanted)
        self._room.set_space(room, config.cache_share_max, config.cache_share_min)
        self._file_room = self._room.file_room(free)
        # Once there is only as much again as is kept free: what is written until the next measurement finds that.
        is_short = self._room.missing_bytes > 0 or room.free_soon < 2 * wanted
        self.has_file_limits = self._room.cache.is_counted and (self._room.pages_min > 0 or is_short)

    def needs_of(self, update: Update) -> tuple[int, int]:
        """(bytes that an update of a file may take while it is staged, bytes that its chunk grows by)."""
        if update.kind is UpdateKind.TRUNCATE:
            return 0, 0
        meta = self._store.get(update.chunk)
        before, end = meta.length if meta is not None else 0, update.offset + update.length
        return max(before, end), max(0, end - before)

    def take(self, count: int, now: int) -> bool:
        """Let files have so many bytes more. False: there are not so many for them."""
        if count > self._file_room:
            self.measure(now)
        if count > self._file_room:
            return False
        self._file_room -= count
        return True

"""Which chunks of a target are bad: their committed bytes are not what their sums say, or cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fs3.base.ids import ChunkId
from fs3.base.limits import bad_chunks_max
from fs3.drivers.chunks.change_count import ChangeCount
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import Version
from fs3.ports.chunk_store import StoreDamaged

log = logging.getLogger("fs3.chunks")

_WHY_BYTES_MAX = 400


class BadChunks:
    """The bad chunks of a target. Belongs to the loop; the index has them too, from the next barrier on."""

    def __init__(self, rows: RowCache, changes: ChangeCount) -> None:
        self._rows = rows
        self._count = changes
        self.reasons: dict[ChunkId, str] = {}
        """Marked chunks, and what was found."""
        self.on_bad: Callable[[ChunkId], None] | None = None
        self.changes: dict[ChunkId, str | None] = {}
        """What no barrier has taken yet; None: not marked any more."""

    def load(self, index: DurableIndex) -> None:
        """Take over what the index has, for opening a target. Raises StoreDamaged."""
        for chunk, why in index.scan_bad_chunks():
            if self._committed(chunk) is not None:
                self.reasons[chunk] = why.decode("utf-8", "replace")
            else:
                self.changes[chunk] = None

    def mark(self, chunk: ChunkId, why: str) -> None:
        """Mark a chunk, if it has a committed version."""
        if self._committed(chunk) is None or chunk in self.reasons or len(self.reasons) >= bad_chunks_max:
            return
        log.error("%s", why)
        self._rows.forget(chunk)  # what is wrong may be the sums, in memory
        self.reasons[chunk] = self.changes[chunk] = why
        self._count.add()
        if self._rows.on_change is not None:
            self._rows.on_change(chunk)
        if self.on_bad is not None:
            self.on_bad(chunk)

    def record_check(self, chunk: ChunkId, version: Version, why: str) -> None:
        """All bytes of a version were looked at some time ago. Mark the chunk with what was wrong, or take the mark away when
        nothing was, if they still are its committed ones."""
        committed = self._committed(chunk)
        if committed is None or committed.place != version.place:
            return
        if why:
            self.mark(chunk, why)
        elif committed.version == version.version:
            self.clear(chunk)

    def _committed(self, chunk: ChunkId) -> Version | None:
        try:
            row = self._rows.find(chunk)
        except StoreDamaged:
            return None  # a mark would add nothing: everything that needs the row says so
        return row.committed if row is not None else None

    def clear(self, chunk: ChunkId) -> None:
        """Nothing is left of the bad bytes."""
        if self.reasons.pop(chunk, None) is not None:
            self.changes[chunk] = None
            self._count.add()

    def take_changes(self) -> dict[ChunkId, str | None]:
        """What a barrier that begins has to write."""
        taken, self.changes = self.changes, {}
        return taken

    def put_back(self, taken: dict[ChunkId, str | None]) -> None:
        """That barrier failed."""
        self.changes = {**taken, **self.changes}


def pack_reason(why: str | None) -> bytes | None:
    """A mark as the index keeps it."""
    return None if why is None else why.encode("utf-8", "replace")[:_WHY_BYTES_MAX]

"""The plainest order: least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from fs3.base.ids import ChunkId
from fs3.core.kvcache.budget.seams import Protected

looked_at_max = 64
"""Pages one call for a victim looks at."""


class LruOrder:
    """See `RecencyOrder`."""

    def __init__(self) -> None:
        self._order: OrderedDict[ChunkId, None] = OrderedDict()

    def insert(self, chunk: ChunkId) -> None:
        """See `RecencyOrder`."""
        self._order[chunk] = None

    def touch(self, chunk: ChunkId) -> None:
        """See `RecencyOrder`."""
        self._order.move_to_end(chunk)

    def remove(self, chunk: ChunkId) -> None:
        """See `RecencyOrder`."""
        self._order.pop(chunk, None)

    def victim(self, protected: Protected) -> ChunkId | None:
        """See `RecencyOrder`."""
        looked_at = list(islice(self._order, looked_at_max))
        for chunk in looked_at:
            if not protected(chunk):
                return chunk
            self._order.move_to_end(chunk)
        return None

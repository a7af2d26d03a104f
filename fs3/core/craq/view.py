"""What a replica asks of its store, synchronously. The chunk store port has the same methods; core may not import ports."""

from __future__ import annotations

from typing import Protocol

from fs3.base.ids import ChunkId, ClientId
from fs3.model.chunk import ChannelRow, ChunkMeta


class ChunkView(Protocol):
    """The store with every stage and commit that has completed."""

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """What is known of a chunk. None: it does not exist."""
        ...

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """The last update committed for a channel."""
        ...

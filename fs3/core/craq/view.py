"""What a replica asks of its store, synchronously: the part of the chunk store port that the core needs, kept here."""

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
        """The last update committed for a channel, unless that is so long ago that it has been dropped."""
        ...

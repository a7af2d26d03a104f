"""What the checkers ask of the stores of a chain, whichever ring they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fs3.base.ids import ChunkId, ClientId
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag


class CheckedChunk(Protocol):
    """One chunk of a store."""

    @property
    def meta(self) -> ChunkMeta:
        """What is known of it."""
        ...

    @property
    def content(self) -> bytes:
        """The bytes of the committed version."""
        ...


class ComparedStore(Protocol):
    """The store of one target, as others of its chain are compared with it."""

    @property
    def records(self) -> Mapping[ChunkId, CheckedChunk]:
        """Every chunk."""
        ...

    @property
    def rows(self) -> Mapping[tuple[ClientId, int], ChannelRow]:
        """(client, channel) -> its last update here."""
        ...

    def list_pending(self) -> Sequence[ChunkId]:
        """Chunks that have a pending version."""
        ...


class CheckedStore(ComparedStore, Protocol):
    """A store that remembers what was applied to it."""

    @property
    def applications(self) -> Mapping[Tag, int]:
        """How often each tagged update was committed, lost commits not counted."""
        ...

    def has_update(self, tag: Tag) -> bool:
        """The update is committed or pending here, or came with a resync."""
        ...

    def has_applied(self, tag: Tag) -> bool:
        """The update was committed here, or where this store was brought up to date from."""
        ...

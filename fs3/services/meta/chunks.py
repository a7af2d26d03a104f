"""What the metadata service needs of storage. `fs3.client.storage.StorageClient` is the one of production."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fs3.base.ids import ChainId, ChunkId
from fs3.client.storage import FindOutcome
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateResult


class Chunks(Protocol):
    """Chunks of all chains. No method raises for what happens to a single chunk."""

    async def update(self, writes: Sequence[WriteIO], *, timeout_ns: int = 0) -> list[UpdateResult]:
        """Apply updates, each exactly once."""
        ...

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """Which of these chunks are there."""
        ...

    async def space(self, *, timeout_ns: int = 0) -> Sequence[Any]:
        """`TargetSpace` of every target that answers."""
        ...

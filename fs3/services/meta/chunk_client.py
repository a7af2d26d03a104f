"""What the metadata service needs of storage. `fs3.client.storage.client.StorageClient` is the one of production."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fs3.base.ids import ChainId, ChunkId
from fs3.client.storage.file_end import find_file_end
from fs3.client.storage.finds import FindOutcome
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateResult
from fs3.model.inode import Inode
from fs3.model.upkeep import TargetSpace


class ChunkClient(Protocol):
    """Chunks of all chains. No method raises for what happens to a single chunk."""

    async def update(self, writes: Sequence[WriteIO], *, timeout_ns: int = 0) -> list[UpdateResult]:
        """Apply updates, each exactly once."""
        ...

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """Which of these chunks are there."""
        ...

    async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        """For each key, the first chunk of the same file from it on that is on its chain."""
        ...

    async def space(self, *, timeout_ns: int = 0) -> Sequence[TargetSpace]:
        """Room and use of every target that answers."""
        ...


async def file_length(chunks: ChunkClient, inode: Inode, *, timeout_ns: int) -> int:
    """The length of a file by what storage has: its recorded length, or the end of the last byte behind it, whatever gaps there
    are. `timeout_ns` is for each round of requests; there are few, and one where nothing is behind the recorded length.

    It says what there was when it was asked: the caller that repairs a length with it sees to it that no client writes the file
    meanwhile. Raises FS3Error when a chain of the file does not answer.
    """
    return await find_file_end(chunks, inode.content_id, inode.layout, inode.length, timeout_ns=timeout_ns)

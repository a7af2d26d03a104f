"""The first chunk of a file from an index on, as one target knows it."""

from __future__ import annotations

import pytest

from fs3.base.checksum import checksums
from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId, ClientId, InodeId, file_chunk
from fs3.base.status import Code
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.services.storage.find_next import next_chunk_of_file

NOBODY = Tag(ClientId(b""), 0, 0)
NONE = bytes(CHUNK_ID_BYTES)


async def put(store: MemoryChunkStore, chunk: ChunkId, data: bytes, *, commit: bool = True) -> None:
    view = memoryview(data)
    sums = tuple(checksums(view))
    staged = await store.stage(Update(chunk, UpdateKind.WRITE, ChainId(1), 1, 1, 0, len(data), NOBODY, sums, data=view), 1, 1)
    assert staged.code is Code.OK
    if commit:
        store.commit(chunk, 1, NOBODY, UpdateResult(Code.OK, 1))


def chunk(inode: int, index: int) -> ChunkId:
    return file_chunk(InodeId(inode), index)


@pytest.fixture
async def store() -> MemoryChunkStore:
    store = MemoryChunkStore()
    for inode, index in ((6, 3), (7, 4), (7, 900), (8, 0)):
        await put(store, chunk(inode, index), b"x" * (index % 100 + 1))
    return store


@pytest.mark.parametrize(
    ("inode", "index", "found"), [(7, 0, 4), (7, 4, 4), (7, 5, 900), (7, 900, 900), (7, 901, None), (9, 0, None), (6, 4, None)]
)
async def test_the_next_chunk_of_the_same_file(store: MemoryChunkStore, inode: int, index: int, found: int | None) -> None:
    expected = (Code.NOT_FOUND, NONE, 0) if found is None else (Code.OK, chunk(inode, found), found % 100 + 1)
    assert next_chunk_of_file(store, chunk(inode, index), pending_is_dirty=True) == expected


async def test_what_is_pending_may_change_the_answer(store: MemoryChunkStore) -> None:
    """So only the tail says what there is; there, what is not committed does not exist."""
    await put(store, chunk(7, 2), b"new", commit=False)
    assert next_chunk_of_file(store, chunk(7, 0), pending_is_dirty=True)[0] is Code.DIRTY
    assert next_chunk_of_file(store, chunk(7, 0), pending_is_dirty=False) == (Code.OK, chunk(7, 4), 5)


async def test_many_that_are_pending_do_not_hide_what_is_behind_them(store: MemoryChunkStore) -> None:
    for index in range(10, 60):
        await put(store, chunk(7, index), b"new", commit=False)
    assert next_chunk_of_file(store, chunk(7, 10), pending_is_dirty=False) == (Code.OK, chunk(7, 900), 1)


async def test_a_page_follows_only_itself(store: MemoryChunkStore) -> None:
    page, other = ChunkId(b"\xff" * 16), ChunkId(b"\xff" * 15 + b"\xfe")
    await put(store, page, b"page")
    assert next_chunk_of_file(store, page, pending_is_dirty=True) == (Code.OK, page, 4)
    assert next_chunk_of_file(store, other, pending_is_dirty=True)[0] is Code.NOT_FOUND
    assert next_chunk_of_file(store, ChunkId(NONE), pending_is_dirty=True)[0] is Code.NOT_FOUND

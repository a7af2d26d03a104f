"""Small things that tests of chunk stores need: updates in one line, ranges read as a client does that verifies."""

from __future__ import annotations

import os

from fs3.base.checksum import checksums, digest_of
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, file_chunk
from fs3.base.limits import block_bytes_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadResult, StageResult
from fs3.ports.rpc import FileRange

CLIENT = ClientId(b"client-of-tests!")
WRITE, PUT, TRUNCATE, REMOVE, FILL = UpdateKind
A, B, C, D = (file_chunk(InodeId(7), index) for index in range(4))


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes without pattern."""
    block = Prng(seed).bytes(min(length, 4093))
    return (block * (length // max(len(block), 1) + 1))[:length]


def update_of(chunk: ChunkId, kind: UpdateKind, offset: int = 0, data: bytes = b"", *, seq: int = 1, reserve: int = 0) -> Update:
    """A well-formed update."""
    view = memoryview(data)
    sums = tuple(checksums(view, offset))
    tag = Tag(CLIENT, 3, seq)
    return Update(chunk, kind, ChainId(1), 5, 0, offset, len(data), tag, sums, reserve, view if data else None)


async def stage(store: ChunkStore, update: Update, version: int = 0) -> StageResult:
    """Stage as the next version, or as the one given."""
    meta = store.get(update.chunk)
    return await store.stage(update, version or (meta.committed if meta else 0) + 1, update.chain_version)


def commit(store: ChunkStore, update: Update, staged: StageResult) -> UpdateResult:
    """Commit what was staged."""
    meta = store.get(update.chunk)
    assert meta is not None
    result = UpdateResult(Code.OK, meta.pending, staged.length, staged.checksum)
    store.commit(update.chunk, meta.pending, update.tag, result)
    return result


async def apply(store: ChunkStore, update: Update) -> StageResult:
    """Stage and commit; it has to succeed."""
    staged = await stage(store, update)
    assert staged.code is Code.OK, staged.message
    commit(store, update, staged)
    return staged


async def write(store: ChunkStore, chunk: ChunkId, offset: int, data: bytes, reserve: int = 0) -> StageResult:
    """A committed WRITE."""
    return await apply(store, update_of(chunk, WRITE, offset, data, reserve=reserve))


def bytes_of(result: ReadResult) -> bytes:
    """What a result would send."""
    return b"".join(os.pread(p.fd, p.length, p.offset) if isinstance(p, FileRange) else bytes(p) for p in result.parts)


def has_valid_checksums(result: ReadResult, offset: int) -> bool:
    """The bytes have the sums they are served with."""
    found = memoryview(bytes_of(result))
    return list(result.checksums) == (checksums(found, offset, result.piece_bytes) if found else [])


async def read(store: ChunkStore, chunk: ChunkId, offset: int, length: int) -> bytes:
    """A range, as a client that verifies gets it, both ways."""
    cold = await store.read_cold(chunk, offset, length)
    warm = store.read(chunk, offset, length)
    found = []
    for result in (cold,) if warm is None else (cold, warm):
        assert result.code is Code.OK, result.message
        assert has_valid_checksums(result, offset)
        found.append(bytes_of(result))
        assert result.length == len(found[-1])
        if result.pin:
            store.release(result.pin)
    assert len(set(found)) == 1
    return found[0]


async def content(store: ChunkStore, chunk: ChunkId) -> bytes | None:
    """All of a chunk's committed version, checked against its metadata. None when there is none."""
    meta = store.get(chunk)
    if meta is None or not meta.committed:
        result = await store.read_cold(chunk, 0, 1)
        assert result.code is Code.NOT_FOUND
        return None
    found = await read(store, chunk, 0, block_bytes_max)
    assert meta.length == len(found)
    assert meta.checksum == digest_of(checksums(memoryview(found)))
    return found


def expected_content(kind: UpdateKind, old: bytes, offset: int, data: bytes) -> bytes:
    """What a chunk is after an update, said in the plainest way."""
    if kind is TRUNCATE:
        return old[:offset]
    if kind in (PUT, FILL):
        return data
    return old[:offset] + b"\0" * (offset - len(old)) + data + old[offset + len(data) :] if data else old

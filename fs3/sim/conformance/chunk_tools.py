"""Small things that tests of chunk stores need: updates in one line, ranges read as a client does that verifies."""

from __future__ import annotations

import os

from fs3.base.checksum import checksums, digest_of
from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, file_chunk
from fs3.base.limits import block_bytes_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.core.craq.reads import answer
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadGather, ReadResult, StageResult
from fs3.ports.rpc import FileRange

CLIENT = ClientId(b"client-of-tests!")
WRITE, PUT, TRUNCATE, REMOVE, FILL, FILL_BAD = UpdateKind
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


async def check_read_codes(store: ChunkStore) -> None:
    """`read_many` of an empty store answers what `core.craq.reads.answer` says of every state that a chunk can be in: nothing,
    committed, pending, both, each marked bad or not (without a committed version there is nothing to mark)."""
    ranges = ((0, 4096), (4096, 4096), (1, 10), (0, 100_000), (200_000, 10))
    data = noise(100_000)
    chunks = [file_chunk(InodeId(30), index) for index in range(8)]
    for index, chunk in enumerate(chunks):
        committed, pending, bad = index & 1, index & 2, index & 4
        if committed:
            await write(store, chunk, 0, data)
            await store.read_cold(chunk, 0, 4096)  # sums of pieces are known from now on
        if pending:
            staged = await stage(store, update_of(chunk, FILL, 0, b"pending", seq=2))
            assert staged.code is Code.OK
        if bad:
            store.mark_bad(chunk, "somebody says so")
        meta = store.get(chunk)
        assert (meta is not None and meta.committed > 0, meta is not None and meta.pending > 0) == (committed > 0, pending > 0)
        assert (chunk in store.bad_chunks) == (committed > 0 and bad > 0)
    offsets, lengths = zip(*ranges, strict=True)
    for refuse in (False, True):
        for chunk in chunks:
            batch = ReadGather(list(offsets), list(lengths))
            for index in store.read_many([chunk] * len(ranges), batch, range(len(ranges)), refuse_dirty=refuse):
                batch.put(index, store, await store.read_cold(chunk, offsets[index], lengths[index]))
            expected = answer(store.get(chunk), refuse, is_bad=chunk in store.bad_chunks)
            assert batch.codes == [expected] * len(ranges), f"{store.get(chunk)}, bad {chunk in store.bad_chunks}, {refuse}"
            batch.release()


def expected_content(kind: UpdateKind, old: bytes, offset: int, data: bytes) -> bytes:
    """What a chunk is after an update, said in the plainest way."""
    if kind is TRUNCATE:
        return old[:offset]
    if kind in (PUT, FILL):
        return data
    return old[:offset] + b"\0" * (offset - len(old)) + data + old[offset + len(data) :] if data else old

"""Chunks in memory: the oracle the store on files is compared with, and the disk of simulated clusters.

It keeps every version as plain bytes and computes every sum anew, so there is little in it that could be wrong. It has no
threads and never suspends: what a disk may take its time for is added by whoever simulates one.

Of a disk's life it has the end and the diseases. `crash` gives a state a disk could be in after a loss of power: whatever was
staged, while each commit and each dropped pending version since the last barrier is kept or not, by itself. `rot` changes bytes
under their sums. `full` refuses new blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES, checksums, digest_of, piece_count
from fs3.base.ids import ChunkId, ClientId
from fs3.base.limits import block_bytes_max, small_read_bytes
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ReadBatch, ReadResult, Space, StageResult


class _Version:
    """Bytes and the sums they had when they were written."""

    __slots__ = ("chain_version", "content", "sums", "version")

    def __init__(self, version: int, chain_version: int, content: bytes) -> None:
        self.version = version
        self.chain_version = chain_version
        self.content = content
        self.sums = tuple(checksums(memoryview(content)))

    def is_sound(self, start: int, stop: int) -> bool:
        """The blocks that hold a range are what was written."""
        first = start // BLOCK_BYTES
        last = -(-stop // BLOCK_BYTES)
        blocks = memoryview(self.content)[first * BLOCK_BYTES : last * BLOCK_BYTES]
        return tuple(checksums(blocks)) == self.sums[first:last]


class _Chunk:
    """Immutable: a change makes another."""

    __slots__ = ("committed", "kind", "pending", "tag")

    def __init__(
        self,
        committed: _Version | None = None,
        pending: _Version | None = None,
        kind: UpdateKind = UpdateKind.WRITE,
        tag: Tag | None = None,
    ) -> None:
        self.committed = committed
        self.pending = pending
        self.kind = kind
        self.tag = tag

    @property
    def exists(self) -> bool:
        return self.committed is not None or self.pending is not None

    def describe(self) -> ChunkMeta:
        committed, pending = self.committed, self.pending
        newest = pending or committed
        assert newest is not None
        return ChunkMeta(
            committed=committed.version if committed else 0,
            pending=pending.version if pending else 0,
            chain_version=newest.chain_version,
            length=len(committed.content) if committed else 0,
            checksum=digest_of(committed.sums) if committed else 0,
            pending_kind=self.kind,
            pending_tag=self.tag,
            pending_length=len(pending.content) if pending else 0,
            pending_checksum=digest_of(pending.sums) if pending else 0,
        )


_Channels = dict[tuple[ClientId, int], ChannelRow]


class MemoryChunkStore:
    """`fs3.ports.chunk_store.ChunkStore` in memory."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        """`capacity_bytes` of content, committed and pending together; 0: no limit."""
        self.capacity_bytes = capacity_bytes
        self.full = False
        """Updates with data are refused with NO_SPACE."""
        self._chunks: dict[ChunkId, _Chunk] = {}
        self._channels: _Channels = {}
        self._durable: dict[ChunkId, _Chunk] = {}
        """Chunks that were changed in memory since the last barrier, as that barrier left them."""
        self._durable_channels: dict[ChunkId, list[tuple[tuple[ClientId, int], ChannelRow]]] = {}
        """Channel rows that were set since the last barrier, by the chunk whose commit set them."""
        self._old_channels: dict[tuple[ClientId, int], ChannelRow | None] = {}
        """What those were before."""
        self._pins: dict[int, _Version] = {}
        self._last_pin = 0
        self._closed = False

    # --- metadata ----------------------------------------------------------------------------------------------------

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """`ChunkStore.get`."""
        found = self._chunks.get(chunk)
        return found.describe() if found is not None else None

    def channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """`ChunkStore.channel`."""
        return self._channels.get((client, channel))

    def pending(self) -> Sequence[ChunkId]:
        """`ChunkStore.pending`."""
        return sorted(chunk for chunk, found in self._chunks.items() if found.pending is not None)

    def list(self, after: ChunkId | None, limit: int) -> list[tuple[ChunkId, ChunkMeta]]:
        """`ChunkStore.list`."""
        keys = sorted(self._chunks)
        begin = 0 if after is None else bisect_right(keys, after)
        return [(chunk, self._chunks[chunk].describe()) for chunk in keys[begin : begin + limit]]

    def space(self) -> Space:
        """`ChunkStore.space`, in bytes of content: there are no blocks."""
        named = {id(version) for chunk in self._chunks.values() for version in (chunk.committed, chunk.pending)}
        held = {id(version): len(version.content) for version in self._pins.values() if id(version) not in named}
        used = sum(_bytes_of(chunk) for chunk in self._chunks.values())
        free = max(self.capacity_bytes - used, 0) if self.capacity_bytes else 1 << 50
        return Space(used + sum(held.values()), 0 if self.full else free, len(self._chunks), sum(held.values()))

    # --- changes -----------------------------------------------------------------------------------------------------

    async def stage(self, update: Update, version: int, chain_version: int) -> StageResult:
        """`ChunkStore.stage`. Never suspends."""
        if self._closed:
            return StageResult(Code.SHUTTING_DOWN, message="the store is closed")
        chunk = self._chunks.get(update.chunk, _Chunk())
        refused = self._refuse(update, version, chunk)
        if refused is not None:
            return refused
        old = chunk.committed.content if chunk.committed is not None else b""
        if update.kind is UpdateKind.REMOVE:
            content = b""
        elif update.kind is UpdateKind.TRUNCATE:
            content = old[: update.offset]
        else:
            data = bytes(update.data) if update.data is not None else b""
            if update.kind is UpdateKind.WRITE:
                content = _merge(old, update.offset, data) if data else old
            else:
                content = data
        if len(content) > block_bytes_max:
            message = f"chunk {update.chunk.hex()} would have {len(content)} bytes, at most {block_bytes_max} are allowed"
            return StageResult(Code.TOO_LARGE, message=message)
        kept = len(old) if update.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE) else 0
        if chunk.committed is not None and kept and not self._keeps_sound(chunk.committed, update, len(content)):
            return StageResult(Code.CHECKSUM, message=f"bytes of chunk {update.chunk.hex()} have changed on the disk")
        pending = _Version(version, chain_version, content)
        after = _Chunk(chunk.committed, pending, update.kind, update.tag)
        if update.length and (self.full or (self.capacity_bytes and self._used_with(update.chunk, after) > self.capacity_bytes)):
            return StageResult(Code.NO_SPACE, message=f"no room for {len(content)} bytes of chunk {update.chunk.hex()}")
        self._chunks[update.chunk] = after
        self._barrier()
        return StageResult(Code.OK, len(content), digest_of(pending.sums))

    def _refuse(self, update: Update, version: int, chunk: _Chunk) -> StageResult | None:
        size = len(update.data) if update.data is not None else 0
        whole = update.kind in (UpdateKind.PUT, UpdateKind.FILL)
        without = update.kind in (UpdateKind.TRUNCATE, UpdateKind.REMOVE)
        sums = () if without else update.checksums
        if version < 1 or update.offset < 0 or size != update.length or (without and size) or (whole and update.offset):
            return StageResult(Code.INVALID, message=f"update of chunk {update.chunk.hex()} contradicts itself")
        if len(sums) != piece_count(update.offset, update.length):
            return StageResult(Code.INVALID, message=f"update of chunk {update.chunk.hex()} has {len(sums)} checksums")
        if update.kind is UpdateKind.PUT and chunk.committed is not None:
            return StageResult(Code.EXISTS, len(chunk.committed.content), digest_of(chunk.committed.sums))
        if update.data is not None and tuple(checksums(update.data, update.offset)) != sums:
            return StageResult(Code.CHECKSUM, message=f"data for chunk {update.chunk.hex()} do not have the sums they came with")
        return None

    def _keeps_sound(self, committed: _Version, update: Update, length: int) -> bool:
        """Blocks of which bytes remain are what was written: a new sum must not hide that they are not."""
        end = update.offset + update.length
        for start in range(0, min(len(committed.content), length), BLOCK_BYTES):
            stop = min(start + BLOCK_BYTES, len(committed.content))
            covered = update.length and update.offset <= start and min(start + BLOCK_BYTES, length) <= end
            if not covered and not committed.is_sound(start, stop):
                return False
        return True

    def _used_with(self, chunk: ChunkId, after: _Chunk) -> int:
        return sum(_bytes_of(found) for key, found in self._chunks.items() if key != chunk) + _bytes_of(after)

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending."""
        found = self._chunks.get(chunk, _Chunk())
        if found.pending is None or found.pending.version != version:
            raise ValueError(f"version {version} of chunk {chunk.hex()} is not pending")
        self._remember(chunk, found)
        self._show(chunk, _Chunk() if found.kind is UpdateKind.REMOVE else _Chunk(found.pending))
        if tag.client:
            key = (tag.client, tag.channel)
            self._old_channels.setdefault(key, self._channels.get(key))
            row = ChannelRow(tag.seq, chunk, result)
            self._durable_channels.setdefault(chunk, []).append((key, row))
            self._channels[key] = row

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        found = self._chunks.get(chunk)
        if found is not None and found.pending is not None:
            self._remember(chunk, found)
            self._show(chunk, _Chunk(found.committed))

    def _remember(self, chunk: ChunkId, found: _Chunk) -> None:
        self._durable.setdefault(chunk, found)

    def _show(self, chunk: ChunkId, after: _Chunk) -> None:
        if after.exists:
            self._chunks[chunk] = after
        else:
            self._chunks.pop(chunk, None)

    def _barrier(self) -> None:
        """All that was changed in memory is durable."""
        self._durable.clear()
        self._durable_channels.clear()
        self._old_channels.clear()

    async def flush(self) -> None:
        """`ChunkStore.flush`."""
        self._barrier()

    async def close(self) -> None:
        """`ChunkStore.close`."""
        self._barrier()
        self._closed = True

    # --- reads -------------------------------------------------------------------------------------------------------

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """`ChunkStore.read`. Everything is warm."""
        found = self._chunks.get(chunk)
        version = found.committed if found is not None else None
        if version is None:
            return ReadResult(Code.NOT_FOUND)
        stop = min(offset + length, len(version.content))
        if stop <= offset:
            return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
        part = memoryview(version.content)[offset:stop]
        if len(part) < small_read_bytes:
            if not version.is_sound(offset, stop):
                return _rotten(chunk, offset, stop)
            return ReadResult(Code.OK, version.version, len(part), (part,), checksums(part, offset, PIECE_BYTES), PIECE_BYTES)
        return self._large(version, chunk, offset, stop)

    def _large(self, version: _Version, chunk: ChunkId, start: int, stop: int) -> ReadResult:
        """Whole blocks go out with the sums they were written with, unseen; only blocks that are cut are verified."""
        first = -(-start // BLOCK_BYTES)
        last = -(-stop // BLOCK_BYTES) if stop == len(version.content) else stop // BLOCK_BYTES
        content = memoryview(version.content)
        sums = list(version.sums[first:last])
        for begin, end in ((start, min(first * BLOCK_BYTES, stop)), (max(last * BLOCK_BYTES, start), stop)):
            if begin < end:
                if not version.is_sound(begin, end):
                    return _rotten(chunk, begin, end)
                cut = checksums(content[begin:end], begin)
                sums = cut + sums if begin == start else sums + cut
        self._last_pin += 1
        self._pins[self._last_pin] = version
        return ReadResult(Code.OK, version.version, stop - start, (content[start:stop],), sums, BLOCK_BYTES, self._last_pin)

    def read_many(
        self, chunks: Sequence[ChunkId], batch: ReadBatch, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """`ChunkStore.read_many`."""
        for index in which:
            found = self._chunks.get(chunks[index])
            if refuse_dirty and found is not None and found.pending is not None:
                batch.refuse(index, Code.DIRTY)
                continue
            result = self.read(chunks[index], batch.offsets[index], batch.wanted[index])
            assert result is not None
            batch.put(index, self, result)
        return ()

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """`ChunkStore.read_cold`. Never suspends."""
        found = self._chunks.get(chunk)
        version = None if found is None else found.pending if pending else found.committed
        if version is None:
            return ReadResult(Code.NOT_FOUND)
        stop = min(offset + length, len(version.content))
        if stop <= offset:
            return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
        if not version.is_sound(offset, stop):
            return _rotten(chunk, offset, stop)
        part = memoryview(version.content)[offset:stop]
        piece = PIECE_BYTES if len(part) < small_read_bytes else BLOCK_BYTES
        return ReadResult(Code.OK, version.version, len(part), (part,), checksums(part, offset, piece), piece)

    def release(self, pin: int) -> None:
        """`ChunkStore.release`. KeyError for a pin that nobody has."""
        if pin:
            del self._pins[pin]

    # --- disasters ---------------------------------------------------------------------------------------------------

    def crash(self, prng: Prng) -> MemoryChunkStore:
        """Another store in a state this one's disk could be in after a loss of power; this one is not to be used any more.

        Each chunk changed since the last barrier is as that barrier left it, or as it is now, with the channel rows that
        its commit set. So a commit is there with its channel row or not at all.
        """
        after = MemoryChunkStore(self.capacity_bytes)
        after._chunks = dict(self._chunks)
        after._channels = dict(self._channels)
        for key, row in self._old_channels.items():
            if row is None:
                del after._channels[key]
            else:
                after._channels[key] = row
        for chunk, was in self._durable.items():
            if prng.chance(1, 2):
                after._show(chunk, was)
                continue
            for key, row in self._durable_channels.get(chunk, ()):
                newer = after._channels.get(key)
                if newer is None or newer.seq < row.seq:
                    after._channels[key] = row
        self._closed = True
        return after

    def rot(self, chunk: ChunkId, offset: int, *, pending: bool = False) -> None:
        """Change one byte of a chunk behind its sums' back. KeyError without such a version."""
        found = self._chunks[chunk]
        version = found.pending if pending else found.committed
        if version is None:
            raise KeyError(chunk)
        content = bytearray(version.content)
        content[offset] ^= 0x55
        version.content = bytes(content)


def _merge(old: bytes, offset: int, data: bytes) -> bytes:
    """`data` over `old` from an offset on; a gap between them is zeros."""
    return old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]


def _rotten(chunk: ChunkId, start: int, stop: int) -> ReadResult:
    return ReadResult(Code.CHECKSUM, message=f"bytes {start} to {stop} of chunk {chunk.hex()} have changed on the disk")


def _bytes_of(chunk: _Chunk) -> int:
    return sum(len(version.content) for version in (chunk.committed, chunk.pending) if version is not None)

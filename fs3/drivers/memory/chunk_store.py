"""Chunks in memory: the oracle the store on files is compared with, and the disk of simulated clusters.

It keeps every version as plain bytes and computes every sum anew, so there is little in it that could be wrong. It has no
threads and never suspends: what a disk may take its time for is added by whoever simulates one.

Of a disk's life it has the end and the diseases. `crash` gives a state a disk could be in after a loss of power: whatever was
staged, while each commit and each dropped pending version since the last barrier is kept or not, by itself; so is each mark of a
bad chunk. `rot` changes bytes under their sums. `full` refuses new blocks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES, checksums, digest_of
from fs3.base.errors import error
from fs3.base.ids import ChunkId, ClientId
from fs3.base.limits import (
    bad_chunks_max,
    block_bytes_max,
    channel_rows_per_merge_max,
    channels_per_target_max,
    scrub_rows_max,
    small_read_bytes,
)
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion, bytes_of, check_update, overlay_data
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChannelKey, ReadGather, ReadResult, ScrubStep, StageResult, StoreSpace


class MemoryChunkStore:
    """`fs3.ports.chunk_store.ChunkStore` in memory."""

    def __init__(self, capacity_bytes: int = 0, channels_max: int = channels_per_target_max) -> None:
        """`capacity_bytes` of content, committed and pending together; 0: no limit."""
        self.capacity_bytes = capacity_bytes
        self.channels_max = channels_max
        self.is_full = False
        """Updates with data are refused with NO_SPACE."""
        self.on_bad: Callable[[ChunkId], None] | None = None
        self.channel_epoch = 1
        """`ChunkStore.channel_epoch`."""
        self._bad: dict[ChunkId, str] = {}
        self._epochs: dict[ChannelKey, int] = {}
        """Of the last use of each channel row."""
        self._chunks: dict[ChunkId, MemoryChunk] = {}
        self._channels: dict[ChannelKey, ChannelRow] = {}
        self._durable: dict[ChunkId, MemoryChunk] = {}
        """Chunks that were changed in memory since the last barrier, as that barrier left them."""
        self._durable_channels: dict[ChunkId, list[tuple[ChannelKey, ChannelRow]]] = {}
        """Channel rows that were set since the last barrier, by the chunk whose commit set them."""
        self._old_channels: dict[ChannelKey, ChannelRow | None] = {}
        """What those were before."""
        self._pins: dict[int, MemoryVersion] = {}
        self._last_pin = 0
        self._closed = False

    # --- metadata ----------------------------------------------------------------------------------------------------

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """`ChunkStore.get`."""
        found = self._chunks.get(chunk)
        return found.describe() if found is not None else None

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """`ChunkStore.channel`."""
        return self._channels.get((client, channel))

    def list_channels(self, after: ChannelKey | None, limit: int) -> list[tuple[ChannelKey, ChannelRow]]:
        """`ChunkStore.channels`."""
        keys = sorted(self._channels)
        begin = 0 if after is None else bisect_right(keys, after)
        return [(key, self._channels[key]) for key in keys[begin : begin + limit]]

    @property
    def channel_room(self) -> int:
        """`ChunkStore.channel_room`."""
        return max(self.channels_max - len(self._channels), 0)

    @property
    def channel_count(self) -> int:
        """`ChunkStore.channel_count`."""
        return len(self._channels)

    def advance_channel_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`. Rows that are old now are dropped at once, and durably."""
        self.channel_epoch += 1
        for key in [key for key, epoch in self._epochs.items() if epoch <= self.channel_epoch - 2]:
            del self._epochs[key]
            del self._channels[key]
            self._old_channels.pop(key, None)
            for rows in self._durable_channels.values():
                rows[:] = [(name, row) for name, row in rows if name != key]

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """`ChunkStore.merge_channels`. Never suspends."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        if len(rows) > channel_rows_per_merge_max:
            raise error(Code.INVALID, f"{len(rows)} channel rows in one merge, at most {channel_rows_per_merge_max} are allowed")
        for key, row in rows:
            if key not in self._channels and len(self._channels) >= 2 * self.channels_max:
                raise error(Code.NO_SPACE, f"there are {len(self._channels)} channel rows already")
            self._record_channel(key, row)
        self._sync()

    def _record_channel(self, key: ChannelKey, row: ChannelRow) -> bool:
        """The row is the channel's, unless that has a later one."""
        found = self._channels.get(key)
        self._epochs[key] = self.channel_epoch
        if found is not None and found.seq > row.seq:
            return False
        self._channels[key] = row
        return True

    def list_pending(self) -> Sequence[ChunkId]:
        """`ChunkStore.pending`."""
        return sorted(chunk for chunk, found in self._chunks.items() if found.pending is not None)

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """`ChunkStore.list`."""
        keys = sorted(self._chunks)
        begin = 0 if after is None else bisect_right(keys, after)
        end = len(keys) if until is None else bisect_left(keys, until)
        return [(chunk, self._chunks[chunk].describe()) for chunk in keys[begin : min(begin + limit, end)]]

    def get_space(self) -> StoreSpace:
        """`ChunkStore.space`, in bytes of content: there are no blocks."""
        named = {id(version) for chunk in self._chunks.values() for version in (chunk.committed, chunk.pending)}
        held = {id(version): len(version.content) for version in self._pins.values() if id(version) not in named}
        used = sum(bytes_of(chunk) for chunk in self._chunks.values())
        free = max(self.capacity_bytes - used, 0) if self.capacity_bytes else 1 << 50
        return StoreSpace(used + sum(held.values()), 0 if self.is_full else free, len(self._chunks), sum(held.values()))

    # --- changes -----------------------------------------------------------------------------------------------------

    async def stage(self, update: Update, version: int, chain_version: int) -> StageResult:
        """`ChunkStore.stage`. Never suspends."""
        if self._closed:
            return StageResult(Code.SHUTTING_DOWN, message="the store is closed")
        chunk = self._chunks.get(update.chunk, MemoryChunk())
        refused = check_update(update, version, chunk)
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
                content = overlay_data(old, update.offset, data) if data else old
            else:
                content = data
        if len(content) > block_bytes_max:
            message = f"chunk {update.chunk.hex()} would have {len(content)} bytes, at most {block_bytes_max} are allowed"
            return StageResult(Code.TOO_LARGE, message=message)
        kept = len(old) if update.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE) else 0
        if chunk.committed is not None and kept and not chunk.committed.keeps_sound(update, len(content)):
            self.mark_bad(update.chunk)
            return StageResult(Code.CHECKSUM, message=f"bytes of chunk {update.chunk.hex()} have changed on the disk")
        pending = MemoryVersion(version, chain_version, content)
        after = MemoryChunk(chunk.committed, pending, update.kind, update.tag)
        if update.length and (
            self.is_full or (self.capacity_bytes and self._used_with(update.chunk, after) > self.capacity_bytes)
        ):
            return StageResult(Code.NO_SPACE, message=f"no room for {len(content)} bytes of chunk {update.chunk.hex()}")
        self._chunks[update.chunk] = after
        self._sync()
        return StageResult(Code.OK, len(content), digest_of(pending.sums))

    def _used_with(self, chunk: ChunkId, after: MemoryChunk) -> int:
        return sum(bytes_of(found) for key, found in self._chunks.items() if key != chunk) + bytes_of(after)

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending."""
        found = self._chunks.get(chunk, MemoryChunk())
        if found.pending is None or found.pending.version != version:
            raise ValueError(f"version {version} of chunk {chunk.hex()} is not pending")
        self._remember(chunk, found)
        self._show(chunk, MemoryChunk() if found.kind is UpdateKind.REMOVE else MemoryChunk(found.pending))
        self._bad.pop(chunk, None)  # `stage` has found all bytes good that are kept
        if tag.client:
            key = (tag.client, tag.channel)
            before, row = self._channels.get(key), ChannelRow(tag.seq, chunk, result)
            if self._record_channel(key, row):
                self._old_channels.setdefault(key, before)
                self._durable_channels.setdefault(chunk, []).append((key, row))

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        found = self._chunks.get(chunk)
        if found is not None and found.pending is not None:
            self._remember(chunk, found)
            self._show(chunk, MemoryChunk(found.committed))

    def _remember(self, chunk: ChunkId, found: MemoryChunk) -> None:
        self._durable.setdefault(chunk, found)

    def _show(self, chunk: ChunkId, after: MemoryChunk) -> None:
        if after.exists:
            self._chunks[chunk] = after
        else:
            self._chunks.pop(chunk, None)

    def _sync(self) -> None:
        """All that was changed in memory is durable."""
        self._durable.clear()
        self._durable_channels.clear()
        self._old_channels.clear()

    async def flush(self) -> None:
        """`ChunkStore.flush`."""
        self._sync()

    async def close(self) -> None:
        """`ChunkStore.close`."""
        self._sync()
        self._closed = True

    # --- reads -------------------------------------------------------------------------------------------------------

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """`ChunkStore.read`. Everything is warm."""
        found = self._chunks.get(chunk)
        version = found.committed if found is not None else None
        if version is None:
            return ReadResult(Code.NOT_FOUND)
        if chunk in self._bad:
            return ReadResult(Code.CHECKSUM, message=self._bad[chunk])
        stop = min(offset + length, len(version.content))
        if stop <= offset:
            return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
        part = memoryview(version.content)[offset:stop]
        if len(part) < small_read_bytes:
            if not version.is_sound(offset, stop):
                return self._report_rot(chunk, offset, stop)
            return ReadResult(Code.OK, version.version, len(part), (part,), checksums(part, offset, PIECE_BYTES), PIECE_BYTES)
        sums = version.sums_of(offset, stop)
        if sums is None:
            return self._report_rot(chunk, offset, stop)
        self._last_pin += 1
        self._pins[self._last_pin] = version
        return ReadResult(Code.OK, version.version, stop - offset, (part,), sums, BLOCK_BYTES, self._last_pin)

    def read_many(
        self, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], *, refuse_dirty: bool
    ) -> Sequence[int]:
        """`ChunkStore.read_many`."""
        for index in which:
            found = self._chunks.get(chunks[index])
            if refuse_dirty and found is not None and found.pending is not None and chunks[index] not in self._bad:
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
        if chunk in self._bad and not pending:
            return ReadResult(Code.CHECKSUM, message=self._bad[chunk])
        stop = min(offset + length, len(version.content))
        if stop <= offset:
            return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
        if not version.is_sound(offset, stop):
            return _report_pending_rot(chunk, offset, stop) if pending else self._report_rot(chunk, offset, stop)
        part = memoryview(version.content)[offset:stop]
        piece = PIECE_BYTES if len(part) < small_read_bytes else BLOCK_BYTES
        return ReadResult(Code.OK, version.version, len(part), (part,), checksums(part, offset, piece), piece)

    def release(self, pin: int) -> None:
        """`ChunkStore.release`. KeyError for a pin that nobody has."""
        if pin:
            del self._pins[pin]

    # --- bad chunks --------------------------------------------------------------------------------------------------

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """`ChunkStore.bad`."""
        return MappingProxyType(self._bad)

    def mark_bad(self, chunk: ChunkId, why: str = "") -> None:
        """`ChunkStore.mark_bad`."""
        found = self._chunks.get(chunk)
        if found is None or found.committed is None or chunk in self._bad or len(self._bad) >= bad_chunks_max:
            return
        self._bad[chunk] = why or f"bytes of chunk {chunk.hex()} have changed on the disk"
        if self.on_bad is not None:
            self.on_bad(chunk)

    def _report_rot(self, chunk: ChunkId, start: int, stop: int) -> ReadResult:
        self.mark_bad(chunk, f"bytes {start} to {stop} of chunk {chunk.hex()} have changed on the disk")
        return ReadResult(Code.CHECKSUM, message=f"bytes {start} to {stop} of chunk {chunk.hex()} have changed on the disk")

    async def verify(self, chunk: ChunkId) -> bool:
        """`ChunkStore.verify`. Never suspends."""
        found = self._chunks.get(chunk)
        if found is None or found.committed is None:
            return True
        if found.committed.is_sound(0, len(found.committed.content)):
            self._bad.pop(chunk, None)
        else:
            self.mark_bad(chunk)
        return chunk not in self._bad

    async def scrub(self, after: ChunkId | None, limit_bytes: int) -> ScrubStep:
        """`ChunkStore.scrub`. Never suspends."""
        step = ScrubStep(after, 0, 0, [])
        bad: list[ChunkId] = []
        rows = self.list(after, scrub_rows_max)
        for index, (chunk, meta) in enumerate(rows):
            step.after = chunk
            if meta.committed and chunk not in self._bad:
                step.chunks += 1
                step.bytes += meta.length
                if not await self.verify(chunk):
                    bad.append(chunk)
            if step.bytes >= limit_bytes:
                rows = rows[: index + 1]
                break
        step.bad_chunks = bad
        if not self.list(step.after, 1) or not rows:
            step.after = None
        return step

    async def repair(self, chunk: ChunkId, version: int, data: memoryview) -> bool:
        """`ChunkStore.repair`. Never suspends."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        found = self._chunks.get(chunk)
        if found is None or found.committed is None or found.committed.version != version:
            return False
        repaired = MemoryVersion(version, found.committed.chain_version, bytes(data))
        if len(repaired.content) != len(found.committed.content) or repaired.sums != found.committed.sums:
            raise error(Code.CHECKSUM, f"the bytes to repair chunk {chunk.hex()} with are not those of its version {version}")
        if self.is_full:
            raise error(Code.NO_SPACE, f"no room for {len(data)} bytes of chunk {chunk.hex()}")
        self._chunks[chunk] = MemoryChunk(repaired, found.pending, found.kind, found.tag)
        self._bad.pop(chunk, None)
        self._sync()
        return True

    # --- disasters ---------------------------------------------------------------------------------------------------

    def crash(self, prng: Prng) -> MemoryChunkStore:
        """Another store in a state this one's disk could be in after a loss of power; this one is not to be used any more.

        Each chunk changed since the last barrier is as that barrier left it, or as it is now, with the channel rows that
        its commit set. So a commit is there with its channel row or not at all.
        """
        after = MemoryChunkStore(self.capacity_bytes, self.channels_max)
        after.channel_epoch = self.channel_epoch
        after._chunks = dict(self._chunks)
        after._channels = dict(self._channels)
        after._epochs = dict(self._epochs)
        for key, row in self._old_channels.items():
            if row is None:
                after._channels.pop(key, None)
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
        after._epochs = {key: after._epochs.get(key, self.channel_epoch) for key in after._channels}
        for chunk, why in self._bad.items():
            if prng.chance(1, 2) and chunk in after._chunks and after._chunks[chunk].committed is self._chunks[chunk].committed:
                after._bad[chunk] = why
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


def _report_pending_rot(chunk: ChunkId, start: int, stop: int) -> ReadResult:
    message = f"bytes {start} to {stop} of the pending version of chunk {chunk.hex()} have changed on the disk"
    return ReadResult(Code.CHECKSUM, message=message)

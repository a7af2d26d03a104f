"""Chunks in memory: the oracle the store on files is compared with, and the disk of simulated clusters.

It keeps every version as plain bytes and computes every sum anew, so there is little in it that could be wrong. It has no
threads and never suspends: what a disk may take its time for is added by the simulations.

Of a disk's life it has the end and the diseases. `crash` gives a state a disk could be in after a loss of power: whatever was
staged, while each commit and each dropped pending version that no barrier has covered is kept or not, by itself
(`fs3.drivers.memory.unsynced`); so is each mark of a bad chunk. `rot` changes bytes under their sums. `is_full` refuses new
blocks.

Each change that is durable when its call returns is a barrier of its own. A simulation whose barriers take time begins and ends
them itself (`begin_barrier`, `end_barrier`) and makes what they carry with `stage_within` and its like: nothing else becomes
durable with those.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from types import MappingProxyType

import msgspec

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
from fs3.base.units import NEVER
from fs3.core.craq.change_board import OwnerMark
from fs3.core.craq.reads import answer
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion, bytes_of, check_update, has_its_sums
from fs3.drivers.memory.unsynced import BarrierMark, Loss, UnsyncedChanges
from fs3.model.chunk import ChannelKey, ChannelRow, ChunkMeta, Tag, Update, UpdateKind, UpdateResult, apply_update
from fs3.ports.chunk_store import (
    BlockPlace,
    OnChange,
    OnStaged,
    Prewritten,
    ReadGather,
    ReadResult,
    ScrubStep,
    Staged,
    StageResult,
    StoreSpace,
    describe_carried,
)
from fs3.runtime.tasks import TaskSet


class MemoryPrewritten:
    """`fs3.ports.chunk_store.Prewritten` in memory."""

    def __init__(self, content: bytes) -> None:
        self.content: bytes | None = content
        """None: staged or discarded."""
        self.checksums = tuple(checksums(memoryview(content)))


class MemoryChunkStore:
    """`fs3.ports.chunk_store.ChunkStore` in memory."""

    def __init__(self, capacity_bytes: int = 0, channels_max: int = channels_per_target_max) -> None:
        """`capacity_bytes` of content, committed and pending together; 0: no limit."""
        self.capacity_bytes = capacity_bytes
        self.channels_max = channels_max
        self.is_full = False
        """Updates with data are refused with NO_SPACE."""
        self.on_bad: Callable[[ChunkId], None] | None = None
        self.on_change: OnChange | None = None
        self.channel_epoch = 1
        """`ChunkStore.channel_epoch`."""
        self._bad: dict[ChunkId, str] = {}
        self._epochs: dict[ChannelKey, int] = {}
        """Of the last use of each channel row."""
        self.chunks: dict[ChunkId, MemoryChunk] = {}
        """As memory shows them; for checkers and planted bugs."""
        self.channel_rows: dict[ChannelKey, ChannelRow] = {}
        """Likewise."""
        self.unsynced = UnsyncedChanges()
        self._pins: dict[int, MemoryVersion] = {}
        self._pinned_versions: dict[int, MemoryVersion] = {}
        self._last_pin = 0
        self._stagings = TaskSet()
        self._closed = False

    # --- metadata ----------------------------------------------------------------------------------------------------

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        """`ChunkStore.get`."""
        found = self.chunks.get(chunk)
        return found.meta if found is not None else None

    def get_channel(self, client: ClientId, channel: int) -> ChannelRow | None:
        """`ChunkStore.get_channel`."""
        return self.channel_rows.get((client, channel))

    def list_channels(self, after: ChannelKey | None, limit: int) -> list[tuple[ChannelKey, ChannelRow]]:
        """`ChunkStore.list_channels`."""
        keys = sorted(self.channel_rows)
        begin = 0 if after is None else bisect_right(keys, after)
        return [(key, self.channel_rows[key]) for key in keys[begin : begin + limit]]

    @property
    def channel_room(self) -> int:
        """`ChunkStore.channel_room`."""
        return max(self.channels_max - len(self.channel_rows), 0)

    @property
    def channel_count(self) -> int:
        """`ChunkStore.channel_count`."""
        return len(self.channel_rows)

    def advance_channel_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`. Rows that are old now are dropped at once, and durably."""
        self.channel_epoch += 1
        for key in [key for key, epoch in self._epochs.items() if epoch <= self.channel_epoch - 2]:
            del self._epochs[key]
            del self.channel_rows[key]
            self.unsynced.forget_channel(key)

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """`ChunkStore.merge_channels`. Never suspends."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        if len(rows) > channel_rows_per_merge_max:
            raise error(Code.INVALID, f"{len(rows)} channel rows in one merge, at most {channel_rows_per_merge_max} are allowed")
        for key, row in rows:
            if key not in self.channel_rows and len(self.channel_rows) >= 2 * self.channels_max:
                raise error(Code.NO_SPACE, f"there are {len(self.channel_rows)} channel rows already")
            self.merge_within(key, row)
        self.unsynced.clear()

    def merge_within(self, key: ChannelKey, row: ChannelRow) -> None:
        """One row of `merge_channels`, within a barrier of the caller's."""
        self._record_channel(key, row)
        self.unsynced.set_durable_row(key, row)

    def _record_channel(self, key: ChannelKey, row: ChannelRow) -> bool:
        """The row is the channel's, unless that has a later one."""
        found = self.channel_rows.get(key)
        self._epochs[key] = self.channel_epoch
        if found is not None and found.seq > row.seq:
            return False
        self.channel_rows[key] = row
        return True

    def list_pending(self) -> Sequence[ChunkId]:
        """`ChunkStore.list_pending`."""
        return sorted(chunk for chunk, found in self.chunks.items() if found.pending is not None)

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """`ChunkStore.list`."""
        keys = sorted(self.chunks)
        begin = 0 if after is None else bisect_right(keys, after)
        end = len(keys) if until is None else bisect_left(keys, until)
        return [(chunk, self.chunks[chunk].meta) for chunk in keys[begin : min(begin + limit, end)]]

    def get_space(self) -> StoreSpace:
        """`ChunkStore.get_space`, in bytes of content: there are no blocks."""
        named = {id(version) for chunk in self.chunks.values() for version in (chunk.committed, chunk.pending)}
        pinned = (*self._pins.values(), *self._pinned_versions.values())
        held = {id(version): len(version.content) for version in pinned if id(version) not in named}
        used = sum(bytes_of(chunk) for chunk in self.chunks.values())
        free = max(self.capacity_bytes - used, 0) if self.capacity_bytes else 1 << 50
        return StoreSpace(used + sum(held.values()), 0 if self.is_full else free, len(self.chunks), sum(held.values()))

    # --- changes -----------------------------------------------------------------------------------------------------

    async def prewrite(self, data: memoryview, reserve: int) -> MemoryPrewritten | None:
        """`ChunkStore.prewrite`. Never suspends."""
        if self._closed or self.is_full:
            return None
        return MemoryPrewritten(bytes(data))

    def discard(self, prewritten: Prewritten) -> None:
        """`ChunkStore.discard`."""
        assert isinstance(prewritten, MemoryPrewritten)
        prewritten.content = None

    async def stage(self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None) -> StageResult:
        """`ChunkStore.stage`. Never suspends."""
        result = self.stage_within(update, version, chain_version, prewritten)
        if result.code is Code.OK:
            self.unsynced.clear()
        return result

    def submit(self, updates: Sequence[Update], on_staged: OnStaged) -> None:
        """`ChunkStore.submit`. By a task for each, so that whatever takes the place of `stage` counts here too; those that end in
        one turn of the loop are told together."""
        told: list[Staged] = []

        def tell() -> None:
            results = told.copy()
            told.clear()
            on_staged(results)

        for update in updates:
            self._stagings.start(self._submit(update, told, tell))

    async def _submit(self, update: Update, told: MutableSequence[Staged], tell: Callable[[], None]) -> None:
        result = await self.stage(update, update.version, update.chain_version)
        if not told:
            asyncio.get_running_loop().call_soon(tell)
        told.append((update, result))

    def stage_within(self, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None) -> StageResult:
        """`ChunkStore.stage` within a barrier of the caller's."""
        if self._closed:
            return StageResult(Code.SHUTTING_DOWN, message="the store is closed")
        chunk = self.chunks.get(update.chunk, MemoryChunk())
        if prewritten is not None:
            assert isinstance(prewritten, MemoryPrewritten)
            content, prewritten.content = prewritten.content, None
            base = chunk.content if update.kind is UpdateKind.WRITE else b""
            if content is None or update.offset or len(base) > update.length:
                return StageResult(Code.BUSY, message=f"what was written ahead is not all of chunk {update.chunk.hex()}")
            update = msgspec.structs.replace(update, data=memoryview(content))
        refused = check_update(update, version, chunk)
        if refused is not None:
            return refused
        old = chunk.committed.content if chunk.committed is not None else b""
        data = bytes(update.data) if update.data is not None else b""
        content = apply_update(update.kind, update.offset, data, old) or b""
        if len(content) > block_bytes_max:
            message = f"chunk {update.chunk.hex()} would have {len(content)} bytes, at most {block_bytes_max} are allowed"
            return StageResult(Code.TOO_LARGE, message=message)
        kept = len(old) if update.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE) else 0
        if chunk.committed is not None and kept and not chunk.committed.keeps_sound(update, len(content)):
            self.mark_bad(update.chunk)
            return StageResult(Code.CHECKSUM, message=f"bytes of chunk {update.chunk.hex()} have changed on the disk")
        kind, sums = update.kind, None
        if kind is UpdateKind.FILL_BAD:
            kind, sums = (UpdateKind.FILL, None) if has_its_sums(update) else (kind, update.checksums)
        pending = MemoryVersion(version, chain_version, content, sums)
        after = MemoryChunk(chunk.committed, pending, kind, update.tag)
        if update.length and (
            self.is_full or (self.capacity_bytes and self._used_with(update.chunk, after) > self.capacity_bytes)
        ):
            return StageResult(Code.NO_SPACE, message=f"no room for {len(content)} bytes of chunk {update.chunk.hex()}")
        self._show(update.chunk, after)
        self.unsynced.settle(update.chunk)
        return StageResult(Code.OK, len(content), digest_of(pending.sums))

    def _used_with(self, chunk: ChunkId, after: MemoryChunk) -> int:
        return sum(bytes_of(found) for key, found in self.chunks.items() if key != chunk) + bytes_of(after)

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending."""
        found = self.chunks.get(chunk, MemoryChunk())
        if found.pending is None or found.pending.version != version:
            raise ValueError(f"version {version} of chunk {chunk.hex()} is not pending")
        self.unsynced.add_change(chunk, found)
        self._show(chunk, MemoryChunk() if found.kind is UpdateKind.REMOVE else MemoryChunk(found.pending))
        self._bad.pop(chunk, None)  # `stage` has found all bytes good that are kept
        if found.kind is UpdateKind.FILL_BAD:
            self.mark_bad(chunk, describe_carried(chunk))
        if tag.client:
            key = (tag.client, tag.channel)
            before, row = self.channel_rows.get(key), ChannelRow(tag.seq, chunk, result)
            if self._record_channel(key, row):
                self.unsynced.add_row(chunk, key, row, before)

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        found = self.chunks.get(chunk)
        if found is not None and found.pending is not None:
            self.unsynced.add_change(chunk, found)
            self._show(chunk, MemoryChunk(found.committed))

    def drop_within(self, chunk: ChunkId) -> None:
        """`drop_pending` within a barrier of the caller's."""
        self.drop_pending(chunk)
        self.unsynced.settle(chunk)

    def _show(self, chunk: ChunkId, after: MemoryChunk) -> None:
        if self.on_change is not None:
            self.on_change(chunk)
        if after.exists:
            self.chunks[chunk] = after
        else:
            self.chunks.pop(chunk, None)

    def begin_barrier(self) -> BarrierMark:
        """What was changed until now becomes durable with the barrier that begins, once `end_barrier` says so."""
        return self.unsynced.begin(self.chunks)

    def end_barrier(self, mark: BarrierMark) -> None:
        """The barrier that began with `mark` is on the disk."""
        self.unsynced.end(mark, self.chunks)

    async def flush(self) -> None:
        """`ChunkStore.flush`."""
        self.unsynced.clear()

    async def close(self) -> None:
        """`ChunkStore.close`."""
        self.unsynced.clear()
        self._pinned_versions.clear()
        self._closed = True

    # --- reads -------------------------------------------------------------------------------------------------------

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """`ChunkStore.read`. Everything is warm."""
        found = self.chunks.get(chunk)
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
            chunk = chunks[index]
            if answer(self.get(chunk), refuse_dirty, is_bad=chunk in self._bad) is Code.DIRTY:
                batch.refuse(index, Code.DIRTY)
                continue
            result = self.read(chunk, batch.offsets[index], batch.wanted[index])
            assert result is not None
            batch.put(index, self, result)
        return ()

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, *, pending: bool = False) -> ReadResult:
        """`ChunkStore.read_cold`. Never suspends."""
        found = self.chunks.get(chunk)
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

    async def read_damaged(self, chunk: ChunkId, *, pending: bool = False) -> ReadResult:
        """`ChunkStore.read_damaged`. Never suspends."""
        found = self.chunks.get(chunk)
        version = None if found is None else found.pending if pending else found.committed
        if version is None:
            return ReadResult(Code.NOT_FOUND)
        return ReadResult(Code.OK, version.version, len(version.content), (version.content,), version.sums, BLOCK_BYTES)

    @property
    def block_reuse_delay_ns(self) -> int:
        """`ChunkStore.block_reuse_delay_ns`. Nothing is ever written over."""
        return NEVER

    def release(self, pin: int) -> None:
        """`ChunkStore.release`. KeyError for a pin that is not held."""
        if pin:
            del self._pins[pin]

    def pin_version(self, chunk: ChunkId) -> int:
        """`ChunkStore.pin_version`."""
        found = self.chunks.get(chunk)
        if found is None or found.committed is None:
            return 0
        self._last_pin += 1
        self._pinned_versions[self._last_pin] = found.committed
        return self._last_pin

    async def read_pinned(self, pins: Sequence[int], length: int) -> Sequence[bytes | None]:
        """`ChunkStore.read_pinned`. Never suspends."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        versions = [self._pinned_versions.pop(pin) for pin in pins]
        return [each.content[:length] if each.is_sound(0, min(length, len(each.content))) else None for each in versions]

    def unpin(self, pins: Sequence[int]) -> None:
        """`ChunkStore.unpin`."""
        for pin in pins:
            self._pinned_versions.pop(pin, None)

    @property
    def owner_mark(self) -> OwnerMark | None:
        """`ChunkStore.owner_mark`: there are no files."""
        return None

    def locate_block(self, chunk: ChunkId) -> BlockPlace | None:
        """`ChunkStore.locate_block`: likewise."""
        return None

    # --- bad chunks --------------------------------------------------------------------------------------------------

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """`ChunkStore.bad_chunks`."""
        return MappingProxyType(self._bad)

    def mark_bad(self, chunk: ChunkId, why: str = "") -> None:
        """`ChunkStore.mark_bad`."""
        found = self.chunks.get(chunk)
        if found is None or found.committed is None or chunk in self._bad or len(self._bad) >= bad_chunks_max:
            return
        self._bad[chunk] = why or f"bytes of chunk {chunk.hex()} have changed on the disk"
        if self.on_change is not None:
            self.on_change(chunk)
        if self.on_bad is not None:
            self.on_bad(chunk)

    def _report_rot(self, chunk: ChunkId, start: int, stop: int) -> ReadResult:
        self.mark_bad(chunk, f"bytes {start} to {stop} of chunk {chunk.hex()} have changed on the disk")
        return ReadResult(Code.CHECKSUM, message=f"bytes {start} to {stop} of chunk {chunk.hex()} have changed on the disk")

    async def verify(self, chunk: ChunkId) -> bool:
        """`ChunkStore.verify`. Never suspends."""
        return self.verify_now(chunk)

    def verify_now(self, chunk: ChunkId) -> bool:
        """`verify` without a coroutine."""
        found = self.chunks.get(chunk)
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
                if not self.verify_now(chunk):
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
        done = self.repair_within(chunk, version, bytes(data))
        if done:
            self.unsynced.clear()
        return done

    def repair_within(self, chunk: ChunkId, version: int, data: bytes) -> bool:
        """`ChunkStore.repair` within a barrier of the caller's. Raises FS3Error as there."""
        if self._closed:
            raise error(Code.SHUTTING_DOWN, "the store is closed")
        found = self.chunks.get(chunk)
        if found is None or found.committed is None or found.committed.version != version:
            return False
        repaired = MemoryVersion(version, found.committed.chain_version, data)
        if len(repaired.content) != len(found.committed.content) or repaired.sums != found.committed.sums:
            raise error(Code.CHECKSUM, f"the bytes to repair chunk {chunk.hex()} with are not those of its version {version}")
        if self.is_full:
            raise error(Code.NO_SPACE, f"no room for {len(data)} bytes of chunk {chunk.hex()}")
        self._show(chunk, MemoryChunk(repaired, found.pending, found.kind, found.tag))
        self._bad.pop(chunk, None)
        self.unsynced.settle(chunk)
        return True

    # --- disasters ---------------------------------------------------------------------------------------------------

    def draw_loss(self, prng: Prng) -> Loss:
        """What a loss of power might take now: each change that is not durable, and each mark, by itself."""
        chunks = frozenset([chunk for chunk in self.unsynced.chunks if prng.chance(1, 2)])
        return Loss(chunks, frozenset([chunk for chunk in self._bad if not prng.chance(1, 2)]))

    def crash(self, prng: Prng) -> MemoryChunkStore:
        """Another store in a state this one's disk could be in after a loss of power; this one is not to be used any more."""
        return self.lose(self.draw_loss(prng))

    def lose(self, loss: Loss) -> MemoryChunkStore:
        """`crash`, with the loss drawn before."""
        after = MemoryChunkStore(self.capacity_bytes, self.channels_max)
        after.is_full = self.is_full
        after.channel_epoch = self.channel_epoch
        after.chunks = dict(self.chunks)
        after.channel_rows = dict(self.channel_rows)
        self.unsynced.take(loss, after.chunks, after.channel_rows)
        after._epochs = {key: self._epochs.get(key, self.channel_epoch) for key in after.channel_rows}
        for chunk, why in self._bad.items():
            found = after.chunks.get(chunk)
            if chunk not in loss.marks and found is not None and found.committed is self.chunks[chunk].committed:
                after._bad[chunk] = why
        self._closed = True
        return after

    def list_contents(self) -> dict[ChunkId, tuple[int, int, bytes]]:
        """Chunk -> (committed version, pending version, committed content), in key order. For checkers."""
        return {chunk: (found.meta.committed, found.meta.pending, found.content) for chunk, found in sorted(self.chunks.items())}

    def rot(self, chunk: ChunkId, offset: int, *, pending: bool = False) -> None:
        """Change one byte of a chunk behind its sums' back. KeyError without such a version."""
        found = self.chunks[chunk]
        version = found.pending if pending else found.committed
        if version is None:
            raise KeyError(chunk)
        content = bytearray(version.content)
        content[offset] ^= 0x55
        version.content = bytes(content)


def _report_pending_rot(chunk: ChunkId, start: int, stop: int) -> ReadResult:
    message = f"bytes {start} to {stop} of the pending version of chunk {chunk.hex()} have changed on the disk"
    return ReadResult(Code.CHECKSUM, message=message)

"""Reads of one target: warm ones at once, on the loop; cold ones on reader threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES
from fs3.base.ids import ChunkId
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.drivers.chunks import range_reads as reading
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_writes import BlockDamaged, describe_range
from fs3.drivers.chunks.disk_counts import DiskCounts
from fs3.drivers.chunks.files import read_all, read_warm
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import Version
from fs3.drivers.chunks.salvage import salvage
from fs3.ports.chunk_store import ChunkStore, ReadGather, ReadResult, StoreDamaged
from fs3.ports.clock import Clock
from fs3.ports.rpc import FileRange
from fs3.runtime.worker_threads import WorkerThreads

_OK = int(Code.OK)
_DIRTY = int(Code.DIRTY)
_NOT_FOUND = int(Code.NOT_FOUND)
_NO_WAIT = os.RWF_NOWAIT
_IN_PIECE = PIECE_BYTES - 1
_PIECE_SHIFT = PIECE_BYTES.bit_length() - 1
_UNKNOWN = (-1,)
"""Sums of a range that is not cut at pieces."""
_T = TypeVar("_T")


class PinnedCheck(Protocol[_T]):
    """Work on blocks that must not be reused meanwhile."""

    def run(self) -> _T:
        """On a reader thread, while the blocks are pinned."""
        ...

    def on_result(self, result: _T) -> None:
        """On the loop, before the blocks are unpinned; also when the caller was cancelled, but not when `run` raised."""
        ...


class ReadPath:
    """The read path of a store. Belongs to the loop, but for what it hands to its reader threads."""

    def __init__(
        self,
        rows: RowCache,
        reclaimer: BlockReclaimer,
        bad_chunks: BadChunks,
        clock: Clock,
        name: str,
        cold_readers: int,
        counts: DiskCounts,
    ) -> None:
        self._counts = counts
        self._rows = rows
        self._reclaimer = reclaimer
        self._bad_chunks = bad_chunks
        self._clock = clock
        self._readers = WorkerThreads(cold_readers, f"fs3-read-{name}")
        self._cold: set[asyncio.Future[Any]] = set()

    def read(self, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
        """`ChunkStore.read`."""
        if chunk in self._bad_chunks.reasons:
            return ReadResult(Code.CHECKSUM, message=self._bad_chunks.reasons[chunk])
        try:
            row = self._rows.find(chunk)
            version = row.committed if row is not None else None
            if version is None:
                return ReadResult(Code.NOT_FOUND)
            stop = min(offset + length, version.length)
            if stop - offset >= small_read_bytes:
                return self._read_large(version, chunk, offset, stop)
            if stop <= offset:
                return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
            into = memoryview(bytearray(stop - offset))
            self._rows.reserve_piece_sums(version)
            sums = reading.read_small(version, chunk, offset, stop, into, read_warm, check=False)
            if sums is None:
                return None
            return ReadResult(Code.OK, version.version, len(into), (into,), sums, PIECE_BYTES)
        except BlockDamaged as why:
            self._bad_chunks.mark(chunk, str(why))
            return ReadResult(Code.CHECKSUM, message=str(why))
        except StoreDamaged as why:
            return ReadResult(Code.CHECKSUM, message=str(why.strerror))

    def _read_large(self, version: Version, chunk: ChunkId, offset: int, stop: int) -> ReadResult | None:
        if not reading.is_resident(version, offset, stop):
            return None
        found = reading.read_large(version, chunk, offset, stop, read_warm)
        if found is None:
            return None
        parts, sums = found
        pin = self._reclaimer.pin(version.place) if any(isinstance(part, FileRange) for part in parts) else 0
        return ReadResult(Code.OK, version.version, stop - offset, parts, sums, BLOCK_BYTES, pin)

    def read_many(
        self, store: ChunkStore, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], refuse_dirty: bool
    ) -> list[int]:
        """`ChunkStore.read_many`. What a read of whole pieces with known sums needs is a local: no loop is hotter than this, so
        `core.craq.reads.answer` is written out in it. A test compares the two over every state of a chunk. The last piece of a
        chunk is whole when the read ends with the chunk; and a whole chunk that is one block (a small page with its key) has its
        stored sum, however its reader cuts it into buffers."""
        cold: list[int] = []
        rows = self._rows
        young = rows.young
        preadv, no_wait = os.preadv, _NO_WAIT
        view, positions, offsets, wanted = batch.view, batch.positions, batch.offsets, batch.wanted
        codes, lengths, versions = batch.codes, batch.lengths, batch.versions
        checksums, piece_bytes = batch.checksums, batch.piece_bytes
        marked = self._bad_chunks.reasons
        for index in which:
            chunk = chunks[index]
            if marked and chunk in marked:
                batch.refuse(index, Code.CHECKSUM)
                continue
            row = young.get(chunk)
            if row is None:
                try:
                    row = rows.find(chunk)
                except StoreDamaged:
                    batch.refuse(index, Code.CHECKSUM)
                    continue
                young = rows.young
                if row is None:
                    codes[index] = _NOT_FOUND
                    continue
            if refuse_dirty and row.pending is not None:
                codes[index] = _DIRTY
                continue
            version = row.committed
            if version is None:
                codes[index] = _NOT_FOUND
                continue
            offset = offsets[index]
            pieces = version.pieces
            length = wanted[index]
            if not offset and length >= version.length and length < small_read_bytes and version.place >= 0:
                at = positions[index]
                length = version.length
                try:
                    found = preadv(version.fd, (view[at : at + length],), version.base, no_wait)
                except OSError:
                    found = 0
                if found != length:
                    cold.append(index)
                    continue
                codes[index] = _OK
                lengths[index] = length
                piece_bytes[index] = BLOCK_BYTES
                versions[index] = version.version
                checksums[index] = (version.sum_of(0),)
                continue
            if pieces is not None and not offset & _IN_PIECE:
                stop = offset + length
                known: Sequence[int] = _UNKNOWN
                if length == PIECE_BYTES:
                    if stop <= version.length:
                        known = (pieces[offset >> _PIECE_SHIFT],)
                elif (
                    stop == version.length or (stop < version.length and not stop & _IN_PIECE)
                ) and 0 < length < small_read_bytes:
                    known = pieces[offset >> _PIECE_SHIFT : (stop + _IN_PIECE) >> _PIECE_SHIFT].tolist()
                if -1 not in known:
                    at = positions[index]
                    try:
                        found = preadv(version.fd, (view[at : at + length],), version.base + offset, no_wait)
                    except OSError:
                        found = 0
                    if found != length:
                        cold.append(index)
                        continue
                    codes[index] = _OK
                    lengths[index] = length
                    piece_bytes[index] = PIECE_BYTES
                    versions[index] = version.version
                    checksums[index] = known
                    continue
            if not self._read_uncommon(store, chunk, batch, index, version):
                cold.append(index)
            young = rows.young
        return cold

    def _read_uncommon(self, store: ChunkStore, chunk: ChunkId, batch: ReadGather, index: int, version: Version) -> bool:
        """One read of a batch that is not the common one. False when it is cold."""
        offset, wanted = batch.offsets[index], batch.wanted[index]
        length = min(offset + wanted, version.length) - offset
        if wanted >= small_read_bytes or length <= 0:
            result = self.read(chunk, offset, wanted)
            if result is not None:
                batch.put(index, store, result)
            return result is not None
        at = batch.positions[index]
        self._rows.reserve_piece_sums(version)
        try:
            sums = reading.read_small(
                version, chunk, offset, offset + length, batch.view[at : at + length], read_warm, check=False
            )
        except BlockDamaged as why:
            self._bad_chunks.mark(chunk, str(why))
            batch.refuse(index, Code.CHECKSUM)
            return True
        if sums is None:
            return False
        batch.codes[index] = _OK
        batch.lengths[index] = length
        batch.versions[index] = version.version
        batch.checksums[index] = sums
        batch.piece_bytes[index] = PIECE_BYTES
        return True

    def _find_version(self, chunk: ChunkId, pending: bool) -> Version | ReadResult:
        """The version of a chunk that a read is of, or the answer when there is none or its row is damaged."""
        try:
            row = self._rows.find(chunk)
        except StoreDamaged as why:
            return ReadResult(Code.CHECKSUM, message=str(why.strerror))
        version = None if row is None else row.pending if pending else row.committed
        return ReadResult(Code.NOT_FOUND) if version is None else version

    async def read_cold(self, chunk: ChunkId, offset: int, length: int, pending: bool) -> ReadResult:
        """`ChunkStore.read_cold`."""
        if not pending and chunk in self._bad_chunks.reasons:
            return ReadResult(Code.CHECKSUM, message=self._bad_chunks.reasons[chunk])
        version = self._find_version(chunk, pending)
        if isinstance(version, ReadResult):
            return version
        stop = min(offset + length, version.length)
        if stop <= offset:
            return ReadResult(Code.OK, version.version, piece_bytes=PIECE_BYTES)
        if stop - offset < small_read_bytes:
            self._rows.reserve_piece_sums(version)
        if version.place < 0:
            return read_verified(version, chunk, offset, stop)
        pin = self._reclaimer.pin(version.place)
        began_at = self._clock.now()
        future = self._on_reader(lambda: read_verified(version, chunk, offset, stop))
        try:
            result = await asyncio.shield(future)
            self._counts.cold_reads.add(self._clock.now() - began_at)
        except asyncio.CancelledError:
            # The thread reads on; the block is its until it is done, and the caller will not release what it found.
            future.add_done_callback(lambda _: self.release(pin, sent=False))
            raise
        if not pending and result.code in (Code.CHECKSUM, Code.DISK):
            self._bad_chunks.record_check(chunk, version, result.message)
        if any(isinstance(part, FileRange) for part in result.parts):
            result.pin = pin
        else:
            self.release(pin, sent=False)
        return result

    async def read_damaged(self, chunk: ChunkId, pending: bool) -> ReadResult:
        """`ChunkStore.read_damaged`."""
        version = self._find_version(chunk, pending)
        if isinstance(version, ReadResult):
            return version
        pin = self._reclaimer.pin(version.place) if version.place >= 0 else 0
        future = self._on_reader(lambda: salvage(version))
        future.add_done_callback(lambda _: self.release(pin, sent=False))
        found = await asyncio.shield(future)
        sums = version.sums_of(0, len(version.sums) // 4)
        return ReadResult(Code.OK, version.version, version.length, (found,), sums, BLOCK_BYTES)

    async def run_pinned(self, check: PinnedCheck[_T], places: Sequence[int]) -> _T:
        """Run a check while the blocks at `places` are pinned. Raises what its `run` raises."""
        pins = [self._reclaimer.pin(place) for place in places]
        future = self._on_reader(check.run)

        def over(_: asyncio.Future[_T]) -> None:
            try:
                if not future.cancelled() and future.exception() is None:
                    check.on_result(future.result())
            finally:
                for pin in pins:
                    self.release(pin, sent=False)

        future.add_done_callback(over)
        return await asyncio.shield(future)

    def _on_reader(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        future = asyncio.get_running_loop().run_in_executor(self._readers, work)
        self._cold.add(future)
        future.add_done_callback(self._cold.discard)
        return future

    @property
    def cold_count(self) -> int:
        """Calls on reader threads."""
        return len(self._cold)

    def release(self, pin: int, *, sent: bool = True) -> None:
        """A reader is done; `sent` by sendfile."""
        self._reclaimer.unpin(pin, self._clock.now(), sent=sent)

    async def close(self) -> None:
        """Wait for cold reads under way."""
        if self._cold:
            await asyncio.wait(self._cold)
        self._readers.shutdown()


def read_verified(version: Version, chunk: ChunkId, offset: int, stop: int) -> ReadResult:
    """On a reader thread: a range of a pinned version, every byte verified."""
    try:
        if stop - offset < small_read_bytes:
            into = memoryview(bytearray(stop - offset))
            sums = reading.read_small(version, chunk, offset, stop, into, read_all, check=True)
            if sums is not None:
                return ReadResult(Code.OK, version.version, len(into), (into,), sums, PIECE_BYTES)
        else:
            reading.verify_range(version, chunk, offset, stop)
            found = reading.read_large(version, chunk, offset, stop, read_all)
            if found is not None:
                return ReadResult(Code.OK, version.version, stop - offset, *found, BLOCK_BYTES)
        return ReadResult(Code.CHECKSUM, message=describe_range(chunk, version, offset, stop) + " are missing on the disk")
    except BlockDamaged as why:
        return ReadResult(Code.CHECKSUM, message=str(why))
    except OSError as why:
        return ReadResult(Code.DISK, message=f"{describe_range(chunk, version, offset, stop)} cannot be read: {why.strerror}")

"""What an update will do to its chunk, decided on the loop before the disk thread does it: result length, block, room."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from fs3.base import limits
from fs3.base.checksum import piece_count
from fs3.base.ids import CHUNK_ID_BYTES, CLIENT_ID_BYTES
from fs3.base.status import Code
from fs3.base.units import KIB, format_size
from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.bad_chunks import BadChunks
from fs3.drivers.chunks.block_writes import WriteJob
from fs3.drivers.chunks.config import ChunkStoreConfig
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import IndexRow, Version
from fs3.drivers.chunks.sizes import INLINE, NOWHERE, SIZES, block_bytes, class_for
from fs3.model.chunk import FILLS, Update, UpdateKind
from fs3.ports.chunk_store import OnStaged, StageResult, StoreDamaged

_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_ROW_ROOM = 16 * KIB
"""Disk space an update may need besides its block: pages of the index."""


class Deferral(Enum):
    """Not an answer yet."""

    AFTER_RECLAIM = 1
    """There may be room once space of free blocks went back to the file system."""
    AFTER_REST = 2
    """There may be room once blocks that were free at opening have rested."""


class PrewrittenBytes(Protocol):
    """What a plan asks of bytes that are in a block already (`fs3.drivers.chunks.prewriter`)."""

    @property
    def place(self) -> int:
        """The block."""
        ...

    @property
    def length(self) -> int:
        """From its beginning."""
        ...

    @property
    def checksums(self) -> tuple[int, ...]:
        """Of the pieces."""
        ...


class Planner:
    """Turns updates into jobs, and keeps the account of room."""

    def __init__(
        self,
        config: ChunkStoreConfig,
        rows: RowCache,
        bad_chunks: BadChunks,
        allocator: BlockAllocator,
        reclaimer: BlockReclaimer,
        files: BlockFiles,
    ) -> None:
        self._config = config
        self._bad_chunks = bad_chunks
        self._rows = rows
        self._allocator = allocator
        self._reclaimer = reclaimer
        self._files = files
        self.disk_free_bytes = files.free_bytes()
        """Of the file system, when it was last measured, less what was planned since."""

    def plan_prewrite(self, length: int, reserve: int) -> int:
        """The block, taken, for bytes that may become all of a chunk; -1: none, they would be in a row or room is scarce. Raises
        OSError."""
        if not limits.inline_chunk_bytes_max < length <= limits.block_bytes_max:
            return NOWHERE
        class_number = _class_of(length, reserve)
        config = self._config
        if config.capacity_bytes:
            room = config.capacity_bytes - config.repair_reserve_bytes - self._allocator.used_bytes
            if SIZES[class_number] > room:
                return NOWHERE
        if self.is_disk_low or length + config.disk_reserve_bytes > self.disk_free_bytes:
            return NOWHERE
        place = self._allocator.allocate(class_number)
        try:
            self._files.locate(place)
        except OSError:
            self._allocator.free(place)
            raise
        self.disk_free_bytes -= length
        return place

    def plan(
        self,
        update: Update,
        version: int,
        chain_version: int,
        on_staged: OnStaged,
        prewritten: PrewrittenBytes | None = None,
    ) -> WriteJob | StageResult | Deferral:
        """A job whose block is taken, or the answer when there is nothing to do on the disk. `prewritten` stays the caller's
        unless there is a job."""
        problem = find_contradiction(update, version, chain_version, prewritten)
        if problem:
            return StageResult(Code.INVALID, message=f"update of chunk {update.chunk.hex()}: {problem}")
        try:
            row = self._rows.find(update.chunk) or IndexRow(None, None, UpdateKind.WRITE, None)
        except StoreDamaged as why:
            return StageResult(Code.CHECKSUM, message=str(why.strerror))
        committed = row.committed
        if update.kind is UpdateKind.PUT and committed is not None:
            return StageResult(Code.EXISTS, committed.length, committed.digest)
        base = committed if update.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE) else None
        had = base.length if base is not None else 0
        if update.kind is UpdateKind.REMOVE:
            length = 0
        elif update.kind is UpdateKind.TRUNCATE:
            length = min(had, update.offset)
        else:
            length = max(had, update.offset + update.length) if update.length else had
        if length > limits.block_bytes_max:
            return StageResult(
                Code.TOO_LARGE,
                message=f"chunk {update.chunk.hex()} would have {length} bytes, at most {limits.block_bytes_max} are allowed",
            )
        job = WriteJob(update, version, chain_version, on_staged, row, base, length, NOWHERE, False)
        return self._assign_block(job) if prewritten is None else _assign_prewritten(job, prewritten)

    def plan_repair(self, update: Update, version: int, on_staged: OnStaged) -> WriteJob | StageResult | Deferral:
        """The same for a repair of the committed version by `update.data`, whose length and sums are those of the version.

        STALE_UPDATE when that is not the committed version, or when its block has the pending one in it too.
        """
        try:
            row = self._rows.find(update.chunk)
        except StoreDamaged as why:
            return StageResult(Code.CHECKSUM, message=str(why.strerror))
        if row is None or row.committed is None or row.committed.version != version or row.committed.length != update.length:
            return StageResult(Code.STALE_UPDATE)
        place = row.committed.place
        if row.pending is not None and row.pending.place == place >= 0:
            return StageResult(Code.STALE_UPDATE)
        job = WriteJob(
            update, version, row.committed.chain_version, on_staged, row, None, update.length, place, False, repairs=True
        )
        if place < 0:
            return job
        # A block of the same size: what the chunk was expected to reach, it still is.
        return self._allocate_block(job, place >> 32, update.length)

    def _assign_block(self, job: WriteJob) -> WriteJob | StageResult | Deferral:
        update, base, length = job.update, job.base, job.length
        grows = bool(update.length)
        if length == 0:
            return job
        if length <= limits.inline_chunk_bytes_max and update.kind is not UpdateKind.FILL_BAD:  # inline bytes are not verified
            job.place = INLINE
            return self._check_disk(job, _ROW_ROOM) if grows else job
        wanted = _class_of(length, update.reserve)
        if base is not None and base.place >= 0 and self._fits_in_place(base, update, length, wanted):
            short = self._check_disk(job, update.length + _ROW_ROOM) if grows else job
            if short is not job:
                return short
            job.place = base.place
            if grows:
                self._reclaimer.guard(base.place)
            return job
        planned = self._allocate_block(job, wanted, length)
        may_stay = base is not None and base.place >= 0 and update.chunk not in self._bad_chunks.reasons
        if planned is not job and update.kind is UpdateKind.TRUNCATE and may_stay:
            assert base is not None
            job.place = base.place  # in a block that is too large, but without needing another one
            return job
        return planned

    def _allocate_block(self, job: WriteJob, class_number: int, length: int) -> WriteJob | StageResult | Deferral:
        """A new block for `length` bytes."""
        refused = self._check_capacity(job, SIZES[class_number]) or self._check_disk(job, length + _ROW_ROOM)
        if refused is not job:
            return refused
        self.disk_free_bytes -= length
        job.place = self._allocator.allocate(class_number)
        job.fresh = True
        # Opens, and perhaps creates, the file here, so that the disk thread never does: the table of files is the loop's.
        self._files.locate(job.place)
        return job

    def _fits_in_place(self, base: Version, update: Update, length: int, wanted: int) -> bool:
        """The new version can use the block of the committed one.

        Not when it is bad: all bytes that are kept are read then, and must be good. Another replica may have to copy what this
        one has room for in place, and they must not differ in whether they take the update."""
        if update.chunk in self._bad_chunks.reasons:
            return False
        if length == base.length and not update.length:
            return True
        if update.kind is UpdateKind.TRUNCATE:
            return base.place >> 32 == wanted
        return update.offset >= base.length and length <= block_bytes(base.place) and not self._reclaimer.is_guarded(base.place)

    def _check_capacity(self, job: WriteJob, need: int) -> StageResult | None:
        config = self._config
        if not config.capacity_bytes:
            return None
        room = config.capacity_bytes - self._allocator.used_bytes
        if job.update.kind not in FILLS:
            room -= config.repair_reserve_bytes
        if need <= room:
            return None
        return _no_space(job, need, room, f"the target's capacity of {format_size(config.capacity_bytes)}")

    def _check_disk(self, job: WriteJob, need: int) -> WriteJob | StageResult | Deferral:
        reserve = self._config.disk_reserve_bytes
        room = self.disk_free_bytes - (reserve // 2 if job.update.kind in FILLS else reserve)
        if need <= room:
            return job
        if self._allocator.vacant_bytes and self._files.may_punch:
            return Deferral.AFTER_RECLAIM
        # Barriers measure, and a refused update causes none: other users of the disk may have made room long ago.
        room += self._files.free_bytes() - self.disk_free_bytes
        if need <= room:
            self.disk_free_bytes = self._files.free_bytes()
            return job
        if self._allocator.resting_bytes and self._files.may_punch:
            return Deferral.AFTER_REST
        return _no_space(job, need, room, f"the disk, of which {format_size(reserve)} stay free")

    @property
    def is_disk_low(self) -> bool:
        """Time to give the space of free blocks back."""
        return self.disk_free_bytes < 4 * self._config.disk_reserve_bytes

    @property
    def free_bytes(self) -> int:
        """What new blocks may still take under every limit, counting space of free blocks, which is given back when needed."""
        config = self._config
        given_back = self._allocator.vacant_bytes + self._allocator.resting_bytes
        room = self.disk_free_bytes + given_back - config.disk_reserve_bytes
        if config.capacity_bytes:
            room = min(room, config.capacity_bytes - config.repair_reserve_bytes - self._allocator.used_bytes)
        return max(room, 0)


def _class_of(length: int, reserve: int) -> int:
    """Of the block for so many bytes, of a chunk that is expected to reach `reserve`."""
    return class_for(min(max(length, reserve), limits.block_bytes_max))


def _assign_prewritten(job: WriteJob, prewritten: PrewrittenBytes) -> WriteJob | StageResult:
    """The block has all bytes of the version already, or else is of no use."""
    update, name = job.update, job.update.chunk.hex()
    if prewritten.checksums != update.checksums:
        return StageResult(Code.CHECKSUM, message=f"what was written ahead for chunk {name} has not the checksums of the update")
    if update.offset or update.length != job.length or prewritten.place >> 32 != _class_of(job.length, update.reserve):
        return StageResult(Code.BUSY, message=f"what was written ahead is not all of chunk {name}")
    job.place = prewritten.place
    job.fresh = job.is_prewritten = True
    return job


def _no_space(job: WriteJob, need: int, room: int, limit: str) -> StageResult:
    return StageResult(
        Code.NO_SPACE,
        message=f"chunk {job.update.chunk.hex()} needs {format_size(need)}, {format_size(max(room, 0))} are left of {limit}",
    )


def find_contradiction(update: Update, version: int, chain_version: int, prewritten: PrewrittenBytes | None = None) -> str:
    """What is wrong with an update whatever the chunk is; "" nothing."""
    tag = update.tag
    if len(update.chunk) != CHUNK_ID_BYTES:
        return f"its id has {len(update.chunk)} bytes, not {CHUNK_ID_BYTES}"
    if not 0 < version <= _U32 or not 0 <= chain_version <= _U32:
        return f"version {version} or chain version {chain_version} is out of range"
    if len(tag.client) not in (0, CLIENT_ID_BYTES) or not 0 <= tag.channel <= _U32 or not 0 <= tag.seq <= _U64:
        return f"its tag ({tag.client.hex()}, {tag.channel}, {tag.seq}) is out of range"
    if update.offset < 0 or update.length < 0 or update.reserve < 0:
        return f"offset {update.offset}, length {update.length} or reserve {update.reserve} is negative"
    if update.kind in (UpdateKind.REMOVE, UpdateKind.TRUNCATE):
        return f"{update.kind.name} carries no data, but its length is {update.length}" if update.length else ""
    if (update.kind is UpdateKind.PUT or update.kind in FILLS) and update.offset:
        return f"{update.kind.name} replaces the whole chunk, but starts at {update.offset}"
    size = prewritten.length if prewritten is not None else len(update.data) if update.data is not None else 0
    if size != update.length:
        return f"it says {update.length} bytes of data and has {size}"
    pieces = piece_count(update.offset, update.length)
    if len(update.checksums) != pieces:
        return f"it has {len(update.checksums)} checksums for {pieces} pieces"
    return ""

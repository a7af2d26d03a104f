"""Changes of chunks: commits in memory, and the barriers that make updates durable.

The loop plans a barrier, hands it to the disk thread and takes its outcome back; meanwhile the next one gathers. So there is
one barrier at a time, and group commit comes by itself: what arrives while the disk is busy shares the next sync.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fs3.base.errors import error
from fs3.base.ids import ChunkId
from fs3.base.limits import batch_items_max, reclaim_bytes_per_barrier_max, stages_per_barrier_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.chunks.barrier import Barrier
from fs3.drivers.chunks.cache import Rows
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.holds import Holds
from fs3.drivers.chunks.index import ChannelKey, Index
from fs3.drivers.chunks.planning import ChunkStoreConfig, Later, Planner
from fs3.drivers.chunks.rows import Row, RowDamaged
from fs3.drivers.chunks.slots import Slots
from fs3.drivers.chunks.writing import COPY_BYTES, Job
from fs3.model.chunk import ChannelRow, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import StageResult
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.chunks")

_MEASURE_NS = 200 * MILLISECOND
"""Between two looks at the room on the file system; in between, what was planned is subtracted."""

_Call = tuple[Update, int, int, "asyncio.Future[StageResult]"]
"""A `stage` that waits for a barrier."""


class Updates:
    """The write path of a store."""

    def __init__(
        self,
        directory: Path,
        config: ChunkStoreConfig,
        clock: Clock,
        index: Index,
        files: BlockFiles,
        rows: Rows,
        slots: Slots,
        holds: Holds,
    ) -> None:
        self._directory = directory
        self._config = config
        self._clock = clock
        self._index = index
        self._files = files
        self._rows = rows
        self._slots = slots
        self._holds = holds
        self.planner = Planner(config, rows, slots, holds, files)
        self._disk = ThreadPoolExecutor(1, f"fs3-disk-{directory.name}")
        self._scratch = memoryview(bytearray(COPY_BYTES))

        self.pending: dict[ChunkId, None] = {}
        """Chunks that have a pending version; a set that keeps its order."""
        self.chunks = 0
        """How many there are."""
        self.channels: dict[ChannelKey, ChannelRow] = {}
        """Channel rows the durable index lacks."""
        self._waiting: deque[_Call] = deque()
        self._staging: set[ChunkId] = set()
        """Chunks with a `stage` under way."""
        self._changed: dict[ChunkId, Row] = {}
        """Unsynced rows that no barrier has taken yet; a part of `Rows.unsynced`."""
        self._changed_channels: dict[ChannelKey, ChannelRow] = {}
        self._changes = 0
        self._durable_changes = 0
        self._barrier: Barrier | None = None
        self._barrier_over: asyncio.Future[str] | None = None
        """Resolved with what went wrong with the index, "" nothing."""
        self._timer: asyncio.TimerHandle | None = None
        self._begin_soon = False
        self._measured = clock.now()
        """When the room on the file system was last asked for."""
        self._broken = ""
        self._closing = False

    def find(self, chunk: ChunkId) -> Row | None:
        """The current row. Raises FS3Error CHECKSUM when it is damaged."""
        try:
            return self._rows.find(chunk)
        except RowDamaged as why:
            raise error(Code.CHECKSUM, str(why), str(self._directory)) from why

    # --- changes in memory -------------------------------------------------------------------------------------------

    def commit(self, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
        """`ChunkStore.commit`. Raises ValueError when that version is not pending."""
        row = self._idle(chunk)
        committed, pending = row.committed, row.pending
        if pending is None or pending.version != version:
            raise ValueError(
                f"version {version} of chunk {chunk.hex()} is not pending, {pending.version if pending else None} is"
            )
        holds = self._holds
        if row.kind is UpdateKind.REMOVE:
            if committed is not None:
                holds.let_block(committed.place)
            self.chunks -= 1
            after = Row(None, None, UpdateKind.WRITE, None)
        else:
            if committed is not None and committed.place >= 0:
                if committed.place != pending.place:
                    holds.let_block(committed.place)
                elif pending.length > committed.length:
                    holds.unguard(committed.place)
                elif pending.length < committed.length:
                    holds.guard(committed.place)
                    holds.let_guard(committed.place)
            after = Row(pending, None, UpdateKind.WRITE, None)
        if tag.client:
            key = (tag.client, tag.channel)
            self.channels[key] = self._changed_channels[key] = ChannelRow(tag.seq, chunk, result)
        self._change(chunk, after)

    def drop_pending(self, chunk: ChunkId) -> None:
        """`ChunkStore.drop_pending`. A chunk without a pending version is left as it is."""
        row = self._idle(chunk)
        if row.pending is None:
            return
        self._let_pending(row)
        if row.committed is None:
            self.chunks -= 1
        self._change(chunk, Row(row.committed, None, UpdateKind.WRITE, None))

    def _idle(self, chunk: ChunkId) -> Row:
        if chunk in self._staging:
            raise ValueError(f"chunk {chunk.hex()} is changed while an update of it is being staged")
        return self.find(chunk) or Row(None, None, UpdateKind.WRITE, None)

    def _let_pending(self, row: Row) -> None:
        """The pending version goes without having been committed."""
        committed, pending = row.committed, row.pending
        if pending is None or pending.place < 0:
            return
        if committed is None or committed.place != pending.place:
            self._holds.let_block(pending.place)
        elif pending.length > committed.length:
            self._holds.let_guard(pending.place)

    def _change(self, chunk: ChunkId, row: Row) -> None:
        self.pending.pop(chunk, None)
        self._rows.change(chunk, row)
        self._changed[chunk] = row
        self._changes += 1
        if self._timer is None and self._barrier is None:
            self._set_timer()

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._config.commit_sync_ns / SECOND, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._begin()

    # --- barriers ----------------------------------------------------------------------------------------------------

    async def stage(self, update: Update, version: int, chain_version: int) -> StageResult:
        """`ChunkStore.stage`."""
        if self._closing:
            return StageResult(Code.SHUTTING_DOWN, message=f"{self._directory} is being closed")
        if len(self._waiting) >= batch_items_max:
            return StageResult(Code.BUSY, message=f"{len(self._waiting)} updates wait for the disk already")
        if update.chunk in self._staging:
            raise ValueError(f"an update of chunk {update.chunk.hex()} is being staged already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[StageResult] = loop.create_future()
        self._staging.add(update.chunk)
        self._waiting.append((update, version, chain_version, done))
        if self._barrier is None and not self._begin_soon:
            # At the end of this turn of the loop, so that all updates that arrived in it share the barrier.
            self._begin_soon = True
            loop.call_soon(self._begin)
        return await done

    def _begin(self) -> None:
        """Hand everything that waits to the disk thread, unless it is busy."""
        self._begin_soon = False
        if self._barrier is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._holds.rested(self._clock.now())
        jobs, short = self._plan()
        vacant: list[int] = []
        if (short or self.planner.disk_is_low) and self._files.may_punch and not self._broken:
            # Not when broken: the index may then refer to a block that counts as free here.
            vacant = list(self._slots.vacant(reclaim_bytes_per_barrier_max))
        if not (jobs or vacant or self._changed or self._changed_channels):
            return
        measure = self._clock.now() - self._measured >= _MEASURE_NS
        let = self._holds.take_let()
        barrier = Barrier(jobs, self._changed, self._changed_channels, let, vacant, self._changes, measure)
        self._changed, self._changed_channels = {}, {}
        self._barrier = barrier
        self._barrier_over = asyncio.get_running_loop().create_future()
        self._on_disk(lambda: barrier.run(self._files, self._index, self._scratch))

    def _plan(self) -> tuple[list[Job], bool]:
        """Jobs for what waits, up to the limit; and whether the next one lacks only space that free blocks occupy."""
        jobs: list[Job] = []
        while self._waiting and len(jobs) < stages_per_barrier_max:
            update, version, chain_version, done = self._waiting[0]
            if self._broken:
                planned: Job | StageResult | Later = StageResult(Code.DISK, message=self._broken)
            else:
                planned = self.planner.plan(update, version, chain_version, done)
            if isinstance(planned, Later):
                return jobs, True
            self._waiting.popleft()
            if isinstance(planned, Job):
                jobs.append(planned)
            else:
                self._answer(update.chunk, done, planned)
        return jobs, False

    def _on_disk(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._disk, work).add_done_callback(self._over)

    def _over(self, future: asyncio.Future[None]) -> None:
        """The disk thread is done with the barrier."""
        barrier = self._barrier
        assert barrier is not None
        why = future.exception()
        if why is not None:
            log.critical("%s: writing failed by a mistake in this program", self._directory, exc_info=why)
            barrier.broken = f"internal error: {why!r}"
        if barrier.index_full:
            if self._index.grow():
                self._on_disk(lambda: barrier.commit(self._index))
                return
            barrier.index_failed = "the index has reached its limit"
        self._take_outcome(barrier)
        self._barrier = None
        if self._barrier_over is not None:
            self._barrier_over.set_result(barrier.broken or barrier.index_failed)
        if self._waiting:
            self._begin()
        elif (self._changed or self._changed_channels) and not self._broken and self._timer is None:
            self._set_timer()

    def _take_outcome(self, barrier: Barrier) -> None:
        self._index.advance()
        if barrier.broken or barrier.index_failed:
            if barrier.broken:
                self._broken = f"{self._directory}: {barrier.broken}; reads go on, writes need the target to be opened again"
                log.error("%s", self._broken)
            self._changed = {**barrier.rows, **self._changed}
            self._changed_channels = {**barrier.channels, **self._changed_channels}
            self._holds.put_back(barrier.let)
        else:
            for chunk, row in barrier.rows.items():
                self._rows.synced(chunk, row)
            for key, channel in barrier.channels.items():
                if self.channels.get(key) is channel:
                    del self.channels[key]
            self._holds.settle(barrier.let, self._clock.now())
            self._durable_changes = barrier.covers
        for place in barrier.emptied:
            self._slots.emptied(place)
        if barrier.free_bytes is not None:
            self.planner.disk_free = barrier.free_bytes
            self._measured = self._clock.now()
        for job in barrier.jobs:
            self._finish(job, barrier)

    def _finish(self, job: Job, barrier: Barrier) -> None:
        chunk = job.update.chunk
        if job.code is Code.OK and barrier.broken:
            job.code, job.message = Code.DISK, self._broken
        elif job.code is Code.OK and barrier.index_failed:
            job.code, job.message = Code.NO_SPACE, f"no room for the index row of chunk {chunk.hex()}: {barrier.index_failed}"
        if job.code is not Code.OK:
            # Nothing durable refers to what was written (or nobody knows, but then nothing is written any more either).
            if job.fresh:
                self._slots.give(job.place)
            elif job.place >= 0 and job.update.length:
                self._holds.unguard(job.place)
            self._answer(chunk, job.done, StageResult(job.code, message=job.message))
            return
        assert job.after is not None
        assert job.made is not None
        if job.row.pending is not None:
            # Replaced, durably: the list for the next barrier would only keep it longer.
            before = self._holds.take_let()
            self._let_pending(job.row)
            self._holds.settle(self._holds.take_let(), self._clock.now())
            self._holds.put_back(before)
        if not job.row.exists:
            self.chunks += 1
        self._rows.staged(chunk, job.after)
        self.pending[chunk] = None
        self._answer(chunk, job.done, StageResult(Code.OK, job.made.length, job.made.digest))

    def _answer(self, chunk: ChunkId, done: asyncio.Future[StageResult], result: StageResult) -> None:
        self._staging.discard(chunk)
        if not done.done():
            done.set_result(result)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """`ChunkStore.flush`. Raises FS3Error NO_SPACE or DISK naming the directory when it cannot be done."""
        wanted = self._changes
        while self._durable_changes < wanted:
            self._begin()
            barrier, over = self._barrier, self._barrier_over
            assert barrier is not None
            assert over is not None
            why = await asyncio.shield(over)
            if why and self._durable_changes < wanted:
                code = Code.DISK if barrier.broken else Code.NO_SPACE
                raise error(code, f"commits cannot be made durable: {why}", str(self._directory))

    async def close(self) -> None:
        """Finish what waits, then make all commits durable. Raises as `flush` does, but lets go of the disk thread."""
        self._closing = True
        try:
            while self._waiting or self._barrier is not None:
                self._begin()
                if self._barrier_over is not None:
                    await asyncio.shield(self._barrier_over)
            await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._disk.shutdown()

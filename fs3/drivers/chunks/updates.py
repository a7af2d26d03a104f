"""Changes of chunks: commits in memory, and the barriers that make updates durable.

The loop plans a barrier, hands it to the disk thread and takes its outcome back; meanwhile the next one gathers. So there is
one barrier at a time, and group commit comes by itself: what arrives while the disk is busy shares the next sync.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, ClientId
from fs3.base.limits import batch_items_max, channel_rows_per_merge_max, reclaim_bytes_per_barrier_max, stages_per_barrier_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.chunks.barrier import Barrier, Changes
from fs3.drivers.chunks.cache import Rows
from fs3.drivers.chunks.commits import Commits
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.holds import Holds
from fs3.drivers.chunks.index import Index
from fs3.drivers.chunks.planning import ChunkStoreConfig, Later, Planner
from fs3.drivers.chunks.rows import Row, Version
from fs3.drivers.chunks.slots import Slots
from fs3.drivers.chunks.writing import COPY_BYTES, Job
from fs3.model.chunk import ChannelRow, Tag, Update, UpdateKind
from fs3.ports.chunk_store import ChannelKey, StageResult
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.chunks")

_MEASURE_NS = 200 * MILLISECOND
"""Between two looks at the room on the file system; in between, what was planned is subtracted."""

_Call = tuple[Update, int, int, "asyncio.Future[StageResult]", bool]
"""A `stage`, or a `repair` (True), that waits for a barrier."""
_NO_TAG = Tag(ClientId(b""), 0, 0)


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

        self.commits = Commits(directory, index, rows, holds, config.channels_max, self.changed)
        self._waiting: deque[_Call] = deque()
        self._repairing: dict[ChunkId, asyncio.Future[StageResult]] = {}
        """Chunks with a `repair` under way; a `stage` waits for it."""
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

    def changed(self) -> None:
        """There is something for the next barrier to take along."""
        self._changes += 1
        if self._timer is None and self._barrier is None:
            self._set_timer()

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._config.commit_sync_ns / SECOND, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._begin()

    def advance_channel_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`."""
        self.commits.channels.advance()
        self.changed()

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """`ChunkStore.merge_channels`. Raises FS3Error as there."""
        name = str(self._directory)
        if self._closing:
            raise error(Code.SHUTTING_DOWN, f"{self._directory} is being closed", name)
        if len(rows) > channel_rows_per_merge_max:
            raise error(
                Code.INVALID, f"{len(rows)} channel rows in one merge, at most {channel_rows_per_merge_max} are allowed", name
            )
        for key, row in rows:
            if self.commits.channels.count >= self.commits.channels.rows_max and self.commits.find_channel(key) is None:
                raise error(Code.NO_SPACE, f"there are {self.commits.channels.count} channel rows already", name)
            self.commits.use_channel(key, row)
        if rows:
            self.changed()
            await self.flush()

    # --- barriers ----------------------------------------------------------------------------------------------------

    async def stage(self, update: Update, version: int, chain_version: int) -> StageResult:
        """`ChunkStore.stage`."""
        if self._closing:
            return StageResult(Code.SHUTTING_DOWN, message=f"{self._directory} is being closed")
        if len(self._waiting) >= batch_items_max:
            return StageResult(Code.BUSY, message=f"{len(self._waiting)} updates wait for the disk already")
        chunk = update.chunk
        if chunk in self.commits.staging:
            raise ValueError(f"an update of chunk {chunk.hex()} is being staged already")
        self.commits.staging.add(chunk)
        if chunk in self._repairing:
            return await self._stage_after_repair(update, version, chain_version)
        return await self._submit(update, version, chain_version, repairs=False)

    async def _stage_after_repair(self, update: Update, version: int, chain_version: int) -> StageResult:
        try:
            await asyncio.wait((self._repairing[update.chunk],))
        except asyncio.CancelledError:
            self.commits.staging.discard(update.chunk)
            raise
        if self._closing:
            self.commits.staging.discard(update.chunk)
            return StageResult(Code.SHUTTING_DOWN, message=f"{self._directory} is being closed")
        return await self._submit(update, version, chain_version, repairs=False)

    def _submit(self, update: Update, version: int, chain_version: int, *, repairs: bool) -> asyncio.Future[StageResult]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[StageResult] = loop.create_future()
        self._waiting.append((update, version, chain_version, done, repairs))
        if self._barrier is None and not self._begin_soon:
            # At the end of this turn of the loop, so that all updates that arrived in it share the barrier.
            self._begin_soon = True
            loop.call_soon(self._begin)
        return done

    async def repair(self, chunk: ChunkId, version: int, data: memoryview) -> bool:
        """`ChunkStore.repair`. Raises FS3Error as there."""
        name = str(self._directory)
        if self._closing:
            raise error(Code.SHUTTING_DOWN, f"{self._directory} is being closed", name)
        if len(self._waiting) >= batch_items_max:
            raise error(Code.BUSY, f"{len(self._waiting)} updates wait for the disk already", name)
        row = self.commits.find(chunk)
        committed = row.committed if row is not None else None
        if committed is None or committed.version != version or chunk in self.commits.staging or chunk in self._repairing:
            return False
        if committed.length != len(data):
            raise error(Code.CHECKSUM, f"{len(data)} bytes to repair chunk {chunk.hex()} with, it has {committed.length}", name)
        sums = tuple(committed.sums_of(0, len(committed.sums) // 4))
        kind = UpdateKind.FILL
        update = Update(chunk, kind, ChainId(0), committed.chain_version, version, 0, len(data), _NO_TAG, sums, 0, data)
        done = self._repairing[chunk] = self._submit(update, version, committed.chain_version, repairs=True)
        result = await asyncio.shield(done)
        if result.code is Code.STALE_UPDATE:
            return False
        if result.code is not Code.OK:
            raise error(result.code, result.message, name)
        return True

    def _begin(self) -> None:
        """Hand everything that waits to the disk thread, unless it is busy."""
        self._begin_soon = False
        if self._barrier is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._holds.rested(self._clock.now())
        if self.commits.channels.sweeping:
            self.commits.channels.sweep()
        jobs, short = self._plan()
        vacant: list[int] = []
        if (short or self.planner.disk_is_low) and self._files.may_punch and not self._broken:
            # Not when broken: the index may then refer to a block that counts as free here.
            vacant = list(self._slots.vacant(reclaim_bytes_per_barrier_max))
        channels, epoch = self.commits.channels.take()
        changes = Changes(self.commits.changed, channels, epoch, self.commits.marks.take())
        if not (jobs or vacant or changes):
            self._durable_changes = self._changes
            self._rest()
            return
        self.commits.changed = {}
        measure = self._clock.now() - self._measured >= _MEASURE_NS
        barrier = Barrier(jobs, changes, self._holds.take_let(), vacant, self._changes, measure)
        self._barrier = barrier
        self._barrier_over = asyncio.get_running_loop().create_future()
        self._on_disk(lambda: barrier.run(self._files, self._index, self._scratch))

    def _plan(self) -> tuple[list[Job], bool]:
        """Jobs for what waits, up to the limit; and whether the next one lacks only space that free blocks occupy."""
        jobs: list[Job] = []
        while self._waiting and len(jobs) < stages_per_barrier_max:
            update, version, chain_version, done, repairs = self._waiting[0]
            if self._broken:
                planned: Job | StageResult | Later = StageResult(Code.DISK, message=self._broken)
            elif repairs:
                planned = self.planner.plan_repair(update, version, done)
            else:
                planned = self.planner.plan(update, version, chain_version, done)
            if isinstance(planned, Later):
                return jobs, True
            self._waiting.popleft()
            if isinstance(planned, Job):
                jobs.append(planned)
            else:
                self._answer(update.chunk, done, planned, repairs=repairs)
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
        else:
            self._rest()

    def _rest(self) -> None:
        """Nothing has to be done at once; what has to be done soon?"""
        if self._broken or self._closing or self._timer is not None:
            return
        if self.commits.changed or self.commits.channels.changed or self.commits.channels.sweeping or self.commits.marks.changed:
            self._set_timer()

    def _take_outcome(self, barrier: Barrier) -> None:
        changes = barrier.changes
        try:
            self._index.advance()
        except lmdb.Error as why:
            barrier.broken = barrier.broken or f"the index cannot be read any more: {why}"
        if barrier.broken or barrier.index_failed:
            if barrier.broken:
                self._broken = f"{self._directory}: {barrier.broken}; reads go on, writes need the target to be opened again"
                log.error("%s", self._broken)
            self.commits.changed = {**changes.rows, **self.commits.changed}
            self.commits.channels.put_back(changes.channels, changes.epoch)
            self.commits.marks.put_back(changes.marks)
            self._holds.put_back(barrier.let)
        else:
            for chunk, row in changes.rows.items():
                self._rows.synced(chunk, row)
            self.commits.channels.synced(changes.channels)
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
            if job.damaged:
                self.commits.marks.mark(chunk, job.message)
            self._answer(chunk, job.done, StageResult(job.code, message=job.message), repairs=job.repairs)
            return
        assert job.after is not None
        assert job.made is not None
        if job.repairs:
            done = self._take_repaired(job, job.made, job.after)
            self._answer(chunk, job.done, StageResult(Code.OK if done else Code.STALE_UPDATE), repairs=True)
            return
        if job.row.pending is not None:
            self._let_durably(lambda: self.commits.let_pending(job.row))
        if not job.row.exists:
            self.commits.chunks += 1
        self._rows.staged(chunk, job.after)
        self.commits.pending[chunk] = None
        self._answer(chunk, job.done, StageResult(Code.OK, job.made.length, job.made.digest))

    def _let_durably(self, let_go: Callable[[], None]) -> None:
        """`let_go` lets go of what the durable index does not refer to: the list for the next barrier would only keep it."""
        before = self._holds.take_let()
        let_go()
        self._holds.settle(self._holds.take_let(), self._clock.now())
        self._holds.put_back(before)

    def _take_repaired(self, job: Job, made: Version, after: Row) -> bool:
        """The durable index has the repaired version in its new block. False when the chunk has moved on meanwhile."""
        chunk, was = job.update.chunk, job.row.committed
        assert was is not None
        now = self.commits.changed.get(chunk)
        if now is None:
            self._rows.staged(chunk, after)
        elif now.committed is None or (now.committed.place, now.committed.version) != (was.place, was.version):
            # Whatever changed it is written by the next barrier, and that is when the index lets go of the new block.
            self._holds.let_block(job.place)
            return False
        else:
            # Its pending version was dropped meanwhile; the row that waits for the next barrier has the old block in it.
            self.commits.changed[chunk] = Row(made, now.pending, now.kind, now.tag)
            self._rows.change(chunk, self.commits.changed[chunk])
        self._let_durably(lambda: self._holds.let_block(was.place))
        self.commits.marks.clear(chunk)
        return True

    def _answer(self, chunk: ChunkId, done: asyncio.Future[StageResult], result: StageResult, *, repairs: bool = False) -> None:
        if repairs:
            del self._repairing[chunk]
        else:
            self.commits.staging.discard(chunk)
        if not done.done():
            done.set_result(result)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """`ChunkStore.flush`. Raises FS3Error NO_SPACE or DISK naming the directory when it cannot be done."""
        wanted = self._changes
        while self._durable_changes < wanted:
            self._begin()
            barrier, over = self._barrier, self._barrier_over
            if barrier is None or over is None:
                continue  # it turned out that nothing had changed
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

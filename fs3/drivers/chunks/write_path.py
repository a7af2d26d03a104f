"""Changes of chunks: commits in memory, and the barriers that make updates durable.

The loop plans a barrier, hands it to the disk thread and takes its outcome back; meanwhile the next one gathers. So there is
one barrier at a time, and group commit comes by itself: what arrives while the disk is busy shares the next sync.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, ClientId
from fs3.base.limits import batch_items_max, channel_rows_per_merge_max
from fs3.base.status import Code
from fs3.base.units import GIB, MILLISECOND
from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.barrier import Barrier, ChangeSet
from fs3.drivers.chunks.block_writes import COPY_BYTES, WriteJob
from fs3.drivers.chunks.checkpoint import Checkpoint, Checkpointer
from fs3.drivers.chunks.disk_counts import DiskCounts
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.pending_changes import PendingChanges
from fs3.drivers.chunks.planner import Deferral, Planner
from fs3.drivers.chunks.prewriter import PrewrittenBlock
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import IndexRow, Version
from fs3.drivers.chunks.update_log import UpdateLog
from fs3.model.chunk import ChannelKey, ChannelRow, Tag, Update, UpdateKind
from fs3.ports.chunk_store import OnStaged, Staged, StageResult, StoreDamaged
from fs3.ports.clock import Clock
from fs3.runtime.alarm import NEVER, Alarm
from fs3.runtime.worker_threads import WorkerThreads

log = logging.getLogger("fs3.chunks")

reclaim_bytes_per_barrier_max = 4 * GIB
"""Free blocks whose disk space one barrier gives back when the disk runs low."""

stages_per_barrier_max = 1024
"""Updates one barrier of a target makes durable together; the rest wait for the next."""

_MEASURE_NS = 200 * MILLISECOND
"""Between two looks at the room on the file system; in between, what was planned is subtracted."""


class _Call(NamedTuple):
    """A `stage`, or a `repair`, that waits for a barrier."""

    update: Update
    version: int
    chain_version: int
    on_staged: OnStaged
    repairs: bool
    prewritten: PrewrittenBlock | None


_NO_TAG = Tag(ClientId(b""), 0, 0)


class WritePath:
    """The write path of a store. Belongs to the loop, but for the barrier it has handed to the disk thread."""

    def __init__(
        self,
        commit_sync_ns: int,
        logged_bytes_max: int,
        clock: Clock,
        update_log: UpdateLog,
        checkpointer: Checkpointer,
        files: BlockFiles,
        rows: RowCache,
        allocator: BlockAllocator,
        reclaimer: BlockReclaimer,
        planner: Planner,
        pending_changes: PendingChanges,
        counts: DiskCounts,
    ) -> None:
        """It makes itself the scheduler of `pending_changes.count` and the observer of the checkpoints; `commit_sync_ns`,
        `logged_bytes_max`: see `ChunkStoreConfig`."""
        self.counts = counts
        self._directory = files.directory
        self._commit_sync_ns = commit_sync_ns
        self._logged_bytes_max = logged_bytes_max
        self._record_data_max = update_log.segment_bytes // 4 * 3
        """Data of the updates of one barrier that go into the log: a record does not go beyond a segment, with its rows."""
        self._clock = clock
        self._log = update_log
        self._checkpointer = checkpointer
        checkpointer.observer = self
        self._files = files
        self._rows = rows
        self._allocator = allocator
        self._reclaimer = reclaimer
        self._planner = planner
        self._changes = pending_changes
        self._count = pending_changes.count
        self._count.scheduler = self
        self._disk = WorkerThreads(1, f"fs3-disk-{self._directory.name}")
        self._scratch = memoryview(bytearray(COPY_BYTES))

        self._waiting: deque[_Call] = deque()
        self._answers: list[tuple[OnStaged, Staged]] = []
        """Not told yet."""
        self._repairing: dict[ChunkId, asyncio.Future[StageResult]] = {}
        """Chunks with a `repair` under way; a `stage` waits for it."""
        self._after_repair: dict[ChunkId, _Call] = {}
        """Those that do."""
        self._barrier: Barrier | None = None
        self._barrier_done: asyncio.Future[str] | None = None
        """Resolved with what went wrong, "" nothing."""
        self._held: Barrier | None = None
        """The barrier, while it waits for a checkpoint to make room."""
        self._alarm = Alarm(self._begin_barrier)
        """Begins a barrier for changes that none has taken along."""
        self._rest_alarm = Alarm(self._begin_barrier)
        """Begins one for updates that need blocks which rest since opening."""
        self._is_begin_scheduled = False
        self._measured = clock.now()
        """When the room on the file system was last asked for."""
        self._failure = ""
        self._closing = False

    @property
    def is_barrier_running(self) -> bool:
        """The disk thread has work."""
        return self._barrier is not None

    def on_change(self) -> None:
        """See `BarrierScheduler`."""
        if self._alarm.due_ns == NEVER and self._barrier is None:
            self._set_alarm()

    def _set_alarm(self) -> None:
        now = self._clock.now()
        self._alarm.set(now + self._commit_sync_ns, now)

    def advance_channel_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`."""
        self._changes.channels.advance_epoch()
        self._count.add()

    async def merge_channels(self, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> None:
        """`ChunkStore.merge_channels`. Raises FS3Error as there."""
        name = str(self._directory)
        channels = self._changes.channels
        if self._closing:
            raise error(Code.SHUTTING_DOWN, f"{self._directory} is being closed", name)
        if len(rows) > channel_rows_per_merge_max:
            raise error(
                Code.INVALID, f"{len(rows)} channel rows in one merge, at most {channel_rows_per_merge_max} are allowed", name
            )
        for key, row in rows:
            if channels.count >= channels.rows_max and channels.find(key) is None:
                raise error(Code.NO_SPACE, f"there are {channels.count} channel rows already", name)
            channels.record(key, row)
        if rows:
            self._count.add()
            await self.flush()

    # --- barriers ----------------------------------------------------------------------------------------------------

    async def stage(
        self, update: Update, version: int, chain_version: int, prewritten: PrewrittenBlock | None = None
    ) -> StageResult:
        """`ChunkStore.stage`. The block of `prewritten` is this call's."""
        self._check_unstaged(update.chunk)
        done = _StageFuture()
        self._submit(_Call(update, version, chain_version, done.on_staged, False, prewritten))
        self._begin_soon()
        try:
            return await done
        except asyncio.CancelledError:
            self._withdraw(update.chunk)
            raise

    def submit(self, updates: Sequence[Update], on_staged: OnStaged) -> None:
        """`ChunkStore.submit`."""
        for update in updates:
            self._check_unstaged(update.chunk)
        for update in updates:
            self._submit(_Call(update, update.version, update.chain_version, on_staged, False, None))
        if self._waiting and self._barrier is None and not self._is_begin_scheduled:
            # At once: the caller has gathered what there is.
            self._hand_over()
            if self._answers:
                asyncio.get_running_loop().call_soon(self._deliver)

    def _submit(self, call: _Call) -> None:
        chunk = call.update.chunk
        if self._closing or len(self._waiting) >= batch_items_max:
            self._give_up(call.prewritten)
            self._answers.append((call.on_staged, (call.update, self._refuse())))
            asyncio.get_running_loop().call_soon(self._deliver)
            return
        self._changes.staging.add(chunk)
        repair = self._repairing.get(chunk)
        if repair is None:
            self._waiting.append(call)
        else:
            self._after_repair[chunk] = call
            repair.add_done_callback(lambda _: self._enqueue_after_repair(chunk))

    def _check_unstaged(self, chunk: ChunkId) -> None:
        if chunk in self._changes.staging:
            raise ValueError(f"an update of chunk {chunk.hex()} is being staged already")

    def _refuse(self) -> StageResult:
        if self._closing:
            return StageResult(Code.SHUTTING_DOWN, message=f"{self._directory} is being closed")
        return StageResult(Code.BUSY, message=f"{len(self._waiting)} updates wait for the disk already")

    def _enqueue_after_repair(self, chunk: ChunkId) -> None:
        call = self._after_repair.get(chunk)
        if call is not None and self._closing:
            self._withdraw(chunk)
            call.on_staged([(call.update, self._refuse())])
        elif call is not None:
            del self._after_repair[chunk]
            self._waiting.append(call)
            self._begin_soon()

    def _withdraw(self, chunk: ChunkId) -> None:
        """An update that waits for a repair will not be staged. One for which the disk works is."""
        call = self._after_repair.pop(chunk, None)
        if call is not None:
            self._changes.staging.discard(chunk)
            self._give_up(call.prewritten)

    def _give_up(self, prewritten: PrewrittenBlock | None) -> None:
        """Bytes that were written ahead, if there are any, will not be staged: their block is free again."""
        if prewritten is not None:
            self._allocator.free(prewritten.place)

    def _begin_soon(self) -> None:
        """At the end of this turn of the loop, so that all updates that arrived in it share the barrier."""
        if not self._is_begin_scheduled:
            self._is_begin_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin_barrier)

    async def repair(self, chunk: ChunkId, version: int, data: memoryview) -> bool:
        """`ChunkStore.repair`. Raises FS3Error as there."""
        name = str(self._directory)
        if self._closing:
            raise error(Code.SHUTTING_DOWN, f"{self._directory} is being closed", name)
        if len(self._waiting) >= batch_items_max:
            raise error(Code.BUSY, f"{len(self._waiting)} updates wait for the disk already", name)
        row = self._rows.find(chunk)
        committed = row.committed if row is not None else None
        if committed is None or committed.version != version or chunk in self._changes.staging or chunk in self._repairing:
            return False
        if committed.length != len(data):
            raise error(Code.CHECKSUM, f"{len(data)} bytes to repair chunk {chunk.hex()} with, it has {committed.length}", name)
        sums = tuple(committed.sums_of(0, len(committed.sums) // 4))
        kind = UpdateKind.FILL
        update = Update(chunk, kind, ChainId(0), committed.chain_version, version, 0, len(data), _NO_TAG, sums, 0, data)
        done = self._repairing[chunk] = _StageFuture()
        self._waiting.append(_Call(update, version, committed.chain_version, done.on_staged, True, None))
        self._begin_soon()
        result = await asyncio.shield(done)
        if result.code is Code.STALE_UPDATE:
            return False
        if result.code is not Code.OK:
            raise error(result.code, result.message, name)
        return True

    def _begin_barrier(self) -> None:
        """Hand everything that waits to the disk thread, unless it is busy; then tell what has become of the rest."""
        self._is_begin_scheduled = False
        if self._barrier is None:
            self._hand_over()
        self._deliver()

    def _hand_over(self) -> None:
        self._alarm.cancel()
        self._reclaimer.free_due(self._clock.now())
        self._sweep()
        jobs, short = self._plan()
        vacant: list[int] = []
        if (short or self._planner.is_disk_low) and self._files.may_punch and not self._failure:
            # Not when broken: the index may then refer to a block that counts as free here.
            vacant = list(self._allocator.find_vacant(reclaim_bytes_per_barrier_max))
        channels, epoch = self._changes.channels.take_changes()
        changes = ChangeSet(self._changes.changed_rows, channels, epoch, self._changes.bad_chunks.take_changes())
        if not (jobs or vacant or changes):
            self._count.durable = self._count.made
            self._set_alarm_if_needed()
            return
        self._changes.changed_rows = {}
        measure = self._clock.now() - self._measured >= _MEASURE_NS
        barrier = Barrier(jobs, changes, self._reclaimer.take_retired(), vacant, self._count.made, measure)
        self._barrier = barrier
        self._barrier_done = asyncio.get_running_loop().create_future()
        handed_at = self._clock.now()
        self._on_disk(lambda: self._run_barrier(barrier, handed_at))

    def _sweep(self) -> None:
        """The next few rows of what goes through all rows by and by."""
        try:
            if self._changes.channels.needs_sweep:
                self._changes.channels.sweep()
            if self._rows.keys.needs_sweep:
                self._rows.keys.sweep()
        except StoreDamaged as why:
            self.fail(str(why.strerror))

    def _plan(self) -> tuple[list[WriteJob], bool]:
        """Jobs for what waits, up to the limit; and whether the next one lacks only space that free blocks occupy."""
        jobs: list[WriteJob] = []
        logged = 0
        while self._waiting and len(jobs) < stages_per_barrier_max:
            update, version, chain_version, on_staged, repairs, prewritten = self._waiting[0]
            if prewritten is None and update.length <= self._logged_bytes_max:
                logged += update.length
                if logged > self._record_data_max and jobs:
                    return jobs, False
            if self._failure:
                planned: WriteJob | StageResult | Deferral = StageResult(Code.DISK, message=self._failure)
            elif update.length and (why := self._checkpointer.index_failure):
                planned = StageResult(Code.NO_SPACE, message=f"no room for the index row of chunk {update.chunk.hex()}: {why}")
            elif repairs:
                planned = self._planner.plan_repair(update, version, on_staged)
            else:
                planned = self._planner.plan(update, version, chain_version, on_staged, prewritten)
            if planned is Deferral.AFTER_REST:
                if not self._closing:
                    self._rest_alarm.set(self._reclaimer.rests_until, self._clock.now())
                    return jobs, True
                planned = StageResult(Code.SHUTTING_DOWN, message=f"{self._directory} is being closed")
            if isinstance(planned, Deferral):
                return jobs, True
            self._waiting.popleft()
            if isinstance(planned, WriteJob):
                jobs.append(planned)
            else:
                self._give_up(prewritten)
                self._answer(update, on_staged, planned, repairs=repairs)
        return jobs, False

    def _run_barrier(self, barrier: Barrier, handed_at: int) -> None:
        began_at = self._clock.now()
        self.counts.waited.add(began_at - handed_at)
        barrier.run(self._files, self._log, self._scratch, self._logged_bytes_max)
        ended_at = self._clock.now()
        self.counts.written.add(ended_at - began_at)
        barrier.began_at, barrier.ended_at = began_at, ended_at
        self.counts.grouped += len(barrier.jobs)

    def _on_disk(self, work: Callable[[], None]) -> None:
        self._disk.run(work, self._on_barrier_done)

    def _on_barrier_done(self, why: BaseException | None) -> None:
        """The disk thread is done with the barrier."""
        barrier = self._barrier
        assert barrier is not None
        if why is not None:
            log.critical("%s: writing failed by a mistake in this program", self._directory, exc_info=why)
            barrier.failure = f"internal error: {why!r}"
        elif barrier.log_full and self._failure:
            barrier.failure = self._failure
        elif barrier.log_full:
            self._held = barrier
            if not self._checkpointer.is_running:
                self._checkpointer.begin_with(barrier.rows, barrier.classes)
            return
        self._end_barrier(barrier)

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointObserver`."""
        if checkpoint.failure:
            self.fail(checkpoint.failure)
        barrier, self._held = self._held, None
        if barrier is None:
            return
        if not (checkpoint.failure or checkpoint.index_failure or checkpoint.has_barrier):
            self._on_disk(lambda: barrier.log_rows(self._log))
            return
        barrier.failure, barrier.index_failure = checkpoint.failure, checkpoint.index_failure
        self._end_barrier(barrier)

    def fail(self, why: str) -> None:
        """It is not known what is on the disk: nothing is written any more."""
        if not self._failure:
            self._failure = f"{self._directory}: {why}; reads go on, writes need the target to be opened again"
            log.error("%s", self._failure)
        self._checkpointer.stop()

    def _end_barrier(self, barrier: Barrier) -> None:
        self._take_outcome(barrier)
        self._barrier = None
        if self._barrier_done is not None:
            self._barrier_done.set_result(barrier.failure or barrier.index_failure)
        if self._waiting:
            self._begin_barrier()
        else:
            self._set_alarm_if_needed()
            self._deliver()

    def _set_alarm_if_needed(self) -> None:
        """Nothing has to be done at once; what has to be done soon?"""
        if self._failure or self._closing or self._alarm.due_ns != NEVER:
            return
        if (
            self._changes.changed_rows
            or self._changes.channels.has_changes
            or self._changes.channels.needs_sweep
            or self._changes.bad_chunks.changes
        ):
            self._set_alarm()

    def _take_outcome(self, barrier: Barrier) -> None:
        changes = barrier.changes
        if barrier.failure or barrier.index_failure:
            if barrier.failure:
                self.fail(barrier.failure)
            self._changes.changed_rows = {**changes.rows, **self._changes.changed_rows}
            self._changes.channels.put_back(changes.channels, changes.channel_epoch)
            self._changes.bad_chunks.put_back(changes.bad_chunks)
            self._reclaimer.put_back(barrier.retired)
        else:
            if barrier.seq:
                self._checkpointer.on_logged(barrier.seq, barrier.rows, barrier.classes)
            for chunk, row in changes.rows.items():
                self._rows.mark_durable(chunk, row)
            self._changes.channels.mark_durable(changes.channels)
            self._reclaimer.reclaim(barrier.retired, self._clock.now())
            self._count.durable = barrier.covers
        for place in barrier.emptied:
            self._allocator.mark_empty(place)
        if barrier.free_bytes is not None:
            self._planner.disk_free_bytes = barrier.free_bytes
            self._measured = self._clock.now()
        for job in barrier.jobs:
            self._finish(job, barrier)

    def _finish(self, job: WriteJob, barrier: Barrier) -> None:
        update = job.update
        chunk = update.chunk
        if update.trace is not None:
            update.trace.on_stored(barrier.began_at, barrier.ended_at)
        if job.code is Code.OK and barrier.failure:
            job.code, job.message = Code.DISK, self._failure
        elif job.code is Code.OK and barrier.index_failure:
            job.code, job.message = Code.NO_SPACE, f"no room for the index row of chunk {chunk.hex()}: {barrier.index_failure}"
        if job.code is not Code.OK:
            # Nothing durable refers to what was written; if that is not known, nothing is written any more either.
            if job.fresh:
                self._allocator.free(job.place)
            elif job.place >= 0 and job.update.length:
                self._reclaimer.unguard(job.place)
            if job.damaged:
                self._changes.bad_chunks.mark(chunk, job.message)
            self._answer(update, job.on_staged, StageResult(job.code, message=job.message), repairs=job.repairs)
            return
        assert job.new_row is not None
        assert job.new_version is not None
        if job.repairs:
            done = self._apply_repair(job, job.new_version, job.new_row)
            self._answer(update, job.on_staged, StageResult(Code.OK if done else Code.STALE_UPDATE), repairs=True)
            return
        if job.row.pending is not None:
            self._retire_durable(lambda: self._changes.discard_pending(job.row))
        if not job.row.exists:
            self._changes.chunk_count += 1
        self._rows.set_durable(chunk, job.new_row)
        self._changes.pending_chunks[chunk] = None
        self._answer(update, job.on_staged, StageResult(Code.OK, job.new_version.length, job.new_version.digest))

    def _retire_durable(self, retire: Callable[[], None]) -> None:
        """Reclaim at once what `retire` retires: the durable index has never referred to it, or does not since this barrier, so
        that waiting for the next barrier would only keep the space."""
        before = self._reclaimer.take_retired()
        retire()
        self._reclaimer.reclaim(self._reclaimer.take_retired(), self._clock.now())
        self._reclaimer.put_back(before)

    def _apply_repair(self, job: WriteJob, made: Version, after: IndexRow) -> bool:
        """The durable index has the repaired version in its new block. False when the chunk has moved on meanwhile."""
        chunk, was = job.update.chunk, job.row.committed
        assert was is not None
        now = self._changes.changed_rows.get(chunk)
        if now is None:
            self._rows.set_durable(chunk, after)
        elif now.committed is None or (now.committed.place, now.committed.version) != (was.place, was.version):
            # Whatever changed it is written by the next barrier, and that is when the index drops the new block.
            self._reclaimer.retire_block(job.place)
            return False
        else:
            # Its pending version was dropped meanwhile; the row that waits for the next barrier has the old block in it.
            self._changes.changed_rows[chunk] = IndexRow(made, now.pending, now.kind, now.tag)
            self._rows.set_unsynced(chunk, self._changes.changed_rows[chunk])
        self._retire_durable(lambda: self._reclaimer.retire_block(was.place))
        self._changes.bad_chunks.clear(chunk)
        return True

    def _answer(self, update: Update, on_staged: OnStaged, result: StageResult, *, repairs: bool = False) -> None:
        if repairs:
            del self._repairing[update.chunk]
        else:
            self._changes.staging.discard(update.chunk)
        self._answers.append((on_staged, (update, result)))

    def _deliver(self) -> None:
        """Tell who waits; what they do next finds the next barrier with the disk thread."""
        answers, self._answers = self._answers, []
        told: dict[OnStaged, list[Staged]] = {}
        for on_staged, staged in answers:
            told.setdefault(on_staged, []).append(staged)
        for on_staged, results in told.items():
            try:
                on_staged(results)
            except Exception:
                log.exception("%s: what waited for %d updates failed", self._directory, len(results))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """`ChunkStore.flush`. Raises FS3Error NO_SPACE or DISK naming the directory when it cannot be done."""
        wanted = self._count.made
        while self._count.durable < wanted:
            self._begin_barrier()
            barrier, over = self._barrier, self._barrier_done
            if barrier is None or over is None:
                continue  # it turned out that nothing had changed
            why = await asyncio.shield(over)
            if why and self._count.durable < wanted:
                code = Code.DISK if barrier.failure else Code.NO_SPACE
                raise error(code, f"commits cannot be made durable: {why}", str(self._directory))

    async def checkpoint(self) -> None:
        """`FileChunkStore.checkpoint`. Raises FS3Error as there."""
        await self.flush()
        await self._checkpointer.wait()
        if self._failure:
            raise error(Code.DISK, self._failure, str(self._directory))
        checkpoint = await asyncio.shield(self._checkpointer.begin())
        if checkpoint.failure or checkpoint.index_failure:
            code = Code.DISK if checkpoint.failure else Code.NO_SPACE
            why = checkpoint.failure or checkpoint.index_failure
            raise error(code, f"the index cannot be written: {why}", str(self._directory))

    async def close(self) -> None:
        """Finish what waits, then make all commits durable. Raises as `flush` does; the disk thread has ended either way."""
        self._closing = True
        try:
            while self._waiting or self._barrier is not None:
                self._begin_barrier()
                if self._barrier_done is not None:
                    await asyncio.shield(self._barrier_done)
            await self.flush()
        finally:
            self._alarm.cancel()
            self._rest_alarm.cancel()
            await self._checkpointer.close()
            self._disk.shutdown()


class _StageFuture(asyncio.Future[StageResult]):
    """What has come of staging an update, to be waited for."""

    def on_staged(self, told: Sequence[Staged]) -> None:
        """See `OnStaged`."""
        if not self.done():
            self.set_result(told[0][1])

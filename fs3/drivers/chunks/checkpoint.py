"""Checkpoints: what the log has goes into the index, in the background, and the room it took in the log is free again.

A checkpoint syncs the block files that have data of the log, then commits the rows to the index in one transaction, which says
from where on the log is ahead (`LogPosition`). Only when that is durable are the segments before it used again. It is due when
the log has filled a segment, when there are many rows, or some time after the first of them.

A barrier that finds no room in the log waits for the checkpoint that is under way, or has one of its own, which takes its rows
along: so a full log costs time and never stops anybody, and a record too large for any segment needs none.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from typing import Protocol

import lmdb

from fs3.base.units import NEVER, SECOND
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index, IndexFull, IndexNoSpace
from fs3.drivers.chunks.log_records import PackedRows
from fs3.drivers.chunks.replay import Replayed
from fs3.drivers.chunks.update_log import LogPosition, UpdateLog
from fs3.ports.clock import Clock
from fs3.runtime.alarm import Alarm
from fs3.runtime.worker_threads import BoundCall, WorkerThreads

log = logging.getLogger("fs3.chunks")

checkpoint_rows_max = 8192
"""Rows only the log has that make a checkpoint due, whatever its segments have room for: they are kept in memory."""

_RETRY_NS = 1 * SECOND
"""After a checkpoint that found no room in the index."""


class CheckpointObserver(Protocol):
    """Is told of every checkpoint that is over."""

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Called on the loop; another one may be begun at once."""
        ...


class Checkpoint:
    """One checkpoint. The loop makes it and reads its outcome; in between it is the checkpoint thread's."""

    def __init__(self, rows: PackedRows, position: LogPosition, classes: set[int], *, has_barrier: bool) -> None:
        self.rows = rows
        self.position = position
        self.classes = classes
        """Of the block files to sync before."""
        self.has_barrier = has_barrier
        """Rows of a barrier that found no room in the log are among them."""
        self.index_full = False
        """The index must grow; then `commit` again."""
        self.index_failure = ""
        """The index has not been written, for lack of room: why."""
        self.failure = ""
        """It is not known what is on the disk: why."""

    def run(self, files: BlockFiles, index: Index) -> None:
        """All of it. Never raises for what a disk can do."""
        try:
            for class_number in sorted(self.classes):
                files.sync_class(class_number)
        except OSError as why:
            # The system marks pages it could not write as clean, so they are lost here. The log has them.
            self.failure = f"data could not be synced: {why.strerror}"
            return
        self.commit(index)

    def commit(self, index: Index) -> None:
        """Write the rows."""
        self.index_full = False
        try:
            index.write(self.rows, self.position)
        except IndexFull:
            self.index_full = True
        except IndexNoSpace as why:
            self.index_failure = str(why)
        except lmdb.Error as why:
            self.failure = f"the index could not be written: {why}"


class Checkpointer:
    """Begins checkpoints when they are due, one at a time. Belongs to the loop."""

    def __init__(
        self,
        index: DurableIndex,
        update_log: UpdateLog,
        files: BlockFiles,
        replayed: Replayed,
        clock: Clock,
        interval_ns: int,
    ) -> None:
        """The write path sets `observer`."""
        self._index = index
        self._log = update_log
        self._classes = replayed.classes
        """Of block files with data that only the log has durably."""
        self._next = update_log.next_seq
        self._files = files
        self._clock = clock
        self._interval_ns = interval_ns
        self.thread: Executor = WorkerThreads(1, f"fs3-checkpoint-{index.directory.name}")
        self.observer: CheckpointObserver | None = None
        self._checkpoint: Checkpoint | None = None
        self.done: asyncio.Future[Checkpoint] | None = None
        """Resolved with the checkpoint that is under way when it is over; None: none is."""
        self._alarm = Alarm(self._on_alarm)
        self.index_failure = ""
        """Why the last checkpoint found no room in the index; "" it did. Until one does, the log is for what makes room."""
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """A checkpoint is under way."""
        return self._checkpoint is not None

    def on_logged(self, seq: int, rows: PackedRows, classes: set[int]) -> None:
        """The log has a record, whose data are in blocks of these classes and not synced there."""
        self._next = seq + 1
        self._classes |= classes
        self._index.add(rows)
        self._begin_if_due()

    def _begin_if_due(self) -> None:
        if self._checkpoint is not None or self._is_stopped or not self._index.has_fresh_rows:
            return
        is_large = self._log.has_filled_segments or self._index.rows_in_log >= checkpoint_rows_max
        if is_large and not self.index_failure:
            self.begin()
        elif self._alarm.due_ns == NEVER:
            now = self._clock.now()
            self._alarm.set(now + (_RETRY_NS if self.index_failure else self._interval_ns), now)

    def _on_alarm(self) -> None:
        if self._checkpoint is None and self._index.has_fresh_rows:
            self.begin()

    def stop(self) -> None:
        """Begin none any more: a sync has failed, the next one would succeed all the same, and it is the log that has the
        data."""
        self._is_stopped = True
        self._alarm.cancel()

    def begin(self) -> asyncio.Future[Checkpoint]:
        """Begin a checkpoint of what the log has. None is under way."""
        return self._begin(self._index.begin_checkpoint(), set(), has_barrier=False)

    def begin_with(self, rows: PackedRows, classes: set[int]) -> None:
        """Begin a checkpoint that takes along what the log has no room for. None is under way, and nothing is appended to the
        log before it is over."""
        all_rows = PackedRows()
        all_rows.add(self._index.begin_checkpoint())
        all_rows.add(rows)
        self._begin(all_rows, classes, has_barrier=True)

    def _begin(self, rows: PackedRows, classes: set[int], *, has_barrier: bool) -> asyncio.Future[Checkpoint]:
        assert self._checkpoint is None, "two checkpoints at once"
        self._alarm.cancel()
        self._checkpoint = Checkpoint(
            rows, self._log.position_of(self._next + has_barrier), self._classes | classes, has_barrier=has_barrier
        )
        self._classes = set()
        self.done = asyncio.get_running_loop().create_future()
        checkpoint = self._checkpoint
        self._on_thread(lambda: checkpoint.run(self._files, self._index.index))
        return self.done

    def _on_thread(self, work: BoundCall) -> None:
        asyncio.get_running_loop().run_in_executor(self.thread, work).add_done_callback(self._on_thread_done)

    def _on_thread_done(self, future: asyncio.Future[None]) -> None:
        checkpoint, done = self._checkpoint, self.done
        assert checkpoint is not None
        assert done is not None
        why = future.exception()
        if why is not None:
            log.critical("%s: a checkpoint failed by a mistake in this program", self._index.directory, exc_info=why)
            checkpoint.failure = f"internal error: {why!r}"
        elif checkpoint.index_full:
            if self._index.index.grow():
                self._on_thread(lambda: checkpoint.commit(self._index.index))
                return
            checkpoint.index_failure = "the index has reached its limit"
        self._take_outcome(checkpoint)
        self._checkpoint = self.done = None
        done.set_result(checkpoint)
        if self.observer is not None:
            self.observer.on_checkpoint(checkpoint)
        self._begin_if_due()

    def _take_outcome(self, checkpoint: Checkpoint) -> None:
        if not (checkpoint.failure or checkpoint.index_failure):
            try:
                self._index.end_checkpoint()
            except lmdb.Error as why:
                checkpoint.failure = f"the index cannot be read any more: {why}"
        if checkpoint.failure:
            self.stop()
        if checkpoint.failure or checkpoint.index_failure:
            self._index.undo_checkpoint()
            self._classes |= checkpoint.classes
        else:
            if checkpoint.has_barrier:
                self._log.skip()
                self._next += 1
            self._log.release(checkpoint.position.first)
        if checkpoint.index_failure and checkpoint.index_failure != self.index_failure:
            log.error("%s: the log is not emptied: %s", self._index.directory, checkpoint.index_failure)
        self.index_failure = checkpoint.index_failure

    async def wait(self) -> None:
        """Until no checkpoint is under way."""
        while self.done is not None:
            await asyncio.shield(self.done)

    async def close(self) -> None:
        """Empty the log, so that the next one to open has nothing to take over. What does not fit into the index stays in it."""
        try:
            await self.wait()
            if self._index.has_fresh_rows and not self._is_stopped:
                await asyncio.shield(self.begin())
        finally:
            self.stop()
            self.thread.shutdown()

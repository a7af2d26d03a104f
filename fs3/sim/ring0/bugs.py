"""Planted bugs of the chunk store on files: what it does with a disk, done wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs3.base.checksum import crc32c
from fs3.drivers.chunks import barrier, update_log
from fs3.drivers.chunks.barrier import Barrier
from fs3.drivers.chunks.block_writes import WriteJob, execute_job
from fs3.drivers.chunks.channel_table import ChannelEntry, ChannelTable
from fs3.drivers.chunks.checkpoint import Checkpoint, Checkpointer
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index
from fs3.drivers.chunks.log_records import LogRecord, PackedRows, parse_record
from fs3.drivers.chunks.reclaimer import BlockReclaimer, Retired
from fs3.drivers.chunks.update_log import LogPosition, UpdateLog
from fs3.drivers.chunks.write_path import WritePath
from fs3.model.chunk import ChannelKey
from fs3.sim.planting import Patch


@dataclass(frozen=True)
class StoreBug:
    """One planted bug."""

    what: str
    patches: Sequence[Patch]
    seeds: int
    """Within so many seeds it must be found."""
    arranged: str = ""
    """Seeds find them all."""


def _sync_no_names(self: BlockFiles) -> None:
    """Rows are durable that refer to a file whose name may be lost."""


def _sync_names_only(self: Barrier, files: BlockFiles) -> None:
    files.sync_names()


def _mark_then_find_log(self: Index, packed: bytes | None, *, is_made: bool) -> LogPosition:
    """The directory says that it had an index before the index is sure to be there."""
    (self.directory / "made").touch()
    return _real_find_log(self, packed, is_made=is_made)


_real_find_log = Index._find_log


def _sync_no_directory(directory: Path) -> None:
    """The index names a log whose own name may be lost."""


def _log_rows_then_sync(self: Barrier, log: UpdateLog) -> None:
    """The record is durable before the large data that its rows refer to."""
    _real_log_rows(self, log)
    for fd in {job.fd for job in self.jobs if job.fd >= 0}:
        os.fdatasync(fd)


_real_log_rows = Barrier.log_rows


def _sync_nothing_ahead(self: BlockFiles, class_number: int) -> None:
    """What was written ahead is taken for durable without a sync."""


def _execute_silently(job: WriteJob, files: BlockFiles, *others: Any) -> None:
    """The record does not say that the block of what was written ahead is new: opening puts older bytes of the log there."""
    _real_execute_job(job, files, *others)
    if job.is_prewritten:
        job.start = -1


_real_execute_job = execute_job


def _sync_no_class(self: BlockFiles, class_number: int) -> None:
    """The log is free again before the blocks have what it had."""


def _forget_record(self: UpdateLog, first: int) -> LogPosition:
    """A checkpoint says that the index has one record more than was there when it began."""
    return _real_position_of(self, first + 1)


_real_position_of = UpdateLog.position_of


def _free_then_begin(self: Checkpointer, rows: PackedRows, classes: set[int], *, has_barrier: bool) -> asyncio.Future[Checkpoint]:
    """Segments are free for new records while the checkpoint that has their rows is under way."""
    self._log.release(self._next)
    return _real_begin(self, rows, classes, has_barrier=has_barrier)


_real_begin = Checkpointer._begin


def _parse_any_record(segment: memoryview, at: int, salt: int) -> LogRecord | None:
    """Whatever begins like a record is one: its sum is not looked at."""
    head = segment[at : at + 24]
    end = 24 + int.from_bytes(head[16:20], "little") + int.from_bytes(head[20:24], "little")
    if len(head) < 24 or end > len(segment) - at:
        return None
    mended = bytearray(segment)
    total = crc32c(segment[at + 24 : at + end], crc32c(segment[at + 8 : at + 24], salt))
    mended[at + 4 : at + 8] = total.to_bytes(4, "little")
    return _real_parse_record(memoryview(mended), at, salt)


_real_parse_record = parse_record


def _take_outcome_and_changes(self: WritePath, ended: Barrier) -> None:
    """What was changed while the barrier was under way counts as written by it."""
    _real_take_outcome(self, ended)
    self._changes.changed_rows = {}


_real_take_outcome = WritePath._take_outcome


def _mark_channels_durable(self: ChannelTable, taken: dict[ChannelKey, ChannelEntry | None]) -> None:
    """So does a channel row that has changed again."""
    for key in taken:
        self._unsynced.pop(key, None)


def _reclaim_all_retired(self: BlockReclaimer, retired: list[Retired], now: int) -> None:
    """Blocks that were retired while the barrier was under way are freed with those it has taken along."""
    _real_reclaim(self, retired + self.take_retired(), now)


_real_reclaim = BlockReclaimer.reclaim


def _guard_nothing(self: BlockReclaimer, place: int) -> bool:
    """Appends go behind the committed bytes, whatever the index still refers to there."""
    return False


BUGS: dict[str, StoreBug] = {
    "names_unsynced": StoreBug(
        "a row refers to a new block file before the directory is synced", [(BlockFiles, "sync_names", _sync_no_names)], 3
    ),
    "data_unsynced": StoreBug("a row refers to data that were not synced", [(Barrier, "_sync", _sync_names_only)], 3),
    "ahead_unsynced": StoreBug(
        "a row refers to bytes that were written ahead and not synced", [(BlockFiles, "sync_prewritten", _sync_nothing_ahead)], 3
    ),
    "ahead_silently": StoreBug(
        "the log does not say that a block was written ahead", [(barrier, "execute_job", _execute_silently)], 20
    ),
    "marker_before_index": StoreBug(
        "a new directory says that it has an index before the index's name is synced",
        [(Index, "_find_log", _mark_then_find_log)],
        10,
    ),
    "log_name_unsynced": StoreBug(
        "the index names a log before the log's name is synced", [(update_log, "sync_directory", _sync_no_directory)], 10
    ),
    "row_before_data": StoreBug(
        "the log has the row before the block has its data",
        [(Barrier, "_sync", _sync_names_only), (Barrier, "log_rows", _log_rows_then_sync)],
        3,
    ),
    "checkpoint_without_data": StoreBug(
        "a checkpoint commits rows whose data only the log has", [(BlockFiles, "sync_class", _sync_no_class)], 3
    ),
    "checkpoint_forgets_record": StoreBug(
        "a checkpoint counts a record whose rows it has not got", [(UpdateLog, "position_of", _forget_record)], 3
    ),
    "log_reused_early": StoreBug(
        "the log is overwritten before the checkpoint is durable",
        [(Checkpointer, "_begin", _free_then_begin)],
        20,
    ),
    "torn_record": StoreBug("a torn record counts", [(update_log, "parse_record", _parse_any_record)], 3),
    "forgets_what_changed_meanwhile": StoreBug(
        "a barrier forgets a row that was changed while it was under way",
        [(WritePath, "_take_outcome", _take_outcome_and_changes)],
        3,
    ),
    "forgets_channel_meanwhile": StoreBug(
        "a barrier forgets a channel row that was changed again while it was under way",
        [(ChannelTable, "mark_durable", _mark_channels_durable)],
        3,
    ),
    "frees_what_came_later": StoreBug(
        "a barrier frees blocks that were retired after it had begun", [(BlockReclaimer, "reclaim", _reclaim_all_retired)], 20
    ),
    "appends_over_pending": StoreBug(
        "an append goes over the bytes of a pending version that was dropped",
        [(BlockReclaimer, "is_guarded", _guard_nothing)],
        20,
    ),
}

"""One barrier on the disk thread: data written, large data synced, then one record of the log with the rows and the small data.

In this order, before any caller is answered. Without large data that is one sync.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.drivers.chunks import channel_table as channels
from fs3.drivers.chunks.bad_chunks import pack_reason
from fs3.drivers.chunks.block_writes import BlockDamaged, WriteJob, execute_job, group_adjacent, write_group
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import pack_key
from fs3.drivers.chunks.log_records import BlockWrite, PackedRows
from fs3.drivers.chunks.rows import IndexRow, encode
from fs3.drivers.chunks.sizes import split_place
from fs3.drivers.chunks.update_log import LogFull, UpdateLog
from fs3.model.chunk import ChannelKey
from fs3.runtime.durable_files import NO_ROOM


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What changed in memory since the barrier before began."""

    rows: dict[ChunkId, IndexRow]
    """Commits and dropped pendings."""
    channels: dict[ChannelKey, channels.ChannelEntry | None]
    channel_epoch: int
    """Channel epoch, 0 when it is the same."""
    bad_chunks: dict[ChunkId, str | None]

    def __bool__(self) -> bool:
        return bool(self.rows or self.channels or self.channel_epoch or self.bad_chunks)


class Barrier:
    """Everything that becomes durable together. The loop makes it and reads its outcome; in between it is the disk thread's."""

    def __init__(
        self,
        jobs: Sequence[WriteJob],
        changes: ChangeSet,
        retired: list[tuple[int, bool]],
        vacant: list[int],
        covers: int,
        measure: bool,
    ) -> None:
        self.jobs = jobs
        self.changes = changes
        self.retired = retired
        self.vacant = vacant
        """Free blocks whose space goes back to the file system."""
        self.covers = covers
        """How many changes in memory are durable with it."""
        self._measure = measure
        self.began_at = self.ended_at = 0
        """When the disk thread had it, by the clock of the store."""
        self.emptied: list[int] = []
        self.free_bytes: int | None = None
        """Of the file system, when it was to be measured."""
        self.rows = PackedRows()
        """What becomes durable: rows of everything that succeeded."""
        self.classes: set[int] = set()
        """Of the block files with data that only the log has durably."""
        self.seq = 0
        """Of its record; 0: there is none."""
        self.log_full = False
        """Nothing is in the log: there must be a checkpoint, which takes the rows along, or then `log_rows` again."""
        self.index_failure = ""
        """Nothing is durable, for lack of room in the log and the index: why."""
        self.failure = ""
        """A sync failed in a way after which it is not known what is on the disk: why."""

    def run(self, files: BlockFiles, log: UpdateLog, scratch: memoryview, logged_bytes_max: int) -> None:
        """All of it. Never raises for what a disk can do. `scratch` holds COPY_BYTES; the log gets up to so many bytes of each
        job's data."""
        for place in self.vacant:
            if not files.punch(place):
                files.may_punch = False  # whatever the reason, asking again would only repeat it
                break
            self.emptied.append(place)
        small: list[WriteJob] = []
        for job in self.jobs:
            try:
                execute_job(job, files, scratch, small, logged_bytes_max)
            except BlockDamaged as why:
                job.code, job.message, job.damaged = Code.CHECKSUM, str(why), True
            except OSError as why:
                _fail_job(job, why, "writing")
        for group in group_adjacent(small):
            try:
                write_group(group)
            except OSError:
                for job in group:  # each for itself: there may be room for some
                    try:
                        write_group([job])
                    except OSError as why:
                        _fail_job(job, why, "writing")
        self._sync(files)
        if not self.failure:
            self._pack_rows()
            self.log_rows(log)
        if self._measure or self.emptied or any(job.code is Code.NO_SPACE for job in self.jobs):
            self.free_bytes = files.free_bytes()

    def _sync(self, files: BlockFiles) -> None:
        by_file: dict[int, list[WriteJob]] = {}
        for job in self.jobs:
            if job.fd >= 0 and job.code is Code.OK:
                by_file.setdefault(job.fd, []).append(job)
        for fd, jobs in by_file.items():
            try:
                os.fdatasync(fd)
            except OSError as why:
                for job in jobs:
                    _fail_job(job, why, "syncing")
                if why.errno not in NO_ROOM:
                    # The system marks pages it could not write as clean: a later sync would succeed and mean nothing.
                    self.failure = f"data could not be synced: {why.strerror}"
        try:
            files.sync_names()
        except OSError as why:
            self.failure = f"the directory could not be synced: {why.strerror}"

    def _pack_rows(self) -> None:
        changes = self.changes
        rows = self.rows.chunks
        for chunk, row in changes.rows.items():
            rows[chunk] = encode(chunk, row) if row.exists else None
        for job in self.jobs:
            if job.code is Code.OK:
                was, chunk = job.row, job.update.chunk
                if job.repairs:
                    job.new_row = IndexRow(job.new_version, was.pending, was.kind, was.tag)
                else:
                    job.new_row = IndexRow(was.committed, job.new_version, job.update.kind, job.update.tag)
                rows[chunk] = encode(chunk, job.new_row)
                if job.logged is not None:
                    self.classes.add(split_place(job.place)[0])
        for key, entry in changes.channels.items():
            packed_key = pack_key(key)
            self.rows.channels[packed_key] = channels.encode(packed_key, entry) if entry is not None else None
        self.rows.bad_chunks.update((chunk, pack_reason(why)) for chunk, why in changes.bad_chunks.items())
        self.rows.channel_epoch = changes.channel_epoch

    def log_rows(self, log: UpdateLog) -> None:
        """Write the record: rows and data of everything that succeeded."""
        self.log_full = False
        if not self.rows:
            return
        writes = [BlockWrite(job.place, job.start, job.logged) for job in self.jobs if job.code is Code.OK and job.start >= 0]
        try:
            self.seq = log.append(self.rows, writes)
        except LogFull:
            self.log_full = True
        except OSError as why:
            self.failure = f"the log could not be written: {why.strerror}"


def _fail_job(job: WriteJob, why: OSError, doing: str) -> None:
    job.code = Code.NO_SPACE if why.errno in NO_ROOM else Code.DISK
    job.message = f"{doing} chunk {job.update.chunk.hex()}: {why.strerror}"

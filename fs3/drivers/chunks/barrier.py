"""One barrier on the disk thread: data written, data synced, index committed. In this order, before any caller is answered."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

import lmdb

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.drivers.chunks import channel_table as channels
from fs3.drivers.chunks.bad_chunks import pack_reason
from fs3.drivers.chunks.block_writes import BlockDamaged, WriteJob, execute_job, group_adjacent, write_group
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index, IndexFull, IndexNoSpace, pack_key
from fs3.drivers.chunks.rows import IndexRow, encode
from fs3.model.chunk import ChannelKey

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        self.emptied: list[int] = []
        self.free_bytes: int | None = None
        """Of the file system, when it was to be measured."""
        self.index_full = False
        """The index must grow; then `commit` again."""
        self.index_failure = ""
        """The index has not been written, for lack of room: why."""
        self.failure = ""
        """A sync or the index failed in a way after which it is not known what is on the disk: why."""

    def run(self, files: BlockFiles, index: Index, scratch: memoryview) -> None:
        """All of it. Never raises for what a disk can do. `scratch` holds COPY_BYTES."""
        for place in self.vacant:
            if not files.punch(place):
                files.may_punch = False  # whatever the reason, asking again would only repeat it
                break
            self.emptied.append(place)
        small: list[WriteJob] = []
        for job in self.jobs:
            try:
                execute_job(job, files, scratch, small)
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
            self.commit(index)
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
                if why.errno not in _NO_ROOM:
                    # The system marks pages it could not write as clean: a later sync would succeed and mean nothing.
                    self.failure = f"data could not be synced: {why.strerror}"
        try:
            files.sync_names()
        except OSError as why:
            self.failure = f"the directory could not be synced: {why.strerror}"

    def commit(self, index: Index) -> None:
        """Write the index rows of everything that succeeded."""
        self.index_full = False
        changes = self.changes
        rows = dict(changes.rows)
        for job in self.jobs:
            if job.code is Code.OK:
                was = job.row
                if job.repairs:
                    job.new_row = IndexRow(job.new_version, was.pending, was.kind, was.tag)
                else:
                    job.new_row = IndexRow(was.committed, job.new_version, job.update.kind, job.update.tag)
                rows[job.update.chunk] = job.new_row
        if not rows and not changes:
            return
        try:
            index.write(
                ((chunk, encode(chunk, rows[chunk]) if rows[chunk].exists else None) for chunk in sorted(rows)),
                (
                    (key, channels.encode(pack_key(key), entry) if entry is not None else None)
                    for key, entry in changes.channels.items()
                ),
                ((chunk, pack_reason(why)) for chunk, why in changes.bad_chunks.items()),
                changes.channel_epoch,
            )
        except IndexFull:
            self.index_full = True
        except IndexNoSpace as why:
            self.index_failure = str(why)
        except lmdb.Error as why:
            self.failure = f"the index could not be written: {why}"


def _fail_job(job: WriteJob, why: OSError, doing: str) -> None:
    job.code = Code.NO_SPACE if why.errno in _NO_ROOM else Code.DISK
    job.message = f"{doing} chunk {job.update.chunk.hex()}: {why.strerror}"

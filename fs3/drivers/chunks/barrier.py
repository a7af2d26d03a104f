"""One barrier on the disk thread: data written, data synced, index committed. In this order, and nobody is answered before."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import lmdb

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import ChannelKey, Index, IndexFull, IndexNoSpace
from fs3.drivers.chunks.rows import Row, encode
from fs3.drivers.chunks.writing import Damaged, Job, carry_out, groups_of, write_group
from fs3.model.chunk import ChannelRow

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Barrier:
    """Everything that becomes durable together. The loop makes it and reads its outcome; in between it is the disk thread's."""

    def __init__(
        self,
        jobs: Sequence[Job],
        rows: dict[ChunkId, Row],
        channels: dict[ChannelKey, ChannelRow],
        let: list[tuple[int, bool]],
        vacant: list[int],
        covers: int,
        measure: bool,
    ) -> None:
        self.jobs = jobs
        self.rows = rows
        """Rows changed in memory since the barrier before began: commits and dropped pendings."""
        self.channels = channels
        self.let = let
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
        self.index_failed = ""
        """The index has not been written, for lack of room: why."""
        self.broken = ""
        """A sync or the index failed in a way after which nobody knows what is on the disk: why."""

    def run(self, files: BlockFiles, index: Index, scratch: memoryview) -> None:
        """All of it. Never raises for what a disk can do. `scratch` holds COPY_BYTES."""
        for place in self.vacant:
            if not files.punch(place):
                files.may_punch = False  # whatever the reason, asking again would only repeat it
                break
            self.emptied.append(place)
        small: list[Job] = []
        for job in self.jobs:
            try:
                carry_out(job, files, scratch, small)
            except Damaged as why:
                job.code, job.message = Code.CHECKSUM, str(why)
            except OSError as why:
                _refuse(job, why, "writing")
        for group in groups_of(small):
            try:
                write_group(group)
            except OSError:
                for job in group:  # each for itself: there may be room for some
                    try:
                        write_group([job])
                    except OSError as why:
                        _refuse(job, why, "writing")
        self._sync(files)
        if not self.broken:
            self.commit(index)
        if self._measure or self.emptied or any(job.code is Code.NO_SPACE for job in self.jobs):
            self.free_bytes = files.free_bytes()

    def _sync(self, files: BlockFiles) -> None:
        by_file: dict[int, list[Job]] = {}
        for job in self.jobs:
            if job.fd >= 0 and job.code is Code.OK:
                by_file.setdefault(job.fd, []).append(job)
        for fd, jobs in by_file.items():
            try:
                os.fdatasync(fd)
            except OSError as why:
                for job in jobs:
                    _refuse(job, why, "syncing")
                if why.errno not in _NO_ROOM:
                    # The system marks pages it could not write as clean: a later sync would succeed and mean nothing.
                    self.broken = f"data could not be synced: {why.strerror}"
        try:
            files.sync_names()
        except OSError as why:
            self.broken = f"the directory could not be synced: {why.strerror}"

    def commit(self, index: Index) -> None:
        """Write the index rows of everything that succeeded."""
        self.index_full = False
        rows = dict(self.rows)
        for job in self.jobs:
            if job.code is Code.OK:
                job.after = rows[job.update.chunk] = Row(job.row.committed, job.made, job.update.kind, job.update.tag)
        if not rows and not self.channels:
            return
        try:
            index.write(
                ((chunk, encode(chunk, rows[chunk]) if rows[chunk].exists else None) for chunk in sorted(rows)),
                self.channels.items(),
            )
        except IndexFull:
            self.index_full = True
        except IndexNoSpace as why:
            self.index_failed = str(why)
        except lmdb.Error as why:
            self.broken = f"the index could not be written: {why}"


def _refuse(job: Job, why: OSError, doing: str) -> None:
    job.code = Code.NO_SPACE if why.errno in _NO_ROOM else Code.DISK
    job.message = f"{doing} chunk {job.update.chunk.hex()}: {why.strerror}"

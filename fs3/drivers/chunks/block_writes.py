"""Carrying out one update on the disk thread: bytes into blocks, and the sums of the version they make.

A version is written to a fresh block (copy on write), or behind the committed bytes of the block it has (append in place), or
into its index row (small ones). Of few bytes the log gets a copy: then their block need not be synced. Whatever is copied from
the committed version is verified on the way, which is why the copy passes through memory: the system's own copy would carry a
rotten byte along under a sum that still says so, but later and elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from fs3.base.checksum import BLOCK_BYTES, checksums, crc32c
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.drivers.chunks.files import BlockFiles, read_all, write_all, write_parts
from fs3.drivers.chunks.rows import IndexRow, Version, pack_sums
from fs3.drivers.chunks.sizes import INLINE, NOWHERE, block_bytes
from fs3.model.chunk import Update, UpdateKind

if TYPE_CHECKING:
    from fs3.ports.chunk_store import OnStaged

COPY_BYTES = 1 * MIB
"""Copied in one go."""
SMALL_BYTES = BLOCK_BYTES
"""New blocks of no more than this are written together with their neighbours."""
GROUP_JOBS = 256
"""Blocks written by one call at most."""
_ZEROS = bytes(BLOCK_BYTES)
_ZERO_VIEW = memoryview(_ZEROS)
_ZERO_SUM = crc32c(_ZEROS)


class BlockDamaged(Exception):
    """The disk returned other bytes than were written. The message names the chunk and the range."""


class WriteJob(msgspec.Struct, eq=False):
    """One update of a barrier: what the loop planned, and what came of it."""

    update: Update
    version: int
    chain_version: int
    on_staged: OnStaged
    row: IndexRow
    """The chunk before."""
    base: Version | None
    """The version it changes; None when nothing of an older one remains."""
    length: int
    """Of the version it makes, bytes."""
    place: int
    fresh: bool
    """The place was taken for this job: no chunk has its bytes yet."""
    is_prewritten: bool = False
    """The place has the bytes already, and they are synced."""
    repairs: bool = False
    """The update has the bytes the committed version should have, and takes its place."""
    fd: int = -1
    """The file that has to be synced before the row is durable; -1 none."""
    start: int = -1
    """The bytes of the block are new from here on; -1: none are."""
    logged: memoryview | None = None
    """These bytes, for the log to keep until their block is synced; None: they are too many."""
    code: Code = Code.OK
    message: str = ""
    damaged: bool = False
    """It failed because bytes on the disk have changed."""
    new_version: Version | None = None
    new_row: IndexRow | None = None
    """The chunk afterwards."""


def execute_job(job: WriteJob, files: BlockFiles, scratch: memoryview, small: list[WriteJob], logged_bytes_max: int) -> None:
    """Write the bytes of an update and set `job.new_version`. `scratch` holds COPY_BYTES.

    Jobs that make all of a small new block are put on `small` instead, for `write_group`. Up to `logged_bytes_max` new bytes
    are left to the log. Nothing is synced. Raises BlockDamaged when bytes to be kept are not what was written, OSError when the
    disk refuses. Data that do not have the sums they came with set `job.code` to CHECKSUM; those of a FILL_BAD need not have
    them, and if they have, it is a FILL.
    """
    update = job.update
    if job.is_prewritten:
        # In the record all the same: what the log may have of that block from earlier days does not count any more.
        job.start = 0
        job.new_version = Version(job.version, job.chain_version, job.length, job.place, pack_sums(update.checksums), None, files)
        return
    if update.length:
        assert update.data is not None
        found = checksums(update.data, update.offset)
        is_sound = tuple(found) == update.checksums
    else:
        found, is_sound = [], True
    if update.kind is UpdateKind.FILL_BAD:
        if is_sound:
            update = job.update = msgspec.structs.replace(update, kind=UpdateKind.FILL)
    elif not is_sound:
        wrong = next(i for i, (a, b) in enumerate(zip(found, update.checksums, strict=True)) if a != b)
        job.code = Code.CHECKSUM
        job.message = (
            f"data for chunk {update.chunk.hex()} do not have the checksum they were sent with "
            f"(piece {wrong} of {len(found)}: {found[wrong]:#010x}, not {update.checksums[wrong]:#010x})"
        )
        return
    inline = None
    if job.place == NOWHERE:
        sums = b""
    elif job.place == INLINE:
        inline = _build_content(job)
        sums = pack_sums([crc32c(inline)])
    else:
        fd, at = files.locate(job.place)
        if job.fresh and update.offset == 0 and update.length == job.length:
            assert update.data is not None
            sums = pack_sums(update.checksums)
            _write_whole(job, update.data, fd, at, small, logged_bytes_max)
        elif job.fresh and job.length <= min(logged_bytes_max, BLOCK_BYTES):
            content = _build_content(job)
            sums = pack_sums([crc32c(content)])
            _write_whole(job, memoryview(content), fd, at, small, logged_bytes_max)
        elif job.fresh:
            job.start = 0
            sums = _write_fresh(job, files, fd, at, scratch)
        elif update.length:
            sums = _append(job, files, fd, at, logged_bytes_max)
        else:
            sums = _truncate_in_place(job, scratch)
    job.new_version = Version(job.version, job.chain_version, job.length, job.place, sums, inline, files)


def _write_whole(job: WriteJob, content: memoryview, fd: int, at: int, small: list[WriteJob], logged_bytes_max: int) -> None:
    """Write all bytes of a fresh block, or leave that to `write_group`."""
    job.start = 0
    if len(content) <= logged_bytes_max:
        job.logged = content
    else:
        job.fd = fd
    if block_bytes(job.place) <= SMALL_BYTES:
        small.append(job)
    else:
        write_all(fd, content, at)


def group_adjacent(jobs: list[WriteJob]) -> Iterator[list[WriteJob]]:
    """Small new blocks in groups that lie side by side, each for one `write_group`.

    Not for the disk's sake: each system call hands the interpreter lock to the loop, and a busy loop is slow to hand it back.
    """
    jobs.sort(key=_position)
    begin = 0
    while begin < len(jobs):
        end = begin + 1
        while end < len(jobs) and end - begin < GROUP_JOBS and jobs[end].place == jobs[end - 1].place + 1:
            end += 1
        yield jobs[begin:end]
        begin = end


def _position(job: WriteJob) -> int:
    return job.place


def write_group(jobs: list[WriteJob]) -> None:
    """Write neighbouring blocks by one call. What data leave free of a block between two is filled up: it is new, too."""
    parts: list[memoryview] = []
    size = block_bytes(jobs[0].place)
    for job in jobs:
        content = job.logged if job.logged is not None else job.update.data
        assert content is not None
        parts.append(content)
        if job.length < size:
            parts.append(_ZERO_VIEW[: size - job.length])
    if jobs[-1].length < size:
        parts.pop()
    made = jobs[0].new_version
    assert made is not None
    write_parts(made.fd, parts, made.base)


def _build_content(job: WriteJob) -> bytes:
    """The bytes of a version that has no more than BLOCK_BYTES."""
    content = bytearray(job.length)
    view = memoryview(content)
    update = job.update
    if job.base is not None and job.base.length and (update.offset or update.length < min(job.base.length, job.length)):
        kept = memoryview(bytearray(min(job.base.length, BLOCK_BYTES)))
        read_block(job.base, 0, kept, update.chunk)
        size = min(len(kept), job.length)
        view[:size] = kept[:size]
    _overlay(view, 0, update)
    return bytes(content)


def _overlay(view: memoryview, start: int, update: Update) -> None:
    """Put the update's data over `view`, whose first byte has chunk offset `start`."""
    begin = max(start, update.offset)
    end = min(start + len(view), update.offset + update.length)
    if begin < end and update.data is not None:
        view[begin - start : end - start] = update.data[begin - update.offset : end - update.offset]


def _append(job: WriteJob, files: BlockFiles, fd: int, at: int, logged_bytes_max: int) -> bytes:
    """Data behind the committed bytes of the same block. Their last sum is continued; they are not read."""
    update, base = job.update, job.base
    assert base is not None
    assert update.data is not None
    assert update.offset >= base.length, "an append in place touches committed bytes"
    gap = update.offset - base.length
    job.start = base.length
    if gap + update.length <= logged_bytes_max:
        job.logged = memoryview(bytes(gap) + update.data) if gap else update.data
    else:
        job.fd = fd
    if gap:
        files.zero(fd, at + base.length, gap)
    write_all(fd, update.data, at + update.offset)

    first_block = base.length // BLOCK_BYTES
    data_block = update.offset // BLOCK_BYTES
    sums = list(update.checksums)
    tail = base.length % BLOCK_BYTES
    running = base.sum_of(first_block) if tail else 0
    for block in range(first_block, data_block):
        # Only after a gap that crosses blocks: what is left of the old one, then blocks of nothing but zeros.
        zeros = BLOCK_BYTES - tail
        sums.insert(block - first_block, _ZERO_SUM if zeros == BLOCK_BYTES else crc32c(_ZEROS[:zeros], running))
        tail, running = 0, 0
    zeros = update.offset - data_block * BLOCK_BYTES - tail
    if tail or zeros:
        running = crc32c(_ZEROS[:zeros], running)
        size = min(update.length, (data_block + 1) * BLOCK_BYTES - update.offset)
        sums[data_block - first_block] = crc32c(update.data[:size], running)
    return base.sums[: 4 * first_block] + pack_sums(sums)


def _truncate_in_place(job: WriteJob, scratch: memoryview) -> bytes:
    """The same bytes, or fewer of them: only the sum of the last block may be new."""
    base = job.base
    assert base is not None
    whole, rest = divmod(job.length, BLOCK_BYTES)
    if job.length == base.length:
        return base.sums
    sums = base.sums[: 4 * whole]
    if rest:
        view = scratch[: min(BLOCK_BYTES, base.length - whole * BLOCK_BYTES)]
        read_block(base, whole, view, job.update.chunk)
        sums += pack_sums([crc32c(view[:rest])])
    return sums


def _write_fresh(job: WriteJob, files: BlockFiles, fd: int, at: int, scratch: memoryview) -> bytes:
    """All bytes of a version into a fresh block."""
    update, base, length = job.update, job.base, job.length
    job.fd = fd
    begin, end = update.offset, update.offset + update.length
    kept_length = min(base.length, length) if base is not None else 0
    sums: list[int] = []
    count = -(-length // BLOCK_BYTES)
    block = 0
    while block < count:
        start = block * BLOCK_BYTES
        stop = min(start + BLOCK_BYTES, length)
        touched = begin < stop and start < end
        if touched and begin <= start and stop <= end:
            assert update.data is not None
            last = count if end == length else end // BLOCK_BYTES
            stop = min(last * BLOCK_BYTES, length)
            write_all(fd, update.data[start - begin : stop - begin], at + start)
            first_piece = block - begin // BLOCK_BYTES
            sums += update.checksums[first_piece : first_piece + last - block]
            block = last
        elif base is not None and not touched and stop <= kept_length and (stop == base.length or stop % BLOCK_BYTES == 0):
            until = begin if start < begin else length
            most = min(block + COPY_BYTES // BLOCK_BYTES, max(until // BLOCK_BYTES, block + 1))
            stop = min(most * BLOCK_BYTES, kept_length)
            if not stop == length == base.length:
                stop -= stop % BLOCK_BYTES  # one of the versions ends inside of that block: not the same
            sums += _copy(base, start, stop, fd, at, scratch, update.chunk)
            block = -(-stop // BLOCK_BYTES)
        elif not touched and start >= kept_length:
            last = max(begin // BLOCK_BYTES, block + 1) if start < begin else count
            stop = min(last * BLOCK_BYTES, length)
            files.zero(fd, at + start, stop - start)
            sums += [_ZERO_SUM] * (last - block - 1)
            sums.append(crc32c(_ZEROS[: stop - (last - 1) * BLOCK_BYTES]))
            block = last
        else:
            view = scratch[: stop - start]
            had = _read_prefix(base, block, view, kept_length - start, update.chunk, scratch) if base is not None else 0
            view[had:] = _ZEROS[: len(view) - had]
            _overlay(view, start, update)
            write_all(fd, view, at + start)
            sums.append(crc32c(view))
            block += 1
    return pack_sums(sums)


def _copy(base: Version, start: int, stop: int, fd: int, at: int, scratch: memoryview, chunk: bytes) -> list[int]:
    """Copy whole blocks of `base` and return their sums."""
    view = scratch[: stop - start]
    if base.inline is not None:
        view[:] = base.inline[start:stop]
    elif not read_all(base.fd, view, base.base + start):
        raise BlockDamaged(describe_range(chunk, base, start, stop) + " are missing on the disk")
    sums = verify_blocks(base, chunk, start // BLOCK_BYTES, view)
    write_all(fd, view, at + start)
    return sums


def _read_prefix(base: Version, block: int, view: memoryview, kept: int, chunk: bytes, scratch: memoryview) -> int:
    """Put the first `kept` bytes of a block of `base` at the beginning of `view`, verified. Returns how many there are."""
    if kept <= 0:
        return 0
    size = min(BLOCK_BYTES, base.length - block * BLOCK_BYTES)
    # `view` begins where `scratch` does and may be shorter than the whole old block, which has to be read to be verified.
    read_block(base, block, scratch[:size], chunk)
    return min(kept, size, len(view))


def read_block(version: Version, block: int, into: memoryview, chunk: bytes) -> None:
    """Read one 64 KiB block of a version, all of it, waiting for the disk. Raises Damaged."""
    start = block * BLOCK_BYTES
    if version.inline is not None:
        into[:] = version.inline
    elif not read_all(version.fd, into, version.base + start):
        raise BlockDamaged(describe_range(chunk, version, start, start + len(into)) + " are missing on the disk")
    verify_blocks(version, chunk, block, into)


def describe_range(chunk: bytes, version: Version, start: int, stop: int) -> str:
    """Names a range, for messages."""
    return f"bytes {start} to {stop} of chunk {chunk.hex()} version {version.version}"


def verify_blocks(version: Version, chunk: bytes, first: int, view: memoryview) -> list[int]:
    """Compare bytes read from block `first` on with the stored sums, and return those. Raises Damaged."""
    sums = checksums(view)
    for block, found in enumerate(sums, first):
        if found != version.sum_of(block):
            start = block * BLOCK_BYTES
            stop = min(start + BLOCK_BYTES, version.length)
            raise BlockDamaged(describe_range(chunk, version, start, stop) + " have changed on the disk")
    return sums

"""Reading ranges of one version: what is trusted, and what the reader gets to check.

Stored sums cover 64 KiB blocks. A small range is served with sums of 4 KiB pieces, which are derived once, from bytes that just
matched the stored sum of their block, and kept with the decoded row. A later read returns those sums with whatever bytes the
page cache has then: if the block has rotted in between, sums and bytes disagree and the client notices. So neither the server's
memory nor its disk has to be trusted after the first look, and the common small read costs one system call and no checksum.

Large ranges leave by sendfile with stored sums and are never looked at here, but for blocks that are cut by an end of the range.

`fetch(fd, into, offset)` fills a buffer: from the page cache only (`read_warm`), or waiting for the disk (`read_all`).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable

from fs3.base.checksum import BLOCK_BYTES, PIECE_BYTES, checksums, crc32c
from fs3.base.units import KIB
from fs3.drivers.chunks.block_writes import COPY_BYTES, BlockDamaged, describe_range, verify_blocks
from fs3.drivers.chunks.files import read_all
from fs3.drivers.chunks.rows import Version
from fs3.ports.rpc import FileRange

Fetch = Callable[[int, memoryview, int], bool]
_PROBE_STEP = 256 * KIB
_BlockParts = list[memoryview | bytes | FileRange]


def read_small(
    version: Version, chunk: bytes, start: int, stop: int, into: memoryview, fetch: Fetch, *, check: bool
) -> list[int] | None:
    """Put a range into `into` and return its sums in pieces of PIECE_BYTES. None when `fetch` could not get it.

    With `check`, the bytes are compared with the sums here too, and Damaged is raised; without, that is left to the client as
    long as the range is cut at pieces. `version.want_pieces` has been called.
    """
    if version.inline is not None:
        into[:] = version.inline[start:stop]
        return checksums(into, start, PIECE_BYTES)
    pieces = version.pieces
    assert pieces is not None
    first = start // PIECE_BYTES
    last = -(-stop // PIECE_BYTES)
    sums = pieces[first:last].tolist()
    if -1 in sums:
        for block in range(start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1):
            if pieces[block * (BLOCK_BYTES // PIECE_BYTES)] < 0 and not derive_pieces(version, chunk, block, pieces, fetch):
                return None
        sums = pieces[first:last].tolist()
    low = first * PIECE_BYTES
    high = min(last * PIECE_BYTES, version.length)
    if low == start and high == stop:
        if not fetch(version.fd, into, version.base + start):
            return None
        if check and checksums(into, start, PIECE_BYTES) != sums:
            raise BlockDamaged(describe_range(chunk, version, start, stop) + " have changed on the disk")
        return sums
    # The ends cut pieces: verify all pieces the range touches, then sum what is asked for.
    cover = memoryview(bytearray(high - low))
    if not fetch(version.fd, cover, version.base + low):
        return None
    if checksums(cover, low, PIECE_BYTES) != sums:
        raise BlockDamaged(describe_range(chunk, version, low, high) + " have changed on the disk")
    into[:] = cover[start - low : stop - low]
    return checksums(into, start, PIECE_BYTES)


def derive_pieces(version: Version, chunk: bytes, block: int, pieces: array[int], fetch: Fetch) -> bool:
    """Learn the piece sums of a 64 KiB block from bytes that match its stored sum. False when it could not be fetched. Raises
    BlockDamaged when they do not."""
    view = _fetch_block(version, chunk, block, fetch)
    if view is None:
        return False
    # The first piece is what says "known", so it is set last: a reader on another thread never sees half a block.
    begin = block * (BLOCK_BYTES // PIECE_BYTES)
    sums = checksums(view, 0, PIECE_BYTES)
    for index in range(len(sums) - 1, -1, -1):
        pieces[begin + index] = sums[index]
    return True


def _fetch_block(version: Version, chunk: bytes, block: int, fetch: Fetch) -> memoryview | None:
    """A 64 KiB block, all of it, verified. None when it could not be fetched."""
    start = block * BLOCK_BYTES
    view = memoryview(bytearray(min(BLOCK_BYTES, version.length - start)))
    if not fetch(version.fd, view, version.base + start):
        return None
    verify_blocks(version, chunk, block, view)
    return view


def read_large(version: Version, chunk: bytes, start: int, stop: int, fetch: Fetch) -> tuple[_BlockParts, list[int]] | None:
    """Parts and sums (pieces of BLOCK_BYTES) of a range whose whole blocks leave by sendfile. None when `fetch` fails.

    The caller has made sure of the whole blocks in whatever way it has: `resident`, `verify`.
    """
    first = -(-start // BLOCK_BYTES)
    last = -(-stop // BLOCK_BYTES) if stop == version.length else stop // BLOCK_BYTES
    parts: _BlockParts = []
    sums: list[int] = []
    if start < first * BLOCK_BYTES:
        block = start // BLOCK_BYTES
        view = _fetch_block(version, chunk, block, fetch)
        if view is None:
            return None
        view = view[start - block * BLOCK_BYTES : min(stop - block * BLOCK_BYTES, BLOCK_BYTES)]
        parts.append(view)
        sums.append(crc32c(view))
    if first < last:
        begin = first * BLOCK_BYTES
        end = min(last * BLOCK_BYTES, version.length)
        parts.append(FileRange(version.fd, version.base + begin, end - begin))
        sums += version.sums_of(first, last)
    if first <= last and last * BLOCK_BYTES < stop:
        view = _fetch_block(version, chunk, last, fetch)
        if view is None:
            return None
        view = view[: stop - last * BLOCK_BYTES]
        parts.append(view)
        sums.append(crc32c(view))
    return parts, sums


def is_resident(version: Version, start: int, stop: int) -> bool:
    """The range is probably in the page cache: one byte every 256 KiB, and the last, can be read without waiting.

    A sample, not a promise: the kernel reads ahead and evicts in larger runs than pages, but it may have dropped a page
    between two samples, or drop one a moment later. Then sendfile waits once for the disk, on the loop; nothing else happens.
    """
    byte = (bytearray(1),)
    fd, base = version.fd, version.base
    try:
        for offset in range(base + start, base + stop, _PROBE_STEP):
            if not os.preadv(fd, byte, offset, os.RWF_NOWAIT):
                return False
        return os.preadv(fd, byte, base + stop - 1, os.RWF_NOWAIT) == 1
    except OSError:
        return False


def verify_range(version: Version, chunk: bytes, start: int, stop: int) -> None:
    """Read all whole blocks of a range, waiting for the disk, and compare them with their stored sums. Raises Damaged.

    It leaves them in the page cache, from where sendfile takes them.
    """
    first = -(-start // BLOCK_BYTES)
    last = -(-stop // BLOCK_BYTES) if stop == version.length else stop // BLOCK_BYTES
    room = memoryview(bytearray(min(COPY_BYTES, max(last - first, 0) * BLOCK_BYTES)))
    while first < last:
        until = min(first + COPY_BYTES // BLOCK_BYTES, last)
        begin = first * BLOCK_BYTES
        view = room[: min(until * BLOCK_BYTES, version.length) - begin]
        if not read_all(version.fd, view, version.base + begin):
            raise BlockDamaged(describe_range(chunk, version, begin, begin + len(view)) + " are missing on the disk")
        verify_blocks(version, chunk, first, view)
        first = until

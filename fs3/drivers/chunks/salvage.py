"""What a damaged version still has: its bytes as the disk gives them, right or wrong, zeros where it gives none.

A resync hands them on with the sums they should have, so that what is whole among them exists once more. No reader is shown them.
"""

from __future__ import annotations

from fs3.base.checksum import BLOCK_BYTES
from fs3.drivers.chunks.block_writes import COPY_BYTES
from fs3.drivers.chunks.files import read_all
from fs3.drivers.chunks.rows import Version


def salvage(version: Version) -> bytes | memoryview:
    """All bytes of a pinned version, unverified. On a reader thread: a failing disk may take seconds for each 64 KiB."""
    if version.inline is not None:
        return version.inline
    view = memoryview(bytearray(version.length))
    for start in range(0, version.length, COPY_BYTES):
        stop = min(start + COPY_BYTES, version.length)
        if not _read(version, view, start, stop):
            for block in range(start, stop, BLOCK_BYTES):
                end = min(block + BLOCK_BYTES, stop)
                if not _read(version, view, block, end):
                    view[block:end] = bytes(end - block)
    return view


def _read(version: Version, view: memoryview, start: int, stop: int) -> bool:
    try:
        return read_all(version.fd, view[start:stop], version.base + start)
    except OSError:
        return False

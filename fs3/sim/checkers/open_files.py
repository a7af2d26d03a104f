"""Files that clients have open while others remove them: what a handle may show.

The bytes of a file are made of a tag, which its writer draws, so that one look at a file says what all of it has to be. A handle
shows the bytes that the file had when it was opened, as long as it is open, whatever became of the name. A read is wrong when it
shows anything else, or when it is refused because the file is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TAG_BYTES = 16


def content_of(tag: bytes, offset: int, length: int) -> bytes:
    """So many bytes at an offset of the file with a tag: the tag again and again."""
    begin = offset % TAG_BYTES
    return (tag * (length // TAG_BYTES + 2))[begin : begin + length]


@dataclass(frozen=True)
class OpenRead:
    """One read through a handle."""

    path: str
    tag: bytes
    """Of what was opened."""
    offset: int
    length: int
    found: bytes | None
    """None: it was refused, because the file is gone."""
    age_ns: int
    """How long the handle had been open."""


def explain(reads: Sequence[OpenRead]) -> str:
    """What is wrong with the first read that is wrong; "" when none is."""
    for read in reads:
        where = f"{read.path} {read.tag!r}, open for {read.age_ns / 1e9:.1f} s, at {read.offset}"
        if read.found is None:
            return f"{where}: it is gone"
        if read.found != content_of(read.tag, read.offset, read.length):
            return f"{where}: it shows {read.found[:TAG_BYTES]!r} in {len(read.found)} of {read.length} bytes"
    return ""

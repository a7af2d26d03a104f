"""What two replicas compare to find out where they differ: rows of chunks and digests of ranges of them.

Everything here is asked by both sides: the source of a resync (`resync`) about its own store, and the target that is brought up
to date about its own, in answer to the source's requests.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from struct import Struct
from typing import Protocol

from fs3.base.ids import CHUNK_ID_BYTES, ChunkId
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelKey, ChannelRow, ChunkMeta

_SUM_BITS = (1 << 64) - 1
_ROW = Struct(f"<{CHUNK_ID_BYTES}sQQI")
_U64 = Struct("<Q")


class StoreView(ChunkView, Protocol):
    """What a resync asks of a store, synchronously. The chunk store port extends it."""

    @property
    def bad_chunks(self) -> Mapping[ChunkId, str]:
        """The chunks whose committed bytes are known to be wrong, and what was found. A live view."""
        ...

    def list(self, after: ChunkId | None, limit: int, until: ChunkId | None = None) -> list[tuple[ChunkId, ChunkMeta]]:
        """Chunks in key order after a key and before `until`, pending ones too, with every stage and commit so far."""
        ...

    def list_channels(self, after: ChannelKey | None, limit: int) -> Sequence[tuple[ChannelKey, ChannelRow]]:
        """Channel rows in the order of (client, channel) after a key, with every commit and merge so far."""
        ...


@dataclass(frozen=True, slots=True)
class RangeDigest:
    """The chunks of one range of keys, in a few bytes."""

    begin: bytes
    """First key of the range; b"" is before all keys."""
    end: bytes
    """The range ends before this key; b"" is behind all keys."""
    count: int
    """Chunks with a committed version."""
    sum: int
    """Their digests (`row_digest`), added modulo 2**64."""


class RangeState(IntEnum):
    """How the successor's rows of a range compare with a digest. Numbers as on the wire."""

    EQUAL = 0
    DIFFERS = 1
    EMPTY = 2
    """It has no rows in the range at all, and the digest has some."""


@dataclass(frozen=True, slots=True)
class RemoteRow:
    """What the successor has of one chunk."""

    chunk: ChunkId
    committed: int
    """0: none."""
    pending: int
    """0: none."""
    length: int
    checksum: int
    """Of the committed version."""
    bad: bool = False
    """Its committed bytes are known to be wrong."""


def key_before(begin: bytes) -> ChunkId | None:
    """What `StoreView.list` takes as `after` to begin at a key; None: at the first of all."""
    number = int.from_bytes(begin, "big")
    return ChunkId((number - 1).to_bytes(CHUNK_ID_BYTES, "big")) if number else None


def key_after(chunk: bytes) -> bytes:
    """The key that follows; b"" behind the last of all."""
    number = int.from_bytes(chunk, "big") + 1
    return number.to_bytes(CHUNK_ID_BYTES, "big") if number >> 8 * CHUNK_ID_BYTES == 0 else b""


def row_digest(chunk: ChunkId, meta: ChunkMeta) -> int:
    """64 bits of everything that two replicas of a committed chunk must agree on.

    Without the chain version under which it was staged: that differs between replicas that hold the same, since one may have
    taken it from a client's update and another from a fill."""
    packed = _ROW.pack(chunk, meta.committed, meta.length, meta.checksum)
    (number,) = _U64.unpack(blake2b(packed, digest_size=8).digest())
    return int(number)


def digest_rows(begin: bytes, end: bytes, rows: Iterable[tuple[ChunkId, ChunkMeta]]) -> RangeDigest:
    """The digest of the committed ones among `rows`, which are all of a range."""
    count = total = 0
    for chunk, meta in rows:
        if meta.committed:
            count += 1
            total += row_digest(chunk, meta)
    return RangeDigest(begin, end, count, total & _SUM_BITS)


def compare_ranges(view: StoreView, bad: Container[ChunkId], ranges: Sequence[RangeDigest]) -> tuple[RangeState, ...]:
    """The answer to a source's `Compare`: how the rows of this store compare, range by range.

    A row with a pending version, or marked bad, differs from everything. Never looks at more rows of a range than the source has
    there, and one.
    """
    return tuple(_compare(view, bad, wanted) for wanted in ranges)


def _compare(view: StoreView, bad: Container[ChunkId], wanted: RangeDigest) -> RangeState:
    until = ChunkId(wanted.end) if wanted.end else None
    rows = view.list(key_before(wanted.begin), wanted.count + 1, until)
    if not rows:
        return RangeState.EMPTY if wanted.count else RangeState.EQUAL
    if len(rows) != wanted.count or any(meta.pending or chunk in bad for chunk, meta in rows):
        return RangeState.DIFFERS
    mine = digest_rows(wanted.begin, wanted.end, rows)
    return RangeState.EQUAL if mine == wanted else RangeState.DIFFERS


def list_rows(
    view: StoreView, bad: Container[ChunkId], begin: bytes, end: bytes, limit: int
) -> tuple[tuple[RemoteRow, ...], bool]:
    """The answer to a source's `ListRows`: (rows of the range in key order, at most `limit`; whether there are more)."""
    found = view.list(key_before(begin), limit + 1, ChunkId(end) if end else None)
    rows = tuple(
        RemoteRow(chunk, meta.committed, meta.pending, meta.length, meta.checksum, chunk in bad) for chunk, meta in found[:limit]
    )
    return rows, len(found) > limit

"""What two replicas compare to find out where they differ: rows of chunks, digests of ranges of them, and what to do about each.

Everything here is asked by both sides: the source of a resync (`resync`) about its own store, and the target that is brought up
to date about its own, in answer to the source's requests.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from hashlib import blake2b
from itertools import product
from struct import Struct
from typing import Protocol

from fs3.base.ids import CHUNK_ID_BYTES, ChunkId, ClientId
from fs3.core.craq.view import ChunkView
from fs3.model.chunk import ChannelRow, ChunkMeta

ChannelKey = tuple[ClientId, int]

_SUM_BITS = (1 << 64) - 1
_ROW = Struct(f"<{CHUNK_ID_BYTES}sQQI")
_U64 = Struct("<Q")


class StoreView(ChunkView, Protocol):
    """What a resync asks of a store, synchronously. The chunk store port has the same methods."""

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


# --- the resync-choice table ------------------------------------------------------------------------------------------


class SourceState(IntEnum):
    """What the source has of a chunk. A pending version there is on its way to the successor anyway, as an update."""

    NOTHING = 0
    COMMITTED = 1


class SuccessorState(IntEnum):
    """What the successor has of it."""

    NOTHING = 0
    COMMITTED = 1
    PENDING = 2
    """With or without a committed version. Left behind by an earlier chain version, or about to be committed: the source cannot
    tell, so it sends what it has."""
    BAD = 3
    """Its committed bytes are known to be wrong."""


class Match(IntEnum):
    """Version, length and checksum of the two committed versions."""

    SAME = 0
    OTHER = 1


class Choice(IntEnum):
    """What the source does."""

    SKIP = 0
    FILL = 1
    """Send the whole committed version."""
    REMOVE = 2
    """Have it removed there."""


@dataclass(frozen=True)
class ChoiceRow:
    """One line of the table."""

    mine: tuple[SourceState, ...]
    theirs: tuple[SuccessorState, ...]
    match: tuple[Match, ...]
    choice: Choice
    why: str

    def matches(self, mine: SourceState, theirs: SuccessorState, match: Match) -> bool:
        """The row decides this case."""
        return mine in self.mine and theirs in self.theirs and match in self.match


_ANY_MATCH = (Match.SAME, Match.OTHER)

CHOICES: tuple[ChoiceRow, ...] = (
    ChoiceRow((SourceState.NOTHING,), (SuccessorState.NOTHING,), _ANY_MATCH, Choice.SKIP, "nobody has it"),
    ChoiceRow(
        (SourceState.NOTHING,),
        (SuccessorState.COMMITTED, SuccessorState.PENDING, SuccessorState.BAD),
        _ANY_MATCH,
        Choice.REMOVE,
        "it was removed while the successor was away, or never acknowledged",
    ),
    ChoiceRow(
        (SourceState.COMMITTED,),
        (SuccessorState.NOTHING,),
        _ANY_MATCH,
        Choice.FILL,
        "it was created while the successor was away",
    ),
    ChoiceRow((SourceState.COMMITTED,), (SuccessorState.COMMITTED,), (Match.SAME,), Choice.SKIP, "it has the same bytes"),
    ChoiceRow(
        (SourceState.COMMITTED,),
        (SuccessorState.COMMITTED,),
        (Match.OTHER,),
        Choice.FILL,
        "another version, or other bytes under the same number: versions begin at 1 again after a removal",
    ),
    ChoiceRow(
        (SourceState.COMMITTED,),
        (SuccessorState.PENDING,),
        _ANY_MATCH,
        Choice.FILL,
        "what it has pending may be an update that never was acknowledged, and must not be committed",
    ),
    ChoiceRow((SourceState.COMMITTED,), (SuccessorState.BAD,), _ANY_MATCH, Choice.FILL, "its copy is damaged"),
)


@cache
def choose(mine: SourceState, theirs: SuccessorState, match: Match) -> Choice:
    """What the one row that matches says."""
    (row,) = (row for row in CHOICES if row.matches(mine, theirs, match))
    return row.choice


def all_choices() -> list[tuple[SourceState, SuccessorState, Match]]:
    """Every combination of facts."""
    return list(product(SourceState, SuccessorState, Match))


def choice_for(meta: ChunkMeta | None, row: RemoteRow | None) -> Choice:
    """What to do about one chunk: `meta` is the source's, `row` the successor's; None: it has nothing."""
    mine = SourceState.COMMITTED if meta is not None and meta.committed else SourceState.NOTHING
    theirs = SuccessorState.NOTHING
    match = Match.OTHER
    if row is not None:
        theirs = (
            SuccessorState.PENDING
            if row.pending or not row.committed
            else SuccessorState.BAD
            if row.bad
            else SuccessorState.COMMITTED
        )
        if meta is not None and (meta.committed, meta.length, meta.checksum) == (row.committed, row.length, row.checksum):
            match = Match.SAME
    return choose(mine, theirs, match)


def choices_text() -> str:
    """The table for people and for the documentation."""

    def names(values: Sequence[IntEnum], all_values: int) -> str:
        return "any" if len(values) == all_values else "/".join(value.name.lower() for value in values)

    lines = ["| the source has | the successor has | version, length and checksum | choice | why |", "|---|---|---|---|---|"]
    for row in CHOICES:
        cells = (
            names(row.mine, len(SourceState)),
            names(row.theirs, len(SuccessorState)),
            names(row.match, len(Match)),
            row.choice.name,
        )
        lines.append(f"| {' | '.join(cells)} | {row.why} |")
    return "\n".join(lines)

"""What a resync does about one chunk that may differ: the resync-choice table, and the facts it looks at.

The source asks it about every row of a range whose digests differ (`resync.machine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from fs3.core.craq.resync.rows import RemoteRow
from fs3.core.decision_table import Column, DecisionTable, Fact, Row, allowed
from fs3.model.chunk import ChunkMeta


class SourceState(IntEnum):
    """What the source has of a chunk. A pending version there is on its way to the successor anyway, as an update."""

    NOTHING = 0
    COMMITTED = 1
    BAD = 2
    """Its committed bytes are known to be wrong."""


_THERE = (SourceState.COMMITTED, SourceState.BAD)


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
    """Send the whole committed version; as damaged as it is, when it is bad and no target that serves has its bytes."""
    REMOVE = 2
    """Have it removed there."""


COLUMNS = {
    "mine": Column(SourceState, "the source has"),
    "theirs": Column(SuccessorState, "the successor has"),
    "match": Column(Match, "version, length and checksum"),
}


@dataclass(frozen=True, kw_only=True)
class ChoiceRow(Row):
    """One line of the table."""

    choice: Choice

    def outcome(self) -> tuple[str, ...]:
        """The choice and why."""
        return self.choice.name, self.why


def _row(choice: Choice, why: str, **facts: Fact | tuple[Fact, ...]) -> ChoiceRow:
    return ChoiceRow(choice=choice, why=why, when=allowed(COLUMNS, **facts))


_ROWS = (
    _row(Choice.SKIP, "nobody has it", mine=SourceState.NOTHING, theirs=SuccessorState.NOTHING),
    _row(
        Choice.REMOVE,
        "it was removed while the successor was away, or never acknowledged",
        mine=SourceState.NOTHING,
        theirs=(SuccessorState.COMMITTED, SuccessorState.PENDING, SuccessorState.BAD),
    ),
    _row(
        Choice.FILL,
        "it was created while the successor was away",
        mine=_THERE,
        theirs=SuccessorState.NOTHING,
    ),
    _row(
        Choice.SKIP,
        "it has the same bytes, or those that the source lacks",
        mine=_THERE,
        theirs=SuccessorState.COMMITTED,
        match=Match.SAME,
    ),
    _row(
        Choice.FILL,
        "another version, or other bytes under the same number: versions begin at 1 again after a removal",
        mine=_THERE,
        theirs=SuccessorState.COMMITTED,
        match=Match.OTHER,
    ),
    _row(
        Choice.FILL,
        "what it has pending may be an update that never was acknowledged, and must not be committed",
        mine=_THERE,
        theirs=SuccessorState.PENDING,
    ),
    _row(Choice.FILL, "its copy is damaged", mine=SourceState.COMMITTED, theirs=SuccessorState.BAD),
    _row(
        Choice.SKIP,
        "it is damaged there as it is here",
        mine=SourceState.BAD,
        theirs=SuccessorState.BAD,
        match=Match.SAME,
    ),
    _row(
        Choice.FILL,
        "another version, and its bytes are lost",
        mine=SourceState.BAD,
        theirs=SuccessorState.BAD,
        match=Match.OTHER,
    ),
)

CHOICES = DecisionTable(COLUMNS, _ROWS, outcome=("choice", "why"))


@cache
def choose(mine: SourceState, theirs: SuccessorState, match: Match) -> Choice:
    """What the one row that matches says."""
    return CHOICES.row_for((mine, theirs, match)).choice


def choice_for(meta: ChunkMeta | None, row: RemoteRow | None, *, is_bad: bool = False) -> Choice:
    """What to do about one chunk: `meta` is the source's, `row` the successor's; None: it has nothing. `is_bad`: the source has
    marked the chunk."""
    mine = SourceState.NOTHING
    if meta is not None and meta.committed:
        mine = SourceState.BAD if is_bad else SourceState.COMMITTED
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

"""What `reads.gate` and `reads.answer` do together, as a table of which exactly one row matches every case.

The functions are on the path of every read, the table is for people: it says the same with a reason for each line. The tests hold
them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fs3.base.status import Code
from fs3.core.decision_table import Column, DecisionTable, Fact, Row, allowed


class StoreState(IntEnum):
    """Whether the target has looked at what its store has pending, and the store is whole."""

    OPEN = 0
    CLOSED = 1


class VersionMatch(IntEnum):
    """The chain version of the request against the target's."""

    EQUAL = 0
    OTHER = 1


class SlotState(IntEnum):
    """The target's place in its chain."""

    SERVES = 0
    ELSE = 1


class LeaseState(IntEnum):
    """The node's lease, by its own monotonic clock."""

    RUNNING = 0
    OVER = 1


class Downstream(IntEnum):
    """Whether the live chain goes on behind this target, syncing targets included."""

    NOBODY = 0
    SOMEBODY = 1


class ChunkState(IntEnum):
    """What the store has of the chunk."""

    NOTHING = 0
    COMMITTED = 1
    BOTH = 2
    """A committed and a pending version."""
    PENDING = 3
    """A pending version only."""


COLUMNS = {
    "store": Column(StoreState),
    "asked": Column(VersionMatch, "chain version asked for"),
    "slot": Column(SlotState, "its slot"),
    "lease": Column(LeaseState),
    "behind": Column(Downstream, "behind it"),
    "known": Column(ChunkState, "the chunk"),
}


@dataclass(frozen=True, kw_only=True)
class ReadRow(Row):
    """One line of the table."""

    code: Code

    def outcome(self) -> tuple[str, ...]:
        """The answer and why."""
        return self.code.name, self.why


def _row(code: Code, why: str, **facts: Fact | tuple[Fact, ...]) -> ReadRow:
    return ReadRow(code=code, why=why, when=allowed(COLUMNS, **facts))


_MAY: dict[str, Fact] = {
    "store": StoreState.OPEN,
    "asked": VersionMatch.EQUAL,
    "slot": SlotState.SERVES,
    "lease": LeaseState.RUNNING,
}

_ROWS = (
    _row(Code.NOT_SERVING, "a commit that clients have seen may be lost here and not made again yet", store=StoreState.CLOSED),
    _row(Code.WRONG_CHAIN_VERSION, "one of the two does not know who serves", store=StoreState.OPEN, asked=VersionMatch.OTHER),
    _row(
        Code.NOT_SERVING,
        "it is out of the live chain, or it is being brought up to date",
        store=StoreState.OPEN,
        asked=VersionMatch.EQUAL,
        slot=SlotState.ELSE,
    ),
    _row(
        Code.LEASE,
        "the chain may have gone on without it",
        store=StoreState.OPEN,
        asked=VersionMatch.EQUAL,
        slot=SlotState.SERVES,
        lease=LeaseState.OVER,
    ),
    _row(Code.NOT_FOUND, "a hole", **_MAY, known=ChunkState.NOTHING),
    _row(Code.OK, "nothing newer can have been shown or acknowledged by anybody", **_MAY, known=ChunkState.COMMITTED),
    _row(
        Code.DIRTY,
        "somebody behind it may have committed the pending version, and shown it: the tail knows",
        **_MAY,
        behind=Downstream.SOMEBODY,
        known=(ChunkState.BOTH, ChunkState.PENDING),
    ),
    _row(
        Code.OK,
        "nobody is behind it: the committed version, until it commits the next itself",
        **_MAY,
        behind=Downstream.NOBODY,
        known=ChunkState.BOTH,
    ),
    _row(
        Code.NOT_FOUND,
        "nobody is behind it: a hole, until it commits the chunk itself",
        **_MAY,
        behind=Downstream.NOBODY,
        known=ChunkState.PENDING,
    ),
)

READS = DecisionTable(COLUMNS, _ROWS, outcome=("answer", "why"))

"""What `reads.decide` does, as a table of which exactly one row matches every case. The tests hold the two together.

The function is on the path of every read, the table is for people: it says the same with a reason for each line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from itertools import product

from fs3.base.status import Code


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


COLUMNS: dict[str, type[IntEnum]] = {
    "store": StoreState,
    "asked": VersionMatch,
    "slot": SlotState,
    "lease": LeaseState,
    "behind": Downstream,
    "known": ChunkState,
}


@dataclass(frozen=True)
class ReadRow:
    """One line of the table."""

    code: Code
    why: str
    when: tuple[frozenset[IntEnum], ...] = field(repr=False)

    def matches(self, case: tuple[IntEnum, ...]) -> bool:
        """The row decides this case."""
        return all(value in allowed for value, allowed in zip(case, self.when, strict=True))


def _row(code: Code, why: str, **columns: IntEnum | tuple[IntEnum, ...]) -> ReadRow:
    when = []
    for column, values in COLUMNS.items():
        allowed = columns.get(column, tuple(values))
        when.append(frozenset(allowed if isinstance(allowed, tuple) else (allowed,)))
    return ReadRow(code, why, tuple(when))


_MAY = {"store": StoreState.OPEN, "asked": VersionMatch.EQUAL, "slot": SlotState.SERVES, "lease": LeaseState.RUNNING}

READS: tuple[ReadRow, ...] = (
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


def all_reads() -> list[tuple[IntEnum, ...]]:
    """Every combination of facts."""
    return list(product(*COLUMNS.values()))


def row_for(case: tuple[IntEnum, ...]) -> ReadRow:
    """The one row that matches."""
    (row,) = (row for row in READS if row.matches(case))
    return row


def reads_text() -> str:
    """The table for people and for the documentation."""
    heads = ["store", "chain version asked for", "its slot", "lease", "behind it", "the chunk"]
    lines = [f"| {' | '.join(heads)} | answer | why |", "|---" * (len(heads) + 2) + "|"]
    for row in READS:
        cells = []
        for values, allowed in zip(COLUMNS.values(), row.when, strict=True):
            cells.append(
                "any" if len(allowed) == len(values) else "/".join(value.name.lower() for value in values if value in allowed)
            )
        lines.append(f"| {' | '.join(cells)} | {row.code.name} | {row.why} |")
    return "\n".join(lines)

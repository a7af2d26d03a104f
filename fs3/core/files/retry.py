"""What a client does with a chunk IO that was not answered well: one table, of which exactly one row matches.

Nothing here knows the time left: the caller gives up at its deadline whatever the table says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import NamedTuple

from fs3.base.status import Code, Retry
from fs3.base.units import MILLISECOND
from fs3.core.decision_table import Case, Column, DecisionTable, Fact, Row, allowed

BACKOFF_NS_MIN = 1 * MILLISECOND
BACKOFF_NS_MAX = 100 * MILLISECOND
ROUTING_FRESH_NS = 50 * MILLISECOND
"""Routing learned less than this ago is not asked for again: the manager needs its time to decide something new."""
BAD_DATA_ATTEMPTS_MAX = 3
"""How often data that arrives with a wrong checksum is sent again: the wire may have changed it, a bad disk will again."""


class RetryAction(Enum):
    """The next step."""

    FAIL = "fail"
    """Hand the code to the caller."""
    WAIT = "wait"
    """Pause for `backoff_ns`, then ask again with whatever routing there is."""
    REFRESH = "refresh"
    """Get newer routing, then ask again."""
    OTHER = "other"
    """Ask another replica now."""
    TAIL = "tail"
    """Ask the tail now: it only ever shows committed data."""


class Situation(NamedTuple):
    """An IO that was refused, or not answered."""

    code: Code
    attempt: int
    """Which try this was, from 1."""
    routing_age_ns: int
    """Since this client last learned the routing."""
    read: bool = True
    """A read or a find, which any serving replica can answer; else an update, which only the head takes."""
    repeatable: bool = True
    """Sending it again does not apply it twice."""
    others: bool = False
    """Reads: a serving replica is left that has not failed this IO."""
    asked_tail: bool = False
    """Reads: the tail gave this answer."""


class Refusal(Enum):
    """What kind of refusal it was."""

    FINAL = 0
    """The answer stands wherever it is asked for."""
    BAD_DATA = 1
    """This replica cannot give the data, or the bytes of an update arrived changed."""
    DIRTY = 2
    BUSY = 3
    MOVED = 4
    """The node is not there, or must not answer: the chain is, or will be, another one than this client believes."""
    UNPROVEN = 5
    """The connection has not shown that this client may: what is shown with the next request may prove it."""


class OtherReplica(Enum):
    """Whether another replica can answer."""

    LEFT = 0
    NONE = 1


class DataAttempts(Enum):
    """Whether data that arrived with a wrong checksum may be sent again; see `BAD_DATA_ATTEMPTS_MAX`."""

    LEFT = 0
    USED = 1


class Asked(Enum):
    """Who gave this answer."""

    TAIL = 0
    ELSE = 1


class Repetition(Enum):
    """Whether sending it again could apply it twice: it may have been done, and would not be known again."""

    SAFE = 0
    UNSAFE = 1


class RoutingAge(Enum):
    """What this client knows of the chain; see `ROUTING_FRESH_NS`."""

    OLD = 0
    FRESH = 1


COLUMNS = {
    "refusal": Column(Refusal),
    "other": Column(OtherReplica, "other replica"),
    "attempts": Column(DataAttempts),
    "asked": Column(Asked),
    "again": Column(Repetition, "repetition"),
    "routing": Column(RoutingAge),
}


@dataclass(frozen=True, kw_only=True)
class RetryRow(Row):
    """One line of the table."""

    action: RetryAction

    def outcome(self) -> tuple[str, ...]:
        """The action and why."""
        return self.action.name, self.why


def _row(why: str, action: RetryAction, **facts: Fact | tuple[Fact, ...]) -> RetryRow:
    return RetryRow(action=action, why=why, when=allowed(COLUMNS, **facts))


_BAD, _MOVED = Refusal.BAD_DATA, Refusal.MOVED
_LEFT, _NONE = OtherReplica.LEFT, OtherReplica.NONE

_ROWS = (
    _row("the answer stands", RetryAction.FAIL, refusal=Refusal.FINAL),
    _row("another replica can answer", RetryAction.OTHER, refusal=(_BAD, Refusal.BUSY, _MOVED), other=_LEFT),
    _row(
        "bytes went bad on the way, perhaps",
        RetryAction.WAIT, refusal=_BAD, other=_NONE, attempts=DataAttempts.LEFT,
    ),
    _row(
        "bytes are bad wherever they come from",
        RetryAction.FAIL, refusal=_BAD, other=_NONE, attempts=DataAttempts.USED,
    ),
    _row("a write is under way here, the tail knows", RetryAction.TAIL, refusal=Refusal.DIRTY, asked=Asked.ELSE),
    _row("who was the tail is not any more", RetryAction.WAIT, refusal=Refusal.DIRTY, asked=Asked.TAIL),
    _row("too much to do there", RetryAction.WAIT, refusal=Refusal.BUSY, other=_NONE),
    _row("the capability is shown again, or a newer one", RetryAction.WAIT, refusal=Refusal.UNPROVEN),
    _row(
        "it may have happened and must not happen twice",
        RetryAction.FAIL, refusal=_MOVED, other=_NONE, again=Repetition.UNSAFE,
    ),
    _row(
        "routing is old",
        RetryAction.REFRESH, refusal=_MOVED, other=_NONE, again=Repetition.SAFE, routing=RoutingAge.OLD,
    ),
    _row(
        "routing is new, the manager is still deciding",
        RetryAction.WAIT, refusal=_MOVED, other=_NONE, again=Repetition.SAFE, routing=RoutingAge.FRESH,
    ),
)  # fmt: skip

RETRIES = DecisionTable(COLUMNS, _ROWS, outcome=("action", "why"))


_BAD_DATA = frozenset((Code.CHECKSUM, Code.DISK))
"""This replica cannot give the data; the others may."""
_UNRESPONSIVE = frozenset(
    (
        Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE, Code.SHUTTING_DOWN,
        Code.LEASE, Code.NOT_SERVING, Code.NO_SUCH_TARGET,
    )
)  # fmt: skip
"""This node is not there, or must not answer; the others may."""


def _refusal_of(it: Situation) -> Refusal:
    if it.code is Code.CHECKSUM or (it.code is Code.DISK and it.read):
        return Refusal.BAD_DATA
    if it.code is Code.DIRTY:
        return Refusal.DIRTY
    if it.code is Code.BUSY:
        return Refusal.BUSY
    if it.code is Code.NO_CAPABILITY:
        return Refusal.UNPROVEN
    return Refusal.FINAL if it.code.retry is Retry.NEVER else Refusal.MOVED


def _has_other_replica(it: Situation) -> bool:
    return it.read and it.others and (it.code in _BAD_DATA or it.code in _UNRESPONSIVE or it.code is Code.BUSY)


def _may_be_done(it: Situation) -> bool:
    return it.code.retry is Retry.MAYBE and not it.read and not it.repeatable


def facts_of(it: Situation) -> Case:
    """The case of the table that a situation is."""
    return (
        _refusal_of(it),
        OtherReplica.LEFT if _has_other_replica(it) else OtherReplica.NONE,
        DataAttempts.LEFT if it.attempt < BAD_DATA_ATTEMPTS_MAX else DataAttempts.USED,
        Asked.TAIL if it.asked_tail else Asked.ELSE,
        Repetition.UNSAFE if _may_be_done(it) else Repetition.SAFE,
        RoutingAge.OLD if it.routing_age_ns >= ROUTING_FRESH_NS else RoutingAge.FRESH,
    )


@cache
def _action_for(case: Case) -> RetryAction:
    return RETRIES.row_for(case).action


def decide(situation: Situation) -> RetryAction:
    """The action of the one row that matches."""
    return _action_for(facts_of(situation))


def backoff_ns(attempt: int, random: int) -> int:
    """How long to wait after attempt 1, 2, …: doubling, and the upper half drawn from 64 random bits so that clients spread."""
    span = min(BACKOFF_NS_MAX, BACKOFF_NS_MIN << min(attempt - 1, 30))
    return span // 2 + random % (span // 2 + 1)

"""What a client does with a chunk IO that was not answered well: one table, of which exactly one row matches.

Nothing here knows the time left: the caller gives up at its deadline whatever the table says.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from fs3.base.status import Code, Retry
from fs3.base.units import MILLISECOND

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


class Row(NamedTuple):
    """One line of the table."""

    why: str
    when: Callable[[Situation], bool]
    do: RetryAction


_BAD_DATA = frozenset((Code.CHECKSUM, Code.DISK))
"""This replica cannot give the data; the others may."""
_UNRESPONSIVE = frozenset(
    (
        Code.DEADLINE, Code.DISCONNECTED, Code.UNAVAILABLE, Code.SHUTTING_DOWN,
        Code.LEASE, Code.NOT_SERVING, Code.NO_SUCH_TARGET,
    )
)  # fmt: skip
"""This node is not there, or must not answer; the others may."""


def _has_other_replica(it: Situation) -> bool:
    return it.read and it.others and (it.code in _BAD_DATA or it.code in _UNRESPONSIVE or it.code is Code.BUSY)


def _is_bad_data(it: Situation) -> bool:
    return it.code is Code.CHECKSUM or (it.code is Code.DISK and it.read)


def _may_be_done(it: Situation) -> bool:
    return it.code.retry is Retry.MAYBE and not it.read and not it.repeatable


def _is_routing_stale(it: Situation) -> bool:
    """The chain is, or will be, another one than this client believes."""
    return it.code.retry in (Retry.REFRESH, Retry.MAYBE) and not _has_other_replica(it) and not _may_be_done(it)


TABLE: tuple[Row, ...] = (
    Row("the answer stands", lambda it: it.code.retry is Retry.NEVER and not _is_bad_data(it), RetryAction.FAIL),
    Row("another replica can answer", _has_other_replica, RetryAction.OTHER),
    Row(
        "bytes went bad on the way, perhaps",
        lambda it: _is_bad_data(it) and not _has_other_replica(it) and it.attempt < BAD_DATA_ATTEMPTS_MAX,
        RetryAction.WAIT,
    ),
    Row(
        "bytes are bad wherever they come from",
        lambda it: _is_bad_data(it) and not _has_other_replica(it) and it.attempt >= BAD_DATA_ATTEMPTS_MAX,
        RetryAction.FAIL,
    ),
    Row("a write is under way here, the tail knows", lambda it: it.code is Code.DIRTY and not it.asked_tail, RetryAction.TAIL),
    Row("who was the tail is not any more", lambda it: it.code is Code.DIRTY and it.asked_tail, RetryAction.WAIT),
    Row("too much to do there", lambda it: it.code is Code.BUSY and not _has_other_replica(it), RetryAction.WAIT),
    Row("it may have happened and must not happen twice", _may_be_done, RetryAction.FAIL),
    Row("routing is old", lambda it: _is_routing_stale(it) and it.routing_age_ns >= ROUTING_FRESH_NS, RetryAction.REFRESH),
    Row(
        "routing is new, the manager is still deciding",
        lambda it: _is_routing_stale(it) and it.routing_age_ns < ROUTING_FRESH_NS,
        RetryAction.WAIT,
    ),
)


def decide(situation: Situation) -> RetryAction:
    """The action of the one row that matches."""
    return next(row.do for row in TABLE if row.when(situation))


def backoff_ns(attempt: int, random: int) -> int:
    """How long to wait after attempt 1, 2, …: doubling, and the upper half drawn from 64 random bits so that clients spread."""
    span = min(BACKOFF_NS_MAX, BACKOFF_NS_MIN << min(attempt - 1, 30))
    return span // 2 + random % (span // 2 + 1)

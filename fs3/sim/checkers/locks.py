"""Locks: of those who hold them at the same time, none may be in another's way; and what is counted under them adds up.

A client holds a lock for certain from when it was told that it has it until it begins to give it up, if it is then told that it
had it still. If it is told that it was lost, or never hears, only what lies before its last confirmation is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fs3.core.meta.locks import do_conflict
from fs3.model.lock import HeldLock


@dataclass
class HoldInterval:
    """One lock of one owner."""

    path: str
    lock: HeldLock
    begun: int
    """It was told that it has it."""
    confirmed: int
    """It held it until then, for certain."""


@dataclass(frozen=True)
class Increment:
    """A counter was read, and written with one more, under an exclusive lock that was held all the while."""

    path: str
    found: int


@dataclass(frozen=True)
class DoubleRead:
    """A counter was read twice under one lock that was held all the while."""

    path: str
    first: int
    second: int


def explain(intervals: Sequence[HoldInterval], increments: Sequence[Increment] = (), reads: Sequence[DoubleRead] = ()) -> str:
    """What is wrong first; "" when nothing is."""
    for at, one in enumerate(intervals):
        for other in intervals[at + 1 :]:
            if one.path == other.path and do_conflict(one.lock, other.lock):
                begun, ended = max(one.begun, other.begun), min(one.confirmed, other.confirmed)
                if begun < ended:
                    return f"{one.path}: {_describe(one)} and {_describe(other)}, both from {begun} to {ended}"
    seen: set[Increment] = set()
    for increment in increments:
        if increment in seen:
            return f"{increment.path}: two have counted on from {increment.found}"
        seen.add(increment)
    for read in reads:
        if read.first != read.second:
            return f"{read.path}: {read.first} became {read.second} while it was locked"
    return ""


def _describe(interval: HoldInterval) -> str:
    lock = interval.lock
    mode = "exclusive" if lock.exclusive else "shared"
    owner = f"{lock.owner.client.hex()[:4]}/{lock.owner.number}"
    return f"{owner} had {lock.kind.name} {lock.start} to {lock.end} {mode}"

"""Bugs planted in how a path dies and comes back, each of which the model must catch."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.core.rdma.fetching import Fetching, PayloadFetch
from fs3.drivers.rdma.pair_reads import PairReads
from fs3.drivers.rdma.path import RdmaPath
from fs3.drivers.rdma.pool import MemorySlot
from fs3.sim.one_sided_bugs import OneSidedBug

_real_give_up = RdmaPath._give_up
_real_on_down = RdmaPath._on_down
_real_close = PairReads.close


def _give_up_for_good(self: RdmaPath, reason: str, *, tells: bool = True) -> None:
    _real_give_up(self, reason, tells=tells)
    self._asks = False


def _give_up_for_a_moment(self: RdmaPath, reason: str, *, tells: bool = True) -> None:
    _real_give_up(self, reason, tells=tells)
    self._ask_at = 0


def _hear_nothing_of_the_end(self: RdmaPath, attempt: int, reason: str) -> None:
    if attempt:
        _real_on_down(self, attempt, reason)


def _close_and_forget(self: PairReads) -> list[PayloadFetch]:
    """Those that wait for what was under way are told nothing."""
    _real_close(self)
    return []


def _never_stalled(self: Fetching, now: int) -> bool:
    return False


def _release_nothing(self: RdmaPath, slot: MemorySlot) -> None:
    """Memory that bytes arrived in is not given back."""


BUGS: Mapping[str, OneSidedBug] = {
    "never_again": OneSidedBug(
        "a path that was given up is not asked for again", ((RdmaPath, "_give_up", _give_up_for_good),), 0
    ),
    "at_once": OneSidedBug("it is asked for again with the next request", ((RdmaPath, "_give_up", _give_up_for_a_moment),), 0),
    "end_unheard": OneSidedBug(
        "an end that is told that the path is given up goes on with it", ((RdmaPath, "_on_down", _hear_nothing_of_the_end),), 0
    ),
    "under_way_lost": OneSidedBug(
        "payloads that were under way when the path died are not asked for on the stream",
        ((PairReads, "close", _close_and_forget),),
        0,
    ),
    "stall_unnoticed": OneSidedBug("a path that stands still is waited for", ((Fetching, "is_stalled", _never_stalled),), 0),
    "memory_kept": OneSidedBug(
        "memory that payloads arrived in is not given back", ((RdmaPath, "release", _release_nothing),), 0
    ),
}

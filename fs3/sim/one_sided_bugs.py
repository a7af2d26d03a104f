"""Bugs planted in one-sided transfers, each of which the model must catch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fs3.core.rdma.fetching import Fetching, PayloadFetch
from fs3.core.rdma.lending import Lending
from fs3.sim.one_sided import UPDATES, WantedUpdate, World
from fs3.sim.planting import Patch


class OneSidedBug(NamedTuple):
    """A bug, and the seed that was found to catch it. Those of `fs3.sim.path_recovery_bugs` too."""

    what: str
    patches: tuple[Patch, ...]
    seed: int

    @property
    def seeds(self) -> int:
        """See `PlantedBug.seeds`."""
        return self.seed + 3

    @property
    def arranged(self) -> str:
        """See `PlantedBug.arranged`."""
        return ""


_real_lend = Lending.lend
_real_completed = Fetching.on_completed


def _lend_and_release(self: Lending[Any], number: int, loan: Any) -> None:
    """The slot is used again once the offer is sent."""
    _real_lend(self, number, loan)
    loan.release()


def _fetched_and_released_before(self: Lending[Any], number: int) -> bool:
    return self._end(number) is not None


def _end_without_revoking(self: Lending[Any], number: int) -> Any:
    loan = self._loans.pop(number, None)
    if loan is not None:
        self.bytes -= loan.length
    return loan


def _completed_without_credit(self: Fetching, number: int, now: int) -> PayloadFetch | None:
    """The read that completes a payload keeps its credit."""
    fetch = _real_completed(self, number, now)
    if fetch is not None:
        self.credits -= 1
    return fetch


def _repeat_under_a_new_tag(self: World, update: WantedUpdate) -> WantedUpdate:
    return WantedUpdate(update.number, update.tag + UPDATES)


BUGS: Mapping[str, OneSidedBug] = {
    "buffer_reused": OneSidedBug(
        "a buffer is used again before the other end has read it",
        ((Lending, "lend", _lend_and_release), (Lending, "on_fetched", _fetched_and_released_before)),
        0,
    ),
    "key_kept": OneSidedBug("the key of a loan that has ended is not revoked", ((Lending, "_end", _end_without_revoking),), 0),
    "credit_leaked": OneSidedBug(
        "the last read of a payload does not give its credit back", ((Fetching, "on_completed", _completed_without_credit),), 0
    ),
    "new_tag": OneSidedBug(
        "what is repeated after the path and the connection were lost gets a new tag",
        ((World, "repeat", _repeat_under_a_new_tag),),
        1,
    ),
}

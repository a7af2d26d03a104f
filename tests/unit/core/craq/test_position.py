from __future__ import annotations

import pytest

from fs3.base.ids import TargetId
from fs3.core.craq.position import ChainRole, position_in
from fs3.sim.ring1.one_replica import CHAIN, chain

MIXED = chain(5, 1, 2, 3, syncing=(4, 5), out=(6,))


@pytest.mark.parametrize(
    ("target", "place", "before", "after", "after_syncs", "last", "serves"),
    [
        (1, ChainRole.HEAD, 0, 2, False, False, True),
        (2, ChainRole.BODY, 1, 3, False, False, True),
        (3, ChainRole.BODY, 2, 4, True, False, True),
        (4, ChainRole.SYNCING, 3, 5, True, False, False),
        (5, ChainRole.SYNCING, 4, 0, False, True, False),
        (6, ChainRole.OUT, 0, 0, False, False, False),
        (9, ChainRole.OUT, 0, 0, False, False, False),
    ],
)
def test_places(target: int, place: ChainRole, before: int, after: int, after_syncs: bool, last: bool, serves: bool) -> None:
    at = position_in(MIXED, TargetId(target))
    assert (at.chain, at.version) == (CHAIN, 5)
    assert (at.role, at.predecessor, at.successor) == (place, before, after)
    assert (at.successor_syncs, at.is_last, at.serves) == (after_syncs, last, serves)


def test_who_serves_alone_is_head_and_last() -> None:
    at = position_in(chain(1, 7, out=(8,)), TargetId(7))
    assert (at.role, at.is_last, at.serves) == (ChainRole.HEAD, True, True)

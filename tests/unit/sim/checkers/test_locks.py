"""What the checker of locks takes for wrong."""

from __future__ import annotations

import pytest

from fs3.base.ids import ClientId
from fs3.model.lock import LOCK_END, HeldLock, LockKind, LockOwner
from fs3.sim.checkers.locks import DoubleRead, HoldInterval, Increment, explain


def held(
    number: int, begun: int, confirmed: int, *, exclusive: bool = True, start: int = 0, end: int = LOCK_END, path: str = "/f"
) -> HoldInterval:
    lock = HeldLock(LockKind.RANGE, LockOwner(ClientId(b"c"), number, False), start, end, exclusive, 0)
    return HoldInterval(path, lock, begun, confirmed)


@pytest.mark.parametrize(
    "fine",
    [
        [held(1, 0, 10), held(2, 10, 20)],
        [held(1, 0, 10), held(1, 5, 20)],
        [held(1, 0, 10, exclusive=False), held(2, 5, 20, exclusive=False)],
        [held(1, 0, 10, end=5), held(2, 5, 20, start=5)],
        [held(1, 0, 10), held(2, 5, 20, path="/g")],
        [held(1, 0, 0), held(2, 0, 20)],
    ],
)
def test_what_may_be_held_at_once(fine: list[HoldInterval]) -> None:
    assert explain(fine) == ""


@pytest.mark.parametrize(
    "wrong", [[held(1, 0, 10), held(2, 9, 20)], [held(1, 0, 10, exclusive=False, end=6), held(2, 5, 6, start=5)]]
)
def test_two_in_each_others_way(wrong: list[HoldInterval]) -> None:
    assert "both from" in explain(wrong)


def test_what_was_counted() -> None:
    assert explain([], [Increment("/f", 1), Increment("/f", 2), Increment("/g", 1)], [DoubleRead("/f", 3, 3)]) == ""
    assert "two have counted on from 1" in explain([], [Increment("/f", 1), Increment("/f", 1)])
    assert "became 4" in explain([], [], [DoubleRead("/f", 3, 4)])

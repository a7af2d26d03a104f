from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.sim.checkers import leases
from fs3.sim.ring1.one_replica import OneReplica


class Head:
    """What the checker asks of a host."""

    def __init__(self, target: int, *, may: bool) -> None:
        self.target = TargetId(target)
        self.replica = OneReplica(target).replica
        self._may = may

    def may_be_head(self) -> bool:
        return self._may


def test_leases_want_one_head_at_a_time() -> None:
    assert leases.explain([Head(1, may=True), Head(2, may=False)]) == ""
    wrong = leases.explain([Head(1, may=True), Head(2, may=False), Head(3, may=True)])
    assert "target 1 under chain version 0; target 3 under chain version 0" in wrong

from __future__ import annotations

from fs3.base.ids import ChainId, TargetId
from fs3.sim.checkers import leases
from fs3.sim.checkers.leases import HeadClaim


def claim(chain: int, target: int, version: int = 1) -> HeadClaim:
    return HeadClaim(ChainId(chain), TargetId(target), version)


def test_each_chain_has_one_head_at_a_time() -> None:
    assert leases.explain([]) == ""
    assert leases.explain([claim(1, 1), claim(2, 1), claim(3, 2)]) == ""
    wrong = leases.explain([claim(1, 1, 4), claim(2, 2), claim(1, 3, 5)])
    assert wrong.startswith("chain 1: target 1 under chain version 4 and target 3 under chain version 5")

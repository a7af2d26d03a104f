"""Many nodes answer one client: with grants the line is used, without them it collapses."""

from __future__ import annotations

import pytest

from fs3.base.units import KIB, MIB, MILLISECOND
from fs3.sim.incast import Fabric, run


@pytest.mark.parametrize("nodes", [8, 32, 180])
def test_grants_keep_the_line_busy_and_lose_nothing(nodes: int) -> None:
    granted, all_at_once = run(nodes, granted=True), run(nodes, granted=False)
    assert granted.goodput >= 0.9
    assert granted.timeouts == granted.lost_packets == 0
    assert all_at_once.goodput < 0.1
    assert all_at_once.timeouts > 0


def test_also_with_a_time_out_that_was_tuned_and_another_seed() -> None:
    fabric = Fabric(timeout_ns=5 * MILLISECOND)
    assert run(180, granted=True, fabric=fabric, seed=7).goodput >= 0.9
    assert run(180, granted=False, fabric=fabric, seed=7).goodput < 0.7


def test_the_model_loses_nothing_with_room_for_everything() -> None:
    """What collapses is due to the queue, and to nothing else in the model."""
    outcome = run(16, granted=False, fabric=Fabric(buffer_bytes=64 * MIB))
    assert outcome.lost_packets == 0
    assert outcome.goodput > 0.9
    assert outcome.queue_max <= 16 * MIB


def test_a_run_is_the_same_again() -> None:
    assert run(20, granted=False, read_bytes=300 * KIB) == run(20, granted=False, read_bytes=300 * KIB)

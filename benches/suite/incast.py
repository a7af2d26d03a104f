"""Many nodes answer one client through a switch with a shallow queue, on virtual time: how much of the line carries bytes that
count, with the client's grants and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.record import Row, Spread
from fs3.base.units import MILLISECOND
from fs3.sim.incast import Fabric, run

if TYPE_CHECKING:
    from benches.run import Context

NODES = (1, 4, 8, 16, 32, 64, 128, 180)
LEAST = 32
"""Nodes from which on the line has to be busy: a stripe of fewer is over before it is full."""


def measure(context: Context) -> list[Row]:
    """A row for each number of nodes; the limit is the line."""
    rows = []
    for nodes in NODES:
        granted = [run(nodes, granted=True, seed=seed).goodput for seed in context.turns()]
        without = [run(nodes, granted=False, seed=seed).goodput for seed in context.turns()]
        tuned = run(nodes, granted=False, fabric=Fabric(timeout_ns=5 * MILLISECOND)).goodput
        rows.append(
            Row(
                "incast", f"{nodes} nodes answer one client, simulated", "of the line's rate", Spread.of(granted), "the line",
                Spread.of([1.0]), must_ratio=0.9 if nodes >= LEAST else None,
                extra={"without_grants": round(sum(without) / len(without), 3), "without_grants_5ms_timeout": round(tuned, 3)},
            )
        )  # fmt: skip
    return rows

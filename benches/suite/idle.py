"""What a cluster without requests costs: CPU time of all its processes, by the scheduler's account."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benches.cpu import cpu_ns
from benches.record import Row, Spread

if TYPE_CHECKING:
    from benches.run import Context

SETTLE_S = 4.0
WINDOW_S = 3.0


def measure(context: Context) -> list[Row]:
    """The idle row."""
    processes = {name: process.pid for name, process in context.cluster.processes.items()}
    time.sleep(SETTLE_S * context.scale)
    first = {name: cpu_ns([pid]) for name, pid in processes.items()}
    began = time.perf_counter()
    shares = []
    for _ in context.turns():
        before, opened = cpu_ns(processes.values()), time.perf_counter()
        time.sleep(WINDOW_S * context.scale)
        shares.append((cpu_ns(processes.values()) - before) / (time.perf_counter() - opened) / 1e7)
    elapsed = time.perf_counter() - began
    each = {name: round((cpu_ns([pid]) - first[name]) / elapsed / 1e7, 2) for name, pid in processes.items()}
    return [
        Row(
            "idle", "CPU of a cluster at rest, all processes", "% of a core", Spread.of(shares), must_value=2.0,
            lower_is_better=True, extra={"each": each},
        )
    ]  # fmt: skip

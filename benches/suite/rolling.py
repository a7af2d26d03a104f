"""A rolling restart of all processes: the longest time any operation takes meanwhile, and whether one fails.

Under a load with an oracle each process is stopped cleanly and started again, the next one once the cluster is healthy.
Everything that was acknowledged is looked at on every replica afterwards; an operation that failed is a failed bench.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benches.record import Row, Spread
from fs3.base.units import MIB, SECOND
from fs3.cli.local import LocalCluster
from fs3.drill.load_process import LoadProcess
from fs3.drill.roles import wait_healthy
from fs3.drill.verify import verify_now

if TYPE_CHECKING:
    from benches.run import Context

STALL_MAX = 1.0
NEW_BYTES = 96 * MIB
"""Of files, and of pages: as much as is written in the meantime."""
KINDS = {
    "write": "write", "read": "read of what is being written", "settled": "read", "file": "file operation",
    "put": "put of 4 pages", "get": "get of 4 pages",
}  # fmt: skip
ROLES = {"mgmtd": "managers", "meta": "metadata processes", "storage": "storage processes"}


class BenchFailed(RuntimeError):
    """An operation failed, or a byte is wrong or missing."""


def measure(context: Context) -> list[Row]:
    """The rows of a rolling restart of two managers, two metadata processes and three storage processes."""
    stalls: dict[str, list[float]] = {kind: [] for kind in KINDS}
    by_role: dict[str, list[float]] = {role: [] for role in ROLES}
    rolled = []
    for turn in range(min(context.runs, 3)):
        directory = context.directory / f"rolling-{turn}"
        with LocalCluster(directory / "cluster", targets=1, mgmtds=2, metas=2) as cluster:
            url = "fs3://" + ",".join(cluster.addresses)
            with LoadProcess(
                url, directory / "journal", registers=8, settled=16, readers=1, settled_readers=2, new_bytes_max=NEW_BYTES
            ) as load:
                load.wait_progress("write", 200, 30)
                began = time.monotonic_ns()
                for name in cluster.shape.names():
                    begin = time.monotonic_ns()
                    cluster.restart(name)
                    wait_healthy(cluster)
                    load.wait_progress("write", 50, 30)
                    load.wait_progress("file", 3, 30)
                    end, journal = time.monotonic_ns(), load.refresh()
                    worst = {kind: journal.longest(kind, begin, end) for kind in KINDS}
                    by_role[name.partition("-")[0]].append(max(worst.values()))
                    context.console.print(f"{name}: " + ", ".join(f"{kind} {worst[kind]:.3f} s" for kind in KINDS))
                ended = time.monotonic_ns()
                rolled.append((ended - began) / SECOND)
                journal = load.stop()
            for kind in KINDS:
                stalls[kind].append(journal.longest(kind, began, ended))
            verdict = verify_now(url, journal)
            if verdict.wrong or journal.wrong or journal.failed:
                raise BenchFailed(f"{verdict.wrong[:3]} {journal.wrong[:3]} {journal.failed[:3]}")
    rows = [
        Row(
            "rolling", f"longest {what}", "s", Spread.of(stalls[kind]), must_value=STALL_MAX, lower_is_better=True,
            note="while all processes are restarted one by one; none failed",
        )
        for kind, what in KINDS.items()
    ]  # fmt: skip
    rows += [
        Row("rolling", f"longest operation, {what} restarted", "s", Spread.of(by_role[role]), lower_is_better=True)
        for role, what in ROLES.items()
    ]
    return [*rows, Row("rolling", "all seven processes restarted", "s", Spread.of(rolled), lower_is_better=True)]

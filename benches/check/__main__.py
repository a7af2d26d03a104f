"""`python -m benches.check [--record] [--rounds N] [--directory DIR]`: measure, compare, and fail on a regression."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.check.lines import (
    RECORDED,
    WORSE_RATIO_MAX,
    Line,
    Verdict,
    append_line,
    compare,
    find_line,
    machine_kind,
    read_lines,
)
from benches.check.paths import HotPath, opened_paths
from benches.cpu import cpu_ns
from benches.loop import run
from benches.record import commit_name
from fs3.cli.local import LocalCluster

WORSE = 1
"""Exit status: a path costs more than it did."""
NOT_COMPARED = 3
"""Exit status: nothing is recorded of this kind of machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every hot path; compare with the newest line of this kind of machine, or record one. The exit status."""
    parser = argparse.ArgumentParser(prog="benches.check", description=__doc__)
    parser.add_argument("--record", action="store_true", help="append what is measured to the recorded lines; compare nothing")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all paths; the median of each path counts")
    parser.add_argument("--directory", type=Path, default=None, help="where the cluster keeps its data meanwhile")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    kind = machine_kind()
    recorded = find_line(read_lines(), kind)
    if recorded is None and not options.record:
        print(f"bench-check NOT COMPARED: no line of {kind} in {RECORDED}; `make bench-check ARGS=--record` records one")
        return NOT_COMPARED
    work = Path(tempfile.mkdtemp(prefix="fs3-check-", dir=options.directory))
    try:
        with LocalCluster(work / "cluster") as cluster:
            measured, verdicts = run(_measure(cluster, options.rounds, None if options.record else recorded))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if options.record or recorded is None:
        append_line(Line(datetime.now(tz=UTC).isoformat(timespec="seconds"), commit_name(), kind, measured))
        _show([Verdict(path, cpu_us, None) for path, cpu_us in measured.items()], "")
        print(f"recorded in {RECORDED}, for {kind}, at a load of {os.getloadavg()[0]:.1f}")
        return 0
    _show(verdicts, f"{recorded.commit or 'unknown'} of {recorded.time}")
    worse = [verdict.path for verdict in verdicts if verdict.is_worse]
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; a machine with other work makes everything cost more"
    said = f"FAILED: {', '.join(worse)} cost more than {WORSE_RATIO_MAX:.2f} of that" if worse else "passed"
    print(f"bench-check {said} ({load})")
    return WORSE if worse else 0


async def _measure(cluster: LocalCluster, rounds: int, recorded: Line | None) -> tuple[dict[str, float], Sequence[Verdict]]:
    """CPU an operation of each path, and what it says beside a recording. A path that seems worse is measured once more: a
    machine that was busy for a moment is no regression."""
    processes = [os.getpid(), *(process.pid for process in cluster.processes.values())]
    async with opened_paths(cluster.url) as paths:
        for path in paths:
            await path.run(path.operations)  # warms
        measured = await _measure_rounds(paths, processes, rounds)
        if recorded is None:
            return measured, []
        suspects = {verdict.path for verdict in compare(measured, recorded) if verdict.is_worse}
        again = await _measure_rounds([path for path in paths if path.name in suspects], processes, rounds)
        measured |= {name: min(measured[name], cpu_us) for name, cpu_us in again.items()}
        return measured, compare(measured, recorded)


async def _measure_rounds(paths: Sequence[HotPath], processes: Sequence[int], rounds: int) -> dict[str, float]:
    """Rounds over all paths, so that whatever disturbs the machine disturbs all of them."""
    costs: Mapping[str, list[float]] = {path.name: [] for path in paths}
    for _ in range(rounds):
        for path in paths:
            before = cpu_ns(processes)
            await path.run(path.operations)
            costs[path.name].append((cpu_ns(processes) - before) / path.operations / 1e3)
    return {name: round(statistics.median(values), 3) for name, values in costs.items()}


def _show(verdicts: Iterable[Verdict], recorded: str) -> None:
    table = Table(box=None)
    table.add_column("hot path")
    for heading in ("CPU µs", f"recorded {recorded}".rstrip(), "ratio"):
        table.add_column(heading, justify="right")
    for verdict in verdicts:
        ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f}{' WORSE' if verdict.is_worse else ''}"
        before = "" if verdict.recorded_us is None else f"{verdict.recorded_us:.1f}"
        table.add_row(verdict.path, f"{verdict.cpu_us:.1f}", before, ratio)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())

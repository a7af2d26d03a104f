"""`python -m benches.metrics_cost [--rounds N]`: what counting and tracing cost, in CPU an operation of client and services.

Two clusters side by side, one of which counts nothing, as does its client. The same operations are done on one and on the other
in turns, and the median of the ratios of neighbouring turns counts: whatever disturbs the machine disturbs both. Then the same on
the one that counts, with nothing traced, one of a hundred operations, and all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import fs3
from benches.check.paths import HotPath, opened_paths
from benches.cpu import cpu_ns
from benches.loop import run
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports

MEASURED = ("batch read", "durable create", "KV get", "single read")
RATIO_MAX = 1.02
"""Counting may cost so much of what an operation costs without."""
SAMPLED = 0.01
SAMPLED_RATIO_MAX = 1.01
"""And tracing one operation of a hundred."""
_PER_TURN = 4
"""Rounds of a path in one turn; one of those that wait for a disk each time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status 1 when counting costs more than it may."""
    parser = argparse.ArgumentParser(prog="benches.metrics_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns on each cluster")
    parser.add_argument("--what", choices=("metrics", "tracing", "both"), default="both")
    parser.add_argument("--directory", type=Path, default=None, help="where the clusters keep their data meanwhile")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fs3-metrics-", dir=options.directory)))
        os.environ["FS3_COUNT"] = "0"
        silent = stack.enter_context(LocalCluster(work / "off"))
        os.environ["FS3_COUNT"] = "1"
        port = free_ports(1 + 2 + 3)
        counting = LocalCluster(work / "on")
        counting.shape.metrics_port = port
        stack.enter_context(counting)
        is_dear = False
        if options.what != "tracing":
            print(f"{'path':44} {'off µs':>9} {'on µs':>9} {'on / off':>9}")
            for name, off_us, on_us, ratio in run(_compare(counting, silent, options.rounds)):
                is_dear = is_dear or ratio > RATIO_MAX
                print(f"{name:44} {off_us:9.2f} {on_us:9.2f} {ratio:9.4f}")
            print(f"one scrape of each process, ms of CPU and bytes: {_cost_of_scrapes(counting)}")
        if options.what != "metrics":
            print(f"{'traced':44} {'none µs':>9} {f'{SAMPLED:.0%} / none':>11} {'all / none':>11}")
            for name, none_us, sampled, everything in run(_compare_tracing(counting, options.rounds)):
                is_dear = is_dear or sampled > SAMPLED_RATIO_MAX
                print(f"{name:44} {none_us:9.2f} {sampled:11.4f} {everything:11.4f}")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    return int(is_dear)


async def _compare(counting: LocalCluster, silent: LocalCluster, rounds: int) -> list[tuple[str, float, float, float]]:
    found = []
    async with opened_paths(counting.url) as on_paths, opened_paths(silent.url, count=False) as off_paths:
        pairs = [(on, off) for on, off in zip(on_paths, off_paths, strict=True) if on.name.startswith(MEASURED)]
        for on, off in pairs:
            costs: list[tuple[float, float]] = []
            for turn in range(rounds + 1):
                both = [(counting, on), (silent, off)]
                # The first of two neighbours is not always the same one.
                measured = {id(path): await _cost(cluster, path) for cluster, path in (both if turn % 2 else both[::-1])}
                if turn:  # the first one warms
                    costs.append((measured[id(off)], measured[id(on)]))
            found.append(
                (
                    on.name,
                    statistics.median(off_us for off_us, _ in costs),
                    statistics.median(on_us for _, on_us in costs),
                    statistics.median(on_us / off_us for off_us, on_us in costs),
                )
            )
    return found


async def _compare_tracing(cluster: LocalCluster, rounds: int) -> list[tuple[str, float, float, float]]:
    """(path, µs with nothing traced, the ratio to that of one of a hundred and of all)."""
    found = []
    async with opened_paths(cluster.url) as paths:
        for path in (path for path in paths if path.name.startswith(MEASURED)):
            costs: list[dict[float, float]] = []
            for turn in range(rounds + 1):
                parts = [0.0, SAMPLED, 1.0]
                measured = {}
                for part in parts if turn % 2 else parts[::-1]:
                    fs3.trace_operations(part)
                    measured[part] = await _cost(cluster, path)
                fs3.trace_operations(0)
                if turn:
                    costs.append(measured)
            ratios = [statistics.median(cost[part] / cost[0.0] for cost in costs) for part in (SAMPLED, 1.0)]
            found.append((path.name, statistics.median(cost[0.0] for cost in costs), ratios[0], ratios[1]))
    return found


async def _cost(cluster: LocalCluster, path: HotPath) -> float:
    """CPU microseconds an operation."""
    processes = [os.getpid(), *(process.pid for process in cluster.processes.values())]
    per_turn = 1 if path.name.startswith("durable") else _PER_TURN
    before = cpu_ns(processes)
    for _ in range(per_turn):
        await path.run(path.operations)
    return (cpu_ns(processes) - before) / path.operations / per_turn / 1e3


def _cost_of_scrapes(cluster: LocalCluster) -> str:
    said = []
    for name, process in cluster.processes.items():
        before = cpu_ns([process.pid])
        with urlopen(f"http://127.0.0.1:{cluster.shape.metrics_port_of(name)}/metrics") as answer:
            length = len(answer.read())
        time.sleep(0.001)
        said.append(f"{name} {(cpu_ns([process.pid]) - before) / 1e6:.1f} {length}")
    return ", ".join(said)


if __name__ == "__main__":
    sys.exit(main())

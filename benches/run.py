"""Runs the benches against a cluster of real processes: `python -m benches.run [NAME …] [--runs 5] [--no-save]`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from benches import record
from fs3.cli.local import LocalCluster

NAMES = (
    "machine",
    "idle",
    "read",
    "short_circuit",
    "files",
    "write",
    "kv",
    "meta",
    "list",
    "small_files",
    "memory",
    "graysort",
    "lookup",
    "mixed",
    "incast",
)
"""What is run when nothing is named, in this order: figures of an idle cluster come before those that leave something to do."""
ONLY_NAMED = (
    "failover",
    "rolling",
    "moves",
    "kv_evict",
    "kv_budget",
    "kv_warmth",
    "kv_calls",
    "mount",
    "mount_programs",
    "etcd",
    "security",
)
"""Benches that take minutes and are run when they are named."""
SECONDS = 20.0
"""See `Context.seconds`. With it a run ends in time on a machine that has other work, too."""
OWN_CLUSTERS = ("incast", "lookup", "failover", "rolling", "moves", "kv_warmth", "etcd", "security")
"""Benches that make clusters of their own: to break them, or of another shape."""


@dataclass
class Context:
    """What a bench has at hand."""

    cluster: LocalCluster
    """Of benches without a cluster of their own."""
    directory: Path
    """On the disk the cluster is on; for the files of the raw limits."""
    runs: int
    """How often each figure is measured, where there is time; see `turns`."""
    console: Console
    seconds: float = SECONDS
    """No further measurement of a figure begins when it has been measured for so long."""
    scale: float = 1.0
    """Share of the usual amounts: less tries a bench out, and its figures mean nothing."""

    def sized(self, amount: int, least: int = 1) -> int:
        """An amount of work at this run's scale."""
        return max(least, int(amount * self.scale))

    def turns(self, most: int | None = None) -> Iterator[int]:
        """The measurements of a figure by number: `runs`, not more than `most`, and fewer where one takes long; at least one."""
        began = time.perf_counter()
        for turn in range(min(self.runs, most or self.runs)):
            if turn and time.perf_counter() - began > self.seconds:
                return
            yield turn


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="benches.run", description=__doc__)
    known = (*NAMES, *ONLY_NAMED)
    every = f"which benches ({', '.join(known)}); all but {', '.join(ONLY_NAMED)} when left out"
    parser.add_argument("names", nargs="*", help=every)
    parser.add_argument("--runs", type=int, default=5, help="measurements of each figure; the median is reported")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="no further measurement of a figure begins when it has taken so long"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the usual amounts, to try out; below 1 nothing is saved"
    )
    parser.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    parser.add_argument("--directory", type=Path, default=None, help="where the cluster keeps its data meanwhile")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}; there are {', '.join(known)}")
    if options.seconds < 0:
        parser.error("--seconds must be at least 0")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if not 0 < options.scale <= 1:
        parser.error("--scale must be above 0 and at most 1")
    before = signal.signal(signal.SIGTERM, _end)
    console = Console(width=None if sys.stdout.isatty() else 220)
    wanted = [name for name in known if name in (options.names or NAMES)]
    work = Path(tempfile.mkdtemp(prefix="fs3-bench-", dir=options.directory))
    rows: list[record.Row] = []
    try:
        _run(wanted, options, work, console, rows)
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(work, ignore_errors=True)
        if rows and not options.no_save and options.scale == 1:  # of a run that fails or is ended, too: whole benches
            console.print(f"saved to {record.save(rows)}")
    return 0


def _end(number: int, frame: object) -> NoReturn:
    """So that the processes of a run that is ended from outside end, too."""
    raise SystemExit(128 + number)


def _run(wanted: Sequence[str], options: argparse.Namespace, work: Path, console: Console, rows: list[record.Row]) -> None:
    """Add the rows of each bench as it ends. Those that share a cluster come first; it is gone before others make theirs."""
    shared = LocalCluster(work / "cluster")

    def measure(name: str) -> None:
        began = time.perf_counter()
        with console.status(f"{name} …"):
            module = importlib.import_module(f"benches.suite.{name}")
            measured = module.measure(Context(shared, work, options.runs, console, options.seconds, options.scale))
        rows.extend(measured)
        console.print(table(measured, f"{name}, {time.perf_counter() - began:.0f} s"))

    with ExitStack() as stack:
        if any(name not in OWN_CLUSTERS for name in wanted):
            stack.enter_context(shared)
        for name in wanted:
            if name not in OWN_CLUSTERS:
                measure(name)
    for name in wanted:
        if name in OWN_CLUSTERS:
            measure(name)


def table(rows: Sequence[record.Row], title: str) -> Table:
    """The rows as people read them."""
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("figure")
    for heading in ("median", "low - high", "limit", "ratio", "peers", "ratios", "must"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    for row in rows:
        verdict = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[row.reached]
        shown.add_row(
            row.figure,
            f"{_figure(row.value.median)} {row.unit}",
            f"{_figure(row.value.low)} - {_figure(row.value.high)}",
            f"{_figure(row.limit.median)} {row.limit_name}" if row.limit else "",
            f"{row.ratio:.2f}" if row.ratio is not None else "",
            "\n".join(f"{_figure(peer.value.median)} {peer.name}" for peer in row.peers),
            "\n".join(f"{ratio:.2f}" for ratio in row.peer_ratios),
            " ".join(_demands(row)),
            verdict,
        )
    return shown


def _demands(row: record.Row) -> list[str]:
    demands = []
    if row.must_value is not None:
        demands.append(_figure(row.must_value))
    if row.must_ratio is not None:
        demands.append(f"{row.must_ratio:.2f} x limit")
    demands += [f"{peer.must_ratio:.2f} x {peer.name.partition(' ')[2]}" for peer in row.peers if peer.must_ratio is not None]
    return demands


def _figure(value: float) -> str:
    if value >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())

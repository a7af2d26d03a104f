"""Runs the benches against a cluster of real processes: `python -m benches.run [NAME …] [--runs 5] [--no-save]`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches import record
from fs3.cli.local import LocalCluster

NAMES = (
    "read", "write", "meta", "kv", "memory", "small_files", "failover", "kv_evict", "kv_budget", "kv_warmth", "kv_calls",
)  # fmt: skip
OWN_CLUSTERS = ("failover", "kv_warmth")
"""Benches that make clusters of their own, to break them."""


@dataclass
class Context:
    """What a bench has at hand."""

    cluster: LocalCluster
    directory: Path
    """On the disk the cluster is on; for the files of the raw limits."""
    runs: int
    """How often each figure is measured, at least."""
    console: Console


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="benches.run", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which benches ({', '.join(NAMES)}); all when left out")
    parser.add_argument("--runs", type=int, default=5, help="measurements of each figure; the median is reported")
    parser.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    parser.add_argument("--directory", type=Path, default=None, help="where the cluster keeps its data meanwhile")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}; there are {', '.join(NAMES)}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="fs3-bench-", dir=options.directory))
    try:
        wanted = options.names or NAMES
        alone = all(name in OWN_CLUSTERS for name in wanted)
        with nullcontext() if alone else LocalCluster(work / "cluster") as cluster:
            for name in wanted:
                with console.status(f"{name} …"):
                    module = importlib.import_module(f"benches.suite.{name}")
                    measured = module.measure(Context(cluster, work, options.runs, console))  # type: ignore[arg-type]
                console.print(table(measured, name))
                if not options.no_save:  # now: a later bench, or the end of the cluster, may not come to its end
                    console.print(f"saved to {record.save(measured)}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def table(rows: Sequence[record.Row], title: str) -> Table:
    """The rows as people read them."""
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("figure")
    for heading in ("median", "low - high", "limit", "ratio", "must"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    for row in rows:
        must = " ".join(
            [f"{row.must_ratio:.2f} x" if row.must_ratio else "", _figure(row.must_value) if row.must_value else ""]
        ).strip()
        verdict = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[row.reached]
        shown.add_row(
            row.figure,
            f"{_figure(row.value.median)} {row.unit}",
            f"{_figure(row.value.low)} - {_figure(row.value.high)}",
            f"{_figure(row.limit.median)} {row.limit_name}" if row.limit else "",
            f"{row.ratio:.2f}" if row.ratio is not None else "",
            must,
            verdict,
        )
    return shown


def _figure(value: float) -> str:
    if value >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())

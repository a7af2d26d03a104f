"""Command line: options to a plan, a run with progress bars, a table or JSON at the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from .crew import Progress
from .errors import GraySortError, PlanError
from .pipeline import GB, GraySortReport, run
from .plan import MIB, GraySortPlan

EXIT_VALID: Final = 0
EXIT_INVALID: Final = 1
EXIT_FAILED: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 sorted and proved, 1 validation found faults, 2 the run failed."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        plan = _plan(options)
        with _progress_bars() as progress:
            report = run(plan, progress, keep=options.keep)
    except PlanError as error:
        parser.error(str(error))  # exits with status 2
    except (GraySortError, OSError) as error:
        print(f"graysort: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("graysort: interrupted", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(report.as_dict()) if options.json else render(report))
    return EXIT_VALID if report.validation.is_valid else EXIT_INVALID


def render(report: GraySortReport) -> str:
    """The table for people."""
    lines = [f"{'stage':<10}{'read GB':>10}{'written GB':>12}{'seconds':>10}{'GB/s':>8}"]
    lines += [
        f"{stage.stage:<10}{stage.read_bytes / GB:>10.3f}{stage.written_bytes / GB:>12.3f}"
        f"{stage.seconds:>10.3f}{stage.gb_per_s:>8.3f}"
        for stage in report.stages
    ]
    dataset_gb = report.plan.dataset_bytes / GB
    validation = report.validation
    lines += [
        "",
        f"GraySort (shuffle + sort)  {dataset_gb:.3f} GB in {report.sort_seconds:.3f} s = {report.sort_gb_per_s:.3f} GB/s",
        f"end to end (all stages)    {dataset_gb:.3f} GB in {report.total_seconds:.3f} s = {report.total_gb_per_s:.3f} GB/s",
        f"output                     {validation.totals}, {validation.duplicates:,} duplicate keys",
    ]
    if validation.is_valid:
        lines.append("validation                 passed")
    else:
        lines.append("validation                 FAILED; all files kept")
        lines += [f"  {fault}" for fault in validation.faults]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benches.graysort",
        description="Generate, shuffle, sort and validate 100-byte records over fsspec URLs.",
    )
    add = parser.add_argument
    add("--records", type=int, required=True, help="size of the data set; 10_000_000 make 1 GB")
    add("--input", required=True, metavar="URL", help="directory of the generated files")
    add("--shuffle", required=True, metavar="URL", help="directory of the intermediate files")
    add("--output", required=True, metavar="URL", help="directory of the sorted files")
    add("--workers", type=int, default=2, help="processes; 0: none but this one [%(default)s]")
    add("--partitions", type=int, default=16, help="key ranges and output files [%(default)s]")
    add("--input-files", type=int, default=8, help="generated files [%(default)s]")
    add("--seed", type=int, default=0, help="names the data set [%(default)s]")
    add("--memory-mib", type=int, default=1024, help="record buffers per worker [%(default)s]")
    add("--stall-seconds", type=float, default=120.0, help="give up a silent worker [%(default)s]")
    add("--storage-options", type=_json_object, default={}, metavar="JSON", help="for fsspec")
    add("--synced", action="store_true", help="fsync local files before they are closed; files of fs3 are durable when closed")
    add("--keep", action="store_true", help="keep all files (a failed validation always does)")
    add("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def _plan(options: argparse.Namespace) -> GraySortPlan:
    return GraySortPlan(
        records=options.records,
        input_url=options.input,
        shuffle_url=options.shuffle,
        output_url=options.output,
        workers=options.workers,
        partitions=options.partitions,
        input_files=options.input_files,
        seed=options.seed,
        memory_bytes_max=options.memory_mib * MIB,
        stall_seconds_max=options.stall_seconds,
        synced=options.synced,
        storage_options=options.storage_options,
    )


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return value


@contextmanager
def _progress_bars() -> Iterator[Progress | None]:
    """One bar per stage on a terminal; nothing, not even rich, when stderr is piped."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(stage: str, moved_bytes: int, total_bytes: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total_bytes)
            bars.update(tasks[stage], completed=moved_bytes)

        yield show

"""Replays traces of requests with shared prefixes: against policies of eviction in memory, or against a cluster.

    python -m benches.kv_replay generate service trace.jsonl --requests 6000
    python -m benches.kv_replay offline [--trace FILE …]         # hit rates beside LRU and the ideal
    python -m benches.kv_replay online [--cluster URL] [--trace FILE] [--budget-bytes N]   # latencies, rates, evictions
    python -m benches.kv_replay online --gets-only    # what one host can get at the most, of pages that are there

A trace is JSON lines in the published Mooncake format (`benches/replay/trace.py`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches import record
from benches.loop import run
from benches.replay.generate import (
    NODE,
    SERVICE,
    SERVICE_HIT_SHARE,
    SERVICE_PAGE_BYTES,
    SERVICE_PAGE_TOKENS,
    SERVICE_TOKENS_PER_SECOND,
    conversations,
    zipf_with_scans,
)
from benches.replay.online import PAGE_BYTES_MIN, Load, Report, replay_online
from benches.replay.simulate import POLICIES, Curves, measure_curves
from benches.replay.trace import BLOCK_TOKENS, Request, TraceError, paced, read_trace, write_trace
from fs3.base.errors import FS3Error
from fs3.base.limits import page_bytes_max
from fs3.base.units import GIB
from fs3.cli.local import LocalCluster

KINDS = ("service", "zipf")
NODE_GET_GB_PER_SECOND = SERVICE_TOKENS_PER_SECOND / SERVICE_PAGE_TOKENS * SERVICE_PAGE_BYTES * SERVICE_HIT_SHARE / 1e9
"""What one node of the service reads: 2.9."""
BUDGETS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7)
"""Shares of what the cache that never runs full needs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a trace, or replay one. The exit status."""
    parser = argparse.ArgumentParser(prog="benches.kv_replay", description=__doc__, formatter_class=_Help)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="make a trace")
    generate.add_argument("kind", choices=KINDS)
    generate.add_argument("file", type=Path)
    offline = commands.add_parser("offline", help="hit rates of policies in memory")
    offline.add_argument("--trace", type=Path, action="append", default=[], help="instead of made ones; may be given again")
    offline.add_argument("--mixed", action="store_true", help="pages of 1 to 16 units of length instead of one")
    offline.add_argument("--budgets", type=_shares, default=BUDGETS, help="shares of all pages, as 0.01,0.1")
    online = commands.add_parser("online", help="latencies and rates of a cluster")
    online.add_argument("--cluster", default=None, help="URL of one that runs; one is started when left out")
    online.add_argument("--trace", type=Path, default=None, help="instead of a made one of the service")
    online.add_argument("--page-bytes", type=_page_bytes, default=SERVICE_PAGE_BYTES, help="of a page")
    online.add_argument("--pages-per-block", type=_pages_per_block, default=1, help="pages that a hash id stands for")
    online.add_argument("--budget-bytes", type=_positive, default=2 * GIB, help="of the namespace; 2 GiB when left out")
    online.add_argument(
        "--tokens-per-second",
        type=float,
        default=None,
        help="0: as fast as it goes, as with --gets-only; else, when left out, as many pages a second as a node of the service",
    )
    online.add_argument("--gets-only", action="store_true", help="what is asked for most is stored before, and none is put")
    online.add_argument("--transport", choices=("auto", "local", "tcp"), default="auto", help="auto: local on the same host")
    online.add_argument("--workers", type=_positive, default=8, help="requests under way at once")
    online.add_argument("--replicas", type=_positive, default=1)
    online.add_argument("--directory", type=Path, default=None, help="where a cluster that is started keeps its data")
    for command in (generate, offline, online):
        command.add_argument("--requests", type=_positive, default=300 if command is online else 6000)
        command.add_argument("--seed", type=int, default=1)
    for command in (offline, online):
        command.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    options = parser.parse_args(arguments)
    try:
        if options.command == "generate":
            print(f"{write_trace(_made(options.kind, options.requests, options.seed), options.file)} requests in {options.file}")
        elif options.command == "offline":
            _offline(options)
        else:
            _online(options)
    except (TraceError, OSError, FS3Error) as problem:
        parser.exit(1, f"{parser.prog}: {problem}\n")
    return 0


def _offline(options: argparse.Namespace) -> None:
    console = Console()
    traces = {path.stem: list(read_trace(path))[: options.requests] for path in options.trace}
    if not traces:
        traces = {kind: _made(kind, options.requests, options.seed) for kind in KINDS}
    for name, requests in traces.items():
        if not any(request.blocks for request in requests):
            raise TraceError(f"{name}: no request has a page")
    rows = []
    for name, requests in traces.items():
        with console.status(f"{name} …"):
            curves = measure_curves(requests, options.budgets, options.mixed)
        console.print(_curve_table(name, curves))
        rows.append(_curve_row(f"{name}, pages of 1 to 16 units" if options.mixed else name, curves))
    if not options.no_save:
        console.print(f"saved to {record.save(rows)}")


def _curve_row(name: str, curves: Curves) -> record.Row:
    ratios = [ours / theirs for ours, theirs in zip(curves.rates["fs3"], curves.rates["LRU"], strict=True)]
    return record.Row(
        bench="kv-eviction",
        figure=f"{name}: hit rate beside LRU",
        unit="x",
        value=record.Spread.of(ratios),
        must_value=1.0,
        note="the spread is over budgets; rates in `extra`",
        extra={"trace": name, "budgets": list(curves.budgets), "ideal": curves.ideal, "rates": curves.rates},
    )


def _curve_table(name: str, curves: Curves) -> Table:
    shown = Table(title=f"{name}: hit rate, ideal {curves.ideal:.3f}", title_justify="left", box=None)
    shown.add_column("budget", justify="right")
    for policy in POLICIES:
        shown.add_column(policy, justify="right")
    shown.add_column("fs3 / LRU", justify="right")
    for place, budget in enumerate(curves.budgets):
        rates = [curves.rates[policy][place] for policy in POLICIES]
        ratio = curves.rates["fs3"][place] / max(curves.rates["LRU"][place], 1e-9)
        shown.add_row(f"{budget:.0%}", *(f"{rate:.3f}" for rate in rates), f"{ratio:.3f}")
    return shown


def _online(options: argparse.Namespace) -> None:
    if options.trace is None:
        requests = conversations(options.requests, options.seed, NODE)
    else:
        requests = list(read_trace(options.trace))[: options.requests]
    if not requests:
        raise TraceError(f"{options.trace}: no requests")
    tokens_per_second = options.tokens_per_second
    if tokens_per_second is None:
        page_tokens = BLOCK_TOKENS / options.pages_per_block
        tokens_per_second = 0.0 if options.gets_only else SERVICE_TOKENS_PER_SECOND * page_tokens / SERVICE_PAGE_TOKENS
    if tokens_per_second > 0:
        requests = paced(requests, tokens_per_second)
    load = Load(
        requests,
        page_bytes=options.page_bytes,
        pages_per_block=options.pages_per_block,
        workers=options.workers,
        is_paced=tokens_per_second > 0,
        replicas=options.replicas,
        budget_bytes=options.budget_bytes,
        transport=options.transport,
        gets_only=options.gets_only,
        get_rate_min=NODE_GET_GB_PER_SECOND if options.page_bytes == SERVICE_PAGE_BYTES else 0.0,
    )
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="fs3-replay-", dir=options.directory))
    try:
        with nullcontext() if options.cluster else LocalCluster(work / "cluster") as local:
            url = options.cluster or local.url
            with console.status(f"{len(requests)} requests …"):
                report = run(replay_online(url, load, work))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    name = options.trace.stem if options.trace else "node"
    if options.gets_only:
        name += ", gets only"
    rows = report.rows(name)
    console.print(_report_table(name, report, rows))
    if not options.no_save:
        console.print(f"saved to {record.save(rows)}")


def _report_table(name: str, report: Report, rows: Sequence[record.Row]) -> Table:
    shown = Table(title=f"{name}: {report.requests} requests in {report.seconds:.1f} s", title_justify="left", box=None)
    for heading in ("figure", "median", "p99", "limit"):
        shown.add_column(heading, justify="left" if heading == "figure" else "right")
    for row in rows:
        limit = f"{row.limit.median:.3g} {row.limit_name}" if row.limit else ""
        high = f"{row.extra['p99']:.3g}" if "p99" in row.extra else ""
        shown.add_row(row.figure, f"{row.value.median:.3g} {row.unit}", high, limit)
    return shown


def _made(kind: str, requests: int, seed: int) -> list[Request]:
    return conversations(requests, seed, SERVICE) if kind == "service" else zipf_with_scans(10 * requests, seed)


class _Help(argparse.RawDescriptionHelpFormatter):
    pass


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return number


def _page_bytes(text: str) -> int:
    number = _positive(text)
    if not PAGE_BYTES_MIN <= number <= page_bytes_max:
        raise argparse.ArgumentTypeError(f"{text} bytes, a page has {PAGE_BYTES_MIN} to {page_bytes_max} here")
    return number


def _pages_per_block(text: str) -> int:
    number = _positive(text)
    if 512 % number:
        raise argparse.ArgumentTypeError(f"{text} pages do not share 512 tokens evenly")
    return number


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(float(each) for each in text.split(","))
    if not all(0 < share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"{text}: shares are more than 0 and at most 1")
    return shares


if __name__ == "__main__":
    raise SystemExit(main())

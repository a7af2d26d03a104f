"""Writes the newest recording of every family into docs/benchmarks.md, and the earlier ones below: `python -m benches.report`.

What stands between the markers of the page is written anew; everything else in it is left alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benches.record import load
from benches.run import NAMES, ONLY_NAMED

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
LATEST = "latest recording"
EARLIER = "earlier recordings"
PROGRAMS = ("transport", "kv-replay", "lmcache", "sglang", "shaped_incast")
"""Families that programs of their own measure."""
FAMILIES = (*NAMES, *ONLY_NAMED, *PROGRAMS)
"""Those that are shown, in this order; a family with a page of its own is not among them."""

Line = dict[str, Any]
"""One saved line, as `benches.record` writes it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the JSON lines, write the tables."""
    parser = argparse.ArgumentParser(prog="benches.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=None, help="a .jsonl file; all of benches/results when left out")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the markers")
    parser.add_argument("--print", action="store_true", help="print the latest tables and write nothing")
    options = parser.parse_args(arguments)
    lines = load(options.results)
    if not lines:
        parser.error("there are no saved results; run `make bench` first")
    newest, older = split(lines)
    if options.print:
        sys.stdout.write(latest_tables(newest))
        return 0
    try:
        text = replace_between(options.page.read_text(), LATEST, latest_tables(newest))
        text = replace_between(text, EARLIER, earlier_table(older))
    except ValueError as why:
        parser.error(f"{options.page}: {why}")
    options.page.write_text(text)
    sys.stdout.write(f"{options.page}\n")
    return 0


def split(lines: Iterable[Line]) -> tuple[dict[str, list[Line]], list[Line]]:
    """(The lines of the newest recording of every family that is shown, by family; all lines of these families before them.)"""
    families: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        families[line["bench"]].append(line)
    newest: dict[str, list[Line]] = {}
    older: list[Line] = []
    for family in FAMILIES:
        recorded = families.get(family, [])
        if not recorded:
            continue
        last = max(line["time"] for line in recorded)
        newest[family] = [line for line in recorded if line["time"] == last]
        older += [line for line in recorded if line["time"] != last]
    return newest, older


def latest_tables(newest: dict[str, list[Line]]) -> str:
    """A table for each recording, newest first: the families that were measured together stand together."""
    by_time: dict[str, list[Line]] = defaultdict(list)
    for recorded in newest.values():
        by_time[recorded[0]["time"]] += recorded
    return "\n".join(_table(by_time[time]) for time in sorted(by_time, reverse=True))


def _table(lines: Sequence[Line]) -> str:
    machine = lines[0]["machine"]
    when = f"{lines[0]['time'][:16].replace('T', ' ')} UTC, commit {lines[0]['commit'] or 'unknown'}"
    about = f"{machine['cpus']} CPUs ({machine['cpu']}), Python {machine['python']}, load {machine['load']} at the end"
    text = [
        f"{when}: {about}.",
        "",
        "| figure | median | low - high | limit in the same run | ratio | peers in the same run | ratios | to reach | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        limit = line["limit"]
        cells = [
            f"{line['bench']}: {line['figure']}",
            f"{figure(line['value']['median'])} {line['unit']}",
            f"{figure(line['value']['low'])} - {figure(line['value']['high'])}",
            f"{figure(limit['median'])} {line['limit_name']}" if limit else "",
            f"{line['ratio']:.2f}" if line["ratio"] is not None else "",
            "; ".join(f"{figure(peer['value']['median'])} {peer['name']}" for peer in line["peers"]),
            "; ".join(f"{ratio:.2f}" for ratio in line["peer_ratios"]),
            _demand(line),
            {None: "", True: "reached", False: "missed"}[line["reached"]],
        ]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def _demand(line: Line) -> str:
    demands = []
    most = "at most " if line["lower_is_better"] else ""
    if line["must_value"] is not None:
        demands.append(f"{most}{figure(line['must_value'])}")
    if line["must_ratio"] is not None:
        demands.append(f"{most}{line['must_ratio']:.2f} of the limit")
    binding = [peer for peer in line["peers"] if peer["must_ratio"] is not None]
    demands += [f"{most}{peer['must_ratio']:.2f} of {peer['name'].partition(' ')[2]}" for peer in binding]
    return ", ".join(demands)


def earlier_table(older: Sequence[Line]) -> str:
    """A row for each figure that was recorded before: every median with its ratio to the limit of its run, oldest first."""
    figures: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in sorted(older, key=lambda line: (FAMILIES.index(line["bench"]), line["time"])):
        figures[line["bench"], line["figure"]].append(line)
    text = ["| figure | unit | day, commit: median (of the limit) |", "|---|---|---|"]
    for (family, named), lines in figures.items():
        shown = []
        for line in lines:
            ratio = f" ({line['ratio']:.2f})" if line["ratio"] is not None else ""
            shown.append(f"{line['time'][:10]} {line['commit'] or 'unknown'}: {figure(line['value']['median'])}{ratio}")
        text.append(f"| {family}: {named} | {lines[-1]['unit']} | {'; '.join(shown)} |")
    return "\n".join(text) + "\n"


def figure(value: float) -> str:
    """A number with three digits that count, and no exponent."""
    if value and abs(value) < 100:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}"


def replace_between(text: str, name: str, inside: str) -> str:
    """The text with what is between the markers of this name replaced. ValueError when they are not there."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the markers {begin.strip()} and {end.strip()} are not there")
    return f"{before}{begin}\n{inside}\n{end}{after}"


if __name__ == "__main__":
    raise SystemExit(main())

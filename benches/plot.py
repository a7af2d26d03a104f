"""Draws the saved bench results: `python -m benches.plot` writes one SVG per family into benches/results."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benches.record import RESULTS, TIMELINE, load

LAST = 8
"""Recordings of each figure that are drawn."""
COLUMNS = 7
"""Panels beside each other."""
TITLE_CHARACTERS = 44
"""In a line above a panel."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the JSON lines, write the pictures."""
    parser = argparse.ArgumentParser(prog="benches.plot", description=__doc__)
    parser.add_argument("--results", type=Path, default=None, help="a .jsonl file; all of benches/results when left out")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the pictures")
    options = parser.parse_args(arguments)
    lines = load(options.results)
    if not lines:
        parser.error("there are no saved results; run `make bench` first")
    families: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        families[line["bench"]][line["figure"]].append(line)
    options.output.mkdir(parents=True, exist_ok=True)
    for family, figures in families.items():
        path = options.output / f"{family}.svg"
        if family == "kv-eviction":
            draw_hit_rates([recorded[-1] for recorded in figures.values()], path)
        elif family == "incast":
            draw_incast([recorded[-1] for recorded in figures.values()], path)
        else:
            draw(family, figures, path)
        sys.stdout.write(f"{path}\n")
    if TIMELINE.exists():
        path = options.output / "failover-timeline.svg"
        draw_timeline(json.loads(TIMELINE.read_text()), path)
        sys.stdout.write(f"{path}\n")
    return 0


def draw(family: str, figures: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One panel per figure: each recording's median with its range, beside the limit measured in the same run."""
    columns = min(COLUMNS, len(figures))
    rows = -(-len(figures) // columns)
    shown, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 3.8 * rows), squeeze=False)
    panels = list(axes.flat)
    for axis in panels[len(figures) :]:
        axis.axis("off")
    for axis, (figure, lines) in zip(panels, figures.items(), strict=False):
        lines = lines[-LAST:]
        places = range(len(lines))
        medians = [line["value"]["median"] for line in lines]
        below = [line["value"]["median"] - line["value"]["low"] for line in lines]
        above = [line["value"]["high"] - line["value"]["median"] for line in lines]
        axis.bar(places, medians, width=0.6, color="#3b75af", label="fs3")
        axis.errorbar(places, medians, yerr=[below, above], fmt="none", ecolor="#222222", capsize=3)
        latest = lines[-1]
        # A limit in another unit (commits beside creates) would squash the bars; ratios are drawn where units agree.
        if latest["limit"] and latest["must_ratio"] is not None:
            limits = [line["limit"]["median"] for line in lines]
            axis.plot(places, limits, "_", color="#c03d3e", markersize=28, markeredgewidth=2, label=latest["limit_name"])
            for place, line in enumerate(lines):
                axis.annotate(f"{line['ratio']:.2f}", (place, line["value"]["median"]), ha="center", va="bottom", fontsize=8)
            axis.axhline(latest["must_ratio"] * limits[-1], color="#c03d3e", linestyle=":", linewidth=1, label="to reach")
        if latest["must_value"] is not None:
            axis.axhline(latest["must_value"], color="#3a923a", linestyle="--", linewidth=1, label="to reach")
        axis.set_title(fill(figure, TITLE_CHARACTERS), fontsize=9)
        axis.set_ylabel(latest["unit"])
        axis.set_ylim(bottom=0)
        axis.set_xticks(list(places), [line["commit"] or "?" for line in lines], rotation=60, fontsize=7)
        axis.legend(fontsize=6, loc="lower right")
    shown.suptitle(f"{family}: median of {latest['value']['runs']} runs, range, and the limit of the same run", fontsize=10)
    shown.tight_layout()
    shown.savefig(path)
    plt.close(shown)


def draw_hit_rates(lines: list[dict[str, Any]], path: Path) -> None:
    """One panel per trace: the hit rate of each policy over the budget, below that of a cache that never runs full."""
    shown, axes = plt.subplots(1, len(lines), figsize=(4.6 * len(lines), 3.8), squeeze=False)
    for axis, line in zip(axes[0], lines, strict=True):
        extra = line["extra"]
        budgets = [100 * budget for budget in extra["budgets"]]
        for policy, rates in extra["rates"].items():
            ours = policy == "fs3"
            axis.plot(budgets, rates, label=policy, linewidth=2.2 if ours else 1, marker="o" if ours else None, markersize=4)
        axis.axhline(extra["ideal"], color="#222222", linestyle="--", linewidth=1, label="never full")
        axis.set_xscale("log")
        axis.set_xticks(budgets, [f"{budget:g} %" for budget in budgets], fontsize=7)
        axis.minorticks_off()
        axis.set_title(f"{extra['trace']} ({line['commit'] or '?'})", fontsize=9)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=6, loc="lower right")
    axes[0][0].set_ylabel("share of bytes found", fontsize=8)
    shown.suptitle("hit rate over the budget, as a share of all pages there are", fontsize=10)
    shown.tight_layout()
    shown.savefig(path)
    plt.close(shown)


def draw_incast(lines: list[dict[str, Any]], path: Path) -> None:
    """Goodput over the number of nodes that answer at once, with the client's grants and without."""
    shown, axis = plt.subplots(figsize=(7, 3.8))
    lines = sorted(lines, key=_nodes)
    nodes = [_nodes(line) for line in lines]
    axis.plot(nodes, [line["value"]["median"] for line in lines], color="#3b75af", marker="o", label="with the client's grants")
    for name, label, colour in (
        ("without_grants_5ms_timeout", "without, time-out of 5 ms", "#3a923a"),
        ("without_grants", "without, time-out of 200 ms", "#c03d3e"),
    ):
        axis.plot(nodes, [line["extra"][name] for line in lines], color=colour, marker=".", linewidth=1, label=label)
    axis.axhline(0.9, color="#222222", linestyle="--", linewidth=1, label="to reach")
    axis.set_xscale("log", base=2)
    axis.set_xticks(nodes, [str(count) for count in nodes], fontsize=8)
    axis.minorticks_off()
    axis.set_ylim(0, 1)
    axis.set_xlabel("nodes that answer one client at once", fontsize=8)
    axis.set_ylabel("of the line's rate", fontsize=8)
    axis.set_title(f"incast, simulated ({lines[-1]['commit'] or '?'})", fontsize=9)
    axis.legend(fontsize=7)
    shown.tight_layout()
    shown.savefig(path)
    plt.close(shown)


def _nodes(line: dict[str, Any]) -> int:
    return int(line["figure"].partition(" ")[0])


def draw_timeline(document: dict[str, Any], path: Path) -> None:
    """Operations per second and the longest of them, tenth by tenth of a second, around a kill."""
    shown, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.5))
    names = {"write": ("writes", "#3b75af"), "settled": ("reads of other chunks", "#3a923a")}
    for kind, series in document["series"].items():
        name, colour = names[kind]
        times = [place * document["step_s"] for place in range(len(series["per_second"]))]
        above.plot(times, series["per_second"], color=colour, linewidth=1, label=name)
        below.plot(times, series["longest_s"], color=colour, linewidth=1, marker=".", markersize=3, label=name)
    for name, at in document["marks_s"].items():
        for axis in (above, below):
            axis.axvline(at, color="#c03d3e", linestyle="--", linewidth=1)
        above.annotate(f" {name}", (at, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8, color="#c03d3e")
    above.set_ylabel("operations/s")
    below.set_ylabel("longest, s")
    below.set_yscale("log")
    below.set_xlabel("seconds")
    above.set_ylim(bottom=0)
    above.legend(fontsize=7, loc="lower right")
    shown.suptitle(f"kill -9 of the head of a chain ({document['victim']}) under load, and its return", fontsize=10)
    shown.tight_layout()
    shown.savefig(path)
    plt.close(shown)


if __name__ == "__main__":
    raise SystemExit(main())

"""The control plane of large clusters on virtual time: `python -m benches.scale [--nodes 180 --clients 500 --chains 10000]`.

Measures each size of a series, writes one JSON line per figure into benches/results/scale.json-lines, and draws scale.svg beside
it. `--plot` draws what is there. With sizes given: that one, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.record import RESULTS, commit_name, machine
from fs3.sim.scale.cluster import ScaleOptions
from fs3.sim.scale.figures import ScaleRun

LINES = RESULTS / "scale.json-lines"
PICTURE = RESULTS / "scale.svg"

SERIES = (
    ScaleOptions(nodes=20, clients=50, chains=1_000),
    ScaleOptions(nodes=60, clients=150, chains=3_000),
    ScaleOptions(nodes=720, clients=100, chains=2_400),
    ScaleOptions(nodes=180, clients=500, chains=10_000),
)
"""Few of everything; many processes; many chains, which takes 4 GiB of memory: every process has its own routing info."""

PANELS = (
    ("first snapshot", 1 / 1024, "KiB, first snapshot", 1024.0, "largest message"),
    ("node dies, bytes to a client per chain", 1.0, "bytes to a client per changed chain", 300.0, "must be below"),
    ("memory of a client's snapshot", 1 / 2**20, "MiB, memory of a client's snapshot", None, ""),
    ("at rest, CPU of the manager", 1.0, "CPU of the manager at rest, s/s", 1.0, "one core"),
    ("CPU to place the chains, in one step of the manager", 1.0, "s, to place the chains", 1.5, "lease of the primary"),
    ("node dies, until everybody has its chains without it", 1.0, "s, a node dies until everybody knows", 5.0, "must be below"),
)
"""Figure, factor, axis, and what it is held against."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benches.scale", description=__doc__)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--chains", type=int, default=10_000)
    parser.add_argument("--restarts", type=int, default=3, help="nodes that are restarted one by one")
    parser.add_argument("--plot", action="store_true", help="draw what is there")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    if options.nodes is not None:
        size = ScaleOptions(nodes=options.nodes, clients=options.clients, chains=options.chains)
        ScaleRun(size, _say).run(options.restarts)
        return 0
    if not options.plot:
        LINES.write_text("".join(_measure(size, options.restarts) for size in SERIES))
    draw(LINES, PICTURE)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _measure(size: ScaleOptions, restarts: int) -> str:
    """The JSON lines of one size."""
    _say(f"--- {size.nodes} storage processes, {size.clients} clients, {size.chains} chains")
    about = {"commit": commit_name(), "machine": machine()}
    return "".join(json.dumps({**about, **figure._asdict()}) + "\n" for figure in ScaleRun(size, _say).run(restarts))


def draw(lines: Path, picture: Path) -> None:
    """One panel per figure, a bar for each size, beside what it is held against."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found: list[dict[str, Any]] = [json.loads(line) for line in lines.read_text().splitlines()]
    shown, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axis, (figure, factor, label, limit, limit_name) in zip(axes.flat, PANELS, strict=True):
        bars = [line for line in found if line["figure"] == figure]
        names = [f"{line['nodes']} nodes\n{line['chains']:,} chains\n{line['clients']} clients" for line in bars]
        values = [line["value"] * factor for line in bars]
        drawn = axis.bar(names, values, width=0.6, color="#3b75af")
        axis.bar_label(drawn, fmt="%.3g", fontsize=8)
        axis.set_title(label, fontsize=10)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        if limit is not None:
            axis.axhline(limit, color="#c44e52", linestyle="--", linewidth=1)
            axis.annotate(limit_name, (0.02, limit), xycoords=("axes fraction", "data"), color="#c44e52", fontsize=8, va="bottom")
    shown.savefig(picture)
    plt.close(shown)


if __name__ == "__main__":
    raise SystemExit(main())

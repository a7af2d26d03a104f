"""What a bench reports: a figure, the limit and the peer measured in the same run, their ratios; kept as JSON lines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TIMELINE = RESULTS / "failover-timeline.json"
"""Of the last kill of a head: what is drawn over time."""


@dataclass
class Spread:
    """Median and extremes of several runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The spread of at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures), len(figures))


@dataclass
class Peer:
    """Another system that did the same in the same run."""

    name: str
    """With its unit, e.g. "/s Redis by redis-py"."""
    value: Spread
    must_ratio: float | None = None
    """Ratio to it to reach, or not to exceed where lower is better."""


@dataclass
class Row:
    """One line of a bench's report."""

    bench: str
    """Family: "read", "write", "meta", "kv", "memory"."""
    figure: str
    """What was measured, e.g. "sequential 4 MiB"."""
    unit: str
    value: Spread
    limit_name: str = ""
    limit: Spread | None = None
    must_ratio: float | None = None
    """Ratio to the limit to reach, or not to exceed when `lower_is_better`."""
    must_value: float | None = None
    """Absolute figure to reach (a lower bound, or an upper one when `lower_is_better`)."""
    lower_is_better: bool = False
    peers: list[Peer] = field(default_factory=list)
    """Those that are installed."""
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Median by median; None: there is no limit, or nothing came of it in the time that a try takes."""
        return self.value.median / self.limit.median if self.limit is not None and self.limit.median else None

    @property
    def peer_ratios(self) -> list[float]:
        """To each of the peers, median by median."""
        return [self.value.median / peer.value.median for peer in self.peers]

    @property
    def reached(self) -> bool | None:
        """Whether what must be reached was; None when nothing must, or nothing that was measured."""
        to_peers = ((ratio, peer.must_ratio) for ratio, peer in zip(self.peer_ratios, self.peers, strict=True))
        pairs = ((self.ratio, self.must_ratio), (self.value.median, self.must_value), *to_peers)
        verdicts = [
            found <= must if self.lower_is_better else found >= must
            for found, must in pairs
            if found is not None and must is not None
        ]
        return all(verdicts) if verdicts else None


def describe(row: Row) -> str:
    """A row in one line: the figure, its limit and whether it was reached."""
    limit = f"; {row.limit_name} {row.limit.median:.4g}, ratio {row.ratio:.2f}" if row.limit else ""
    beside = zip(row.peers, row.peer_ratios, strict=True)
    peers = "".join(f"; {peer.name} {peer.value.median:.4g}, ratio {ratio:.2f}" for peer, ratio in beside)
    verdict = {None: "", True: ", reached", False: ", missed"}[row.reached]
    return f"{row.figure}: {row.value.median:.4g} {row.unit}{limit}{peers}{verdict}"


def save(rows: Sequence[Row], path: Path | None = None) -> Path:
    """Append one JSON line per row, with the commit, the time and the machine. Returns the file."""
    now = datetime.now(tz=UTC)
    path = path or RESULTS / f"{now.year}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"time": now.isoformat(timespec="seconds"), "commit": commit_name(), "machine": machine()}
    with path.open("a") as out:
        for row in rows:
            line = {**about, **asdict(row), "ratio": row.ratio, "peer_ratios": row.peer_ratios, "reached": row.reached}
            out.write(json.dumps(line) + "\n")
    return path


def load(path: Path | None = None) -> list[dict[str, Any]]:
    """Every saved line, oldest first."""
    paths = [path] if path else sorted(RESULTS.glob("*.jsonl"))
    return [_as_now(json.loads(line)) for each in paths for line in each.read_text().splitlines() if line.strip()]


def _as_now(line: dict[str, Any]) -> dict[str, Any]:
    """A line from when there was one peer at most, as lines are today."""
    if "peers" not in line:
        peer = line.get("peer")
        of_one = {"name": line.get("peer_name", ""), "value": peer, "must_ratio": line.get("must_peer_ratio")}
        line |= {"peers": [of_one] if peer else [], "peer_ratios": [line["peer_ratio"]] if peer else []}
    return line


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line), "")
    return {
        "cpus": os.cpu_count(),
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def commit_name() -> str:
    try:
        here = Path(__file__).parent
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if dirty else "")

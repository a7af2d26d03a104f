"""Recorded lines, and what a measurement says beside them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benches.record import RESULTS, machine

RECORDED = RESULTS / "cpu-per-operation.json-lines"
WORSE_RATIO_MAX = 1.10
"""More than so much of the recorded CPU time is a regression."""


@dataclass(frozen=True)
class Line:
    """One recording."""

    time: str
    commit: str
    kind: str
    """Of the machine; see `machine_kind`."""
    cpu_us: dict[str, float]
    """Hot path -> microseconds of CPU an operation, client and services together."""


@dataclass(frozen=True)
class Verdict:
    """One hot path beside what was recorded of it."""

    path: str
    cpu_us: float
    recorded_us: float | None
    """None: nothing was."""

    @property
    def ratio(self) -> float | None:
        """Of the recorded CPU time."""
        return self.cpu_us / self.recorded_us if self.recorded_us else None

    @property
    def is_worse(self) -> bool:
        """It is a regression."""
        return self.ratio is not None and self.ratio > WORSE_RATIO_MAX


def machine_kind() -> str:
    """What lines must have in common to be compared: the model of the CPU, how many there are, and the Python."""
    about = machine()
    return f"{about['cpu'] or platform.machine()} x {about['cpus']}, Python {'.'.join(about['python'].split('.')[:2])}"


def read_lines(path: Path = RECORDED) -> list[Line]:
    """Every recorded line, oldest first. ValueError naming the file for one that cannot be read."""
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            lines.append(Line(**json.loads(text)))
        except (ValueError, TypeError) as wrong:
            raise ValueError(f"{path}:{number}: {wrong}") from wrong
    return lines


def append_line(line: Line, path: Path = RECORDED) -> None:
    """Record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as out:
        out.write(json.dumps(asdict(line)) + "\n")


def find_line(lines: Iterable[Line], kind: str) -> Line | None:
    """The newest line of a kind of machine."""
    return next((line for line in reversed(list(lines)) if line.kind == kind), None)


def compare(measured: Mapping[str, float], line: Line) -> Sequence[Verdict]:
    """A verdict for each path that was measured."""
    return [Verdict(path, cpu_us, line.cpu_us.get(path)) for path, cpu_us in measured.items()]

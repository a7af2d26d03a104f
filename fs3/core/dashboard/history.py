"""The last hours of a cluster in memory: samples at two resolutions, a bounded number of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fs3.base.ids import NodeId
from fs3.core.dashboard.rates import KINDS, NodeRate, quantile_ms, sum_counts

FINE_SECONDS, FINE_SAMPLES = 2, 300
"""Ten minutes."""
COARSE_SECONDS, COARSE_SAMPLES = 30, 720
"""Six hours."""
COLUMNS = (
    *(f"{kind}_{what}" for kind in KINDS for what in ("per_second", "bytes_per_second", "p50_ms", "p99_ms")),
    "used_bytes",
    "free_bytes",
)
"""What a sample consists of. Times are None where there was no operation, space is where it is not known."""
_WORST = tuple(name.endswith("p99_ms") for name in COLUMNS)
growth_seconds_min = 120
"""Over a shorter time, growth says nothing."""
growth_seconds_max = 3600

Value = float | int | None


class HistorySample(NamedTuple):
    """The cluster at one time."""

    at_ms: int
    """Since the epoch, by the manager's clock."""
    values: tuple[Value, ...]
    """In the order of `COLUMNS`."""


class History:
    """Both rings."""

    def __init__(self) -> None:
        self.fine: deque[HistorySample] = deque(maxlen=FINE_SAMPLES)
        self.coarse: deque[HistorySample] = deque(maxlen=COARSE_SAMPLES)
        self._gathered: list[HistorySample] = []
        """Since the last coarse sample."""

    def add(self, sample: HistorySample) -> None:
        """One more fine sample. Clocks may be set back: order is that of adding."""
        self.fine.append(sample)
        self._gathered.append(sample)
        if len(self._gathered) * FINE_SECONDS >= COARSE_SECONDS:
            self.coarse.append(_combine(self._gathered))
            self._gathered.clear()

    def clear(self) -> None:
        """Forget everything: another manager has led meanwhile."""
        self.fine.clear()
        self.coarse.clear()
        self._gathered.clear()

    def growth_per_second(self) -> float | None:
        """How fast what is stored has grown in the last hour; None where less is known than tells anything."""
        column = COLUMNS.index("used_bytes")
        samples = [*self.coarse, *list(self.fine)[-1:]]
        known = [(sample.at_ms / 1000, used) for sample in samples if (used := sample.values[column]) is not None]
        known = [(at, used) for at, used in known if at >= known[-1][0] - growth_seconds_max]
        if not known or known[-1][0] - known[0][0] < growth_seconds_min:
            return None
        return (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])

    def document(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "columns": list(COLUMNS),
            "fine_seconds": FINE_SECONDS,
            "coarse_seconds": COARSE_SECONDS,
            "fine": sample_rows(self.fine),
            "coarse": sample_rows(self.coarse),
        }


def sample_rows(samples: Iterable[HistorySample]) -> list[list[Value]]:
    """Each as its time and its values."""
    return [[sample.at_ms, *sample.values] for sample in samples]


def sample_of(at_ms: int, rates: Mapping[NodeId, NodeRate], used_bytes: int | None, free_bytes: int | None) -> HistorySample:
    """What all nodes together do."""
    values: list[Value] = []
    for index in range(len(KINDS)):
        kinds = [rate.kinds[index] for rate in rates.values()]
        counts = sum_counts(kind.counts for kind in kinds)
        values += [
            _shorten(sum(kind.per_second for kind in kinds)),
            _shorten(sum(kind.bytes_per_second for kind in kinds)),
            _shorten(quantile_ms(counts, 0.5)),
            _shorten(quantile_ms(counts, 0.99)),
        ]
    return HistorySample(at_ms, (*values, used_bytes, free_bytes))


def _shorten(value: float | None) -> Value:
    """Four digits are more than a picture shows."""
    return None if value is None else float(f"{value:.4g}")


def _combine(samples: Sequence[HistorySample]) -> HistorySample:
    """One for several: means of what is known, and the worst of the slowest operations."""
    values: list[Value] = []
    for index, is_worst in enumerate(_WORST):
        known = [value for sample in samples if (value := sample.values[index]) is not None]
        if not known:
            values.append(None)
        else:
            values.append(max(known) if is_worst else _shorten(sum(known) / len(known)))
    return HistorySample(samples[-1].at_ms, (*values[:-2], *samples[-1].values[-2:]))

"""One metric, and one reading of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from fs3.base.counting import Histogram
from fs3.base.units import SECOND


class MetricKind(StrEnum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    """Only rises, and begins at 0 with the process."""
    GAUGE = "gauge"
    """How something is now."""
    HISTOGRAM = "histogram"
    """How long something took, in buckets."""


class Metric(msgspec.Struct, frozen=True):
    """One entry of the catalogue."""

    name: str
    kind: MetricKind
    help: str
    """One sentence, in the documentation and beside the figures."""
    labels: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    """Processes that have it: mgmtd, meta, storage, client. Empty: all of them."""


class HistogramReading(NamedTuple):
    """What a histogram holds at one moment."""

    counts: list[int]
    """By bucket; see `fs3.base.counting`."""
    sum_seconds: float

    @classmethod
    def of(cls, histogram: Histogram) -> HistogramReading:
        """What it holds now."""
        return cls(histogram.read(), histogram.total_ns / SECOND)


MetricValue = int | float | HistogramReading


class Sample(NamedTuple):
    """One reading: of one metric, with the values of its labels in their order."""

    metric: Metric
    labels: tuple[str, ...]
    value: MetricValue

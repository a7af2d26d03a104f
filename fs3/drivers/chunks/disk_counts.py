"""What one target's disk has done, in numbers: its threads add to them."""

from __future__ import annotations

from collections.abc import Iterator

from fs3.base.counting import Histogram
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading, Sample


class DiskCounts:
    """Of one store, since it was opened."""

    __slots__ = ("cold_reads", "grouped", "waited", "written")

    def __init__(self) -> None:
        self.waited = Histogram()
        """From when a barrier was handed to the disk thread until that began with it."""
        self.written = Histogram()
        """How long barriers took on the disk."""
        self.grouped = 0
        """Updates in them."""
        self.cold_reads = Histogram()

    def samples(self, target: str) -> Iterator[Sample]:
        """As readings of that target."""
        labels = (target,)
        if self.written.count:
            yield Sample(catalogue.DISK_SECONDS, labels, HistogramReading.of(self.written))
            yield Sample(catalogue.DISK_WAIT, labels, HistogramReading.of(self.waited))
        yield Sample(catalogue.DISK_GROUPED, labels, self.grouped)
        if self.cold_reads.count:
            yield Sample(catalogue.COLD_SECONDS, labels, HistogramReading.of(self.cold_reads))

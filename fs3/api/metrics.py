"""What a client counts of its own work, read within its process: the metrics that services serve over HTTP, without a server."""

from __future__ import annotations

from collections.abc import Iterator

from fs3.model.metrics.metric import MetricValue, Sample
from fs3.runtime.metric_sources import MetricSources
from fs3.wire.exposition import text_of


class ClientMetrics:
    """The readings of one moment."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def get(self, name: str, *labels: str) -> MetricValue | None:
        """The reading of a metric with these label values, in the order of docs/metrics.md. None when there is none (yet)."""
        for sample in self.samples:
            if sample.metric.name == name and sample.labels == labels:
                return sample.value
        return None

    @property
    def text(self) -> str:
        """All of them in Prometheus' text format."""
        return text_of(self.samples)


class MetricCalls:
    """Of `Client`."""

    sources: MetricSources
    """Where its metrics come from. A program that adds its own shows them with the client's."""

    def metrics(self) -> ClientMetrics:
        """The readings of now. May be called from any thread, and as often as one likes."""
        return ClientMetrics(list(self.sources.samples()))

"""What a metadata service says of itself in numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.services.meta.service import MetaService

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class MetaMetrics:
    """A `MetricSource` of one metadata service."""

    def __init__(self, service: MetaService) -> None:
        self._service = service

    def samples(self) -> Iterator[Sample]:
        """The readings of now; of operations that were asked for."""
        for record, count in list(self._service.operations.items()):
            if count:
                yield Sample(catalogue.OPERATIONS, (_WORD.sub("_", record.__name__).lower(),), count)
        yield Sample(catalogue.OTHERS_CLIENTS, (), self._service.others_clients)

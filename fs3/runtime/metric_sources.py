"""Where the metrics of one process come from: everything that counts says its readings when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from fs3.model.metrics.metric import Sample

log = logging.getLogger("fs3.metrics")

MetricSource = Callable[[], Iterable[Sample]]
"""Says the readings of one part of the process. Called on any thread: it reads numbers and records, and copies a dict that its
loop changes (`list(…items())`) before it goes through it."""


class MetricSources:
    """The sources of one process, in the order in which they were added."""

    def __init__(self) -> None:
        self._sources: dict[str, MetricSource] = {}
        self._failing: set[str] = set()

    def add(self, name: str, source: MetricSource) -> None:
        """Add a source, in place of the one of the same name if there is one."""
        self._sources[name] = source

    def samples(self) -> Iterator[Sample]:
        """The readings of now. A source that fails is left out, which is logged once."""
        for name, source in list(self._sources.items()):
            try:
                yield from source()
            except Exception:
                if name not in self._failing:
                    self._failing.add(name)
                    log.exception("the metrics of %s cannot be read", name)
            else:
                self._failing.discard(name)

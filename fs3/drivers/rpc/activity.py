"""What a process does, from the counts of its calls: for the heartbeats of nodes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from fs3.base.counting import BUCKETS, CallCounts
from fs3.base.units import SECOND
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.activity import NO_OPERATIONS, NodeActivity, OperationTotals
from fs3.model.method import Method
from fs3.wire.methods import META, STORAGE

_MS = 1000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OF_NAMES = tuple(method for method in META.methods if not method.streaming and method is not META.KeepAlive)
_memory_interval_ns = 2 * SECOND


class ActivityMeter:
    """Of one process. An `ActivitySource`: read by its loop, several times a second."""

    def __init__(self, counts: RpcCounts) -> None:
        self._counts = counts
        self._memory_bytes = 0
        self._measured_at = -_memory_interval_ns

    def read(self) -> NodeActivity:
        """Everything since the process began."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return NodeActivity(
            int(_MS * (usage.ru_utime + usage.ru_stime)),
            self._read_memory(),
            self._totals([STORAGE.Read]),
            self._totals([STORAGE.Update]),
            self._totals(_OF_NAMES),
        )

    def _totals(self, methods: Iterable[Method]) -> OperationTotals:
        found = [counts for method in methods if (counts := self._counts.find_served(method)) is not None and counts.ended]
        return _totals_of(found) if found else NO_OPERATIONS

    def _read_memory(self) -> int:
        now = self._counts.now()
        if now - self._measured_at >= _memory_interval_ns:
            self._measured_at = now
            try:
                self._memory_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
            except (OSError, ValueError, IndexError):  # not on Linux
                self._memory_bytes = 0
        return self._memory_bytes


def _totals_of(found: list[CallCounts]) -> OperationTotals:
    buckets = [0] * BUCKETS
    for counts in found:
        for histogram in (counts.answered, *counts.failed.values()):
            for index, count in enumerate(histogram.read()):
                buckets[index] += count
    while buckets and not buckets[-1]:
        buckets.pop()
    moved = sum(counts.received_bytes + counts.sent_bytes for counts in found)
    return OperationTotals(sum(buckets), moved, tuple(buckets))

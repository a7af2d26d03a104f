"""What the operating system and Python know of this process: processor, memory, disks, garbage collections."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fs3.base.units import SECOND
from fs3.base.version import __version__
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample

_PROC = Path("/proc/self")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MAJOR_FAULTS, _THREADS = 9, 17
"""Fields of /proc/self/stat behind the name of the program."""


class _CollectorPauses:
    """How long the garbage collections of this process have taken, since the first time it was asked."""

    def __init__(self) -> None:
        self.total_ns = 0
        self._begun_at = 0
        self._is_attached = False

    def attach(self) -> None:
        """Have Python tell of its collections. Harmless when it does."""
        if not self._is_attached:
            self._is_attached = True
            gc.callbacks.append(self._on_collection)

    def _on_collection(self, phase: str, _: dict[str, Any]) -> None:
        now = time.perf_counter_ns()
        if phase == "start":
            self._begun_at = now
        else:
            self.total_ns += now - self._begun_at


_pauses = _CollectorPauses()


class ProcessMetrics:
    """A `MetricSource` of this process as a whole."""

    def __init__(self, role: str, name: str) -> None:
        """`role`, `name`: as in the cluster; a client has its program's."""
        self._labels = (__version__, role, name)
        self._started = time.time()
        _pauses.attach()

    def samples(self) -> Iterator[Sample]:
        """The readings of now; what this system does not tell is left out."""
        yield Sample(catalogue.BUILD, self._labels, 1)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield Sample(catalogue.CPU, (), round(usage.ru_utime + usage.ru_stime, 6))
        yield Sample(catalogue.STARTED, (), self._started)
        with suppress(OSError, ValueError, IndexError):
            yield Sample(catalogue.RESIDENT, (), int((_PROC / "statm").read_text().split()[1]) * _PAGE_BYTES)
            stat = (_PROC / "stat").read_text().rpartition(")")[2].split()
            yield Sample(catalogue.MAJOR_FAULTS, (), int(stat[_MAJOR_FAULTS]))
            yield Sample(catalogue.THREADS, (), int(stat[_THREADS]))
            yield Sample(catalogue.OPEN_FILES, (), len(os.listdir(_PROC / "fd")))
            yield Sample(catalogue.OPEN_FILES_MAX, (), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        with suppress(OSError, ValueError):
            moved = dict(line.split(": ") for line in (_PROC / "io").read_text().splitlines())
            yield Sample(catalogue.DISK_READ, (), int(moved.get("read_bytes", 0)))
            yield Sample(catalogue.DISK_WRITTEN, (), int(moved.get("write_bytes", 0)))
        for generation, numbers in enumerate(gc.get_stats()):
            yield Sample(catalogue.GC_COLLECTIONS, (str(generation),), numbers["collections"])
        yield Sample(catalogue.GC_PAUSE, (), _pauses.total_ns / SECOND)

"""The connections of one process that are open, and what each says of itself."""

from __future__ import annotations

from itertools import islice
from typing import Protocol

from fs3.model.connection import ConnectionInfo, ConnectionReport

connections_listed_max = 1024
"""In one report, which has to fit a message."""


class Describable(Protocol):
    """A connection."""

    def describe(self) -> ConnectionInfo:
        """What it is, now."""
        ...


class OpenConnections:
    """Connections enter when they are made and leave when they end, on one loop."""

    def __init__(self) -> None:
        self._open: dict[Describable, None] = {}

    def add(self, connection: Describable) -> None:
        """It is open."""
        self._open[connection] = None

    def discard(self, connection: Describable) -> None:
        """It has ended."""
        self._open.pop(connection, None)

    def report(self) -> ConnectionReport:
        """Those that are open, the oldest first."""
        found = tuple(one.describe() for one in islice(self._open, connections_listed_max))
        return ConnectionReport(found, len(self._open))

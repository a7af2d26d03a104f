"""Which start of a node this is. Managers refuse an older one, so that two processes of one node are told apart.

A node whose directory is new knows no incarnation (0); the manager gives one out, and the node keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.durable_files import write_durably


class IncarnationCounter(Protocol):
    """Counts the starts of one node."""

    def next_incarnation(self) -> int:
        """Count one more start, durably before it returns. 0: nothing is known, the manager says which one this is."""
        ...

    def store_incarnation(self, incarnation: int) -> None:
        """Keep what the manager said, durably before it returns."""
        ...


class IncarnationFile:
    """A counter in a file of its own, as a decimal number. An `IncarnationCounter`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def next_incarnation(self) -> int:
        """See `IncarnationCounter`. 0 when there is no such file. FS3Error DISK naming a file that is no counter."""
        try:
            incarnation = int(self._file.read_text()) + 1
        except FileNotFoundError:
            return 0
        except ValueError:
            told = "this is not a boot counter; without the file, the node is given a new incarnation"
            raise error(Code.DISK, told, str(self._file)) from None
        self.store_incarnation(incarnation)
        return incarnation

    def store_incarnation(self, incarnation: int) -> None:
        """See `IncarnationCounter`."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._file, str(incarnation).encode())


class GivenIncarnation:
    """A counter of one process that keeps nothing: for a node whose starts the caller counts. An `IncarnationCounter`."""

    def __init__(self, incarnation: int) -> None:
        self._incarnation = incarnation

    def next_incarnation(self) -> int:
        """See `IncarnationCounter`: the given one."""
        return self._incarnation

    def store_incarnation(self, incarnation: int) -> None:
        """See `IncarnationCounter`: kept for as long as the process lives."""
        self._incarnation = incarnation

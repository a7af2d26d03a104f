"""Which start of a node this is. Managers refuse an older one, so that two processes of one node are told apart.

A node whose directory is new knows no incarnation (0); the manager gives one out, and the node keeps it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.model.cluster import DiskSpace
from fs3.runtime.durable_files import NO_ROOM, directory_identity, measure_space, write_durably

log = logging.getLogger("fs3.member")


class IncarnationCounter(Protocol):
    """Counts the starts of one node."""

    @property
    def directory(self) -> str:
        """Which locked directory it is kept in, as the host numbers them; "" when it is kept nowhere."""
        ...

    def measure_space(self) -> Sequence[DiskSpace]:
        """How much room there is where the process keeps its data."""
        ...

    def next_incarnation(self) -> int:
        """Count one more start, durably before it returns unless there is no room. 0: nothing is known, the manager says which
        one this is."""
        ...

    def store_incarnation(self, incarnation: int) -> None:
        """Keep what the manager said, durably before it returns unless there is no room."""
        ...


class IncarnationFile:
    """A counter in a file of its own, as a decimal number. An `IncarnationCounter`."""

    def __init__(self, file: Path, others: Sequence[Path] = ()) -> None:
        """`others`: further directories in which the process keeps data."""
        self._file = file
        self._others = tuple(others)

    @property
    def directory(self) -> str:
        """See `IncarnationCounter`: the one the file is in."""
        return directory_identity(self._file.parent)

    def measure_space(self) -> Sequence[DiskSpace]:
        """See `IncarnationCounter`: where the file is, and the other directories."""
        return measure_space((self._file.parent, *self._others))

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
        try:
            write_durably(self._file, str(incarnation).encode())
        except OSError as problem:
            if problem.errno not in NO_ROOM:
                raise
            log.warning("%s: no room to write down incarnation %d", self._file, incarnation)


class GivenIncarnation:
    """A counter of one process that keeps nothing: for a node whose starts the caller counts. An `IncarnationCounter`."""

    def __init__(self, incarnation: int) -> None:
        self._incarnation = incarnation

    @property
    def directory(self) -> str:
        """See `IncarnationCounter`: none."""
        return ""

    def measure_space(self) -> Sequence[DiskSpace]:
        """See `IncarnationCounter`: nowhere."""
        return ()

    def next_incarnation(self) -> int:
        """See `IncarnationCounter`: the given one."""
        return self._incarnation

    def store_incarnation(self, incarnation: int) -> None:
        """See `IncarnationCounter`: kept for as long as the process lives."""
        self._incarnation = incarnation

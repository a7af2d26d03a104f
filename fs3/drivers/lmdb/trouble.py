"""What is wrong with the disk of a store: it is full, or fails; since when; and when the store is given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.units import SECOND

log = logging.getLogger("fs3.lmdb")

lmdb_trouble_ns_max = 30 * SECOND
"""A store that cannot write to its disk for so long, for another reason than that it is full, is given up: its process ends."""

OnGivenUp = Callable[[FS3Error], None]
"""Called once, with the reason."""


class StoreTrouble:
    """Kept by the lane of a store; every change of it is a line in the log, however many operations it hits."""

    def __init__(self, directory: Path, on_given_up: OnGivenUp | None) -> None:
        """Without `on_given_up`, the store is tried for ever."""
        self.needs_reopening = False
        """Nobody knows what LMDB still can do with the files it has open."""
        self.failure: FS3Error | None = None
        """Why the store was given up."""
        self._directory = directory
        self._on_given_up = on_given_up
        self._is_full = False
        self._since: int | None = None

    @property
    def is_failing(self) -> bool:
        """The last commit failed, for another reason than that there is no room."""
        return self._since is not None

    def note_full(self, why: FS3Error) -> None:
        """There is no room for an operation."""
        if not self._is_full:
            log.warning("%s: operations fail: %s", self._directory, why.strerror)
        self._is_full = True

    def note_failure(self, now: int, why: FS3Error) -> None:
        """A commit, or the beginning of a transaction, failed for another reason. `now`: monotonic."""
        self.needs_reopening = True
        if self._since is None:
            self._since = now
            log.error("%s: %s; it is opened anew and tried again", self._directory, why.strerror)
        elif self.failure is None and self._on_given_up is not None and now - self._since >= lmdb_trouble_ns_max:
            self.failure = why
            log.critical("%s: %s, for %d s now; it is given up", self._directory, why.strerror, (now - self._since) // SECOND)
            self._on_given_up(why)

    def note_damage(self, why: FS3Error) -> None:
        """What is stored is damaged: no attempt makes it better. Nothing more is written, and the process stays to say so."""
        if self.failure is None:
            self.failure = why
            log.error("%s: %s; no further write is accepted", self._directory, why.strerror)

    def end(self) -> None:
        """Something was written."""
        if self._is_full or self._since is not None:
            log.warning("%s: the key-value store works again", self._directory)
        self._is_full = False
        self._since = None

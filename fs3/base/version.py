"""The version of fs3, for packages on every floor; the build reads it from here."""

from __future__ import annotations

from typing import NamedTuple

__version__ = "0.1.0"

LEVEL = 2
"""Rises with each release that says or stores something that the one before does not."""

OLDEST_LEVEL = 1
"""Of the releases that this one works side by side with: it understands them, and says and stores nothing that they need."""

FIRST_LEVEL = 1
"""Of software that does not tell its level."""


class Release(NamedTuple):
    """What a process says of its software, so that others know whether they can work with it."""

    software: str
    """Version; empty when it was not told."""
    level: int
    oldest_level: int

    def __str__(self) -> str:
        return f"fs3 {self.software or '(version not told)'}, level {self.level}"


THIS_RELEASE = Release(__version__, LEVEL, OLDEST_LEVEL)

UNTOLD_RELEASE = Release("", FIRST_LEVEL, FIRST_LEVEL)
"""Of a process that says nothing."""


def explain_conflict(process: Release, manager: Release) -> str:
    """Why a process cannot work in the cluster of a manager, and which version to install; empty when it can."""
    if process.level < manager.oldest_level:
        return (
            f"{process}, is too old for this cluster: its manager runs {manager}, and works with level {manager.oldest_level} "
            f"and later; install fs3 {manager.software} in place of {process.software or 'it'}"
        )
    if manager.level < process.oldest_level:
        return (
            f"{process}, is too new for this cluster: it works with level {process.oldest_level} and later, and the manager runs "
            f"{manager}; install fs3 {manager.software} in place of {process.software}, or upgrade the managers first"
        )
    return ""

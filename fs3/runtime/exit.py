"""What is done when the process ends: files first, then clients, services last, so that each finds what it needs to close.

All of it comes after the end of the program's own threads, those that are no daemons, and of the executors of the standard
library: they may use files, clients and services until then. So what closes here needs no such executor, and starts no threads.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from enum import IntEnum

__all__ = ["ExitStage", "run_at_exit"]

Ending = Callable[[], None]
"""Ends something that the process has begun."""


class ExitStage(IntEnum):
    """In this order."""

    FILES = 0
    CLIENTS = 1
    SERVICES = 2


_endings: list[tuple[ExitStage, Ending]] = []


def run_at_exit(callback: Ending, stage: ExitStage) -> None:
    """Call back when the process ends."""
    _endings.append((stage, callback))


def _at_exit() -> None:
    for _, callback in sorted(_endings, key=lambda ending: ending[0]):
        callback()


atexit.register(_at_exit)

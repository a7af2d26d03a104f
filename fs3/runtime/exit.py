"""What is done when the process ends, while its threads and executors still work.

`atexit` is too late: by then the executors of the standard library take no work any more, and what needs a disk's thread to
close cannot.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 — its own hook must be there before ours, which then runs first
import threading
from collections.abc import Callable

__all__ = ["run_at_exit"]

Ending = Callable[[], None]
"""Ends something that the process has begun."""

_clients: list[Callable[[], None]] = []
_services: list[Callable[[], None]] = []


def run_at_exit(callback: Ending, *, services: bool = False) -> None:
    """Call back when the process ends; services after all clients."""
    (_services if services else _clients).append(callback)


def _at_exit() -> None:
    for callback in (*_clients, *_services):
        callback()


# CPython's own modules use this hook; where it should be missing one day, `atexit` is better than nothing.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)

"""Threads of fs3 that others wait for: event loops of services, and the threads beside them that write and commit.

A garbage collection, and with it the end of any object of the process, may come in each of them. What ends there must not wait
for what such a thread has to do.
"""

from __future__ import annotations

import threading

__all__ = ["is_serving_thread", "mark_serving_thread"]

_local = threading.local()


def mark_serving_thread() -> None:
    """This thread is one of them."""
    _local.serves = True


def is_serving_thread() -> bool:
    """The caller runs on such a thread."""
    return getattr(_local, "serves", False)

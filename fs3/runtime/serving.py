"""Threads of fs3 that others wait for: event loops of services, and the threads beside them that write and commit.

A garbage collection, and with it the end of any object of the process, may come in each of them. What ends there must not wait
for what such a thread has to do.
"""

from __future__ import annotations

import gc
import threading

__all__ = ["is_serving_thread", "mark_serving_thread", "tune_collector"]

collector_objects = 10_000
"""So many objects that hold others are made, beyond those that have ended, before the collector looks at them. By default it is
700, fewer than one request of 128 pages has under way: they are looked at again and again then, and taken for lasting ones."""

_local = threading.local()


def mark_serving_thread() -> None:
    """This thread is one of them."""
    _local.serves = True


def is_serving_thread() -> bool:
    """The caller runs on such a thread."""
    return getattr(_local, "serves", False)


def tune_collector() -> None:
    """What is there now stays for as long as the process: the garbage collector looks at it no more, and at the rest less often.
    For the process of a service, once that is complete; of a library's process the host decides."""
    gc.freeze()
    gc.set_threshold(collector_objects, *gc.get_threshold()[1:])

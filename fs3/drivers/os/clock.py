"""The operating system's clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _steady() -> Callable[[], int]:
    """Nanoseconds that only rise, and that go on while the machine is suspended.

    Python's monotonic clock stands still then. A node that slept through its lease would wake up and believe in it, while the
    manager on another machine has long given its place away; and a client would repeat an update that nobody remembers.
    Where the system has no such clock (it is Linux's), its monotonic clock has to do.
    """
    suspended_too = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns if suspended_too is None else partial(time.clock_gettime_ns, suspended_too)


class OsClock:
    """`fs3.ports.clock.Clock` of a real process."""

    __slots__ = ()

    # The functions themselves, not methods around them: every call of every connection asks for the time.
    now = staticmethod(_steady())
    wall = staticmethod(time.time_ns)

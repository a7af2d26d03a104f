"""The operating system's clocks."""

from __future__ import annotations

import time


class OsClock:
    """`fs3.ports.clock.Clock` of a real process."""

    __slots__ = ()

    # The functions themselves, not methods around them: every call of every connection asks for the time.
    now = staticmethod(time.monotonic_ns)
    wall = staticmethod(time.time_ns)

"""Short turns on a processor, for processes that answer in microseconds what others wait for.

A process that wakes waits until the one that has the processor has had its turn: a millisecond and more, as Linux since 6.6
protects a turn that was begun. One that has asked for shorter turns (since 6.12, `sched_setattr`) has more of them, and is let in
at once; its share of the processor stays what it was.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

from fs3.base.units import MICROSECOND

turn_ns = 100 * MICROSECOND
"""The shortest that the system takes."""

_SET, _GET = {"x86_64": (314, 315), "aarch64": (274, 275)}.get(platform.machine(), (0, 0))
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period."""
_ORDINARY = 0  # SCHED_OTHER, whose runtime is the length of a turn


def take_short_turns() -> bool:
    """Ask for them for the thread that calls, and those that it starts afterwards. False: the system does not take that, or
    another class of scheduling was chosen for this process; then nothing has changed."""
    if not _SET or not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None, use_errno=True)
    told = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if system.syscall(_GET, 0, told, _ATTRIBUTES.size, 0):
        return False
    _, policy, flags, nice, priority, _, deadline, period = _ATTRIBUTES.unpack(told.raw)
    if policy != _ORDINARY:
        return False
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, turn_ns, deadline, period)
    return not system.syscall(_SET, 0, wanted, 0)


def current_turn_ns() -> int:
    """The length of a turn of the calling thread as the system says it; 0: it does not."""
    told = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if not _GET or ctypes.CDLL(None, use_errno=True).syscall(_GET, 0, told, _ATTRIBUTES.size, 0):
        return 0
    return int(_ATTRIBUTES.unpack(told.raw)[5])

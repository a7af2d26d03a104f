"""When a read shows in the time of the last access: as with `relatime` of Linux, and never sooner.

A read that finds an access time from before the last change, or a day old, is told to the service, later and with those of other
files; other reads cost nothing. So "read since it was changed" and "not read for days" can be told, and no more is promised.
"""

from __future__ import annotations

from typing import Final

from fs3.base.units import DAY
from fs3.model.inode import Inode

access_time_age_ns: Final = 1 * DAY
"""An access time that is as old is brought up to date by the next read."""


def is_access_due(inode: Inode, wall_ns: int) -> bool:
    """A read at this time changes the access time."""
    atime_ns = inode.atime_ns
    return atime_ns <= inode.mtime_ns or atime_ns <= inode.ctime_ns or wall_ns - atime_ns >= access_time_age_ns

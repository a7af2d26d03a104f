"""How a mount behaves."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.units import SECOND

directory_valid_ns = 1 * SECOND
"""How long the kernel remembers the name and the attributes of a directory, unless the mount says otherwise."""

lookup_valid_ns = 1
"""How long the attributes of a file that come with a look-up are good: until the kernel's clock ticks next, so for the call that
the look-up was made for. Without it every stat(2) by a path would ask twice."""


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """What a user says."""

    path: str = ""
    """The directory of the cluster that is mounted; "": its root."""
    direct_io: bool = False
    """Reads and writes of programs come one by one as they are made, past the kernel's memory."""
    cache_ns: int = 0
    """How long the kernel answers names and attributes, also of files, from memory. 0: those of directories for a second, those
    of files not at all."""
    allow_other: bool = False
    """Other users than the one that mounts may use it."""
    read_only: bool = False
    noatime: bool = False
    """Reads leave access times as they are; else these are brought up to date, as with `relatime`."""

    @property
    def has_access_times(self) -> bool:
        """What is read is told."""
        return not self.noatime and not self.read_only

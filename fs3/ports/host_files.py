"""What processes of one host share beside their sockets: memory, and files that both may open."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class SharedMemory(NamedTuple):
    """Memory that this process has made for others to look at."""

    view: memoryview
    path: str
    """By which processes of this user, and root, find it."""
    close: Callable[[], None]
    """It is not found any more; those who have it keep it."""


class HostFile(Protocol):
    """A file that was opened for reading. Closed when nothing refers to it any more. May be used from any thread."""

    def read_at_once(self, view: memoryview, offset: int) -> bool:
        """Fill `view` with what lies at `offset`, if that needs no disk. False: it does, or cannot be told, or the file ends
        before, or cannot be read."""
        ...

    def still_says(self, content: bytes) -> bool:
        """It begins with these bytes, and is the file that is at its path now."""
        ...


class HostFiles(Protocol):
    """The memory and the files of the host that processes of its user share."""

    @property
    def clock_space(self) -> int:
        """The same number for all processes of the host whose steady clocks say the same."""
        ...

    def create_memory(self, nbytes: int) -> SharedMemory:
        """Zeroed memory. Raises FS3Error UNSUPPORTED where the system has none to share."""
        ...

    def open_memory(self, path: str, nbytes: int) -> memoryview:
        """Memory that another process has created, for reading. It stays when that process ends. Raises OSError when it cannot
        be opened, or is not what `create_memory` makes."""
        ...

    def open_file(self, path: str) -> HostFile:
        """A file of this user or of root. Raises OSError."""
        ...

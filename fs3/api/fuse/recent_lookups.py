"""What threads have just looked up: open(2) by a path looks its file up first, and what that found is what is opened.

So an open asks the services once, not twice: it sees what was published before its own look-up. A thread that opens what it had
before, by a descriptor (`O_PATH`, /proc/self/fd) or at a mount point which is a file, looks nothing up: such an open may be taken
for that of a look-up of the same file by the same thread, which was answered within `lookup_opens_ns`.

Programs of one mount see at once what they do to files. While a file is open, an older look-up of it changes nothing; when it was
written and closed since, or was given another length, an open asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fs3.base.units import MILLISECOND
from fs3.model.inode import Inode

lookup_opens_ns: Final = 1 * MILLISECOND
"""How long after the answer to its look-up an open arrives, at most; later ones ask."""
threads_kept_max: Final = 4096
"""Threads whose last look-up is kept; they are those of programs that run, so there are seldom more."""


Now = Callable[[], int]


class RecentLookups:
    """Of one mount."""

    def __init__(self, now: Now) -> None:
        """`now`: monotonic nanoseconds."""
        self._now = now
        self._by_thread: dict[int, tuple[Inode, int]] = {}
        """Its last look-up that found something, and when that was answered."""
        self.turn = 0
        """Rises with everything that may make the answer of a look-up that is on its way an old one."""

    def note(self, thread: int, inode: Inode, turn: int) -> None:
        """A look-up of a thread, which was asked for in this turn, is answered now. Thread 0 is of no program that can be seen
        from here."""
        if not thread or turn != self.turn:
            return
        if len(self._by_thread) >= threads_kept_max:
            self._by_thread.clear()
        self._by_thread[thread] = inode, self._now()

    def take(self, thread: int, node: int) -> Inode | None:
        """A thread opens an inode: as its look-up found it. None: it has not just looked it up."""
        found = self._by_thread.pop(thread, None)
        if found is None or found[0].id != node or self._now() - found[1] > lookup_opens_ns:
            return None
        return found[0]

    def forget(self) -> None:
        """This mount has changed a file, which it need not know any more: what was looked up before may be older."""
        self.turn += 1
        self._by_thread.clear()

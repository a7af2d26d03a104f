"""How long bulk bytes hold an event loop: not longer than a slice while a short read is under way.

A reply of megabytes is received, copied and verified on the loop, which takes a millisecond. A caller that reads 4 KiB waits for
that several times: until the answer is looked at, until its task runs. So while there are such callers, bulk bytes are worked on
in slices, one in a turn of the loop, and each turn looks at all sockets. Without one, everything is done at once: slices cost
processor time.

Rules, each a test:

1. Without short reads under way a piece of work begins at once, and as large as it likes.
2. With short reads, one piece of work begins in a turn, in the order in which they were asked for.
3. Work that waits when the last short read ends goes on in the same order; new work does not overtake it.
4. Work that is given up while it waits is skipped.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from fs3.base.limits import wake_bytes_max
from fs3.base.units import KIB

bulk_slice_bytes = 512 * KIB
"""Bytes of one piece of work while short reads are under way: less delays them no less, and costs the bulk readers more."""

receive_slice_bytes = 256 * KIB
"""Bytes that a connection receives in one turn meanwhile; several connections may do so in the same turn."""


Work: TypeAlias = Callable[[], bool]
"""Does a slice of something; says whether there was anything to do. Must not raise."""


class BulkWork:
    """What an event loop has to do to bulk bytes. It does not hold the loop, which goes when its program is done with it."""

    __slots__ = ("__weakref__", "_due", "_is_scheduled", "short_reads")

    def __init__(self) -> None:
        self._due: deque[Work] = deque()
        self._is_scheduled = False
        self.short_reads = 0
        """Under way on this loop."""

    @property
    def receive_bytes(self) -> int:
        """What a connection may receive in this turn."""
        return receive_slice_bytes if self.short_reads else wake_bytes_max

    @property
    def is_sliced(self) -> bool:
        """Work has to wait for its turn."""
        return self.short_reads > 0 or self._is_scheduled

    def when_free(self, work: Work) -> None:
        """Call `work` in a turn of its own. Only on the loop."""
        self._due.append(work)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    async def turn(self) -> None:
        """Wait for a turn of its own."""
        waiter = asyncio.get_running_loop().create_future()

        def begin() -> bool:
            if waiter.done():
                return False
            waiter.set_result(None)
            return True

        self.when_free(begin)
        await waiter

    def _next(self) -> None:
        try:
            while self._due and not self._due.popleft()():
                pass
        finally:  # also when an interrupt meets a slice: what waits behind it has no other call
            if self._due:
                asyncio.get_running_loop().call_soon(self._next)
            else:
                self._is_scheduled = False


_works: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BulkWork] = weakref.WeakKeyDictionary()


def bulk_work_of(loop: asyncio.AbstractEventLoop) -> BulkWork:
    """The bulk work of a loop."""
    found = _works.get(loop)
    if found is None:
        found = _works[loop] = BulkWork()
    return found

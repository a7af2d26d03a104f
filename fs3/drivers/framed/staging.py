"""Where the connections of an event loop receive while they look for frames."""

from __future__ import annotations

import asyncio
import weakref

from fs3.base.limits import staging_bytes


class StagingBuffer:
    """One buffer for all connections of a loop. A connection uses it while it handles one event, and copies out what is left."""

    __slots__ = ("__weakref__", "data", "view")

    def __init__(self) -> None:
        self.data = bytearray(staging_bytes)
        self.view = memoryview(self.data)


_stagings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, StagingBuffer] = weakref.WeakKeyDictionary()


def staging_of(loop: asyncio.AbstractEventLoop) -> StagingBuffer:
    """The staging buffer of a loop."""
    found = _stagings.get(loop)
    if found is None:
        found = _stagings[loop] = StagingBuffer()
    return found

"""Where the connections of an event loop receive while they look for frames."""

from __future__ import annotations

import asyncio
import weakref

from fs3.base.limits import staging_bytes


class Staging:
    """One buffer for all connections of a loop: whoever is awake uses it, and copies out what is left before the next one."""

    __slots__ = ("__weakref__", "data", "view")

    def __init__(self) -> None:
        self.data = bytearray(staging_bytes)
        self.view = memoryview(self.data)


_stagings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Staging] = weakref.WeakKeyDictionary()


def staging_of(loop: asyncio.AbstractEventLoop) -> Staging:
    """The staging buffer of a loop."""
    found = _stagings.get(loop)
    if found is None:
        found = _stagings[loop] = Staging()
    return found

"""Parts of what lies in several buffers."""

from __future__ import annotations

from collections.abc import Sequence


def first_bytes(views: Sequence[memoryview], length: int) -> list[memoryview]:
    """The first `length` bytes of the views; all of them when they hold less."""
    taken = []
    for view in views:
        if length <= 0:
            break
        taken.append(view if len(view) <= length else view[:length])
        length -= len(view)
    return taken


def take_bytes(left: list[memoryview], length: int) -> list[memoryview]:
    """Take the first `length` bytes, which there must be, off the views."""
    taken: list[memoryview] = []
    while length:
        view = left[0]
        if len(view) > length:
            taken.append(view[:length])
            left[0] = view[length:]
            break
        taken.append(left.pop(0))
        length -= len(view)
    return taken

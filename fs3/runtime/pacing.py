"""Work on a thread of its own that leaves the other threads of the process room: Python runs one at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from fs3.base.units import MICROSECOND, SECOND

T = TypeVar("T")

work_ns = 500 * MICROSECOND
rest_ns = 100 * MICROSECOND
"""The thread works so long, then rests."""


def paced(items: Iterable[T]) -> Iterator[T]:
    """The same items, with rests between them. For threads that are not an event loop's own."""
    rest_at = time.monotonic_ns() + work_ns
    for item in items:
        yield item
        if time.monotonic_ns() >= rest_at:
            time.sleep(rest_ns / SECOND)
            rest_at = time.monotonic_ns() + work_ns

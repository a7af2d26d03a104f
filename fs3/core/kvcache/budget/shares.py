"""How much of a budget is whose, and when to begin to make room.

A budget is for the whole namespace, and every chain of its table enforces its own part alone: as large as the part of the keys
that are placed on it. Keys are digests, so chains fill up at nearly the same time, and together they never have more than the
budget, but for one page each: a chain whose share is smaller than a page may have one.

Room is made before it is needed: above the high watermark until the low one is reached. The two are so far below the limit as a
hundredth part of it each, and where that is less than a page, they are the limit itself: a cache of a few pages should not give
one up for a put that may never come.
"""

from __future__ import annotations

from typing import NamedTuple

from fs3.core.kvcache.placement import SLOTS, slots_of

headroom_parts = 100
"""The high watermark is the limit less one part of so many, the low one less two."""


def share_of(budget_bytes: int, place: int, chains: int) -> int:
    """The part of a budget that belongs to the chain at `place` in a table of so many."""
    return budget_bytes * slots_of(place, chains) // SLOTS


class Watermarks(NamedTuple):
    """In bytes."""

    high: int
    """Beyond this, pages are evicted in the background."""
    low: int
    """Until there are no more than this."""


def watermarks(limit_bytes: int, page_bytes: int) -> Watermarks:
    """Of a limit, for pages of about this size."""
    part = limit_bytes // headroom_parts
    if part < page_bytes:
        return Watermarks(limit_bytes, limit_bytes)
    return Watermarks(limit_bytes - part, limit_bytes - 2 * part)

"""Pins: pages that are wanted although no worker reads them for a while, such as those of a system prompt.

A *soft* pin has an end and puts a page last in the order of eviction: it goes when nothing else may. A *hard* pin keeps a page
from eviction altogether, so its bytes are bounded: a namespace has a pin budget, of which each chain has its share. Either ends
when it is taken away, at its end, or with the page: a removal that a client asks for takes pinned pages too.

They are in memory at the head of a page's chain. A head that takes over knows none: a client that relies on one pins again from
time to time, which is how a soft pin is prolonged anyway.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from fs3.base.ids import ChunkId, page_namespace
from fs3.base.limits import pin_ms_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND

pins_max = 65_536
"""Pinned pages of one target; further ones are not pinned, and NO_SPACE says so."""
NEVER = 1 << 62
"""The end of a pin that has none."""
_COMPACT_MIN = 1024


class PinUse(NamedTuple):
    """What is pinned of one namespace on one target."""

    soft_pages: int = 0
    hard_pages: int = 0
    hard_bytes: int = 0
    """As stored, of those."""


_UNUSED = PinUse()


class _Pin(NamedTuple):
    until_ns: int
    length: int
    """Bytes of the page as stored."""
    hard: bool


class Pins:
    """The pins on the pages of one target. Times are nanoseconds of its monotonic clock."""

    def __init__(self, pages_max: int = pins_max) -> None:
        self._pages_max = pages_max
        self._pins: dict[ChunkId, _Pin] = {}
        self._ends: list[tuple[int, ChunkId]] = []
        """A heap of (until, page); of pins that were replaced or taken away too."""
        self._used: dict[int, PinUse] = {}
        """By namespace; none that has no pins."""

    @property
    def count(self) -> int:
        """Pinned pages, as far as was looked."""
        return len(self._pins)

    def pin(self, chunk: ChunkId, length: int, now: int, *, duration_ns: int, hard: bool, budget_bytes: int = 0) -> Code:
        """Pin a page that is there, of `length` bytes as stored, for so long; a pin that it has is replaced. `duration_ns` 0:
        until it is taken away, of a hard one only. `budget_bytes`: what all hard pins of its namespace may take on this target.

        NO_SPACE when there is no room for one more, or the budget is used up; the pin it had stays then. ValueError for a
        duration that no pin may have: the service refuses it first.
        """
        if not (0 < duration_ns <= pin_ms_max * MILLISECOND or (hard and not duration_ns)):
            raise ValueError(f"a pin of {duration_ns} ns; at most {pin_ms_max} ms are possible, and only a hard pin has no end")
        self.expire(now)
        before = self._pins.get(chunk)
        if before is None and len(self._pins) >= self._pages_max:
            return Code.NO_SPACE
        if hard:
            taken = self.use(page_namespace(chunk), now).hard_bytes
            if before is not None and before.hard:
                taken -= before.length
            if taken + length > budget_bytes:
                return Code.NO_SPACE
        self.unpin(chunk)
        until = now + duration_ns if duration_ns else NEVER
        self._pins[chunk] = _Pin(until, length, hard)
        self._count(chunk, length, hard, 1)
        if until != NEVER:
            heapq.heappush(self._ends, (until, chunk))
        return Code.OK

    def unpin(self, chunk: ChunkId) -> bool:
        """Take the pin of a page away. False when it has none."""
        pin = self._pins.pop(chunk, None)
        if pin is None:
            return False
        self._count(chunk, pin.length, pin.hard, -1)
        if len(self._ends) > max(_COMPACT_MIN, 2 * len(self._pins)):
            self._ends = [(each.until_ns, known) for known, each in self._pins.items() if each.until_ns != NEVER]
            heapq.heapify(self._ends)
        return True

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """The page must not be evicted."""
        pin = self._pins.get(chunk)
        return pin is not None and pin.hard and now < pin.until_ns

    def is_preferred(self, chunk: ChunkId, now: int) -> bool:
        """The page is to be evicted after all that are not pinned."""
        pin = self._pins.get(chunk)
        return pin is not None and not pin.hard and now < pin.until_ns

    def expire(self, now: int) -> None:
        """Forget the pins that have come to their end."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            until, chunk = heapq.heappop(ends)
            pin = self._pins.get(chunk)
            if pin is not None and pin.until_ns == until:
                self.unpin(chunk)
                ends = self._ends

    def clear(self) -> None:
        """Forget all: another target is the head now."""
        self._pins.clear()
        self._ends.clear()
        self._used.clear()

    def use(self, namespace_id: int, now: int) -> PinUse:
        """What is pinned of a namespace now."""
        self.expire(now)
        return self._used.get(namespace_id, _UNUSED)

    def _count(self, chunk: ChunkId, length: int, hard: bool, sign: int) -> None:
        namespace = page_namespace(chunk)
        soft_pages, hard_pages, hard_bytes = self._used.get(namespace, _UNUSED)
        if hard:
            after = PinUse(soft_pages, hard_pages + sign, hard_bytes + sign * length)
        else:
            after = PinUse(soft_pages + sign, hard_pages, hard_bytes)
        if after == _UNUSED:
            del self._used[namespace]
        else:
            self._used[namespace] = after

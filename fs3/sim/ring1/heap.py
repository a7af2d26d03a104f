"""Virtual time: a heap of things to do, and a clock that jumps to the next of them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Heap:
    """Runs callbacks in order of (time, order of scheduling), so a run depends on nothing but what is scheduled."""

    __slots__ = ("_items", "_order", "now")

    def __init__(self) -> None:
        self.now = 0
        """Nanoseconds since the run began."""
        self._items: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def after(self, delay_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` in `delay_ns`."""
        self._order += 1
        heappush(self._items, (self.now + delay_ns, self._order, action, arguments))

    def step(self) -> bool:
        """Do the next thing. False when there is none."""
        if not self._items:
            return False
        self.now, _, action, arguments = heappop(self._items)
        action(*arguments)
        return True

    @property
    def steps(self) -> int:
        """How many things were ever scheduled."""
        return self._order

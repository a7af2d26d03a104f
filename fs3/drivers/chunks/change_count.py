"""How far the durable index is behind what the loop has in memory."""

from __future__ import annotations

from typing import Protocol


class BarrierScheduler(Protocol):
    """Sees to it that changes in memory become durable."""

    def on_change(self) -> None:
        """There is something for the next barrier to take along."""
        ...


class ChangeCount:
    """Counts changes in memory.

    `PendingChanges` and `BadChunks` add to it, `WritePath` makes the changes durable and is told of each. Belongs to the loop.
    """

    def __init__(self) -> None:
        self.made = 0
        self.durable = 0
        """So many of them a barrier has made durable."""
        self.scheduler: BarrierScheduler | None = None
        """Told of every change; None while the store is being opened."""

    def add(self) -> None:
        """Something was changed."""
        self.made += 1
        if self.scheduler is not None:
            self.scheduler.on_change()

"""Numbers of what a target sends to its successor, so that the successor can tell a late duplicate.

The sender gives every sending a serial that rises for ever and says below which serial it waits for nothing any more. The
receiver remembers the highest such floor and drops what arrives below it. That is a window, as in any transport that repeats:
nothing has to be remembered per chunk or per update, and a removed chunk needs no tombstone.

The receiver forgets when it restarts. It may, because whatever was sent to a process dies with its connections.
"""

from __future__ import annotations

from collections import deque

from fs3.base.ids import TargetId
from fs3.model.chunk import Update

SERIAL_BITS = 40
"""Serials of one incarnation; the incarnation is above them, so serials rise over restarts. 2**23 restarts fit."""


class Sendings:
    """The sender's side."""

    __slots__ = ("_order", "_serial", "_waiting")

    def __init__(self, incarnation: int) -> None:
        self._serial = (incarnation << SERIAL_BITS) + 1
        self._waiting: set[int] = set()
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._waiting)

    def send(self, instead_of: int) -> tuple[int, int]:
        """(serial, floor) of a new sending. `instead_of` is the serial of an earlier one that is given up, or 0."""
        waiting = self._waiting
        order = self._order
        serial = self._serial
        self._serial = serial + 1
        waiting.discard(instead_of)
        waiting.add(serial)
        order.append(serial)
        while order[0] not in waiting:
            order.popleft()
        return serial, order[0]

    def over(self, serial: int) -> None:
        """Nobody waits for this one any more."""
        self._waiting.discard(serial)

    def clear(self) -> None:
        """Nobody waits for any."""
        self._waiting.clear()


class Heard:
    """The receiver's side."""

    __slots__ = ("_floor", "_sender")

    def __init__(self) -> None:
        self._sender = TargetId(0)
        self._floor = 0

    def listen_to(self, sender: TargetId) -> None:
        """This is the predecessor from now on."""
        if sender != self._sender:
            self._sender = sender
            self._floor = 0

    def is_late(self, update: Update) -> bool:
        """The predecessor waits for no answer to this any more. Otherwise notes how far it is."""
        if update.serial < self._floor:
            return True
        if update.floor > self._floor:
            self._floor = update.floor
        return False

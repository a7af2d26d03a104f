"""Numbers of what a target sends to its successor, so that the successor can tell a late duplicate.

Intuition: a copy of a sending may arrive long after its update is over; a number that rises with every sending tells.

For most duplicates the version tells: it is committed already. Not for a chunk that was removed since, whose versions start at 1
again. So every sending gets a serial that rises for ever, and what arrives for a chunk after something newer was heard for it is
dropped: per chunk, the receiver takes sendings in the order they were made.

It need not remember serials for ever. The sender says with each sending below which serial (its floor) it waits for nothing any
more; whatever is below the highest floor heard is late, and the rest is as many as are under way.

Limits: the receiver forgets when it restarts. It may, because what was sent to a process dies with its connections. Only what
comes from the present predecessor is told apart; a stranger's sendings are refused before (`admission`).
"""

from __future__ import annotations

from collections import deque

from fs3.base.ids import ChunkId, TargetId
from fs3.model.chunk import Update

SERIAL_BITS = 40
"""Serials of one incarnation; the incarnation is above them, so serials rise over restarts. 2**23 restarts fit."""


class SendWindow:
    """The sender's side."""

    __slots__ = ("_order", "_serial", "_waiting")

    def __init__(self, incarnation: int) -> None:
        self._serial = (incarnation << SERIAL_BITS) + 1
        self._waiting: set[int] = set()
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._waiting)

    def add(self, instead_of: int) -> tuple[int, int]:
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

    def release(self, serial: int) -> None:
        """The sender waits for this one no more: it was answered, or is given up."""
        self._waiting.discard(serial)

    def skip_ahead(self) -> None:
        """The receiver takes a sending that is waited for as late: it has heard higher serials from here, since the incarnation
        did not rise as it should. Go on above."""
        self._serial += 1 << SERIAL_BITS

    def clear(self) -> None:
        """The sender waits for none."""
        self._waiting.clear()


class DuplicateFilter:
    """The receiver's side."""

    __slots__ = ("_floor", "_latest", "_order", "_sender")

    def __init__(self) -> None:
        self._sender = TargetId(0)
        self._floor = 0
        self._latest: dict[ChunkId, int] = {}
        self._order: deque[tuple[int, ChunkId]] = deque()

    def set_sender(self, sender: TargetId) -> None:
        """This is the predecessor from now on."""
        if sender != self._sender:
            self._sender = sender
            self._floor = 0
            self._latest.clear()
            self._order.clear()

    def is_late(self, update: Update) -> bool:
        """Whether the predecessor has sent something newer for this chunk, or waits for no answer to this. If not, takes note of
        its serial and floor; so it is to be asked once per arrival."""
        serial = update.serial
        if serial < self._floor:
            return True
        latest = self._latest
        known = latest.get(update.chunk, 0)
        if serial < known:
            return True
        if serial > known:
            latest[update.chunk] = serial
            self._order.append((serial, update.chunk))
        if update.floor > self._floor:
            self._floor = update.floor
            self._forget()
        return False

    def expire_latest(self, chunk: ChunkId) -> None:
        """For want of room nothing is left here of what was heard last for this chunk, and the predecessor is about to give its
        number to another update: a copy of that very sending is late too."""
        known = self._latest.get(chunk)
        if known is not None:
            self._latest[chunk] = known + 1
            self._order.append((known + 1, chunk))

    def _forget(self) -> None:
        """What the floor covers need not be remembered."""
        order = self._order
        latest = self._latest
        while order and order[0][0] < self._floor:
            serial, chunk = order.popleft()
            if latest.get(chunk) == serial:
                del latest[chunk]

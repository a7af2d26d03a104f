"""What all connections of one principal, or of all strangers, take of a process together.

One connection is held to its own share; a caller that opens a hundred of them is held to this one. What waits for room waits in
the order in which it came, and its connection is read no further meanwhile: those of others are read on.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

UNLIMITED: Final = 1 << 62


class Limit(StrEnum):
    """What a principal may take so much of, and no more."""

    CONNECTIONS = "connections"
    CALLS = "requests"
    REQUEST_BYTES = "request bytes"
    REPLY_BYTES = "reply bytes"


class ShareWaiter(Protocol):
    """A connection that waits for room in its principal's share."""

    def on_share_room(self) -> None:
        """There is some; it is taken now, or waited for anew. Called from within the release of what another connection held."""
        ...


OnLimited = Callable[[Limit], None]
"""A principal has met a limit."""


def _ignore(_: Limit) -> None:
    """It is told nowhere."""


class ByteShare:
    """Bytes that a principal's connections hold. Belongs to one loop."""

    __slots__ = ("_limit", "_on_limited", "_waiting", "bytes_max", "held_bytes")

    def __init__(self, limit: Limit, bytes_max: int, on_limited: OnLimited = _ignore) -> None:
        self._limit = limit
        self._on_limited = on_limited
        self._waiting: dict[ShareWaiter, int] = {}
        """How much each of them needs, in their order."""
        self.bytes_max = bytes_max
        self.held_bytes = 0

    @property
    def waiting_count(self) -> int:
        """Connections that wait."""
        return len(self._waiting)

    def has_room(self, length: int) -> bool:
        """So much more may be held, without going before those that wait; something that is larger than all there is, alone."""
        return not self._waiting and self._fits(length)

    def change(self, delta: int) -> None:
        """The connections hold so much more, or less."""
        self.held_bytes += delta
        if delta < 0 and self._waiting:
            self._serve()

    def wait(self, length: int, waiter: ShareWaiter) -> None:
        """Queue for room."""
        if waiter not in self._waiting:
            self._on_limited(self._limit)
        self._waiting[waiter] = length

    def cancel(self, waiter: ShareWaiter) -> None:
        """Give the place in the queue up. Harmless when there is none."""
        if self._waiting.pop(waiter, None) is not None:
            self._serve()

    def refuse(self) -> None:
        """A request was refused that cannot wait."""
        self._on_limited(self._limit)

    def _fits(self, length: int) -> bool:
        return not self.held_bytes or self.held_bytes + length <= self.bytes_max

    def _serve(self) -> None:
        while self._waiting:
            waiter, length = next(iter(self._waiting.items()))
            if not self._fits(length):
                return
            waiting, self._waiting = self._waiting, {}  # it has its turn: it need not wait for itself
            del waiting[waiter]
            try:
                waiter.on_share_room()
            finally:
                waiting.update(self._waiting)
                self._waiting = waiting


class Share:
    """Everything of one principal."""

    __slots__ = ("calls", "calls_max", "connections", "on_limited", "replies", "requests")

    def __init__(
        self,
        calls_max: int,
        request_bytes_max: int = UNLIMITED,
        reply_bytes_max: int = UNLIMITED,
        on_limited: OnLimited = _ignore,
    ) -> None:
        """`on_limited` is told each time that something waits, or is refused."""
        self.connections = 0
        self.calls = 0
        """With their handlers."""
        self.calls_max = calls_max
        self.on_limited = on_limited
        self.requests = ByteShare(Limit.REQUEST_BYTES, request_bytes_max, on_limited)
        """Payloads and long headers, arriving or with their handlers."""
        self.replies = ByteShare(Limit.REPLY_BYTES, reply_bytes_max, on_limited)
        """In memory, not taken yet, or promised to calls under way."""

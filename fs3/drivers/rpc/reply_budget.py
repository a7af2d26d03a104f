"""Memory for the replies of a process: bounded, shared by its servers on all wires.

A reply costs memory from when its handler makes it until its client takes it, and clients need not take anything. So a request
that says how long its reply may be is served only when there is room for that, and the reply holds it until it has left:
`reserve`, then `change`. Who does not take its replies is not served more, and is disconnected while others wait; see
`ServerConnection`. What is kept for small requests (`reply_small_bytes_max`) lets everybody else go on meanwhile.

Ranges that leave by `sendfile` are no memory and are not counted.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Any, Protocol

from fs3.base.limits import (
    copied_parts_bytes_max,
    read_bytes_per_request_max,
    reply_bytes_max,
    reply_small_bytes,
    reply_small_bytes_max,
    small_read_bytes,
)
from fs3.model.method import Method


class ReplyWaiter(Protocol):
    """What waits for room for a reply."""

    def on_reply_room(self) -> None:
        """The room that was asked for is reserved. Called from within `change`."""
        ...


class ReplyBudget:
    """Reply memory of one process. Not thread-safe: it belongs to one event loop."""

    def __init__(self, bytes_max: int = reply_bytes_max, small_bytes_max: int = reply_small_bytes_max) -> None:
        """`small_bytes_max`, of `bytes_max`: kept for small requests."""
        assert small_bytes_max < bytes_max
        self.bytes_max = bytes_max
        self.held_bytes = 0
        """Of replies that have not left, and promised to calls under way."""
        self._large_bytes_max = bytes_max - small_bytes_max
        self._waiting: deque[tuple[ReplyWaiter, int]] = deque()

    def __repr__(self) -> str:
        return f"<ReplyBudget {self.held_bytes} of {self.bytes_max} bytes, {self.waiting_count} waiting>"

    @property
    def waiting_count(self) -> int:
        """Requests that wait for room."""
        return len(self._waiting)

    @property
    def is_short(self) -> bool:
        """There is no room for large replies."""
        return bool(self._waiting) or self.held_bytes >= self._large_bytes_max

    def reserve(self, length: int, *, owes_nothing: bool) -> bool:
        """Room for a reply of so many bytes; False: it must be waited for. `owes_nothing`: the client has taken all others."""
        if length <= reply_small_bytes and owes_nothing:
            if self.held_bytes + length > self.bytes_max:
                return False
        elif self._waiting or not self._fits(length):
            return False
        self.held_bytes += length
        return True

    def wait(self, length: int, waiter: ReplyWaiter) -> None:
        """Queue for room."""
        self._waiting.append((waiter, length))
        self._serve()

    def cancel(self, waiter: ReplyWaiter) -> None:
        """Give a place in the queue up. Harmless when there is none."""
        kept = deque(entry for entry in self._waiting if entry[0] is not waiter)
        if len(kept) < len(self._waiting):
            self._waiting = kept
            self._serve()

    def change(self, delta: int) -> None:
        """Replies hold `delta` bytes more, or less."""
        self.held_bytes += delta
        if delta < 0 and self._waiting:
            self._serve()

    def _fits(self, length: int) -> bool:
        # One that is larger than a (small) budget is served alone.
        return self.held_bytes + length <= self._large_bytes_max or not self.held_bytes

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            waiter, length = self._waiting.popleft()
            self.held_bytes += length
            waiter.on_reply_room()


def reply_bytes_of(method: Method, request: Any) -> int:
    """Memory to reserve for the reply to a request, as far as that says; longer pieces leave by `sendfile`. One that is copied
    behind its header is counted once it waits in a socket's queue: to reserve for it would cost more than it saves."""
    if not method.is_sized:
        return 0
    lengths = request.lengths
    if len(lengths) == 1:
        length: int = lengths[0]
        return length if copied_parts_bytes_max < length < small_read_bytes else 0
    total: int = sum([length for length in lengths if length < small_read_bytes])
    return min(total, read_bytes_per_request_max) if total > copied_parts_bytes_max else 0


_budgets: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ReplyBudget] = weakref.WeakKeyDictionary()


def reply_budget_of(loop: asyncio.AbstractEventLoop) -> ReplyBudget:
    """The budget that all listeners of a loop share."""
    found = _budgets.get(loop)
    if found is None:
        found = _budgets[loop] = ReplyBudget()
    return found

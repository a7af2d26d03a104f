"""Request buffers of a process: a bounded pool, shared by its servers on all wires.

Buffers are used again, because a fresh one costs a page fault every 4 KiB: as much as receiving into it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Protocol

from fs3.base.limits import receive_bytes_max
from fs3.base.units import MIB

receive_idle_bytes_max = 32 * MIB
"""Request buffers kept for the next request instead of being given back to the system."""

_SMALLEST = 4096


class BufferWaiter(Protocol):
    """What waits for a buffer of the pool."""

    def on_buffer_granted(self, buffer: memoryview) -> None:
        """The buffer, which the waiter must release. Called from within the `release` of another one."""
        ...


class Claim:
    """A place in the queue for a buffer."""

    __slots__ = ("length", "waiter")

    def __init__(self, length: int, waiter: BufferWaiter) -> None:
        self.length = length
        self.waiter = waiter


class ReceivePool:
    """Request buffers of one process, `bytes_max` in use at most; a request for more waits its turn.

    Sizes are rounded up by an eighth at most. Not thread-safe: the pool belongs to one event loop.
    """

    def __init__(self, bytes_max: int = receive_bytes_max, idle_bytes_max: int = receive_idle_bytes_max) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        """In use now."""
        self.idle_bytes = 0
        """Kept for the next request."""
        self._idle_bytes_max = idle_bytes_max
        self._idle: dict[int, list[bytearray]] = {}  # size -> buffers; the size used last comes last
        self._claims: deque[Claim] = deque()

    def __repr__(self) -> str:
        return f"<ReceivePool {self.held_bytes} of {self.bytes_max} bytes, {self.idle_bytes} idle, {len(self._claims)} waiting>"

    @property
    def waiting_count(self) -> int:
        """Claims that were not granted yet."""
        return len(self._claims)

    def acquire(self, length: int) -> memoryview | None:
        """A buffer of exactly `length` bytes with arbitrary content; None when it must be waited for."""
        size = _rounded(length)
        # Strictly first come, first served: small requests must not starve a large one. One buffer beyond the limit is
        # impossible as long as the largest frame fits, which limits.py asserts; a smaller pool serves it alone.
        if self._claims or (self.held_bytes + size > self.bytes_max and self.held_bytes):
            return None
        return self._take(size)[:length]

    def claim(self, length: int, waiter: BufferWaiter) -> Claim:
        """Queue for a buffer of exactly `length` bytes."""
        claim = Claim(length, waiter)
        self._claims.append(claim)
        return claim

    def cancel(self, claim: Claim) -> None:
        """Give a place in the queue up. Harmless when it was granted."""
        if claim in self._claims:
            self._claims.remove(claim)
            self._serve()

    def release(self, view: memoryview) -> None:
        """Give a buffer back."""
        buffer = view.obj
        assert isinstance(buffer, bytearray)
        size = len(buffer)
        self.held_bytes -= size
        self._keep(size, buffer)
        if self._claims:
            self._serve()

    def charge(self, length: int) -> bool:
        """Count a buffer that a wire's library allocated itself; False when there is no room for it."""
        if self._claims or self.held_bytes + length > self.bytes_max:
            return False
        self.held_bytes += length
        return True

    def discharge(self, length: int) -> None:
        """Undo `charge`."""
        self.held_bytes -= length
        if self._claims:
            self._serve()

    def _serve(self) -> None:
        while self._claims:
            size = _rounded(self._claims[0].length)
            if self.held_bytes + size > self.bytes_max and self.held_bytes:
                return
            claim = self._claims.popleft()
            claim.waiter.on_buffer_granted(self._take(size)[: claim.length])

    def _take(self, size: int) -> memoryview:
        self.held_bytes += size
        buffers = self._idle.get(size)
        if buffers:
            self.idle_bytes -= size
            return memoryview(buffers.pop())
        return memoryview(bytearray(size))

    def _keep(self, size: int, buffer: bytearray) -> None:
        if size > self._idle_bytes_max:
            return
        buffers = self._idle.pop(size, None) or []
        buffers.append(buffer)
        self._idle[size] = buffers
        self.idle_bytes += size
        while self.idle_bytes > self._idle_bytes_max:
            oldest = next(iter(self._idle))
            if self._idle[oldest]:
                self._idle[oldest].pop()
                self.idle_bytes -= oldest
            if not self._idle[oldest]:
                del self._idle[oldest]


def _rounded(length: int) -> int:
    """The size class of a length: 4 KiB, then eight classes per doubling."""
    if length <= _SMALLEST:
        return _SMALLEST
    step = 1 << ((length - 1).bit_length() - 4)
    return -(-length // step) * step


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ReceivePool] = weakref.WeakKeyDictionary()


def pool_of(loop: asyncio.AbstractEventLoop) -> ReceivePool:
    """The pool that all listeners of a loop share, so that the limit holds for the process and not for each transport."""
    found = _pools.get(loop)
    if found is None:
        found = _pools[loop] = ReceivePool()
    return found

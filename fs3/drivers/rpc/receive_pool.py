"""Memory for the requests of a process: given to bytes that arrive, bounded, shared by its servers on all wires.

**Steps.** A request that announces 64 MiB is given the addresses for them, no memory: that is charged a step ahead of what has
arrived. Who sends fast is received into one buffer all the same; who sends slowly holds what was sent, and a step.

**Budgets.** What storage nodes forward to each other never waits for what clients send: each kind has a budget of its own, and so
have long protobuf headers, which do not say yet which kind they belong to. A forward is known by what it says: its request
names the target that sends it (`Method.is_forward`). Counting by connection would need another handshake, and would say less: the
node that forwards is a client of others on the same connection.

**No deadlock.** Requests that have some of their memory and need more could wait for each other for ever. So all of them together
hold little (`receive_unfinished_bytes_max`), except one, the leader, for which the rest of the budget is enough. A slow leader is
disconnected while others wait; see `ServerConnection.sweep`.

Buffers are used again, because a fresh one costs a page fault every 4 KiB: as much as receiving into it.
"""

from __future__ import annotations

import asyncio
import mmap
import weakref
from collections import deque
from typing import Protocol

from fs3.base.limits import (
    receive_bytes_max,
    receive_forward_bytes_max,
    receive_header_bytes_max,
    receive_step_bytes,
    receive_unfinished_bytes_max,
    wake_bytes_max,
)
from fs3.base.units import MIB

receive_idle_bytes_max = 32 * MIB
"""Memory kept in buffers for the next requests instead of being given back to the system."""

_SMALLEST = 4096

Memory = bytearray | mmap.mmap


class BufferWaiter(Protocol):
    """What waits for a whole buffer of the pool."""

    def on_buffer_granted(self, buffer: memoryview) -> None:
        """The buffer, which the waiter must release. Called from within the `release` of another one."""
        ...


class RoomWaiter(Protocol):
    """What receives a request in steps."""

    def on_room_granted(self) -> None:
        """More may be received. Called from within the `release` of another request."""
        ...


class _Buffer:
    """Addresses of which the first `resident_bytes` are, or have been, in use."""

    __slots__ = ("memory", "resident_bytes", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        # A bytearray is filled with zeros, which takes its memory at once; a mapping takes it where it is written to.
        self.memory: Memory = bytearray(size) if size <= receive_step_bytes else mmap.mmap(-1, size)
        self.resident_bytes = 0


class Reception:
    """A request that is being received, or was; `view` is where it goes."""

    __slots__ = (
        "_budget",
        "_waiter",
        "_whole_waiter",
        "arrived",
        "buffer",
        "charged_bytes",
        "is_whole",
        "length",
        "need",
        "number",
    )

    def __init__(self, budget: ReceiveBudget, length: int, need: int, *, is_whole: bool) -> None:
        self._budget = budget
        self._waiter: RoomWaiter | None = None
        self._whole_waiter: BufferWaiter | None = None
        self.is_whole = is_whole
        """It takes all of its memory at once."""
        self.length = length
        self.need = need
        """Memory it takes in the end."""
        self.charged_bytes = 0
        self.arrived = 0
        """Bytes received so far; the receiver counts them."""
        self.buffer: _Buffer | None = None
        """From the first step on."""
        self.number = 0
        """Of its place in the queue; 0: it does not wait."""

    @property
    def view(self) -> memoryview:
        """Where all of it goes. There must have been `room`."""
        assert self.buffer is not None
        return memoryview(self.buffer.memory)[: self.length]

    @property
    def is_contended(self) -> bool:
        """Others wait for memory of the same budget."""
        return self._budget.waiting_count > 0

    @property
    def step_bytes(self) -> int:
        """How far ahead of what has arrived it may be given memory: further for those that have sent much."""
        return self.need if self.is_whole else min(max(self.arrived, receive_step_bytes), wake_bytes_max)

    def room(self) -> int:
        """How many more bytes may be received now. 0: none before `on_room_granted`, which `wait` asks for."""
        ahead = min(self.charged_bytes, self.length) - self.arrived
        if ahead < receive_step_bytes // 2 and self.charged_bytes < self.need:
            self._budget.grow(self, self.step_bytes - ahead)
            ahead = min(self.charged_bytes, self.length) - self.arrived
        return ahead

    def wait(self, waiter: RoomWaiter) -> None:
        """Queue for more room."""
        self._waiter = waiter
        self._budget.enqueue(self)

    def wait_for_all(self, waiter: BufferWaiter) -> None:
        """Queue for everything at once."""
        self._whole_waiter = waiter
        self._budget.enqueue(self)

    def on_granted(self) -> None:
        """Tell the waiter."""
        if self._whole_waiter is not None:
            self._whole_waiter.on_buffer_granted(self.view)
        elif self._waiter is not None:
            self._waiter.on_room_granted()

    def release(self) -> None:
        """Give everything back, the place in the queue as well."""
        self._budget.release(self)


class ReceiveBudget:
    """Memory for one kind of requests."""

    def __init__(self, pool: ReceivePool, bytes_max: int, unfinished_bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.unfinished_bytes_max = unfinished_bytes_max
        self.held_bytes = 0
        """Charged to requests that arrive or are with their handlers."""
        self.unfinished_bytes = 0
        """Of those, charged to requests that need more, the leader's not counted."""
        self._pool = pool
        self._leader: Reception | None = None
        # Those that need everything at once wait apart from those that go on in steps: only the latter are held up by each other.
        self._wholes: deque[Reception] = deque()
        self._steps: deque[Reception] = deque()
        self._number = 0

    def __repr__(self) -> str:
        return f"<ReceiveBudget {self.held_bytes} of {self.bytes_max} bytes, {self.waiting_count} waiting>"

    @property
    def waiting_count(self) -> int:
        """Requests that wait for memory."""
        return len(self._wholes) + len(self._steps)

    def grow(self, reception: Reception, wanted: int) -> int:
        """Memory for `wanted` more bytes of a request, or for some of them; 0 when they must be waited for."""
        if reception.is_whole and not self._wholes and (need := reception.need) <= self.bytes_max - self.held_bytes:
            # The common case by far, said once more: all of a small request.
            reception.charged_bytes = need
            self.held_bytes += need
            self._pool.use(reception, need)
            return need
        if reception.number or self._wholes or (self._steps and not reception.is_whole and reception is not self._leader):
            return 0  # it is the others' turn
        granted = self._grant(reception, wanted)
        if self._steps and reception.charged_bytes == reception.need:
            self._serve()  # it may have been what they wait for
        return granted

    def enqueue(self, reception: Reception) -> None:
        """Have a request wait; it is told when it has got more."""
        assert not reception.number
        self._number += 1
        reception.number = self._number
        if reception.is_whole:
            self._wholes.append(reception)
        elif reception is self._leader:  # the others may be waiting for it
            self._steps.appendleft(reception)
        else:
            self._steps.append(reception)
        self._serve()

    def release(self, reception: Reception) -> None:
        """A request needs its memory no longer."""
        if reception.number:
            (self._wholes if reception.is_whole else self._steps).remove(reception)
            reception.number = 0
        if reception is self._leader:
            self._leader = None
        elif reception.charged_bytes < reception.need:
            self.unfinished_bytes -= reception.charged_bytes
        self.held_bytes -= reception.charged_bytes
        self._pool.take_back(reception)
        if self._wholes or self._steps:
            self._serve()

    def charge(self, length: int) -> bool:
        """Count memory that a wire's library has taken itself; False when there is no room for it."""
        if self._wholes or self.held_bytes + length > self.bytes_max:
            return False
        self.held_bytes += length
        return True

    def discharge(self, length: int) -> None:
        """Undo `charge`."""
        self.held_bytes -= length
        self._serve()

    def _serve(self) -> None:
        while self._wholes or self._steps:
            heads = sorted((queue[0].number, index) for index, queue in enumerate((self._wholes, self._steps)) if queue)
            for _, index in heads:
                queue = (self._wholes, self._steps)[index]
                head = queue[0]
                if self._grant(head, head.step_bytes):
                    queue.popleft()
                    head.number = 0
                    head.on_granted()
                    break
                # Who goes on in steps may wait for the leader only: that must not hold up those who need no more after this. Who
                # waits for memory keeps its turn.
                if index == 0 or self.held_bytes >= self.bytes_max:
                    return
            else:
                return

    def _grant(self, reception: Reception, wanted: int) -> int:
        missing = reception.need - reception.charged_bytes
        is_leader = reception is self._leader
        free = self.bytes_max - self.held_bytes
        if not self.held_bytes or (is_leader and self.held_bytes == self.unfinished_bytes + reception.charged_bytes):
            # Nobody has anything that will be given back before: a request larger than a (small) budget is served alone.
            free = max(free, min(wanted, missing))
        if missing <= min(wanted, free):
            granted = missing
            if is_leader:
                self._leader = None
            else:
                self.unfinished_bytes -= reception.charged_bytes
        elif reception.is_whole:
            return 0
        else:
            granted = min(wanted, missing, free)
            if not is_leader:
                allowed = min(granted, self.unfinished_bytes_max - self.unfinished_bytes)
                if allowed <= 0 < granted and self._leader is None:
                    self._leader = reception
                    self.unfinished_bytes -= reception.charged_bytes
                else:
                    granted = allowed
                    self.unfinished_bytes += max(granted, 0)
            if granted <= 0:
                return 0
        reception.charged_bytes += granted
        self.held_bytes += granted
        self._pool.use(reception, granted)
        return granted


class ReceivePool:
    """Request buffers of one process. Not thread-safe: the pool belongs to one event loop."""

    def __init__(
        self,
        bytes_max: int = receive_bytes_max,
        idle_bytes_max: int = receive_idle_bytes_max,
        *,
        forward_bytes_max: int = receive_forward_bytes_max,
    ) -> None:
        """`bytes_max`: for what clients send; `forward_bytes_max`: for what other storage nodes forward."""
        self.clients = ReceiveBudget(self, bytes_max, min(receive_unfinished_bytes_max, bytes_max // 4))
        self.forwards = ReceiveBudget(self, forward_bytes_max, min(receive_unfinished_bytes_max, forward_bytes_max // 4))
        self.headers = ReceiveBudget(self, receive_header_bytes_max, receive_header_bytes_max // 2)
        self.idle_bytes = 0
        """In buffers and charged to nobody: of idle ones, and of those used again whose bytes have not arrived."""
        self._idle_bytes_max = idle_bytes_max
        self._idle: dict[int, list[_Buffer]] = {}  # size -> buffers; the size used last comes last
        self._taken: dict[int, Reception] = {}  # by the identity of the memory

    def __repr__(self) -> str:
        return f"<ReceivePool clients {self.clients!r}, forwards {self.forwards!r}, {self.idle_bytes} bytes idle>"

    @property
    def held_bytes(self) -> int:
        """In use now."""
        return self.clients.held_bytes + self.forwards.held_bytes + self.headers.held_bytes

    @property
    def waiting_count(self) -> int:
        """Requests that wait for memory."""
        return self.clients.waiting_count + self.forwards.waiting_count + self.headers.waiting_count

    def budget(self, *, is_forward: bool) -> ReceiveBudget:
        """What a request is counted against."""
        return self.forwards if is_forward else self.clients

    def begin(self, length: int, budget: ReceiveBudget) -> Reception:
        """A request of `length` bytes is going to arrive; it takes no memory yet."""
        if length <= receive_step_bytes:
            return Reception(budget, length, _rounded(length), is_whole=True)
        return Reception(budget, length, length, is_whole=False)

    def acquire(self, length: int, *, is_forward: bool = False) -> memoryview | None:
        """A buffer of exactly `length` bytes with arbitrary content, for bytes that are there; None: it must be waited for."""
        budget = self.budget(is_forward=is_forward)
        reception = Reception(budget, length, _rounded(length), is_whole=True)
        return reception.view if budget.grow(reception, reception.need) else None

    def claim(self, length: int, waiter: BufferWaiter, *, is_forward: bool = False) -> Reception:
        """Queue for a buffer of exactly `length` bytes."""
        reception = Reception(self.budget(is_forward=is_forward), length, _rounded(length), is_whole=True)
        reception.wait_for_all(waiter)
        return reception

    def cancel(self, claim: Reception) -> None:
        """Give a place in the queue up. Harmless when it was granted."""
        if claim.number:
            claim.release()

    def release(self, view: memoryview) -> None:
        """Give a buffer back, however it was got."""
        self._taken[id(view.obj)].release()

    # --- for the budgets -----------------------------------------------------------------------------------------------

    def use(self, reception: Reception, count: int) -> None:
        """A reception was charged `count` bytes more: they are idle no longer, or fresh."""
        buffer = reception.buffer
        if buffer is None:
            buffer = reception.buffer = self._take(_rounded(reception.length))
            self._taken[id(buffer.memory)] = reception
        fresh = reception.charged_bytes - buffer.resident_bytes
        if fresh > 0:
            buffer.resident_bytes += fresh
            count -= fresh
        self.idle_bytes -= count

    def take_back(self, reception: Reception) -> None:
        """Keep the buffer of a reception for another one, or give it back to the system."""
        buffer, reception.buffer = reception.buffer, None
        if buffer is None:
            return
        del self._taken[id(buffer.memory)]
        self.idle_bytes += reception.charged_bytes
        reception.charged_bytes = 0
        reception.need = 0
        if buffer.size > self._idle_bytes_max:
            self.idle_bytes -= buffer.resident_bytes
            return
        buffers = self._idle.pop(buffer.size, None)
        if buffers is None:
            buffers = []
        buffers.append(buffer)
        self._idle[buffer.size] = buffers
        while self.idle_bytes > self._idle_bytes_max and self._idle:
            oldest = next(iter(self._idle))
            self.idle_bytes -= self._idle[oldest].pop().resident_bytes
            if not self._idle[oldest]:
                del self._idle[oldest]

    def _take(self, size: int) -> _Buffer:
        buffers = self._idle.get(size)
        if not buffers:
            return _Buffer(size)
        buffer = buffers.pop()
        if not buffers:
            del self._idle[size]
        return buffer


def _rounded(length: int) -> int:
    """The size class of a length: 4 KiB, then eight classes per doubling."""
    if length <= _SMALLEST:
        return _SMALLEST
    step = 1 << ((length - 1).bit_length() - 4)
    return -(-length // step) * step


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ReceivePool] = weakref.WeakKeyDictionary()


def pool_of(loop: asyncio.AbstractEventLoop) -> ReceivePool:
    """The pool that all listeners of a loop share, so that the limits hold for the process and not for each transport."""
    found = _pools.get(loop)
    if found is None:
        found = _pools[loop] = ReceivePool()
    return found

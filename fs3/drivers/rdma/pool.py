"""Memory that payloads leave from and arrive in by RDMA: bounded, used again, registered with the paths that use it.

A caller's own memory is not registered for one transfer: pinning it costs about as much as copying it, and memory that is freed
while a device still knows it would be written to later, whatever it is used for by then. Slots belong to this process for as long
as any path knows them.
"""

from __future__ import annotations

import mmap

from fs3.base.units import KIB, MIB
from fs3.drivers.rdma.verbs import QueuePair, Registration

rdma_pool_bytes_max = 256 * MIB
"""Slots of one process; payloads that find no room travel by TCP."""
slot_bytes_min = 64 * KIB
registrations_per_slot_max = 8
"""Paths that know one slot as a place to arrive in; the one used longest ago forgets it."""


class MemorySlot:
    """A piece of memory. `length` bytes of it are in use."""

    __slots__ = ("_destinations", "_pool", "length", "memory", "size")

    def __init__(self, pool: RegisteredPool, size: int) -> None:
        self._pool = pool
        self._destinations: dict[QueuePair, Registration] = {}
        self.size = size
        self.length = 0
        self.memory = mmap.mmap(-1, size)
        # A child of fork that wrote to it would take the pages from under the device.
        self.memory.madvise(mmap.MADV_DONTFORK)

    @property
    def view(self) -> memoryview:
        """The bytes in use."""
        return memoryview(self.memory)[: self.length]

    def register_destination(self, pair: QueuePair) -> Registration:
        """All of it, as a place where reads of a queue pair arrive. Raises VerbsError."""
        found = self._destinations.pop(pair, None)
        if found is None:
            if len(self._destinations) >= registrations_per_slot_max:
                self._destinations.pop(next(iter(self._destinations))).close()
            found = pair.register(memoryview(self.memory), is_remote=False)
        self._destinations[pair] = found  # the last one is the one used last
        return found

    def forget(self, pair: QueuePair) -> None:
        """A queue pair is about to be closed."""
        found = self._destinations.pop(pair, None)
        if found is not None:
            found.close()

    def release(self) -> None:
        """It may be used again."""
        self._pool.take_back(self)

    def close(self) -> None:
        """Give the memory back, once no device knows it."""
        for registration in self._destinations.values():
            registration.close()
        self._destinations.clear()


class RegisteredPool:
    """The slots of one process. Belongs to one event loop."""

    def __init__(self, bytes_max: int = rdma_pool_bytes_max) -> None:
        self._bytes_max = bytes_max
        self._slots: set[MemorySlot] = set()
        self._idle: dict[int, list[MemorySlot]] = {}
        self.bytes = 0
        """Of all slots."""
        self.held_bytes = 0
        """Of those in use."""

    def __repr__(self) -> str:
        return f"<RegisteredPool {self.held_bytes} of {self._bytes_max} bytes held, {self.bytes - self.held_bytes} idle>"

    def acquire(self, length: int) -> MemorySlot | None:
        """A slot for `length` bytes, with arbitrary content. None: there is no room."""
        size = _rounded(length)
        idle = self._idle.get(size)
        if idle:
            slot = idle.pop()
        else:
            while self.bytes + size > self._bytes_max:
                if not self._free_idle():
                    return None
            slot = MemorySlot(self, size)
            self._slots.add(slot)
            self.bytes += size
        self.held_bytes += size
        slot.length = length
        return slot

    def take_back(self, slot: MemorySlot) -> None:
        """See `MemorySlot.release`."""
        self.held_bytes -= slot.size
        self._idle.setdefault(slot.size, []).append(slot)

    def forget(self, pair: QueuePair) -> None:
        """A queue pair is about to be closed."""
        for slot in self._slots:
            slot.forget(pair)

    def _free_idle(self) -> int:
        """Give one idle slot back to the system: how large it was; 0: there is none."""
        for slots in self._idle.values():
            if slots:
                slot = slots.pop()
                self._slots.discard(slot)
                self.bytes -= slot.size
                slot.close()
                return slot.size
        return 0


def _rounded(length: int) -> int:
    """Size of the slot for a payload: no more than a quarter larger, so that few sizes serve all."""
    size = slot_bytes_min
    while size < length:
        size *= 2
    step = max(size // 8, slot_bytes_min)
    return -(-length // step) * step


class LentSlot:
    """A slot whose bytes the other end may read: `fs3.core.rdma.lending.Loan`."""

    __slots__ = ("_registration", "slot")

    def __init__(self, slot: MemorySlot, registration: Registration) -> None:
        self.slot = slot
        self._registration = registration

    @property
    def length(self) -> int:
        """See `Loan.length`."""
        return self.slot.length

    @property
    def registration(self) -> Registration:
        """Address and key."""
        return self._registration

    def revoke(self) -> None:
        """See `Loan.revoke`."""
        self._registration.close()

    def release(self) -> None:
        """See `Loan.release`."""
        self.slot.release()

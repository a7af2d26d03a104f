"""Which blocks are free: one byte per block, rebuilt from the index when a target is opened.

A byte and not a bit, because `bytearray.find` looks for the lowest free one at memory speed. A million chunks cost 1 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

from fs3.drivers.chunks.sizes import SIZES, place_of, split_place

_EMPTY = 0
"""Free, and occupies no space of the file system."""
_USED = 1
_VACANT = 2
"""Free, but the file system may still keep space for its old bytes."""
_RESTING = 3
"""Free, but a reader of the process before this one may still look at its old bytes: neither used nor given back yet."""


class BlockAllocator:
    """The free and used blocks of a target."""

    def __init__(self) -> None:
        self._states = [bytearray() for _ in SIZES]
        self._hints = [0] * len(SIZES)
        """By class: no free slot lies below."""
        self.used_bytes = 0
        self.vacant_bytes = 0
        """At most so many bytes of free blocks still occupy the file system."""
        self.resting_bytes = 0
        """Bytes of free blocks that rest since opening."""

    def allocate(self, class_number: int) -> int:
        """The place of the lowest free block of a class, now used. Files grow at the end only when nothing is free."""
        states = self._states[class_number]
        hint = self._hints[class_number]
        vacant = states.find(_VACANT, hint)
        slot = states.find(_EMPTY, hint, vacant if vacant >= 0 else len(states))
        if slot < 0:
            slot = vacant
        if slot < 0:
            slot = len(states)
            states.append(_USED)
        else:
            if states[slot] == _VACANT:
                self.vacant_bytes -= SIZES[class_number]
            states[slot] = _USED
        self._hints[class_number] = slot + 1
        self.used_bytes += SIZES[class_number]
        return place_of(class_number, slot)

    def free(self, place: int) -> None:
        """A block is free again."""
        class_number, slot = split_place(place)
        states = self._states[class_number]
        assert states[slot] == _USED, f"block {slot} of {SIZES[class_number]} bytes was free already"
        states[slot] = _VACANT
        self._hints[class_number] = min(self._hints[class_number], slot)
        self.used_bytes -= SIZES[class_number]
        self.vacant_bytes += SIZES[class_number]

    def claim(self, place: int) -> bool:
        """While opening: a row refers to this block. False when another one did so already."""
        class_number, slot = split_place(place)
        states = self._states[class_number]
        if slot >= len(states):
            states.extend(bytes((_EMPTY,)) * (slot + 1 - len(states)))
        if states[slot] == _USED:
            return False
        states[slot] = _USED
        self.used_bytes += SIZES[class_number]
        return True

    def extend(self, class_number: int, count: int) -> None:
        """While opening: the file of a class has so many blocks, though chunks may claim fewer."""
        states = self._states[class_number]
        states.extend(bytes((_EMPTY,)) * (count - len(states)))

    def finish_claims(self) -> None:
        """Opening is over: a block that no chunk has claimed may be full of bytes of earlier days. It rests until `end_rest`."""
        for class_number, states in enumerate(self._states):
            self.resting_bytes += states.count(_EMPTY) * SIZES[class_number]
            states[:] = states.replace(bytes((_EMPTY,)), bytes((_RESTING,)))

    def end_rest(self) -> None:
        """Blocks that were free at opening may be used."""
        for class_number, states in enumerate(self._states):
            if _RESTING in states:
                states[:] = states.replace(bytes((_RESTING,)), bytes((_VACANT,)))
                self._hints[class_number] = 0
        self.vacant_bytes += self.resting_bytes
        self.resting_bytes = 0

    def find_vacant(self, bytes_max: int) -> Iterator[int]:
        """Free blocks whose space could be given back to the file system, largest first, up to so many bytes."""
        for class_number in range(len(SIZES) - 1, -1, -1):
            states = self._states[class_number]
            slot = states.find(_VACANT)
            while slot >= 0 and bytes_max > 0:
                yield place_of(class_number, slot)
                bytes_max -= SIZES[class_number]
                slot = states.find(_VACANT, slot + 1)

    def mark_empty(self, place: int) -> None:
        """The file system has the space of a free block back."""
        class_number, slot = split_place(place)
        self._states[class_number][slot] = _EMPTY
        self.vacant_bytes -= SIZES[class_number]

"""Block sizes, and how a place on the target is named.

A block holds one version of one chunk. From 64 KiB up there are eight sizes to an octave, so a value wastes at most an eighth
of its block (a 4.3 MiB KVCache page takes 4.5 MiB, where powers of two would give it 8). Below, where a block is cheap and a
file to sync is not, there are four: 4, 8, 16 and 32 KiB.
"""

from __future__ import annotations

from bisect import bisect_left

from fs3.base.limits import block_bytes_max
from fs3.base.units import KIB, MIB

_SMALL = (4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB)
_PER_OCTAVE = 8


def _sizes() -> tuple[int, ...]:
    sizes = list(_SMALL)
    octave = 64 * KIB
    while octave < 64 * MIB:
        sizes += [octave + step * (octave // _PER_OCTAVE) for step in range(_PER_OCTAVE)]
        octave *= 2
    sizes += [64 * MIB, block_bytes_max]
    return tuple(sizes)


SIZES = _sizes()
"""Bytes of a block, by class. The class number is part of the index's format: sizes are never changed, only added to the end."""

NOWHERE = -1
"""Place of a version without bytes."""
INLINE = -2
"""Place of a version whose bytes are in the index row."""


def class_for(length: int) -> int:
    """The smallest class whose blocks hold `length` bytes. ValueError past the largest."""
    number = bisect_left(SIZES, length)
    if number == len(SIZES):
        raise ValueError(f"{length} bytes fit no block, the largest has {block_bytes_max}")
    return number


def place_of(class_number: int, slot: int) -> int:
    """Name of block `slot` (u32) of a class."""
    return class_number << 32 | slot


def split_place(place: int) -> tuple[int, int]:
    """(class, slot) of a place that is a block."""
    return place >> 32, place & 0xFFFF_FFFF


def block_bytes(place: int) -> int:
    """Size of the block at a place; 0 for NOWHERE and INLINE."""
    return SIZES[place >> 32] if place >= 0 else 0


assert tuple(sorted(set(SIZES))) == SIZES
assert all(size % (4 * KIB) == 0 for size in SIZES)
assert len(SIZES) < 254, "classes 254 and 255 mean NOWHERE and INLINE in rows"

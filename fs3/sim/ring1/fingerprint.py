"""One number for everything that happened in a run: two runs of a seed that differ anywhere have different ones.

Made of integers and CRCs only. `hash()` is not used: that of strings and of objects differs from process to process.
"""

from __future__ import annotations

from zlib import crc32

_MASK = (1 << 64) - 1
_MULTIPLIER = 0x9E3779B97F4A7C15


class Fingerprint:
    """A running mix of numbers. Order matters."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0x243F6A8885A308D3

    def add(self, *numbers: int) -> None:
        """Mix in some integers, of which 64 bits count."""
        value = self.value
        for number in numbers:
            value = ((value ^ (number & _MASK)) * _MULTIPLIER) & _MASK
            value ^= value >> 29
        self.value = value

    def add_bytes(self, data: bytes) -> None:
        """Mix in a byte string."""
        self.add(len(data), crc32(data))

    def __str__(self) -> str:
        return f"{self.value:016x}"

"""The 100-byte record of the sort benchmark, as rows of a numpy array.

    byte  0  10   key, compared as unsigned bytes
         10   2   00 11
         12  32   record number, upper-case hexadecimal
         44   4   88 99 AA BB
         48  48   filler: 12 upper-case hexadecimal digits, each written four times
         96   4   CC DD EE FF

This is the layout of gensort's binary records. The random bits are *not* gensort's: its keys come
from a seeded 128-bit linear congruential generator, ours are words 2i and 2i+1 of the SplitMix64
stream named by the seed, for record i. Word 2i and the top 16 bits of word 2i+1 are the key; the
other 48 bits are the filler. Record i is thus a pure function of (seed, i): workers generate any
range they like, and the data set does not depend on how it is cut into files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .mixing import random_words

RECORD_BYTES: Final = 100
KEY_BYTES: Final = 10
BLOCK_RECORDS: Final = 1 << 15
"""Records handled at once where a stage streams: 3.1 MiB, the size of a write."""

Records: TypeAlias = NDArray[np.uint8]
"""Shape (records, 100)."""

_MARKS: Final = b"\x00\x11", b"\x88\x99\xaa\xbb", b"\xcc\xdd\xee\xff"
_TEMPLATE: Final = np.frombuffer(bytes(KEY_BYTES) + _MARKS[0] + b"0" * 32 + _MARKS[1] + bytes(48) + _MARKS[2], dtype=np.uint8)
_HEX: Final = [b"%02X" % byte for byte in range(256)]
_HEX_OF_BYTE: Final = np.frombuffer(b"".join(_HEX), dtype=np.uint16)
"""Byte → its two hexadecimal digits."""
_FILLER_OF_BYTE: Final = np.frombuffer(b"".join(pair[:1] * 4 + pair[1:] * 4 for pair in _HEX), dtype=np.uint64)
"""Byte → its two hexadecimal digits, each four times."""


def as_records(data: bytes | bytearray | memoryview) -> Records:
    """View whole records as rows, without a copy."""
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD_BYTES)


def fill_records(rows: Records, first: int, seed: int) -> None:
    """Write records `first`, `first + 1`, … of the data set `seed` into `rows`."""
    number = np.arange(first, first + len(rows), dtype=np.uint64)
    high = random_words(seed, number * np.uint64(2))
    low = random_words(seed, number * np.uint64(2) + np.uint64(1))
    low_bytes = _big_endian_bytes(low)
    rows[:] = _TEMPLATE
    rows[:, 0:8].view(">u8")[:, 0] = high
    rows[:, 8:10] = low_bytes[:, :2]
    rows[:, 28:44].view(np.uint16)[:] = _HEX_OF_BYTE[_big_endian_bytes(number)]
    rows[:, 48:96].view(np.uint64)[:] = _FILLER_OF_BYTE[low_bytes[:, 2:]]


def key_prefix(records: Records) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number that compares as they do. Shape (records,)."""
    return records[:, 0:8].view(">u8")[:, 0].astype(np.uint64)


def key_suffix(records: Records) -> NDArray[np.uint16]:
    """The last 2 bytes of each key, likewise. Shape (records,)."""
    return records[:, 8:10].view(">u2")[:, 0].astype(np.uint16)


def partition_of(prefix: NDArray[np.uint64], partitions: int) -> NDArray[np.uint16]:
    """Partition of each key: its top 32 bits as a fraction of 2**32, times `partitions`.

    Monotone in the key, so partitions are ranges; any count from 1 to 65,536 cuts evenly.
    """
    top = prefix >> np.uint64(32)
    return ((top * np.uint64(partitions)) >> np.uint64(32)).astype(np.uint16)


def _big_endian_bytes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Shape (words, 8)."""
    return words.astype(">u8").view(np.uint8).reshape(-1, 8)


def rearranged(records: Records, order: NDArray[np.intp]) -> Iterator[Records]:
    """The rows of `records` in `order`, block by block; each block overwrites the one before."""
    buffer = np.empty((min(BLOCK_RECORDS, len(order)), RECORD_BYTES), dtype=np.uint8)
    for start in range(0, len(order), BLOCK_RECORDS):
        rows = order[start : start + BLOCK_RECORDS]
        block = buffer[: len(rows)]
        records.take(rows, axis=0, out=block, mode="clip")  # "raise" would go through a copy
        yield block

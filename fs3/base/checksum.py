"""CRC32C of pieces: how bytes are checksummed everywhere in fs3.

A range of a chunk is cut where its chunk offset crosses a multiple of the piece size, and each piece has its own sum. Stored
sums are made with 64 KiB pieces (`BLOCK_BYTES`), so an aligned range is served with stored sums and its bytes are not touched.
CRC32C: RFC 3720 appendix B.4. Combination of sums: the GF(2) matrix method of zlib's crc32_combine (Mark Adler).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct

from crc32c import crc32c as _crc32c

from fs3.base.units import KIB
from fs3.base.views import take_bytes

BLOCK_BYTES = 64 * KIB
"""Bytes per stored checksum."""
PIECE_BYTES = 4 * KIB
"""Bytes per checksum of a small read."""
ROW_SUM_BYTES = 4
_row_sum = Struct("<I").unpack_from
"""Of the sum that `seal_row` puts before a value."""

_KEEP_LOCK = 0  # gil_release_mode of the crc32c package
_POLYNOMIAL = 0x82F63B78  # reflected


def crc32c(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """CRC32C of `data`, continuing from `start`. The interpreter lock is released while it runs on large data."""
    return int(_crc32c(data, start))


def cut(offset: int, length: int, piece: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Yields (offset, length) of each piece of a range: boundaries at multiples of `piece`."""
    end = offset + length
    while offset < end:
        step = min(end, (offset // piece + 1) * piece) - offset
        yield offset, step
        offset += step


def piece_count(offset: int, length: int, piece: int = BLOCK_BYTES) -> int:
    """How many pieces `cut` yields."""
    return (offset + length - 1) // piece - offset // piece + 1 if length else 0


def checksums(data: memoryview, offset: int = 0, piece: int = BLOCK_BYTES) -> list[int]:
    """The sum of each piece of `data`, whose first byte has chunk offset `offset`."""
    # The interpreter lock is kept: a piece takes microseconds, to get the lock back from a busy thread takes milliseconds.
    length = len(data)
    if length <= piece - offset % piece:
        return [int(_crc32c(data, 0, _KEEP_LOCK))] if length else []
    sums = []
    at = 0
    step = piece - offset % piece
    while at < length:
        sums.append(int(_crc32c(data[at : at + step], 0, _KEEP_LOCK)))
        at += step
        step = piece
    return sums


def checksums_of_parts(parts: Sequence[memoryview], offset: int = 0, piece: int = BLOCK_BYTES) -> list[int]:
    """`checksums` of bytes that lie in several buffers, as if they were one: a piece may begin in one and end in the next."""
    sums: list[int] = []
    left = piece - offset % piece
    sum_so_far = 0
    open_piece = False
    for part in parts:
        at = 0
        length = len(part)
        while at < length:
            step = min(left, length - at)
            sum_so_far = int(_crc32c(part[at : at + step], sum_so_far))
            open_piece = True
            at += step
            left -= step
            if left == 0:
                sums.append(sum_so_far)
                sum_so_far, left, open_piece = 0, piece, False
    if open_piece:
        sums.append(sum_so_far)
    return sums


def checksums_in_slices(parts: Sequence[memoryview], offset: int, piece: int, slice_bytes: int) -> Iterator[list[int]]:
    """`checksums_of_parts`, of about `slice_bytes` at a time."""
    left = list(parts)
    for at, length in cut(offset, sum(map(len, left)), max(slice_bytes // piece, 1) * piece):
        some = take_bytes(left, length)
        yield checksums(some[0], at, piece) if len(some) == 1 else checksums_of_parts(some, at, piece)


def combine(first: int, second: int, second_length: int) -> int:
    """The sum of two neighbouring byte strings from their sums and the length of the second."""
    return _apply(_zeros(second_length), first) ^ second if second_length else first


def coarsen(sums: Sequence[int], offset: int, length: int, piece: int, coarse: int = BLOCK_BYTES) -> list[int]:
    """The sums of a range cut at multiples of `coarse`, from those cut at multiples of `piece`, which divides it."""
    if piece == coarse:
        return list(sums)
    joined: list[int] = []
    last = -1
    for value, (at, size) in zip(sums, cut(offset, length, piece), strict=True):
        if at // coarse == last:
            joined[-1] = combine(joined[-1], value, size)
        else:
            joined.append(value)
            last = at // coarse
    return joined


def digest_of(sums: Sequence[int]) -> int:
    """One number for a chunk's block checksums, for comparing replicas: CRC32C over them, 4 bytes little-endian each."""
    return crc32c(b"".join(value.to_bytes(4, "little") for value in sums))


def seal_row(key: bytes, value: bytes) -> bytes:
    """A row of a store as it is kept: its sum, then its value. The sum covers the key as well, so a row that rotted, or that a
    rotten page shows under another key, is noticed when it is read."""
    return int(_crc32c(value, _crc32c(key, 0, _KEEP_LOCK), _KEEP_LOCK)).to_bytes(ROW_SUM_BYTES, "little") + value


def is_sealed(key: bytes, sealed: bytes) -> bool:
    """The row is what `seal_row` made for this key; its value begins at `ROW_SUM_BYTES`."""
    return (
        len(sealed) >= ROW_SUM_BYTES
        and _crc32c(sealed[ROW_SUM_BYTES:], _crc32c(key, 0, _KEEP_LOCK), _KEEP_LOCK) == _row_sum(sealed)[0]
    )


def _apply(matrix: tuple[int, ...], vector: int) -> int:
    result = 0
    row = 0
    while vector:
        if vector & 1:
            result ^= matrix[row]
        vector >>= 1
        row += 1
    return result


def _multiply(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_apply(left, column) for column in right)


@lru_cache(maxsize=1024)
def _zeros(length: int) -> tuple[int, ...]:
    """The operator that appends `length` zero bytes to a sum, as 32 columns."""
    if length == 0:
        return tuple(1 << bit for bit in range(32))
    if length == 1:
        one_bit = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
        four = _multiply(_multiply(one_bit, one_bit), _multiply(one_bit, one_bit))
        return _multiply(four, four)
    half = _zeros(length // 2)
    whole = _multiply(half, half)
    return _multiply(whole, _zeros(1)) if length % 2 else whole
